"""Clients of any TensorFlow-Serving-compatible server, by REST or gRPC; without TensorFlow and without Ray."""

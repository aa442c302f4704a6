"""The wire without IO: URLs, JSON, protos and status tables in and out of core's values and numpy arrays.

Nothing in this package opens a socket or a file of the user's, and nothing imports Ray or TensorFlow: servers, clients
and tests use the same functions.
"""

"""Tests of the model runtimes, against what TensorFlow's own Python package says."""

"""TensorFlow Serving as a distributed application on Ray Serve."""

__version__ = "0.1.0"

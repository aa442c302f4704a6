"""Putting a new version of a model where it is served from, safely: numbered, whole, and waited for if asked.

`publish` runs in the process that has trained the model. Everything here works on any store that fsspec knows, and
imports neither TensorFlow nor Ray: who hands over a model of TensorFlow's has it already, and the cluster is joined
only when a model is published by its name.
"""

from serving_app.publishing.publisher import Published, publish

__all__ = ["Published", "publish"]

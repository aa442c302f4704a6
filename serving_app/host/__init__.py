"""The Host: loaded servables, wherever they live. It knows nothing of Ray.

A dedicated replica holds one version in a Host; other placements put the same object into other processes.
"""

from serving_app.core.batching import Batching
from serving_app.host.assignment import Assignment
from serving_app.host.batcher import Batcher
from serving_app.host.host import Host
from serving_app.host.warmup import Warmup

__all__ = ["Assignment", "Batcher", "Batching", "Host", "Warmup"]

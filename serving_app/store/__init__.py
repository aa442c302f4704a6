"""Where models lie: which versions a base path holds, and how one gets to the node that is to load it.

A base path is a plain path or any URI that fsspec knows. Nothing here decides when to look or what to
load: a listing says what is there now, and a ModelSource what of it is finished.
"""

from serving_app.store.cache import Copy, default_cache_dir, fetch
from serving_app.store.download import Progress
from serving_app.store.listing import Listing, list_versions
from serving_app.store.source import ModelSource, Poll

__all__ = ["Copy", "Listing", "ModelSource", "Poll", "Progress", "default_cache_dir", "fetch", "list_versions"]

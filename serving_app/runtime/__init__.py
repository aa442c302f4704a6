"""Model runtimes: the contract of a loader, and the loaders that come with the product.

Importing this package loads no framework; a platform's module is imported when a version of that platform is loaded.
"""

from serving_app.runtime.loader import Loader, LoadOptions, Servable, loader_for, register_platform

__all__ = ["LoadOptions", "Loader", "Servable", "loader_for", "register_platform"]

"""Where artifacts, leases and notes lie, by URL: a directory, or a bucket of an object store.

Names are paths below the storage, with slashes. ``open_storage`` reads a URL; nothing else chooses between the two.
"""

from pipeline.storage.port import Entry, Files, Storage
from pipeline.storage.url import open_storage

__all__ = ["Entry", "Files", "Storage", "open_storage"]

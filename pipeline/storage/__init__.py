"""Storage of artifacts, leases and documents, by URL: a directory, or a bucket of an object store.

Names are paths below the storage, with slashes. ``open_storage`` alone chooses between the two kinds, from the URL.
"""

from pipeline.storage.port import Entry, Files, Storage, UnreadableDocument
from pipeline.storage.url import open_storage

__all__ = ["Entry", "Files", "Storage", "UnreadableDocument", "open_storage"]

"""From a URL to the storage that it names."""

import os
from importlib.util import find_spec
from pathlib import Path

from pipeline.errors import RequestError
from pipeline.storage.directory import Directory
from pipeline.storage.port import Storage
from stages.cache_folder import CacheFolder, nearest_existing

SCHEMES = {"s3": ("s3fs", "s3"), "gs": ("gcsfs", "gs")}
"""Scheme -> the module that implements it, and the extra that installs that module."""


def open_storage(url: str) -> Storage:
    """The storage under a URL: ``s3://bucket/prefix``, ``gs://bucket/prefix``, or a directory's path. Raises
    ``RequestError``, also for a bucket that does not answer, and for a bound of the cache that is not a size."""
    try:
        cache_folder = CacheFolder.of(os.environ)
    except ValueError as error:
        raise RequestError(str(error)) from error
    scheme, sep, rest = url.partition("://")
    if not sep:
        path = Path(url).absolute()
        try:
            there = nearest_existing(path)
        except OSError as error:
            raise RequestError(f"storage: {url} cannot be read ({error.strerror}); give another directory") from error
        if not there.is_dir():
            raise RequestError(f"storage: {url}, but {there} is a file; give a directory")
        return Directory(path)
    check_scheme(url)
    from pipeline.storage.bucket import Bucket

    bucket = Bucket(f"{scheme}://{rest.strip('/')}", cache_folder)
    bucket.reach()
    return bucket


def check_scheme(url: str) -> None:
    """Raises ``RequestError`` for a URL that names no bucket, and for one whose library is not installed."""
    scheme, _, rest = url.partition("://")
    if scheme not in SCHEMES:
        raise RequestError(f"storage: {url}; give a directory, s3://bucket/prefix or gs://bucket/prefix")
    if not rest.strip("/"):
        raise RequestError(f"storage: {url} names no bucket; give {scheme}://bucket/prefix")
    module, extra = SCHEMES[scheme]
    if find_spec(module) is None:
        raise RequestError(f"storage: {url} needs {module}; install stillhouse[{extra}]")

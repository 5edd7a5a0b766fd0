"""Data files in a bucket, ``s3://`` or ``gs://``, copied to this machine's cache folder once for each content.

The name of a copy is a hash of the file's address, size and ETag, so a file that has changed is copied anew, and one
that has not is not copied again.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from pipeline.errors import RequestError
from pipeline.storage.bucket import Bucket
from pipeline.storage.url import SCHEMES, check_scheme
from stages.atomic import replacing
from stages.cache_folder import CacheFolder

VERSION_FIELDS = ("size", "ETag", "etag", "md5Hash", "generation")
"""Fields of a file's listing that change with its content."""


def is_remote(text: str) -> bool:
    """Whether a recipe's path is an address in a bucket."""
    return text.partition("://")[0] in SCHEMES and "://" in text


_HELD: list[BinaryIO] = []
"""Locks of the copies that this process uses: they are not removed from the cache while it lives."""


def fetched_file(url: str) -> Path:
    """A copy of the file at ``url``, with its name. ValueError if there is none."""
    bucket = _bucket(url)
    found = bucket.request(bucket.fs.find, bucket.path(""), detail=True)
    info = found.get(bucket.path(""))
    if info is None:
        raise ValueError(f"{url}: there is no such file")
    return _copied(bucket, {Path(url).name: info}) / Path(url).name


def fetched_folder(url: str, task: str, wanted: Callable[[Path], bool]) -> Path:
    """A folder that holds ``<task>/`` with copies of those files of ``<url>/<task>/`` or of
    ``<url>/*/<task>/`` that are ``wanted``. ValueError if there are none."""
    bucket = _bucket(url)
    places = (f"{task}/*", f"*/{task}/*")
    for place in places:
        infos = bucket.request(bucket.fs.glob, bucket.path(place), detail=True)
        names = {name.removeprefix(f"{bucket.path('')}/"): info for name, info in infos.items()}
        chosen = {name: info for name, info in names.items() if info["type"] == "file" and wanted(Path(name))}
        if chosen:
            return _copied(bucket, chosen)
    raise ValueError(f"{url}: neither {' nor '.join(places)} there is a data file of {task}")


def _copied(bucket: Bucket, infos: Mapping[str, Mapping[str, Any]]) -> Path:
    """A folder with copies of these files under their names."""
    versions = {name: [str(info.get(field, "")) for field in VERSION_FIELDS] for name, info in infos.items()}
    content = hashlib.sha256(json.dumps([bucket.url, versions], sort_keys=True).encode()).hexdigest()
    cache = bucket.cache_folder
    folder = cache.data(content[:32])
    _HELD.append(cache.hold(folder))
    lacking = {name: info for name, info in infos.items() if not (folder / name).exists()}
    cache.make_room(sum(int(info["size"]) for info in lacking.values()))
    for name, info in lacking.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with replacing(folder / name, volatile=True) as draft:
            bucket.request(bucket.fs.get_file, info["name"], str(draft))
            if draft.stat().st_size != info["size"]:
                raise OSError(f"{info['name']}: {draft.stat().st_size:,} of {info['size']:,} bytes were received")
    return folder


def is_copy(path: Path) -> bool:
    """Whether a path is that of a copy, which no other machine has."""
    return path.is_relative_to(CacheFolder.of(os.environ).data(""))


def _bucket(url: str) -> Bucket:
    try:
        check_scheme(url)
        bucket = Bucket(url.rstrip("/"), CacheFolder.of(os.environ))
        bucket.reach()
    except RequestError as error:  # which speaks of a storage
        raise ValueError(str(error).removeprefix("storage: ")) from error
    return bucket

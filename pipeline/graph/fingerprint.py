"""Canonical JSON and the keys made of it.

Two values that mean the same have the same canonical text, on any machine and in any process. What has
no such text (a callable, a path, a set, a NaN, an object with a default repr) is refused: a permissive
``str()`` would silently fork keys.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence

from pydantic import BaseModel

from stages.specs.base import Spec

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


def canonical(value: object) -> str:
    """``value`` as JSON text: keys sorted, no spaces, ASCII. Raises TypeError or ValueError otherwise."""
    return json.dumps(plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def plain(value: object, where: str = "value") -> Json:
    """``value`` in JSON's own types. Models become objects, tuples become lists."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{where}: {value} has no canonical form; use a finite number")
        return value
    if isinstance(value, BaseModel):
        return {name: plain(getattr(value, name), f"{where}.{name}") for name in type(value).model_fields}
    if isinstance(value, Mapping):
        for name in value:
            if not isinstance(name, str):
                raise TypeError(f"{where}: the key {name!r} is no string; canonical JSON has string keys only")
        return {name: plain(item, f"{where}.{name}") for name, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return [plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    raise TypeError(f"{where}: {type(value).__name__} has no stable identity; use numbers, strings, lists or models")


def sha256(text: str) -> str:
    """64 hexadecimal digits."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def key(spec: Spec, inputs: Mapping[str, str]) -> str:
    """The key of what ``spec`` makes of inputs with these keys."""
    return sha256(canonical({"stage": spec.stage, "version": spec.version, "spec": spec, "inputs": inputs}))

"""Canonical JSON, the keys made of it, and what differs between a recorded spec and a requested one.

Two values that mean the same have the same canonical text, on any machine and in any process. What has
no such text (a callable, a path, a set, a NaN, an object with a default repr) is refused: a permissive
``str()`` would silently fork keys.

The key of a spec leaves out what stands at its default, so that a new field with a default that means "as before" moves
no key. A record holds the spec whole (``plain``), and ``differences`` compares the two.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from stages.specs.base import FurtherFiles, Spec

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
    """The key, 64 hexadecimal digits, of what ``spec`` makes of inputs with these keys."""
    return sha256(canonical({"stage": spec.stage, "version": spec.version, "spec": identity(spec), "inputs": inputs}))


TAG = "kind"
"""The field that tells the members of a union apart. It stays in the canonical form whatever its value."""


def identity(value: object, where: str = "value") -> Json:
    """``value`` in JSON's own types, as it counts for a key: of models, only fields that differ from their defaults,
    their ``kind``, and no field that is marked with ``FurtherFiles``. Raises as ``plain``."""
    if isinstance(value, BaseModel):
        return {
            name: identity(getattr(value, name), f"{where}.{name}")
            for name, field in type(value).model_fields.items()
            if name == TAG or not (further_files(field) or _at_default(getattr(value, name), field))
        }
    if isinstance(value, Mapping):
        return {name: identity(item, f"{where}.{name}") for name, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray):
        return [identity(item, f"{where}[{i}]") for i, item in enumerate(value)]
    return plain(value, where)


def further_files(field: FieldInfo) -> FurtherFiles | None:
    """The mark of a field that decides only which further files an artifact holds; None for any other field."""
    return next((mark for mark in field.metadata if isinstance(mark, FurtherFiles)), None)


def _at_default(value: object, field: FieldInfo) -> bool:
    if field.is_required():
        return False
    default = field.get_default(call_default_factory=True, validated_data={})
    return identity(value) == identity(default)


@dataclass(frozen=True, slots=True)
class SpecDifference:
    """A field in which a recorded spec differs from the requested one. ``further_files``: only files are lacking that
    the request asks for beside those that are there."""

    field: str
    recorded: Json
    requested: Json
    further_files: bool = False

    def __str__(self) -> str:
        return f"{self.field}: recorded {_short(self.recorded)}, requested {_short(self.requested)}"


def differences(recorded: Json, spec: BaseModel, where: str = "") -> list[SpecDifference]:
    """The recorded fields that differ from ``spec``, in the record's order.

    A field of ``spec`` that the record lacks was added since, with a default that means "as before": no difference.
    """
    if not isinstance(recorded, Mapping):
        return [SpecDifference(where or "spec", recorded, plain(spec))]
    fields = type(spec).model_fields
    found = []
    for name, before in recorded.items():
        place = f"{where}.{name}" if where else name
        now = getattr(spec, name) if name in fields else None
        mark = further_files(fields[name]) if name in fields else None
        if mark is not None:
            if now not in mark.includes.get(str(before), ()):
                found.append(SpecDifference(place, before, plain(now), further_files=True))
        elif isinstance(now, BaseModel) and isinstance(before, Mapping):
            found += differences(before, now, place)
        elif name not in fields or plain(now) != before:
            found.append(SpecDifference(place, before, plain(now)))
    return found


def _short(value: Json) -> str:
    text = str(value)
    return text if len(text) <= 40 else text[:37] + "..."

"""Canonical JSON, the keys computed from it, and the differences between a recorded and a requested spec.

Equal values have the same canonical text, on any machine and in any process. A value without such a text (a callable, a
path, a set, a NaN, an object with a default repr) is refused: a permissive ``str()`` could silently give equal specs
different keys.

The key of a spec leaves out fields at their defaults, so that a new field with a default that means "as before" changes
no key. A record holds the spec whole (``plain``), and ``differences`` compares the two.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from stages.specs.base import FurtherFiles, Spec

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


def canonical(value: object) -> str:
    """``value`` as JSON text with sorted keys, without spaces, in ASCII. Raises TypeError or ValueError for a value
    that has no canonical form."""
    return json.dumps(plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def plain(value: object, where: str = "value") -> Json:
    """``value`` in the types of JSON: models become objects, tuples become lists. ``where`` names the value in errors.

    Raises TypeError for a type without a stable form, ValueError for a number that is not finite.
    """
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
    """The SHA-256 of ``text``, 64 hexadecimal digits."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def key(spec: Spec, inputs: Mapping[str, str]) -> str:
    """The key, 64 hexadecimal digits, of the artifact that ``spec`` makes from inputs with these identities."""
    return sha256(canonical({"stage": spec.stage, "version": spec.version, "spec": identity(spec), "inputs": inputs}))


TAG = "kind"
"""The field that distinguishes the members of a union. It stays in the canonical form even at its default."""


def identity(value: object, where: str = "value") -> Json:
    """The part of ``value`` that enters a key, in the types of JSON: of models, their ``kind`` and the fields that
    differ from their defaults, except fields marked with ``FurtherFiles``. Raises as ``plain`` does."""
    if isinstance(value, BaseModel):
        found: dict[str, Json] = {}
        for name, default in _fields_of_identity(type(value)).items():
            item = getattr(value, name)
            if default is None or not default.stands_in(item):
                found[name] = identity(item, f"{where}.{name}")
        return found
    if isinstance(value, Mapping):
        return {name: identity(item, f"{where}.{name}") for name, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray):
        return [identity(item, f"{where}[{i}]") for i, item in enumerate(value)]
    return plain(value, where)


def further_files(field: FieldInfo) -> FurtherFiles | None:
    """The mark of a field that decides only which further files an artifact holds; None for any other field."""
    return next((mark for mark in field.metadata if isinstance(mark, FurtherFiles)), None)


@dataclass(frozen=True, slots=True)
class _Default:
    """The default of a field, and its part in a key."""

    value: object
    identity: Json

    def stands_in(self, value: object) -> bool:
        """Whether ``value`` counts as this default. Two models do if they mean the same, whatever fields each has."""
        if value == self.value and isinstance(value, bool) == isinstance(self.value, bool):
            return True
        return isinstance(value, BaseModel | Sequence | Mapping) and identity(value) == self.identity


@cache
def _fields_of_identity(kind: type[BaseModel]) -> Mapping[str, _Default | None]:
    """The fields of a class of models that can enter a key, each with its default; None where it enters always."""
    found: dict[str, _Default | None] = {}
    for name, field in kind.model_fields.items():
        if further_files(field) is not None:
            continue
        if name == TAG or field.is_required():
            found[name] = None
        else:
            default = field.get_default(call_default_factory=True, validated_data={})
            found[name] = _Default(default, identity(default))
    return found


@dataclass(frozen=True, slots=True)
class SpecDifference:
    """A field in which a recorded spec differs from the requested one. ``further_files`` is true if the artifact only
    lacks additional files, while all files that it has are as requested."""

    field: str
    recorded: Json
    requested: Json
    further_files: bool = False

    def __str__(self) -> str:
        return f"{self.field}: recorded {shortened(self.recorded)}, requested {shortened(self.requested)}"


def differences(recorded: Json, spec: BaseModel, where: str = "") -> list[SpecDifference]:
    """The fields in which the ``recorded`` spec differs from ``spec``, in the order of the record.

    A field of ``spec`` that the record lacks is no difference: it was added later, with a default that means "as
    before". ``where`` is the path of ``spec`` within the whole spec.
    """
    if not isinstance(recorded, Mapping):
        return [SpecDifference(where or "spec", recorded, plain(spec))]
    fields = type(spec).model_fields
    found = []
    for name, before in recorded.items():
        place = f"{where}.{name}" if where else name
        if name not in fields:
            found.append(SpecDifference(place, before, None))
            continue
        now, mark = getattr(spec, name), further_files(fields[name])
        if mark is None:
            found += _value_differences(before, now, place)
        elif now not in mark.includes.get(str(before), ()):
            found.append(SpecDifference(place, before, plain(now), further_files=True))
    return found


def _value_differences(before: Json, now: object, place: str) -> list[SpecDifference]:
    """The differences of one field's value. Models are compared field by field, also in lists and mappings."""
    if isinstance(now, BaseModel) and isinstance(before, Mapping):
        return differences(before, now, place)
    if isinstance(now, list | tuple) and isinstance(before, list) and len(now) == len(before):
        pairs = enumerate(zip(before, now, strict=True))
        return [one for i, (old, new) in pairs for one in _value_differences(old, new, f"{place}[{i}]")]
    if isinstance(now, Mapping) and isinstance(before, Mapping) and now.keys() == before.keys():
        return [one for name in before for one in _value_differences(before[name], now[name], f"{place}.{name}")]
    return [] if plain(now) == before else [SpecDifference(place, before, plain(now))]


def shortened(value: Json) -> str:
    """``value`` as text of at most 40 characters."""
    text = str(value)
    return text if len(text) <= 40 else text[:37] + "..."

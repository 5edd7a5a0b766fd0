"""The kinds of value that a recipe's keys take, each with the JSON schema by which an editor checks it."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainValidator,
    Strict,
    WithJsonSchema,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from pipeline.errors import nearest
from pipeline.recipe.frozen import FrozenMapping
from stages.byte_size import parse_size
from stages.specs.base import Frozen, FurtherFiles, repeated
from stages.specs.method import Method

SpecValue = TypeVar("SpecValue", bound=Frozen)


def key(
    about: str,
    example: Any,
    default: Any = ...,
    of: FieldInfo | None = None,
    enum: Iterable[str] = (),
    **limits: Any,
) -> Any:
    """A key of a block: its meaning, an example, its default and its limits.

    ``of`` is the field of a spec that the key sets: the key has that field's limits, and its default unless another
    is given. A default that is a class or a function is called for each block. ``enum`` is for editors alone: the names
    that an error message would offer.
    """
    if of is not None:
        default = of.default if default is ... else default
        marks = (mark for mark in of.metadata if not isinstance(mark, FurtherFiles))
        limits |= {name: value for mark in marks for name, value in asdict(mark).items()}
    about_it = {
        "description": about,
        "examples": [example],
        "json_schema_extra": {"enum": list(enum)} if enum else None,
        **limits,
    }
    return Field(default_factory=default, **about_it) if callable(default) else Field(default, **about_it)


Text = Annotated[str, Strict(), Field(min_length=1)]
Whole = Annotated[int, Strict()]
Number = Annotated[float, Strict()]
Flag = Annotated[bool, Strict()]
Label = Annotated[Text, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*$", max_length=80)]
"""Part of file names and reports."""

Name = Annotated[Text, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=80)]
"""A label without dots, because ``--set`` reaches into blocks of this name."""

Seed = Annotated[Whole, Field(ge=0, lt=2**32)]


class Block(BaseModel):
    """A block of the file. An unknown key is refused, and the nearest known one named.

    Where ``short`` names a key, a plain text stands for a block of that key alone. ``elsewhere`` maps keys that are
    often written here by mistake to where they belong; ``replaced`` maps keys of earlier versions to a function of
    their value that returns what to write instead.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    short: ClassVar[str | None] = None
    elsewhere: ClassVar[Mapping[str, str]] = MappingProxyType({})
    replaced: ClassVar[Mapping[str, Callable[[object], str]]] = MappingProxyType({})

    @model_validator(mode="before")
    @classmethod
    def _read(cls, block: Any) -> Any:
        if isinstance(block, str) and cls.short:
            return {cls.short: block}
        if not isinstance(block, dict | cls):
            raise PydanticCustomError("block_type", f"must be {'a name or ' if cls.short else ''}a block of keys")
        if isinstance(block, dict) and cls.model_config["extra"] == "forbid":
            for name in block:
                if name in cls.replaced:
                    raise unknown_key(name, cls.replaced[name](block[name]))
                if name not in cls.model_fields:
                    raise unknown_key(name, cls.elsewhere.get(name) or nearest(name, cls.model_fields))
        return block

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        whole = handler(schema)
        if cls.short is None:
            return whole
        name = handler.resolve_ref_schema(whole)["properties"][cls.short]
        return {"anyOf": [{"type": "string", **{key: name[key] for key in ("enum",) if key in name}}, whole]}

    def explicit(self) -> dict[str, Any]:
        """The keys that stand in the file, with their values."""
        return {name: getattr(self, name) for name in self.model_fields_set}

    def as_spec(self, spec: type[SpecValue], **more: object) -> SpecValue:
        """The spec whose fields are the keys of the same names, and ``more``. ValidationError where they do not fit
        each other."""
        own = {name: getattr(self, name) for name in spec.model_fields if name in type(self).model_fields}
        return spec.model_validate({**own, **more})


def unknown_key(name: str, problem: str) -> PydanticCustomError:
    return PydanticCustomError("unknown_key", "{problem}", {"key": name, "problem": problem})


@dataclass(frozen=True)
class _OneOrMany:
    """A single value stands for a list of one."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(_listed, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        many = handler(schema)
        return {"anyOf": [many["items"], many]}


def _listed(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else (value,)


ONE_OR_MANY = _OneOrMany()


@dataclass(frozen=True)
class ReadAs:
    """A key is written in a file as ``form``, and ``value`` converts that to what the field holds; without it, the form
    is a block that is converted to the field's spec by ``as_spec``.

    Only recipe files are read by this form. JSON, to which a whole Recipe may be dumped, holds the field's own value.
    """

    form: Any
    value: Callable[[Any], Any] | None = None

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        value = self.value or (lambda block: block.as_spec(source))
        form = core_schema.no_info_after_validator_function(value, handler.generate_schema(self.form))
        converted = core_schema.no_info_wrap_validator_function(
            lambda value, read: value if isinstance(value, source) else read(value), form
        )
        return core_schema.json_or_python_schema(json_schema=handler(source), python_schema=converted)

    def __get_pydantic_json_schema__(self, schema: Any, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return handler(schema["python_schema"])


@dataclass(frozen=True)
class PartialBlock:
    """A block of ``model`` in which any key may be left out: it is merged over another, then validated. ``or_list``: a
    list of whole blocks may stand in its place."""

    model: type[BaseModel]
    or_list: bool = False

    def __get_pydantic_json_schema__(self, _: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        whole = handler.resolve_ref_schema(handler(self.model.__pydantic_core_schema__))
        partial = {key: value for key, value in whole.items() if key != "required"}
        return {"anyOf": [partial, {"type": "array", "items": whole, "minItems": 1}]} if self.or_list else partial


@dataclass(frozen=True)
class Entries:
    """A name, a block of ``model``, or a list of these, which are validated after overrides are merged."""

    model: type[BaseModel]

    def __get_pydantic_json_schema__(self, _: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        one = [{"type": "string"}, handler(self.model.__pydantic_core_schema__)]
        return {"anyOf": [*one, {"type": "array", "items": {"anyOf": one}, "minItems": 1}]}


def kinds(axis: str) -> dict[str, type[Frozen]]:
    """The kinds that an axis of a method may have: the tag -> its model."""
    annotation: Any = Method.model_fields[axis].annotation
    members = getattr(annotation, "__args__", (annotation,))
    return {member.model_fields["kind"].default: member for member in members}


@dataclass(frozen=True)
class Axis:
    """The value on an axis: the name of a kind, or a block with changes to the method's settings there. ``only`` names
    the kinds that are allowed, () for all of the axis."""

    name: str
    only: tuple[str, ...] = ()

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self._single, handler(source))

    def _single(self, value: Any) -> Any:
        if isinstance(value, list):
            raise ValueError(
                f"must be one, not a list: a method has one kind of {self.name}; write a second method instead"
            )
        return value

    def __get_pydantic_json_schema__(self, _: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        allowed = {name: kind for name, kind in kinds(self.name).items() if not self.only or name in self.only}
        blocks = [handler(kind.__pydantic_core_schema__) for kind in allowed.values()]
        return {"anyOf": [{"enum": list(allowed), "type": "string"}, *blocks]}


Loose = str | dict[str, Any]
"""A name or a block that is validated after it is merged over the settings that it changes."""

Size = Annotated[
    int,
    PlainValidator(parse_size),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "exclusiveMinimum": 0},
                {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)? ?[A-Za-z]+$"},
            ]
        }
    ),
]


_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_SPAN = re.compile(r"^([0-9]+(?:\.[0-9]+)?) ?([smhd])$")


def parse_span(value: object) -> float:
    """Seconds in ``10m``, ``1.5h`` or a number."""
    if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
        return float(value)
    found = _SPAN.match(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError("must be a time, such as 10m; units: s, m, h, d; a number is of seconds")
    return float(found.group(1)) * _SECONDS[found.group(2)]


Span = Annotated[
    float,
    PlainValidator(parse_span),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": 0},
                {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)? ?[smhd]$"},
            ]
        }
    ),
]


def _custom(value: FrozenMapping[float]) -> FrozenMapping[float]:
    for name, amount in value.items():
        if name.lower() in _OF_RAY or name.startswith("node:"):
            raise ValueError(f"must not name {name}; {_OF_RAY.get(name.lower(), 'Ray chooses the node')}")
        if amount <= 0:
            raise ValueError(f"must have amounts above 0, {name} has {amount:g}")
    return value


_OF_RAY = {
    "cpu": "it is cpus_per_worker",
    "gpu": "it is gpus_per_worker",
    "memory": "it is memory_per_worker",
    "object_store_memory": "stages write files, and use next to none of it",
}

Custom = Annotated[FrozenMapping[Number], AfterValidator(_custom)]
"""Resources of a cluster's nodes beside CPUs, GPUs and memory: name -> amount."""


def _gpus(value: float) -> float:
    if value > 1 and value != int(value):
        raise ValueError("must be a fraction of one GPU or whole GPUs")
    return value


Gpus = Annotated[Number, Field(ge=0.0), AfterValidator(_gpus)]
"""Ray assigns a fraction of one GPU, or whole GPUs."""


def _word(value: object) -> object:
    """Booleans as the words that YAML 1.1 readers make them of, ``no`` and ``yes``; whole numbers as their digits."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value) if isinstance(value, int) else value


Word = Annotated[
    Text,
    BeforeValidator(_word),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "integer"}, {"type": "boolean"}]}),
]


def distinct(items: tuple[Any, ...]) -> tuple[Any, ...]:
    for item in repeated(items):
        raise ValueError(f"must be given once each, {item} is repeated")
    return items


_LayerNumbers = tuple[Annotated[Whole, Field(ge=0)], ...]

Layers = Annotated[
    _LayerNumbers, Field(min_length=1, json_schema_extra={"uniqueItems": True}), AfterValidator(distinct)
]
"""Layers of a model, each once."""

AnyLayers = Annotated[_LayerNumbers, Field(json_schema_extra={"uniqueItems": True}), AfterValidator(distinct)]
"""Layers of a model, each once; none at all is a choice."""

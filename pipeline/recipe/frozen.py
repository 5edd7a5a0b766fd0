"""A mapping that stays as it is: hashable, picklable, and a field type for pydantic models."""

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar, get_args

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

Value = TypeVar("Value")


class FrozenMapping(Mapping[str, Value]):
    """Text -> value, in the order of the mapping it was made from. Equal to any mapping of the same items."""

    __slots__ = ("_items",)
    _items: dict[str, Value]

    def __init__(self, items: Mapping[str, Value] | None = None) -> None:
        object.__setattr__(self, "_items", dict(items or {}))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} cannot be changed")

    def __getitem__(self, name: str) -> Value:
        return self._items[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __hash__(self) -> int:
        return hash(frozenset(self._items.items()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._items!r})"

    def __reduce__(self) -> tuple[type["FrozenMapping[Value]"], tuple[dict[str, Value]]]:
        return type(self), (dict(self._items),)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        value = handler.generate_schema(*get_args(source))
        return core_schema.no_info_after_validator_function(
            cls,
            core_schema.no_info_before_validator_function(
                lambda items: dict(items) if isinstance(items, Mapping) else items,
                core_schema.dict_schema(core_schema.str_schema(strict=True, min_length=1), value),
            ),
            serialization=core_schema.plain_serializer_function_ser_schema(dict),
        )

"""What transformers declares about the configuration of each architecture, read from its source code.

Planning checks configurations with this: importing transformers takes seconds and loads torch, parsing the one class
that matters takes milliseconds. A test compares the declarations with the imported classes.
"""

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

UNKNOWN = object()
"""The default of a field whose default is computed."""

OTHER = "other"
"""Stands for every type that is neither a scalar nor null."""

Scalar = int | float | str | bool


@dataclass(frozen=True, slots=True)
class ConfigField:
    """A field of a configuration. ``kinds`` are the types that it takes: ``int``, ``float``, ``str``, ``bool``,
    ``None`` and OTHER. ``choices`` are the values that it takes, where they are listed."""

    kinds: frozenset[str]
    choices: tuple[object, ...] = ()
    default: object = UNKNOWN


@dataclass(frozen=True, slots=True)
class ConfigClass:
    """The configuration of an architecture: its fields by name, and other names for some of them."""

    fields: Mapping[str, ConfigField]
    aliases: Mapping[str, str] = field(default_factory=dict)

    def own_name(self, name: str) -> str:
        """The name of the field for which ``name`` may stand: ``n_layers`` for DistilBERT's ``num_hidden_layers``."""
        return self.aliases.get(name, name)


@cache
def config_class(model_type: str) -> ConfigClass | None:
    """The declaration of an architecture; None where transformers has none in a file of its own."""
    for path in sorted((_sources() / "models" / _folder(model_type)).glob("configuration_*.py")):
        for statement in ast.parse(path.read_text("utf-8")).body:
            if isinstance(statement, ast.ClassDef):
                assigned = _assigned(statement)
                if "model_type" in assigned and _value(assigned["model_type"]) == model_type:
                    return ConfigClass(_fields(statement), _aliases(assigned))
    return None


@cache
def is_known(model_type: str) -> bool:
    """Whether transformers has an architecture of this name."""
    return re.search(rf'"{re.escape(model_type)}"[,:] "\w+Config"', _architectures()) is not None


def classifies_sequences(model_type: str) -> bool:
    """Whether transformers has a model of this architecture with a head for sequence classification."""
    return model_type in _with_head("SEQUENCE_CLASSIFICATION")


def predicts_masked_words(model_type: str) -> bool:
    """Whether transformers has a masked language model of this architecture."""
    return model_type in _with_head("MASKED_LM")


def writes_texts(model_type: str) -> bool:
    """Whether transformers has a model of this architecture with an encoder and a decoder, which writes texts."""
    return model_type in _with_head("SEQ_TO_SEQ_CAUSAL_LM")


@cache
def _with_head(kind: str) -> frozenset[str]:
    """The architectures that transformers lists as models for this use."""
    tables = (_sources() / "models" / "auto" / "modeling_auto.py").read_text("utf-8")
    _, _, after = tables.partition(f"\nMODEL_FOR_{kind}_MAPPING_NAMES = ")
    return frozenset(re.findall(r'\(\s*"([^"]+)",', after.partition("\n)\n")[0]))


@cache
def activations() -> frozenset[str]:
    """The names of the activation functions that a configuration may have."""
    for statement in ast.parse((_sources() / "activations.py").read_text("utf-8")).body:
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Dict):
            return frozenset(key.value for key in statement.value.keys if isinstance(key, ast.Constant))  # type: ignore[misc]
    raise AssertionError("transformers/activations.py has no table of activations")


def library() -> str:
    """Name and version of the library that knows these architectures, for messages."""
    return f"transformers {version('transformers')}"


def _folder(model_type: str) -> str:
    """The folder of an architecture's code: that of its name, unless transformers names another."""
    other = re.search(rf'\("{re.escape(model_type)}", "([a-z0-9_]+)"\)', _architectures())
    return other.group(1) if other else model_type.replace("-", "_")


@cache
def _architectures() -> str:
    """The source of the tables of architectures: their configurations' classes, and their folders."""
    auto = _sources() / "models" / "auto"
    return "".join((auto / name).read_text("utf-8") for name in ("auto_mappings.py", "configuration_auto.py"))


@cache
def _sources() -> Path:
    spec = find_spec("transformers")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent


def _assigned(statement: ast.ClassDef) -> dict[str, ast.expr]:
    """The plain assignments in the body of a class: name -> expression."""
    return {
        target.id: part.value
        for part in statement.body
        if isinstance(part, ast.Assign)
        for target in part.targets
        if isinstance(target, ast.Name)
    }


def _aliases(assigned: Mapping[str, ast.expr]) -> Mapping[str, str]:
    found = _value(assigned["attribute_map"]) if "attribute_map" in assigned else {}
    return found if isinstance(found, dict) else {}


def _fields(statement: ast.ClassDef) -> Mapping[str, ConfigField]:
    found: dict[str, ConfigField] = {}
    for part in statement.body:
        if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name):
            kinds, choices = _kinds(part.annotation)
            found[part.target.id] = ConfigField(kinds, choices, UNKNOWN if part.value is None else _value(part.value))
    return found


def _kinds(annotation: ast.expr) -> tuple[frozenset[str], tuple[object, ...]]:
    """The types in an annotation, such as ``int | None``, and the values of a ``Literal``."""
    match annotation:
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            (some, first), (more, second) = _kinds(left), _kinds(right)
            return some | more, first + second
        case ast.Name(id="int" | "float" | "str" | "bool" as name):
            return frozenset({name}), ()
        case ast.Constant(value=None):
            return frozenset({"None"}), ()
        case ast.Subscript(value=ast.Name(id="Literal"), slice=choice):
            listed = choice.elts if isinstance(choice, ast.Tuple) else [choice]
            values = tuple(_value(one) for one in listed)
            return frozenset(type(one).__name__ for one in values), values
        case _:
            return frozenset({OTHER}), ()


def _value(expression: ast.expr) -> object:
    """The value of a literal or of a product of numbers; UNKNOWN for anything that would have to be run."""
    match expression:
        case ast.BinOp(left=ast.Constant(value=int(left)), op=ast.Mult(), right=ast.Constant(value=int(right))):
            return left * right
        case _:
            try:
                value: object = ast.literal_eval(expression)
            except ValueError:
                return UNKNOWN
            return value


def with_defaults(config: Mapping[str, object], changes: Mapping[str, object] | None = None) -> dict[str, object]:
    """The fields of a configuration, under their own names: what ``config`` and ``changes`` leave out has the default
    that the architecture declares."""
    model_type = config.get("model_type")
    known = config_class(model_type) if isinstance(model_type, str) else None
    if known is None:
        return {**config, **(changes or {})}
    defaults = {name: one.default for name, one in known.fields.items() if one.default is not UNKNOWN}
    given = {known.own_name(name): value for name, value in (*config.items(), *(changes or {}).items())}
    return {**defaults, **given}

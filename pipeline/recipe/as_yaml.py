"""Values as they are written in a recipe, on one line."""

from collections.abc import Iterator, Mapping

from pydantic import BaseModel

from pipeline.recipe.errors import abbreviated
from stages.specs.axes.data import Original
from stages.specs.axes.structures import NoLayers
from stages.specs.axes.targets import TeacherTargets, Virtual
from stages.specs.method import Method


def inline_yaml(value: object) -> str:
    """A value in YAML, in flow style; of a model, ``kind`` comes first."""
    if isinstance(value, BaseModel):
        fields = value.model_dump(exclude_none=True)
        return inline_yaml({name: fields[name] for name in sorted(fields, key=lambda name: name != "kind")})
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}: {inline_yaml(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(inline_yaml(item) for item in value) + "]"
    return abbreviated(value)


def axes_yaml(method: Method) -> Iterator[str]:
    """``axis: value`` for each axis that has an effect. The settings of ``training`` are those of the term for a
    teacher's logits, so it is left out where the targets have no such term."""
    yield f"targets: {inline_yaml(method.targets)}"
    if isinstance(method.targets, TeacherTargets | Virtual):
        yield f"training: {inline_yaml(method.training)}"
    if not isinstance(method.data, Original):
        yield f"data: {inline_yaml(method.data)}"
    if not isinstance(method.structure, NoLayers):
        yield f"structure: {inline_yaml(method.structure)}"

"""Values as one would write them in a recipe, on one line."""

from collections.abc import Iterator, Mapping

from pydantic import BaseModel

from pipeline.recipe.errors import shown
from stages.specs.layers import NoLayers
from stages.specs.method import Method, TeacherTargets, Virtual


def written(value: object) -> str:
    """A value in YAML."""
    if isinstance(value, BaseModel):
        fields = value.model_dump(exclude_none=True)
        return written({name: fields[name] for name in sorted(fields, key=lambda name: name != "kind")})
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}: {written(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(written(item) for item in value) + "]"
    return shown(value)


def point(method: Method) -> Iterator[str]:
    """``axis: value`` for each axis that says something: without anybody's logits, one phase has no settings."""
    yield f"targets: {written(method.targets)}"
    if isinstance(method.targets, TeacherTargets | Virtual):
        yield f"training: {written(method.training)}"
    if method.needs_candidates:
        yield f"data: {written(method.data)}"
    if not isinstance(method.structure, NoLayers):
        yield f"structure: {written(method.structure)}"

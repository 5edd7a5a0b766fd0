"""The specs of the stages that run or probe a teacher: ``teach`` and ``probe``."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from stages.specs.base import Spec

# --- teach, evaluate --------------------------------------------------------------------------------


PRIOR = "prior/"
"""Inputs of ``teach`` whose names begin so are earlier stores of the same teacher, from which rows may be taken."""


class TeachSpec(Spec):
    """A model over a corpus -> the teacher-output store. Inputs: ``corpus``, ``model``.

    ``part`` is what is kept: ``pooled`` (logits, and one vector a layer and pooling), ``tokens`` (every position of
    the layers), ``attention`` (their maps). ``precision`` is the number type on disk, ``compute`` that of the teacher's
    forward. ``label_order[i]`` is the model's output that means the task's label i; None where they agree.
    """

    stage: ClassVar[str] = "teach"
    version: ClassVar[int] = 2

    part: Literal["pooled", "tokens", "attention"] = "pooled"
    pooling: Literal["mean", "cls", "both"] = "mean"
    layers: Literal["all"] | tuple[int, ...] = "all"
    precision: Literal["float16", "float32", "int8"] = "float16"
    compute: Literal["float32", "bfloat16", "float16"] = "float32"
    splits: tuple[str, ...] = ("train",)
    label_order: tuple[int, ...] | None = None

    @model_validator(mode="after")
    def _maps_have_no_dimensions(self) -> "TeachSpec":
        if self.part == "attention" and self.precision == "int8":
            raise ValueError("precision: int8 scales dimensions, which attention maps have none of; use float16")
        return self


class ProbeSpec(Spec):
    """Classifiers on a teacher's layers -> a store of what they say. Inputs: ``corpus``, ``outputs``.

    Linear classifiers (or ridge regressions) of each of ``layers`` are fitted on the stored states of the train split;
    ``penalty`` is the weight of their squared norm. Rows lie in ``folds`` by their keys. What is said of a row of train
    comes from the classifier that was fitted on the other folds; of any other row, it is the mean of all.
    """

    stage: ClassVar[str] = "probe"
    version: ClassVar[int] = 2

    layers: Annotated[tuple[int, ...], Field(min_length=1)]
    pooling: Literal["mean", "cls"] = "mean"
    penalty: float = Field(1.0, gt=0.0)
    folds: int = Field(5, ge=2)

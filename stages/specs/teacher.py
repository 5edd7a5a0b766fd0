"""The specs of the stages that run, calibrate or probe a teacher: ``teach``, ``calibrate`` and ``probe``."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, get_args

from pydantic import Field, model_validator

from stages.specs.base import FurtherFiles, Spec

# --- teach, evaluate --------------------------------------------------------------------------------


QUARANTINED = "quarantined.parquet"
"""The file of a store that lists the rows which are set aside."""

ATTENTION_PARTS = ("scores", "attention")
"""The parts of a store that hold [heads, length, length] of each layer: scores before the softmax, maps after it."""

Compression = Literal["zstd", "lz4", "none"]
COMPRESSIONS: tuple[Compression, ...] = get_args(Compression)

PRIOR = "prior/"
"""Prefix of the inputs of ``teach`` that are earlier stores of the same teacher, from which rows may be reused."""


class TeachSpec(Spec):
    """A model over a corpus -> the teacher-output store. Inputs: ``corpus``, ``model``.

    ``part`` is what the store holds of each row: ``pooled`` (logits, and one vector for each layer and pooling),
    ``tokens`` (the states of the layers at every token) or ``scores`` (the attention scores of the layers, before the
    softmax). A fourth part, ``attention`` (the attention maps, after the softmax), is in stores of earlier versions; it
    can be checked and repaired, and no recipe makes it. ``precision`` is the number type on disk, ``compute`` that of
    the teacher's forward pass. ``label_order[i]`` is the model's output that means the task's label i; None where they
    agree. Without ``logits``, the store holds pooled states alone: the model is read as a plain encoder, so that it
    needs no classification head, and one that it has is not run.

    ``on_bad_rows`` decides what happens where outputs are not finite as they would be stored: ``stop`` ends the stage;
    ``quarantine`` leaves these rows out of the store and lists them in ``quarantined.parquet``. It is not part of the
    key: a store either has no such rows, and is the same for both, or cannot be built with ``stop``.

    ``compression`` is that of the pages of shards. It is not part of the key either: what is read is the same.
    """

    stage: ClassVar[str] = "teach"
    version: ClassVar[int] = 2

    part: Literal["pooled", "tokens", "scores", "attention"] = "pooled"
    pooling: Literal["mean", "cls", "both"] = "mean"
    layers: Literal["all"] | tuple[int, ...] = "all"
    precision: Literal["float16", "float32", "int8"] = "float16"
    compute: Literal["float32", "bfloat16", "float16"] = "float32"
    splits: tuple[str, ...] = ("train",)
    label_order: tuple[int, ...] | None = None
    logits: bool = True
    on_bad_rows: Annotated[
        Literal["stop", "quarantine"],
        FurtherFiles({"stop": ("stop", "quarantine"), "quarantine": ("quarantine",)}),
    ] = "stop"
    compression: Annotated[Compression, FurtherFiles(dict.fromkeys(COMPRESSIONS, COMPRESSIONS))] = "zstd"

    def as_built(self, facts: Mapping[str, object], /) -> "TeachSpec":
        """A store without quarantined rows is recorded with ``on_bad_rows: stop``, which it meets."""
        return self if facts.get("quarantined") else self.model_copy(update={"on_bad_rows": "stop"})

    @model_validator(mode="after")
    def _attention_has_no_dimensions(self) -> "TeachSpec":
        if self.part in ATTENTION_PARTS and self.precision == "int8":
            raise ValueError("precision: int8 has a scale for each dimension, and attention has none; use float16")
        return self

    @model_validator(mode="after")
    def _something_is_stored(self) -> "TeachSpec":
        if self.logits:
            return self
        if self.part != "pooled" or not self.layers:
            raise ValueError("logits: false, but nothing else is stored; give layers, and part: pooled")
        if self.label_order is not None:
            raise ValueError("label_order: orders logits, and logits is false; leave it out")
        return self


class CalibrateSpec(Spec):
    """A classifier on the held-out rows of its task -> the temperature by which its logits are to be divided. Inputs:
    ``corpus``, ``model``.

    The temperature minimises the mean negative log-likelihood of the rows' labels. ``compute`` and ``label_order`` are
    as in ``TeachSpec``.
    """

    stage: ClassVar[str] = "calibrate"
    version: ClassVar[int] = 1

    compute: Literal["float32", "bfloat16", "float16"] = "float32"
    label_order: tuple[int, ...] | None = None


class ProbeSpec(Spec):
    """Linear classifiers on a teacher's layers -> a store of their logits. Inputs: ``corpus``, ``outputs``.

    For each of ``layers``, a linear classifier (for a regression, a ridge regression) is fitted on the stored states of
    the train split; ``penalty`` is the weight of its squared norm. Rows are divided into ``folds`` by their keys, with
    a classifier for each fold that is fitted on all other folds. The logits of a row of train come from the classifier
    of its fold, which has not been fitted on it; those of any other row are the mean over all classifiers.
    """

    stage: ClassVar[str] = "probe"
    version: ClassVar[int] = 2

    layers: Annotated[tuple[int, ...], Field(min_length=1)]
    pooling: Literal["mean", "cls"] = "mean"
    penalty: float = Field(1.0, gt=0.0)
    folds: int = Field(5, ge=2)

"""The spec of the stage ``distil``: where a student starts, its method, its optimisation."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from stages.specs.base import Frozen, FurtherFiles, Spec
from stages.specs.layer_map import is_resolved
from stages.specs.method import Method, TwoPhases
from stages.specs.schedule import NO_EPOCH, uses_candidates

# --- distil ---------------------------------------------------------------------------------------


class Pretrained(Frozen):
    """All of the model in the input ``start``."""

    kind: Literal["pretrained"] = "pretrained"


class Cut(Frozen):
    """These layers (0-based, in this order) of the model in ``start``, with its embeddings and head.

    ``label_order`` is as in ``TeachSpec``: the head's outputs are put into the task's order.
    """

    kind: Literal["cut"] = "cut"
    layers: tuple[int, ...] = Field(min_length=1)
    label_order: tuple[int, ...] | None = None


class Fresh(Frozen):
    """Random weights, from the configuration in ``start`` with these fields changed."""

    kind: Literal["fresh"] = "fresh"
    changes: tuple[tuple[str, int | float | str | bool], ...] = ()


Start = Annotated[Pretrained | Cut | Fresh, Field(discriminator="kind")]


class Train(Frozen):
    """The optimisation of one student. ``batch_size`` is global: it does not depend on workers. ``micro_batch`` is
    the most rows of one forward pass in a worker; gradients add up to those of the batch. ``keep`` says whether the
    model of every epoch is kept beside the best; it changes no other file, and is no part of the key."""

    epochs: int = Field(3, ge=1)
    learning_rate: float = Field(5.0e-5, gt=0.0)
    batch_size: int = Field(32, ge=1)
    micro_batch: int | None = Field(None, ge=1)
    warmup: float = Field(0.06, ge=0.0, lt=1.0)
    weight_decay: float = Field(0.01, ge=0.0)
    max_grad_norm: float = Field(1.0, gt=0.0)
    precision: Literal["float32", "bfloat16"] = "float32"
    compile: bool = False
    select: Literal["holdout", "dev"] = "holdout"
    keep: Annotated[Literal["best", "epochs"], FurtherFiles({"best": ("best",), "epochs": ("best", "epochs")})] = "best"
    seed: int = 0


class DistilSpec(Spec):
    """One student. Inputs: ``corpus``, ``start`` (a model), and, if the method asks for them, a teacher's
    ``outputs``, or those of several as ``outputs/0``, ``outputs/1`` ..., and ``probes``; for candidates their table
    ``candidates``, their texts ``candidate_rows``, and ``candidate_outputs``, numbered as ``outputs`` are."""

    stage: ClassVar[str] = "distil"
    version: ClassVar[int] = 2

    start: Start
    method: Method = Method()
    train: Train = Train()

    @model_validator(mode="after")
    def _each_phase_has_an_epoch(self) -> "DistilSpec":
        if isinstance(self.method.training, TwoPhases) and self.train.epochs < 2:
            raise ValueError(f"train.epochs: 1, but {self.method.training.kind} has two phases; use at least 2")
        return self

    @model_validator(mode="after")
    def _candidates_have_an_epoch(self) -> "DistilSpec":
        if self.method.needs_candidates and not uses_candidates(self.method, self.train.epochs):
            raise ValueError(f"data: {NO_EPOCH}")
        return self

    @model_validator(mode="after")
    def _pairs_of_rows_stay_together(self) -> "DistilSpec":
        if self.method.needs_whole_batch and self.train.micro_batch is not None:
            raise ValueError(
                f"train.micro_batch: {self.train.micro_batch}, but the method compares all rows of a batch; "
                "leave it out"
            )
        return self

    @model_validator(mode="after")
    def _each_layer_is_named(self) -> "DistilSpec":
        if not is_resolved(self.method.structure):
            raise ValueError("method.structure: a rule means other layers at other depths; resolve it first")
        return self

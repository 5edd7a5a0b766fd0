"""What makes each stage's result what it is: one frozen model a stage, identity and nothing else.

A spec holds no path, host, worker count, thread count or date. Its canonical JSON, the stage's name
and version, and the keys of its inputs are the key of the artifact. Raise ``version`` whenever the
stage's output for the same spec and inputs changes; a test pins each stage's output to its version.

Needs the standard library and pydantic only.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from stages.frozen import Frozen
from stages.groups import is_resolved
from stages.method import Method, TwoPhases
from stages.schedule import NO_EPOCH, uses_candidates
from stages.tasks import Task


class Spec(Frozen):
    """A stage's spec. ``stage`` names the module and the function in ``stages/`` that carries it out."""

    stage: ClassVar[str]
    version: ClassVar[int]


# --- corpus -------------------------------------------------------------------------------------


class Files(Frozen):
    """Rows come from files; their content is the identity of the input ``data``."""

    kind: Literal["files"] = "files"


class Hub(Frozen):
    """Rows come from a data set on the hub, at a commit."""

    kind: Literal["hub"] = "hub"
    repository: str
    config: str | None = None
    revision: str


class Generated(Frozen):
    """Rows come from the project's own seeded generator of reviews (``stages/reviews.py``)."""

    kind: Literal["generated"] = "generated"
    seed: int = 0
    train: int = 1600
    validation: int = 1000
    test: int = 1000


Source = Annotated[Files | Hub | Generated, Field(discriminator="kind")]


TOKENISATION = 1
"""Raised whenever texts become other tokens: what teachers said before is then not carried over."""


class CorpusSpec(Spec):
    """Task rows -> tokenised shards. Inputs: ``tokenizer`` (a model directory), and one ``data/<split>`` a file."""

    stage: ClassVar[str] = "corpus"
    version: ClassVar[int] = 3

    task: Task
    source: Source
    max_length: int = Field(128, ge=4)
    train_rows: int | None = Field(None, ge=1)
    eval_rows: int | None = Field(None, ge=1)
    sample_seed: int = 0
    holdout: float = Field(0.1, ge=0.0, lt=0.5)


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
    model of every epoch is kept beside the best."""

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
    keep: Literal["best", "epochs"] = "best"
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


class EvaluateSpec(Spec):
    """Metrics and predictions of a model on the labelled and unlabelled splits of a corpus, and its
    size and latency. Inputs: ``corpus``, ``model``."""

    stage: ClassVar[str] = "evaluate"
    version: ClassVar[int] = 1

    label_order: tuple[int, ...] | None = None


# --- of several models ------------------------------------------------------------------------------


class EnsembleSpec(Spec):
    """Metrics and predictions of the mean of several models' logits, by ``shares`` where given (one a member, together
    1). Inputs: ``corpus``, and ``members/0``, ``members/1`` ...: what ``evaluate`` left of each."""

    stage: ClassVar[str] = "ensemble"
    version: ClassVar[int] = 1

    shares: tuple[float, ...] | None = None


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

"""The spec of the stage ``distil``: the student's initial weights, its method and its optimisation."""

from decimal import Decimal
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from stages.specs.axes.optimizers import AdamW, LinearRate, OptimizerKind, RateSchedule
from stages.specs.axes.training import TwoPhases
from stages.specs.base import Frozen, FurtherFiles, Spec
from stages.specs.layers import EveryToken
from stages.specs.method import Method
from stages.specs.schedule import NO_CANDIDATE_EPOCH, any_epoch_uses_candidates, generated_epochs
from stages.specs.tasks import Metric

GENERATED_ROWS = "generated.parquet"
"""The file of a student's artifact with rows of train as a generator changed them."""

# --- distil ---------------------------------------------------------------------------------------

Head = Literal["cls", "mean", "crf"]
"""What a classification head reads of the last layer: the state of the first token, or the mean over all tokens; or
``crf``, for labels of words: the states of all words, whose tags a linear-chain CRF scores together."""


class Pretrained(Frozen):
    """The student starts as the model in the input ``start``, with all its layers.

    ``head``, of each kind of start: the kind of the student's classification head, where it is another than that of the
    model in ``start``; its weights are new (those of ModernBERT, whose configuration chooses the pooling of one head,
    are kept). None keeps the kind, and the weights if there are any.
    """

    kind: Literal["pretrained"] = "pretrained"
    head: Head | None = None


class Cut(Frozen):
    """The student starts with these layers of the model in ``start``, in this order, its embeddings and its head.

    ``layers`` are positions in the model's list of layers and count from 0, as they do in records; in recipes, stores
    and messages the first layer is 1 and 0 the embeddings. Planning converts them.
    ``label_order`` is as in ``TeachSpec``: the outputs of the head are reordered to the task's order of labels.
    """

    kind: Literal["cut"] = "cut"
    layers: tuple[int, ...] = Field(min_length=1)
    label_order: tuple[int, ...] | None = None
    head: Head | None = None


class Fresh(Frozen):
    """The student starts with random weights, from the configuration in ``start`` with these fields changed."""

    kind: Literal["fresh"] = "fresh"
    changes: tuple[tuple[str, int | float | str | bool], ...] = ()
    head: Head | None = None


class Bilstm(Frozen):
    """The student is a bidirectional LSTM (Tang et al. 2019) with the tokenizer of the model in ``start``.

    ``hidden`` is the width of a state of one direction, ``layers`` the number of LSTM layers, ``fc`` the width of the
    fully connected layer. The word embeddings are ``copied`` from the model in ``start``, and mapped to ``width`` by a
    linear layer unless it is None; or they are ``random`` and as wide as ``width``. They are trained like all other
    weights. ``dropout`` applies to the LSTM's inputs, between its layers, and before the classifier.
    """

    kind: Literal["bilstm"] = "bilstm"
    hidden: int = Field(150, ge=1, le=4096)
    layers: int = Field(1, ge=1, le=8)
    fc: int = Field(200, ge=1, le=16384)
    embeddings: Literal["copied", "random"] = "copied"
    width: int | None = Field(None, ge=1, le=4096)
    dropout: float = Field(0.1, ge=0.0, lt=1.0)
    head: ClassVar[None] = None

    @model_validator(mode="after")
    def _random_embeddings_have_a_width(self) -> "Bilstm":
        if self.embeddings == "random" and self.width is None:
            raise ValueError("width: missing, and needed for random embeddings")
        return self


class Network(Frozen):
    """The student is a network for small images with random weights, and needs no input ``start``: the residual network
    of ``depth`` layers for CIFAR (He et al. 2016), with this kind of ``shortcut``; or the plain CNN of ``depth``
    convolutions (Mirzadeh et al. 2020), with its widths for the data set ``stack``. It reads images of the corpus."""

    kind: Literal["network"] = "network"
    family: Literal["resnet", "cnn"]
    depth: int = Field(ge=1)
    shortcut: Literal["padded", "projected"] = "padded"
    stack: Literal["cifar10", "cifar100"] = "cifar10"
    head: ClassVar[None] = None


Start = Annotated[Pretrained | Cut | Fresh | Bilstm | Network, Field(discriminator="kind")]


def describe_start(start: Start) -> str:
    """The student's weights before its training, in a phrase. As in recipes, layer 1 is the first."""
    head = f", with head: {start.head}" if start.head else ""
    match start:
        case Pretrained():
            return f"all layers of the model in the input start{head}"
        case Cut(layers=layers):
            return f"layers {', '.join(str(layer + 1) for layer in layers)} of the model in the input start{head}"
        case Fresh(changes=changes):
            changed = "".join(f", {name} {value}" for name, value in changes)
            return f"random, with the configuration in the input start{changed}{head}"
        case Network(family=family, depth=depth):
            return f"random, {family}-{depth}"
        case Bilstm(embeddings="copied"):
            return "random, a BiLSTM with the word embeddings of the model in the input start"
        case Bilstm():
            return "random, a BiLSTM with the tokenizer of the model in the input start"


class Train(Frozen):
    """The optimisation of one student.

    ``batch_size`` counts the rows of a step over all workers. ``micro_batch`` is the most rows of one forward pass in a
    worker; gradients add up to those of the batch. ``graphs`` is how a GPU runs the steps, as CUDA graphs or kernel by
    kernel, and not part of the key. ``unpadded``: the layers compute the tokens of a batch and not its padding, which
    draws other dropout masks. ``freeze`` names the parts of the student that keep their first
    weights: ``embeddings``, the table of word embeddings. ``weight_decay`` is AdamW's; another ``optimizer`` has its
    own. ``schedule`` is the course of the learning rate over each phase, after the ``warmup``.

    ``select`` is the split on which the best epoch is selected, or ``last``: the weights of the last epoch are kept.
    ``select_by`` is the rule: the highest score of the task's selecting metric, or the lowest mean negative
    log-likelihood of the labels (for a regression the lowest mean squared error). In a training of two phases the
    second starts from the epoch of the first that this rule selects. ``select_metric`` is that metric, one of the
    task's; None for its headline metric. ``keep`` decides whether the model of every epoch is saved beside the best; it
    changes no other file and is not part of the key.
    """

    epochs: int = Field(3, ge=1)
    learning_rate: float = Field(5.0e-5, gt=0.0)
    batch_size: int = Field(32, ge=1)
    micro_batch: int | None = Field(None, ge=1)
    warmup: float = Field(0.06, ge=0.0, lt=1.0)
    weight_decay: float = Field(0.01, ge=0.0)
    max_grad_norm: float = Field(1.0, gt=0.0)
    optimizer: OptimizerKind = AdamW()
    schedule: RateSchedule = LinearRate()
    precision: Literal["float32", "bfloat16"] = "float32"
    compile: bool = False
    graphs: Annotated[Literal["on", "off"], FurtherFiles({"on": ("on", "off"), "off": ("on", "off")})] = "on"
    unpadded: bool = False
    freeze: tuple[Literal["embeddings"], ...] = Field((), max_length=1)
    select: Literal["holdout", "dev", "last"] = "holdout"
    select_by: Literal["metric", "likelihood"] = "metric"
    select_metric: Metric | None = None
    keep: Annotated[Literal["best", "epochs"], FurtherFiles({"best": ("best",), "epochs": ("best", "epochs")})] = "best"
    seed: int = 0


def rate_text(rate: float) -> str:
    """A learning rate as short text, such as ``1e-4`` or ``2.5e-4``."""
    return f"{Decimal(repr(rate)).normalize():e}".replace("e+", "e")


def describe_selection(train: Train) -> str:
    """The epoch whose weights a training keeps, in a phrase."""
    if train.select == "last":
        return "the last epoch"
    split = "the held-out slice of train" if train.select == "holdout" else "the first dev split"
    loss = "the lowest negative log-likelihood of the labels (for a regression, the lowest squared error)"
    score = f"the highest {train.select_metric or 'score'}"
    return f"the epoch with {loss if train.select_by == 'likelihood' else score} on {split}"


class DistilSpec(Spec):
    """One student.

    Inputs: ``corpus`` and ``start`` (a model). For a method with teachers, ``outputs`` (one store), or ``outputs/0``,
    ``outputs/1`` ... (several); if their logits are calibrated, ``calibration``, numbered as ``outputs``; for one that
    follows layer classifiers, ``probes``; for one that follows every token, ``tokens`` and, unless its ``scores`` is
    false, ``scores``; if the teachers' models run in the training, ``live``, numbered as ``outputs``, and for generated
    rows ``generator`` (a masked language model). For a method with candidates, ``candidates`` (their table),
    ``candidate_rows`` (their tokens) and ``candidate_outputs``, numbered as ``outputs``.

    With ``rates``, in rising order, the student is trained at the best of these learning rates in place of
    ``train.learning_rate``: the inputs ``rate/0``, ``rate/1`` ... are trainings at each of them, alike but for their
    seed.

    ``live_label_orders`` has for each model in ``live`` what ``label_order`` of its store's spec has, () if all are
    None.
    """

    stage: ClassVar[str] = "distil"
    version: ClassVar[int] = 2

    start: Start
    method: Method = Method()
    train: Train = Train()
    rates: tuple[Annotated[float, Field(gt=0.0)], ...] = ()
    live_label_orders: tuple[tuple[int, ...] | None, ...] = ()

    @model_validator(mode="after")
    def _rates_are_a_sweep(self) -> "DistilSpec":
        if self.rates and (len(self.rates) < 2 or list(self.rates) != sorted(set(self.rates))):
            raise ValueError(f"rates: {list(self.rates)} must be at least 2 different rates in rising order")
        return self

    @model_validator(mode="after")
    def _each_phase_has_an_epoch(self) -> "DistilSpec":
        if isinstance(self.method.training, TwoPhases) and self.train.epochs < 2:
            raise ValueError(f"train.epochs: 1, but {self.method.training.kind} has two phases; use at least 2")
        return self

    @model_validator(mode="after")
    def _candidates_have_an_epoch(self) -> "DistilSpec":
        if self.method.needs_candidates and not any_epoch_uses_candidates(self.method, self.train.epochs):
            raise ValueError(f"data: of {self.train.epochs} epochs {NO_CANDIDATE_EPOCH}")
        return self

    @model_validator(mode="after")
    def _generated_rows_have_an_epoch(self) -> "DistilSpec":
        if self.method.has_generated_rows and not generated_epochs(self.method, self.train.epochs):
            raise ValueError(
                f"data: generated, but the teacher's logits have no weight in any of {self.train.epochs} epochs, so "
                "that no such row is used; give them a weight, or data: original"
            )
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
    def _scores_are_recorded(self) -> "DistilSpec":
        structure = self.method.structure
        if isinstance(structure, EveryToken) and structure.scores and self.train.compile:
            raise ValueError(
                "train.compile: true, but attention scores cannot be recorded in a compiled model; leave it out"
            )
        return self

    @model_validator(mode="after")
    def _each_layer_is_named(self) -> "DistilSpec":
        if not self.method.structure.is_resolved:
            raise ValueError(
                "method.structure: a rule names other layers for models of another depth; resolve it first"
            )
        return self

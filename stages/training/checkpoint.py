"""The checkpoint of a training: one file, replaced as a whole, with a format number and named parts.

Randomness needs no state: every step seeds itself from (seed, phase, epoch, step, rank). What a checkpoint holds is the
position, the sums of the epoch so far, the history, the best epoch's weights, and the states of all parts that train:
the student, the projections of layer losses, the optimizer. A checkpoint of another format, or with other parts or loss
terms than the training has, is refused (``OtherFormat``), never misread.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from stages.checkpoint_file import OtherFormat as OtherFormat  # what ``load`` raises
from stages.checkpoint_file import damaged, equal_on_all_workers, read_checkpoint, write_checkpoint
from stages.specs.schedule import Position
from stages.training.losses import TERMS

FORMAT = 4
"""Raised whenever the meaning or the layout of what a checkpoint holds changes. Format 1 had no number. Format 3 has
the selection loss of each epoch; only some files of that format have the measured weight of the layer term and the
sums of attention. Format 4 has both, and the learning rate."""

State = Mapping[str, Any]
"""The return value of ``state_dict``."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """One epoch of the history. ``loss`` is the mean training loss. On the split that selects the best epoch, ``score``
    is the selecting metric x 100 and ``selection_loss`` the mean negative log-likelihood of the labels (for a
    regression the mean squared error). ``seconds`` is the training time up to the epoch's end, over all interruptions;
    ``candidates`` the counts of candidates, if any; ``attention`` the mean over rows of the largest weight of each
    student layer's attention to the teacher's layers, if there is attention."""

    phase: str
    epoch: int
    loss: float
    score: float
    selection_loss: float
    seconds: float
    candidates: dict[str, Any] | None = None
    attention: list[float] | None = None

    def as_json(self) -> dict[str, Any]:
        """The epoch in ``history.json``; without the keys ``candidates`` and ``attention`` where there are none."""
        optional = ("candidates", "attention")
        return {name: value for name, value in asdict(self).items() if name not in optional or value is not None}


@dataclass(frozen=True, slots=True)
class LayerWeight:
    """The weight of the layer term that was measured for ``structure.weight: auto`` when training started.

    It is the length of the labels' gradient over that of the layers' gradient: each of the term with weight 1, on the
    parameters that both terms reach, as means over ``batches`` batches.
    """

    weight: float
    labels_gradient: float
    layers_gradient: float
    batches: int

    @property
    def ratio(self) -> float:
        """The length of the layers' gradient at weight 1 over that of the labels' gradient."""
        return self.layers_gradient / self.labels_gradient

    def as_json(self) -> dict[str, float]:
        """The entry ``layer_weight`` of ``history.json`` and of the record's figures."""
        return {**asdict(self), "ratio": self.ratio}


@dataclass
class Progress:
    """The state of a training between two steps, apart from the parts with parameters.

    ``seconds`` is the training time so far, over all runs. ``best`` is the index of the best epoch in ``history``, -1
    before the first has ended, and ``best_weights`` its weights. For the epoch under way, ``loss`` and ``terms`` (in
    the order of ``TERMS``) are sums over its rows, ``candidate_sums`` the sums of ``candidates.usage_sums`` (empty
    without candidates), ``attention_sums`` those of the largest weights of each student layer's attention (empty
    without attention), and ``curve_samples`` the sums at earlier steps (see ``tensorboard.CurveSampler``). ``picked``
    [N, n] holds the ranks of the candidates that were last picked or drawn for all rows at once, None before that.
    ``layer_weight`` is the measured weight of the layer term, None where the spec gives a number or no layers.
    ``learning_rate`` is the peak learning rate of the training, which a sweep may have chosen.
    """

    learning_rate: float = field(kw_only=True)
    position: Position = field(default_factory=Position)
    loss: float = 0.0
    seconds: float = 0.0
    history: list[Epoch] = field(default_factory=list)
    best: int = -1
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    candidate_sums: list[float] = field(default_factory=list)
    picked: Tensor | None = None
    terms: list[float] = field(default_factory=lambda: [0.0] * len(TERMS))
    curve_samples: list[list[float]] = field(default_factory=list)
    layer_weight: LayerWeight | None = None
    attention_sums: list[float] = field(default_factory=list)

    @property
    def auto_weight(self) -> float:
        """The weight that stands for ``structure.weight: auto``; 1 where none was measured."""
        return 1.0 if self.layer_weight is None else self.layer_weight.weight

    @property
    def sums(self) -> list[float]:
        """The sums of the epoch under way as one list: the loss, its terms, those of attention, those of candidates."""
        return [self.loss, *self.terms, *self.attention_sums, *self.candidate_sums]

    @property
    def places_of_attention(self) -> slice:
        """The places of ``attention_sums`` in ``sums``."""
        start = 1 + len(self.terms)
        return slice(start, start + len(self.attention_sums))

    def start_attention(self, layers: int) -> None:
        """Make room for the sums of an epoch in which so many student layers have attention."""
        self.attention_sums = self.attention_sums or [0.0] * layers

    def mean_attention(self, rows: int) -> list[float] | None:
        """The entry ``attention`` of the epoch that ends, which had so many rows; None without attention."""
        return [total / rows for total in self.attention_sums] or None

    def set_sums(self, sums: Tensor) -> None:
        """Set them from a tensor in the order of ``sums``. Blocks until the device has computed it."""
        self.loss, rest = float(sums[0]), sums.tolist()
        attention = self.places_of_attention
        self.terms = rest[1 : attention.start]
        self.attention_sums, self.candidate_sums = rest[attention], rest[attention.stop :]

    def new_epoch(self) -> None:
        """Set the sums of the epoch under way to zero."""
        self.loss, self.terms = 0.0, [0.0] * len(TERMS)
        self.attention_sums, self.candidate_sums, self.curve_samples = [], [], []


def save(path: Path, progress: Progress, parts: Mapping[str, State]) -> None:
    """Write the checkpoint, and wait until it is on the disk. If writing fails, the previous one stays in place.

    ``parts`` maps the name of each part, such as ``student`` or ``optimizer``, to its state.
    """
    document = {
        "terms": list(TERMS),
        "progress": {
            "learning_rate": progress.learning_rate,
            "position": asdict(progress.position),
            "loss": progress.loss,
            "seconds": progress.seconds,
            "history": [asdict(epoch) for epoch in progress.history],
            "best": progress.best,
            "best_weights": progress.best_weights,
            "candidate_sums": progress.candidate_sums,
            "picked": progress.picked,
            "terms": progress.terms,
            "attention_sums": progress.attention_sums,
            "curve_samples": progress.curve_samples,
            "layer_weight": None if progress.layer_weight is None else asdict(progress.layer_weight),
        },
        "parts": dict(parts),
    }
    write_checkpoint(path, FORMAT, document)


def load(path: Path, names: tuple[str, ...]) -> tuple[Progress, dict[str, State]] | None:
    """The progress and the states of the parts by name, in host memory; None if there is no checkpoint.

    ``names`` are the parts that the training has. Raises ``OtherFormat`` for a file that is no checkpoint of this
    format with these parts and these loss terms, or that lacks a field or has one of another type.
    """
    document = read_checkpoint(path, FORMAT)
    if document is None:
        return None
    try:
        return _content(document, names)
    except (KeyError, TypeError, AttributeError) as error:
        raise damaged(FORMAT, error) from error


def _content(document: Mapping[str, Any], names: tuple[str, ...]) -> tuple[Progress, dict[str, State]]:
    """The progress and the states of the parts in a checkpoint's document. Raises ``OtherFormat`` for other parts or
    loss terms; KeyError, TypeError or AttributeError for a field that is not there or has another type."""
    if document["terms"] != list(TERMS):
        raise OtherFormat(f"a checkpoint with the loss terms {document['terms']}, this version has {list(TERMS)}")
    if sorted(document["parts"]) != sorted(names):
        raise OtherFormat(f"a checkpoint with the parts {sorted(document['parts'])}, the training has {sorted(names)}")
    kept = document["progress"]
    progress = Progress(
        learning_rate=kept["learning_rate"],
        position=Position(**kept["position"]),
        loss=kept["loss"],
        seconds=kept["seconds"],
        history=[Epoch(**epoch) for epoch in kept["history"]],
        best=kept["best"],
        best_weights={name: value.cpu() for name, value in kept["best_weights"].items()},
        candidate_sums=kept["candidate_sums"],
        picked=None if kept["picked"] is None else kept["picked"].cpu(),
        terms=kept["terms"],
        attention_sums=kept["attention_sums"],
        curve_samples=kept["curve_samples"],
        layer_weight=None if kept["layer_weight"] is None else LayerWeight(**kept["layer_weight"]),
    )
    return progress, document["parts"]


def same_on_all_workers(position: Position | None, world_size: int, device: str) -> bool:
    """Whether all workers have this position, or all have none. Workers that went on from different checkpoints, or of
    which some started over, would train different students. Every worker must call it."""
    numbers = None if position is None else (position.phase, position.epoch, position.step)
    return equal_on_all_workers(numbers, 3, world_size, device)

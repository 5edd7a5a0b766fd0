"""The checkpoint of a training: one file, replaced as a whole, with a format number and named parts.

Randomness needs no state: every step seeds itself from (seed, phase, epoch, step, rank). What a checkpoint holds is the
position, the sums of the epoch so far, the history, the best epoch's weights, and the states of all parts that train:
the student, the projections of layer losses, the optimizer. A checkpoint of another format, or with other parts or
sums than the training has, is refused (``OtherFormat``), never misread.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from torch import Tensor

from stages.checkpoint_file import OtherFormat as OtherFormat  # what ``load`` raises
from stages.checkpoint_file import damaged, equal_on_all_workers, read_checkpoint, write_checkpoint
from stages.specs.axes.training import Position
from stages.training.sums import ATTENTION, LOSS, SumLayout

FORMAT = 5
"""Raised whenever the meaning or the layout of what a checkpoint holds changes. Format 1 had no number. Format 3 has
the selection loss of each epoch; only some files of that format have the measured weight of the layer term and the
sums of attention. Format 4 has both, and the learning rate. Format 5 has the sums of an epoch by name."""

State = Mapping[str, Any]
"""The return value of ``state_dict``."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """One epoch of the history. ``loss`` is the mean training loss, None if no step trained the student. On the split
    that selects the best epoch, ``score`` is the selecting metric x 100 and ``selection_loss`` the mean negative
    log-likelihood of the labels (for a regression the mean squared error). ``seconds`` is the training time up to the
    epoch's end, over all interruptions; ``participants`` has the entry of each participant that took part;
    ``attention`` is the mean over rows of the largest weight of each student layer's attention to the teacher's layers,
    and ``attention_weights`` has for each student layer the means over rows of all of its weights, in the order of the
    teacher's layers; None where there is no attention."""

    phase: str
    epoch: int
    loss: float | None
    score: float
    selection_loss: float
    seconds: float
    participants: dict[str, dict[str, Any]] = field(default_factory=dict)
    attention: list[float] | None = None
    attention_weights: list[list[float]] | None = None

    def as_json(self) -> dict[str, Any]:
        """The epoch in ``history.json``: the entries of participants are keys of their own, and what is known of
        attention is left out where there is none."""
        values = asdict(self)
        entries = values.pop("participants")
        attention = {name: values.pop(name) for name in ("attention", "attention_weights")}
        return {**values, **entries, **{name: found for name, found in attention.items() if found is not None}}


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
    before the first has ended, and ``best_weights`` its weights. For the epoch under way, ``sums`` are those over its
    rows so far, in the order of ``layout``, and ``curve_samples`` the sums at earlier steps (see
    ``tensorboard.CurveSampler``).
    ``layer_weight`` is the measured weight of the layer term, None where the spec gives a number or no layers.
    ``learning_rate`` is the peak learning rate of the training, which a sweep may have chosen.
    """

    layout: SumLayout
    learning_rate: float = field(kw_only=True)
    position: Position = field(default_factory=Position)
    seconds: float = 0.0
    history: list[Epoch] = field(default_factory=list)
    best: int = -1
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    sums: list[float] = field(default_factory=list)
    curve_samples: list[list[float]] = field(default_factory=list)
    layer_weight: LayerWeight | None = None

    def __post_init__(self) -> None:
        self.sums = self.sums or [0.0] * self.layout.size

    @property
    def auto_weight(self) -> float:
        """The weight that stands for ``structure.weight: auto``; 1 where none was measured."""
        return 1.0 if self.layer_weight is None else self.layer_weight.weight

    @property
    def loss(self) -> float:
        """The sum of the losses of the rows of the epoch under way."""
        return self.sums_of(LOSS)[0]

    def sums_of(self, name: str) -> list[float]:
        """The sums of the epoch under way at the place ``name`` of the layout; [] if the layout has no such place."""
        return self.sums[self.layout.place(name)] if name in self.layout.sizes else []

    def mean_attention(
        self, rows: int, attended: Sequence[int]
    ) -> tuple[list[float], list[list[float]]] | tuple[None, None]:
        """The entries ``attention`` and ``attention_weights`` of the epoch that ends, which had so many rows, for
        student layers that attend to ``attended`` layers of the teacher each; (None, None) without attention."""
        sums = self.sums_of(ATTENTION)
        if not any(sums):
            return None, None
        means = iter([total / rows for total in sums])
        return list(islice(means, len(attended))), [list(islice(means, layers)) for layers in attended]

    def set_sums(self, sums: Tensor) -> None:
        """Set them from a tensor in the order of the layout. Blocks until the device has computed it."""
        self.sums = sums.tolist()

    def new_epoch(self) -> None:
        """Set the sums of the epoch under way to zero."""
        self.sums, self.curve_samples = [0.0] * self.layout.size, []


def save(path: Path, progress: Progress, parts: Mapping[str, State]) -> None:
    """Write the checkpoint, and wait until it is on the disk. If writing fails, the previous one stays in place.

    ``parts`` maps the name of each part, such as ``student`` or ``optimizer``, to its state.
    """
    document = {
        "progress": {
            "learning_rate": progress.learning_rate,
            "position": asdict(progress.position),
            "sums": progress.layout.by_name(progress.sums),
            "seconds": progress.seconds,
            "history": [asdict(epoch) for epoch in progress.history],
            "best": progress.best,
            "best_weights": progress.best_weights,
            "curve_samples": progress.curve_samples,
            "layer_weight": None if progress.layer_weight is None else asdict(progress.layer_weight),
        },
        "parts": dict(parts),
    }
    write_checkpoint(path, FORMAT, document)


def load(path: Path, names: tuple[str, ...], layout: SumLayout) -> tuple[Progress, dict[str, State]] | None:
    """The progress and the states of the parts by name, in host memory; None if there is no checkpoint.

    ``names`` are the parts that the training has, and ``layout`` its sums. Raises ``OtherFormat`` for a file that is no
    checkpoint of this format with these parts and sums, or that lacks a field or has one of another type.
    """
    document = read_checkpoint(path, FORMAT)
    if document is None:
        return None
    try:
        return _content(document, names, layout)
    except (KeyError, TypeError, AttributeError) as error:
        raise damaged(FORMAT, error) from error


def _content(
    document: Mapping[str, Any], names: tuple[str, ...], layout: SumLayout
) -> tuple[Progress, dict[str, State]]:
    """The progress and the states of the parts in a checkpoint's document. Raises ``OtherFormat`` for other parts or
    sums; KeyError, TypeError or AttributeError for a field that is not there or has another type."""
    if sorted(document["parts"]) != sorted(names):
        raise OtherFormat(f"a checkpoint with the parts {sorted(document['parts'])}, the training has {sorted(names)}")
    kept = document["progress"]
    try:
        sums = layout.in_order(kept["sums"])
    except ValueError as error:
        raise OtherFormat(f"a checkpoint with the {error}") from error
    progress = Progress(
        layout,
        learning_rate=kept["learning_rate"],
        position=Position(**kept["position"]),
        sums=sums,
        seconds=kept["seconds"],
        history=[Epoch(**epoch) for epoch in kept["history"]],
        best=kept["best"],
        best_weights={name: value.cpu() for name, value in kept["best_weights"].items()},
        curve_samples=kept["curve_samples"],
        layer_weight=None if kept["layer_weight"] is None else LayerWeight(**kept["layer_weight"]),
    )
    return progress, document["parts"]


def same_on_all_workers(position: Position | None, world_size: int, device: str) -> bool:
    """Whether all workers have this position, or all have none. Workers that went on from different checkpoints, or of
    which some started over, would train different students. Every worker must call it."""
    numbers = None if position is None else (position.phase, position.epoch, position.step)
    return equal_on_all_workers(numbers, 3, world_size, device)

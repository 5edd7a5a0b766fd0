"""What is measured, as values that are sent to a worker and come back from it."""

from dataclasses import dataclass
from pathlib import Path

from stages.specs.bank import BankSpec
from stages.specs.retrieval import ModelEncoder
from stages.specs.student import Start, Train

Figures = dict[str, float]
"""Name of a measured figure -> its value, in seconds; those whose names end in ``_row`` are seconds for each row."""


@dataclass(frozen=True, slots=True)
class ModelTiming:
    """A model to measure: the directory it starts from, the changes that are made to it in turn, and a corpus whose
    rows it reads. ``steps``: for each, the optimizer steps of a training with these settings are measured.
    ``computes``: for each of these number types, the outputs that a teacher's store holds. A measured loop ends after
    ``seconds``, but has two rounds at least. The model is saved once, below ``scratch``."""

    model: Path
    starts: tuple[Start, ...]
    corpus: Path
    steps: tuple[Train, ...]
    computes: tuple[str, ...]
    scratch: Path
    seconds: float


@dataclass(frozen=True, slots=True)
class ModelFigures:
    """The figures of a model: those of its forward passes and files, and for each of ``ModelTiming.steps`` those of its
    training. ``imports``: seconds in which this process imported what the stages need, about 0 if it had before."""

    imports: float
    forward: Figures
    steps: tuple[Figures, ...]


@dataclass(frozen=True, slots=True)
class TokenizerTiming:
    """A tokenizer to measure, on the rows of train of a corpus."""

    corpus: Path
    seconds: float


@dataclass(frozen=True, slots=True)
class BankTiming:
    """The texts of a bank to measure: how long cleaning them and embedding them takes. ``texts``: the spec of the bank
    and its files; ``built``: the directory of the bank if it is built."""

    spec: BankSpec
    files: tuple[tuple[str, Path], ...]
    built: Path | None
    encoder: ModelEncoder | None
    model: Path | None
    seconds: float

"""The stage ``transfer``: texts of a bank for each row of train at random, as a transfer set without neighbours.

Draws follow from (seed, row key, number of the draw) alone. What is evaluated on, the row's own text and what folds
like an earlier draw is drawn again.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cluster.resources import On, Worker
from stages.bank.reader import BankMeta, read_bank_meta
from stages.candidates.neighbour_filter import Kept, NeighbourFilter, read_known
from stages.candidates.table import Candidate, write_part
from stages.candidates.train_rows import distinct_train_rows, table_of
from stages.corpus.leakage import read_guard
from stages.corpus.reader import read_meta
from stages.specs.candidates import TransferSpec
from stages.specs.tasks import Task

MORE = 4
"""So many more than ``k`` are drawn at first."""
MOST_DRAWS = 4096
"""A row that has too few by then stays short: hardly anything in the bank may be its candidate."""
AT_ONCE = 2**17
"""Draws of all rows whose texts are in memory at a time."""


@dataclass(frozen=True, slots=True)
class TransferJob:
    """What a worker needs to know."""

    spec: TransferSpec
    corpus: Path
    bank: Path
    out: Path


def transfer(spec: TransferSpec, inputs: Mapping[str, Path], out: Path, on: On) -> dict[str, object]:
    """Inputs: ``corpus``, ``bank``. Leaves a candidate table without distances. ValueError for a bank of pairs for a
    task of single texts, or the reverse."""
    drawing = TransferJob(spec, inputs["corpus"], inputs["bank"], out)
    task = read_meta(drawing.corpus).task
    check_bank(task, read_bank_meta(drawing.bank))
    return table_of(drawing.corpus, out, on, open_transfer, drawing, "transfer", spec.k)


def check_bank(task: Task, bank: BankMeta) -> None:
    if task.pair != bank.pair:
        kinds = ("single texts", "pairs")
        raise ValueError(
            f"bank: it has {kinds[bank.pair]}, but a row of {task.name} is of {kinds[task.pair]}; give a bank of those"
        )


def drawn(seed: int, row_key: bytes, draws: range, rows: int) -> list[int]:
    """The rows of a bank of so many that a training row draws."""

    def one(draw: int) -> int:
        place = draw.to_bytes(8, "little")
        key = seed.to_bytes(16, "little", signed=True)
        return int.from_bytes(blake2b(row_key + place, key=key, digest_size=8).digest(), "little") % rows

    return [one(draw) for draw in draws]


def open_transfer(drawing: TransferJob, worker: Worker) -> Callable[[int], int]:
    """What writes the part of a number."""
    train_rows, guard = distinct_train_rows(drawing.corpus), read_guard(drawing.corpus)
    rows, spec = read_bank_meta(drawing.bank).rows, drawing.spec

    def draw(number: int) -> int:
        part = train_rows.part(number)
        found: list[list[Kept]] = [[] for _ in part.keys]
        facts = dict.fromkeys(("own", "guarded", "alike"), 0)
        left, draws = list(range(len(part))), spec.k + MORE
        while left:
            short = []
            for start in range(0, len(left), step := max(1, AT_ONCE // draws)):
                places = left[start : start + step]
                numbers = [drawn(spec.seed, part.keys[place], range(draws), rows) for place in places]
                known = read_known(drawing.bank, _whole(numbers), guard)
                for place, mine in zip(places, numbers, strict=True):
                    neighbour_filter = NeighbourFilter(spec.k)
                    once = [(row, float("nan")) for row in dict.fromkeys(mine)]
                    found[place] = neighbour_filter.kept(part.texts[place], once, known)
                    if len(found[place]) < spec.k and draws < MOST_DRAWS:
                        short.append(place)
                        continue
                    for reason, count in neighbour_filter.left_out.items():
                        facts[reason] += count
            left, draws = short, min(MOST_DRAWS, 2 * draws)
        candidates = [[Candidate(kept.texts) for kept in mine] for mine in found]
        text = read_meta(drawing.corpus).task.text
        write_part(drawing.out, number, text, list(zip(part.keys, candidates, strict=True)), facts)
        worker.advance(len(part))
        return len(part)

    return draw


def _whole(numbers: list[list[int]]) -> npt.NDArray[np.int64]:
    return np.array(numbers, np.int64).reshape(-1)

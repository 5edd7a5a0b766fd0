"""The stage ``transfer``: random texts of a bank for each row of train, as a transfer set without neighbours.

A draw depends on (seed, row key, number of the draw) alone. Left out, and replaced by further draws, are texts that the
task is evaluated on, the row's own text, and texts equal to an earlier draw without case, accents, spacing and
punctuation.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np

from cluster.resources import On, Worker
from stages.bank.reader import BankMeta, read_bank_meta
from stages.candidates.bank_capacity import check_capacity
from stages.candidates.neighbour_filter import KeptText, NeighbourFilter, read_bank_texts
from stages.candidates.table import Candidate, write_part
from stages.candidates.train_rows import distinct_train_rows, make_table
from stages.corpus.leakage import read_guard
from stages.corpus.reader import read_meta
from stages.specs.candidates import TransferSpec
from stages.specs.tasks import Task

EXTRA_DRAWS = 4
"""At first a row draws this many more than ``k``, as some will be filtered out."""
MOST_DRAWS = 4096
"""A row that has fewer than ``k`` candidates after so many draws keeps those, as hardly any text of the bank fits."""
DRAWS_AT_ONCE = 2**17
"""Draws, over all rows, whose texts are in memory at a time."""


@dataclass(frozen=True, slots=True)
class TransferJob:
    """What a worker needs to draw texts for training rows."""

    spec: TransferSpec
    corpus: Path
    bank: Path
    out: Path


def transfer(spec: TransferSpec, inputs: Mapping[str, Path], out: Path, on: On) -> dict[str, object]:
    """Inputs: ``corpus``, ``bank``. Leaves a candidate table without distances; returns its summary, with a warning
    where the bank has fewer texts than ``k``. ValueError for a bank of pairs for a task of single texts, or the
    reverse, and for a bank of which no text may be a candidate."""
    job = TransferJob(spec, inputs["corpus"], inputs["bank"], out)
    check_bank(read_meta(job.corpus).task, read_bank_meta(job.bank))
    warnings = check_capacity(job.bank, job.corpus, spec.k, "first", on)
    return {**make_table(job.corpus, out, on, open_transfer, job, "transfer", spec.k), **warnings}


def check_bank(task: Task, bank: BankMeta) -> None:
    """ValueError where one has pairs and the other single texts."""
    if task.pair != bank.pair:
        kinds = ("single texts", "pairs")
        raise ValueError(
            f"bank: it has {kinds[bank.pair]}, but a row of {task.name} is of {kinds[task.pair]}; give a bank of those"
        )


def drawn(seed: int, row_key: bytes, draws: range, rows: int) -> list[int]:
    """What a training row draws from a bank of ``rows`` rows: one row of the bank for each number in ``draws``."""

    def one(draw: int) -> int:
        place = draw.to_bytes(8, "little")
        key = seed.to_bytes(16, "little", signed=True)
        return int.from_bytes(blake2b(row_key + place, key=key, digest_size=8).digest(), "little") % rows

    return [one(draw) for draw in draws]


def open_transfer(job: TransferJob, worker: Worker) -> Callable[[int], int]:
    """Return a function that writes one part of the candidate table and returns how many training rows it covers."""
    train_rows, guard = distinct_train_rows(job.corpus), read_guard(job.corpus)
    bank_rows, spec = read_bank_meta(job.bank).rows, job.spec
    text = read_meta(job.corpus).task.text

    def write(number: int) -> int:
        part = train_rows.part(number)
        found: list[list[KeptText]] = [[] for _ in part.keys]
        counts = dict.fromkeys(("own", "guarded", "alike"), 0)
        open_places, draws = list(range(len(part))), spec.k + EXTRA_DRAWS
        while open_places:
            too_few = []
            for start in range(0, len(open_places), step := max(1, DRAWS_AT_ONCE // draws)):
                places = open_places[start : start + step]
                drawn_rows = [drawn(spec.seed, part.keys[place], range(draws), bank_rows) for place in places]
                bank_texts = read_bank_texts(job.bank, np.array(drawn_rows, np.int64).reshape(-1), guard)
                for place, rows in zip(places, drawn_rows, strict=True):
                    neighbour_filter = NeighbourFilter(spec.k)
                    distinct = [(row, float("nan")) for row in dict.fromkeys(rows)]
                    found[place] = neighbour_filter.apply(part.texts[place], distinct, bank_texts)
                    if len(found[place]) < spec.k and draws < MOST_DRAWS:
                        too_few.append(place)
                        continue
                    for reason, count in neighbour_filter.left_out.items():
                        counts[reason] += count
            open_places, draws = too_few, min(MOST_DRAWS, 2 * draws)
        candidates = [[Candidate(kept.texts) for kept in several] for several in found]
        write_part(job.out, number, text, list(zip(part.keys, candidates, strict=True)), counts)
        worker.advance(len(part))
        return len(part)

    return write

"""The stage ``rewrite``: the texts of train, written otherwise -> a candidate table.

Each distinct row gets at most ``k`` rewritten texts, distinct without case, accents, spacing and punctuation, none of
them the row's own, none of them (and no text that is kept of a pair) one that the task is evaluated on. Of a pair the
spec's ``sides`` are rewritten, by turns from draw to draw with ``either``. Draws are bounded (``rewriting.TRIES``), so
that a short text may end with fewer. Distances are not known: what the teacher thinks of a text is for ``sift``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from cluster.resources import On, Worker
from stages.candidates.table import ROWS_A_PART, finish, finished_part, summary, write_part
from stages.candidates.train_rows import distinct_train_rows
from stages.corpus.leakage import read_guard
from stages.corpus.reader import SCRATCH, read_meta
from stages.corpus.tokenizer import leave_rows
from stages.rewriting.backends import needed, open_how
from stages.rewriting.draws import RewriteCounts, RewriteRow, RewriteState, rewritten
from stages.rewriting.synonyms import read_synonyms
from stages.specs.candidates import RewriteSpec, Words
from stages.specs.tasks import Task

ROWS_AT_ONCE = 256
"""Rows that are drawn for together: enough for a model's batches, few enough to say how far it is."""


@dataclass(frozen=True, slots=True)
class RewriteJob:
    """What a worker needs to open."""

    spec: RewriteSpec
    inputs: Mapping[str, Path]
    text: tuple[str, ...]
    out: Path


@dataclass(frozen=True, slots=True)
class RewritePart:
    """A part of the table, for the rows in the file ``rows``."""

    number: int
    rows: Path


def rewrite(spec: RewriteSpec, inputs: Mapping[str, Path], out: Path, on: On) -> dict[str, object]:
    """Inputs: ``corpus``, and for words ``synonyms`` or ``model``, for masked ``model``, for translated ``there`` and
    ``back``. Goes on from the parts that ``out`` holds. Returns the table's summary: of all texts
    that were ``drawn``, the ``guarded`` and the ``repeated`` were left out."""
    task = read_meta(inputs["corpus"]).task
    _check(spec, inputs, task)
    rows = distinct_rows(inputs["corpus"], task)
    (out / SCRATCH).mkdir(parents=True, exist_ok=True)
    starts = range(0, rows.num_rows, ROWS_A_PART)
    parts = {number: rows.slice(start, ROWS_A_PART) for number, start in enumerate(starts)}
    left = {number: part for number, part in parts.items() if not finished_part(out, number, part.num_rows)}
    if len(left) < len(parts):
        on.log(f"{len(parts) - len(left)} of {len(parts)} parts were there already")
    on.expect(spec.k * sum(part.num_rows for part in left.values()), "texts")
    items = [RewritePart(number, leave_rows(part, out / SCRATCH)) for number, part in left.items()]
    for place, _ in on.map(open_rewriter, RewriteJob(spec, dict(inputs), task.text, out), items):
        items[place].rows.unlink()
    return summary(finish(out, spec.stage, spec.k, task.text, len(parts)))


def distinct_rows(corpus: Path, task: Task) -> pa.Table:
    """The rows of train, those of one key once: row_key and the text columns, in the order of train."""
    train_rows = distinct_train_rows(corpus)
    columns = [pa.array(train_rows.keys, pa.binary(16))]
    columns += [pa.array([texts[place] for texts in train_rows.texts], pa.string()) for place in range(len(task.text))]
    return pa.table(columns, names=["row_key", *task.text])


def _check(spec: RewriteSpec, inputs: Mapping[str, Path], task: Task) -> None:
    if not task.pair and spec.sides != "first":
        raise ValueError(f"sides: {spec.sides}, but a row of {task.name} is a single text; use first")
    needed(spec.how, inputs)
    if isinstance(spec.how, Words) and "synonyms" in inputs:
        read_synonyms(inputs["synonyms"])
    read_guard(inputs["corpus"])


# --- in a worker ------------------------------------------------------------------------------------------


def open_rewriter(config: RewriteJob, worker: Worker) -> Callable[[RewritePart], int]:
    """Load what rewrites; return what writes one part and says how many candidates it holds."""
    guard, how = read_guard(config.inputs["corpus"]), open_how(config.spec.how, config.inputs, worker)
    spec = config.spec

    def write(part: RewritePart) -> int:
        rows, tally = _rows(part.rows, config.text), RewriteCounts()
        found: list[RewriteState] = []
        for start in range(0, len(rows), ROWS_AT_ONCE):
            some = rows[start : start + ROWS_AT_ONCE]
            told = RewriteProgress(worker, spec.k * len(some))
            latest: list[RewriteState] = []
            for latest in rewritten(some, spec.k, spec.sides, spec.seed, guard, how, tally):
                told.so_far(latest)
            told.all()
            found += latest
        counts = {"drawn": tally.drawn, "guarded": tally.guarded, "repeated": tally.repeated}
        write_part(config.out, part.number, config.text, [(one.row.key, one.candidates) for one in found], counts)
        return sum(len(one.candidates) for one in found)

    return write


@dataclass(slots=True)
class RewriteProgress:
    """Tells how far some rows are: texts that they have, and in the end those that they will not get."""

    worker: Worker
    wanted: int
    done: int = field(default=0)

    def so_far(self, found: Sequence[RewriteState]) -> None:
        have = sum(len(one.candidates) for one in found)
        self.worker.advance(have - self.done)
        self.done = have

    def all(self) -> None:
        self.worker.advance(self.wanted - self.done)


def _rows(path: Path, text: Sequence[str]) -> list[RewriteRow]:
    with pa.OSFile(str(path)) as file:
        table = pa.ipc.open_file(file).read_all()
    texts = zip(*(table[name].to_pylist() for name in text), strict=True)
    return [RewriteRow(key, several) for key, several in zip(table["row_key"].to_pylist(), texts, strict=True)]

"""The stage ``rewrite``: rewrites the texts of train -> a candidate table.

Each distinct row gets at most ``k`` rewritten texts. They differ from each other and from the row's own text even
without case, accents, spacing and punctuation; and neither they nor the unchanged text of a pair are among the texts
that the task is evaluated on. Of a pair the spec's ``sides`` are rewritten; with ``either`` they alternate from draw to
draw. The number of draws is bounded (``draws.DRAWS_PER_TEXT``), so a short text may get fewer. The table has no
distances; reranking can filter it by the teacher's outputs.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pyarrow as pa

from cluster.resources import On, Worker
from stages.candidates.table import ROWS_A_PART, finish, finished_part, join_parts, summary, write_part
from stages.candidates.train_rows import distinct_train_rows
from stages.corpus.leakage import read_guard
from stages.corpus.reader import SCRATCH, read_meta
from stages.corpus.tokenizer import write_rows_file
from stages.rewriting.backends import check_inputs, open_rewriter_of
from stages.rewriting.draws import RewriteCounts, RewriteRow, RewriteState, rewritten
from stages.rewriting.synonyms import read_synonyms
from stages.rewriting.vector_file import check_vectors
from stages.specs.candidates import RewriteSpec, Words
from stages.specs.tasks import Task

ROWS_AT_ONCE = 256
"""Rows that are rewritten together, and saved when they are done: enough for a model's batches, and few enough for
progress to be visible and for little to be lost when a run is interrupted."""


@dataclass(frozen=True, slots=True)
class RewriteJob:
    """What a worker needs to rewrite parts. ``text`` has the task's text columns."""

    spec: RewriteSpec
    inputs: Mapping[str, Path]
    text: tuple[str, ...]
    out: Path


@dataclass(frozen=True, slots=True)
class RewritePart:
    """Part ``number`` of the table, for the training rows in the file ``rows``."""

    number: int
    rows: Path


def rewrite(spec: RewriteSpec, inputs: Mapping[str, Path], out: Path, on: On) -> dict[str, object]:
    """Write a candidate table to ``out``, going on from the parts that it holds. Inputs: ``corpus``; for words
    ``synonyms`` or ``model``, for masked ``model``, for tinybert ``model`` and if wanted ``vectors``, for translated
    ``there`` and ``back``. Returns the table's summary: of all texts that were ``drawn``, the ``guarded`` and the
    ``repeated`` were left out. ValueError for inputs that are missing or do not fit."""
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
    items = [RewritePart(number, write_rows_file(part, out / SCRATCH)) for number, part in left.items()]
    for place, _ in on.map(open_rewriter, RewriteJob(spec, dict(inputs), task.text, out), items):
        items[place].rows.unlink()
    return summary(finish(out, spec.stage, spec.k, task.text, len(parts)))


def distinct_rows(corpus: Path, task: Task) -> pa.Table:
    """The distinct rows of train, in the order of train: row_key and the text columns."""
    train_rows = distinct_train_rows(corpus)
    columns = [pa.array(train_rows.keys, pa.binary(16))]
    columns += [pa.array([texts[place] for texts in train_rows.texts], pa.string()) for place in range(len(task.text))]
    return pa.table(columns, names=["row_key", *task.text])


def _check(spec: RewriteSpec, inputs: Mapping[str, Path], task: Task) -> None:
    if not task.pair and spec.sides != "first":
        raise ValueError(f"sides: {spec.sides}, but a row of {task.name} is a single text; use first")
    check_inputs(spec.how, inputs)
    if isinstance(spec.how, Words) and "synonyms" in inputs:
        read_synonyms(inputs["synonyms"])
    if "vectors" in inputs:
        check_vectors(inputs["vectors"])
    read_guard(inputs["corpus"])


# --- in a worker ------------------------------------------------------------------------------------------


def open_rewriter(config: RewriteJob, worker: Worker) -> Callable[[RewritePart], int]:
    """Load what the rewriting needs; return a function that writes one part and returns how many candidates it has."""
    guard, rewrite_texts = read_guard(config.inputs["corpus"]), open_rewriter_of(config.spec.how, config.inputs, worker)
    spec = config.spec

    def write(part: RewritePart) -> int:
        rows = _rows(part.rows, config.text)
        groups = [rows[start : start + ROWS_AT_ONCE] for start in range(0, len(rows), ROWS_AT_ONCE)]
        saved = config.out / SCRATCH / f"rewritten-{part.number:05d}"
        saved.mkdir(parents=True, exist_ok=True)
        for number, some in enumerate(groups):
            progress = RewriteProgress(worker, spec.k * len(some))
            if finished_part(saved, number, len(some)):
                worker.restore(progress.wanted)
            else:
                latest, counts = list[RewriteState](), RewriteCounts()
                for latest in rewritten(some, spec.k, spec.sides, spec.seed, guard, rewrite_texts, counts):
                    progress.update(latest)
                candidates = [(one.row.key, one.candidates) for one in latest]
                write_part(saved, number, config.text, candidates, asdict(counts))
                progress.finish()
        written = join_parts(saved, len(groups), config.out, part.number, config.text)
        shutil.rmtree(saved)
        return written

    return write


@dataclass(slots=True)
class RewriteProgress:
    """Reports the progress of some rows in texts: those they have, and at the end those they will not get."""

    worker: Worker
    wanted: int
    done: int = field(default=0)

    def update(self, found: Sequence[RewriteState]) -> None:
        have = sum(len(one.candidates) for one in found)
        self.worker.advance(have - self.done)
        self.done = have

    def finish(self) -> None:
        self.worker.advance(self.wanted - self.done)


def _rows(path: Path, text: Sequence[str]) -> list[RewriteRow]:
    with pa.OSFile(str(path)) as file:
        table = pa.ipc.open_file(file).read_all()
    texts = zip(*(table[name].to_pylist() for name in text), strict=True)
    return [RewriteRow(key, several) for key, several in zip(table["row_key"].to_pylist(), texts, strict=True)]

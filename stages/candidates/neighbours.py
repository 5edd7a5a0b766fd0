"""The stage ``neighbours``: for each row of train, the texts of a bank that are nearest to it.

Each search asks for more neighbours than ``k``, since some are left out: texts that the task is evaluated on, the row's
own text, and texts equal to an earlier neighbour without case, accents, spacing and punctuation. Where fewer than ``k``
remain, the search is repeated for more. Of a pair, ``sides`` decides what is searched: one text, beside which the other
stays; each in turn; each for itself, with the i-th neighbours of both as candidate i; or the pair as a whole, in a bank
of pairs. A share of the candidates may be random texts of the bank instead (``stages/candidates/random_texts.py``).
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from cluster.resources import On, Worker
from stages.bank.reader import BankMeta, read_bank_meta
from stages.candidates.bank_capacity import check_capacity
from stages.candidates.job import NeighbourJob
from stages.candidates.train_rows import make_table
from stages.corpus.reader import read_meta
from stages.retrieval.embed import model_sha256
from stages.retrieval.embeddings import Embeddings, read_embeddings
from stages.retrieval.index_reader import read_index_meta
from stages.specs.candidates import NeighboursSpec
from stages.specs.tasks import Task


def neighbours(spec: NeighboursSpec, inputs: Mapping[str, Path], out: Path, on: On) -> dict[str, object]:
    """Write a candidate table to ``out``; return its summary, with a warning where the bank has fewer texts than ``k``.
    Inputs: ``corpus``, ``bank``, ``embeddings``; for embeddings of a model also ``index`` and ``encoder``. ValueError
    for inputs that do not belong together, and for a bank of which no text may be a candidate."""
    task = read_meta(inputs["corpus"]).task
    check_sides(spec, task, read_bank_meta(inputs["bank"]))
    embeddings = read_embeddings(inputs["embeddings"])
    job = NeighbourJob(
        spec,
        inputs["corpus"],
        inputs["bank"],
        inputs["embeddings"],
        inputs["index"] if embeddings.kind == "model" else None,
        inputs["encoder"] if embeddings.kind == "model" else None,
        out,
    )
    check_inputs(job, embeddings)
    warnings = check_capacity(job.bank, job.corpus, spec.k, spec.sides, on)
    return {**make_table(job.corpus, out, on, open_search_worker, job, "neighbours", spec.k), **warnings}


def check_sides(spec: NeighboursSpec, task: Task, bank: BankMeta) -> None:
    """ValueError where ``sides`` does not fit the task's number of texts or the bank's."""
    if len(task.text) == 1 and spec.sides != "first":
        raise ValueError(f"sides: {spec.sides}, but {task.name} has one text a row; choose first")
    if spec.sides == "joined" and not bank.pair:
        raise ValueError(
            "sides: joined, but the bank has single texts; give a bank of pairs, or choose first, second, either, both"
        )
    if spec.sides != "joined" and bank.pair:
        remedy = "give one of single texts" + (", or choose sides: joined" if len(task.text) == 2 else "")
        raise ValueError(f"bank: its rows are pairs, but sides: {spec.sides} searches single texts; {remedy}")


def check_inputs(job: NeighbourJob, embeddings: Embeddings) -> None:
    """ValueError where the embeddings are of another bank, or the index or the encoder belongs to other embeddings."""
    rows = read_bank_meta(job.bank).rows
    if embeddings.rows != rows:
        raise ValueError(f"embeddings: {embeddings.rows:,} rows, but the bank has {rows:,}; embed this bank")
    if job.index is None or job.encoder is None:
        return
    indexed = read_index_meta(job.index)
    if (indexed.rows, indexed.width) != (embeddings.rows, embeddings.width):
        raise ValueError(
            f"index: {indexed.rows:,} vectors of width {indexed.width}, but the embeddings are {embeddings.rows:,} of "
            f"width {embeddings.width}; index these"
        )
    if embeddings.facts["model_sha256"] != model_sha256(job.encoder):
        raise ValueError(f"encoder: {job.encoder} is not the model that made the embeddings; give that one")


def open_search_worker(job: NeighbourJob, worker: Worker) -> Callable[[int], int]:
    """Open encoder and index, once per worker; return a function that writes one part of the candidate table. Heavy
    modules are imported here, where the stage starts."""
    from stages.candidates.neighbour_search import NeighbourSearchWorker

    return NeighbourSearchWorker(job, worker).write

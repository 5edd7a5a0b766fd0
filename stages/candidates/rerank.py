"""The stage ``rerank``: filters and orders a candidate table by the teacher's outputs for its texts.

Rules, in this order: bounds on the teacher's confidence; the angle between the teacher's last-layer states of a row and
of its candidate, which is bounded and gives the new order; the balance of classes, over the whole table; the first
``k`` of each row. Candidates get new ranks. Parts are scored and written independently of each other on mapped stores,
so the memory of a worker does not depend on the size of the table. The balance is computed in the driver, which holds
some bytes per candidate for it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from cluster.resources import On
from stages.atomic import replacing
from stages.candidates.rerank_rules import Scores, balanced
from stages.candidates.rerank_worker import (
    NO_BOUNDS,
    RerankJob,
    kept_path,
    open_part_writer,
    open_scorer,
    ranks_of,
    read_scores,
    scores_path,
)
from stages.candidates.table import (
    TableMeta,
    finish,
    finished_part,
    part_path,
    part_rows,
    read_part,
    read_table_meta,
    summary,
)
from stages.corpus.reader import SCRATCH
from stages.outputs.layout import Layout, read_store
from stages.specs.candidates import RerankSpec


def rerank(spec: RerankSpec, inputs: Mapping[str, Path], out: Path, on: On) -> dict[str, object]:
    """Write the reranked table to ``out``, going on from the parts that it holds. Inputs: ``candidates``, ``outputs``,
    ``candidate_outputs``. Returns the table's summary, with the number of candidates that each rule removed (``by_k``:
    those beyond the first k). ValueError where the rules do not fit the stores, and where no candidate is left."""
    table = inputs["candidates"]
    meta = read_table_meta(table)
    config = RerankJob(spec, dict(inputs), _checked(spec, inputs), meta.text, out)
    (out / SCRATCH).mkdir(parents=True, exist_ok=True)
    numbers = range(meta.parts)
    left = [number for number in numbers if not finished_part(out, number, part_rows(table, number))]
    if len(left) < meta.parts:
        on.log(f"{meta.parts - len(left)} of {meta.parts} parts were there already")
    scored = numbers if left and spec.balance is not None else left
    unscored = [number for number in scored if not scores_path(out, number).exists()]
    sizes = {number: pq.read_metadata(part_path(table, number)).num_rows for number in scored}
    on.expect(sum(sizes[number] for number in (*unscored, *left)), "candidates")
    for _ in on.map(open_scorer, config, unscored):
        pass
    if left and spec.balance is not None:
        _balance(table, meta, out, spec.balance)
    for _ in on.map(open_part_writer, config, left):
        pass
    reranked = finish(out, spec.stage, spec.k, meta.text, meta.parts)
    if not reranked.candidates:
        raise ValueError(
            f"candidates: none of {meta.candidates:,} is left by confidence {list(spec.confidence)}, balance "
            f"{spec.balance} and distances from {spec.min_distance} to {spec.max_distance}; widen them"
        )
    facts = summary(reranked)
    for path in (out / SCRATCH).glob("*.np[yz]"):
        path.unlink()
    return facts


def _checked(spec: RerankSpec, inputs: Mapping[str, Path]) -> str | None:
    """The column of last-layer states, or None where no rule needs it. ValueError for rules that contradict themselves
    or need what the stores lack."""
    least, most = spec.confidence
    if not 0 <= least < most <= 1:
        raise ValueError(f"confidence: [{least}, {most}] leaves nothing; give a lower and a higher bound from 0 to 1")
    if spec.min_distance >= spec.max_distance:
        raise ValueError(f"min_distance: {spec.min_distance}, but max_distance is {spec.max_distance}; let it be less")
    if not spec.rerank and (spec.min_distance, spec.max_distance) != NO_BOUNDS:
        raise ValueError(
            "min_distance and max_distance: they bound the teacher's angles, which are computed with rerank only; set "
            "rerank, or bound the distances of the neighbours"
        )
    layouts = [read_store(inputs[name]).layout for name in ("outputs", "candidate_outputs")]
    if layouts[1].outputs == 1:
        for name, given in (("confidence", spec.confidence != NO_BOUNDS), ("balance", spec.balance is not None)):
            if given:
                raise ValueError(f"{name}: a regression has neither probabilities nor classes; leave it out")
    return _last_column(spec, layouts) if spec.rerank else None


def _last_column(spec: RerankSpec, layouts: Sequence[Layout]) -> str:
    """The column of the deepest layer in the stores, which both must have. ValueError otherwise."""
    layers = [layer for layout in layouts for layer in layout.layers]
    if not layers:
        raise ValueError("rerank: the stores hold no layers, but the teacher's last one is needed; store it, too")
    columns = [layout.column_of(max(layers), spec.pooling) for layout in layouts]
    if len(set(columns)) == 1:
        return columns[0]
    raise ValueError(f"rerank: the stores call the last layer {' and '.join(columns)}; make them with equal poolings")


# --- the balance, in the driver ---------------------------------------------------------------------------


def _balance(table: Path, meta: TableMeta, out: Path, times: float) -> None:
    """Apply the balance to the whole table; write for each part which of its entries are kept."""
    scores_of_parts = [read_scores(out, number)[0] for number in range(meta.parts)]
    columns = [read_part(table, number, ("row_key", "rank", "candidate_key")) for number in range(meta.parts)]
    whole = Scores(
        np.concatenate([scores.kept for scores in scores_of_parts]),
        np.concatenate([scores.label for scores in scores_of_parts]),
        np.concatenate([scores.distance for scores in scores_of_parts]),
    )
    rank = np.concatenate([ranks_of(part) for part in columns])
    tie = np.concatenate([_ties(part) for part in columns])
    kept, start = balanced(whole, rank, tie, times), 0
    for number, scores in enumerate(scores_of_parts):
        end = start + len(scores.kept)
        with replacing(kept_path(out, number)) as draft, draft.open("wb") as file:
            np.save(file, kept[start:end])
        start = end


def _ties(part: pa.Table) -> npt.NDArray[np.uint64]:
    """A number for each entry that depends on its two keys alone."""
    row, candidate = (_words(part[name]) for name in ("row_key", "candidate_key"))
    return row ^ candidate


def _words(keys: pa.ChunkedArray) -> npt.NDArray[np.uint64]:
    return np.frombuffer(b"".join(keys.to_pylist()), "<u8").reshape(-1, 2)[:, 0]

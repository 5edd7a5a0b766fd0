"""The stage ``rerank``: a candidate table, judged by what the teacher said of its texts.

In this order: bounds of confidence; the angle between the teacher's last states of a row and of its candidate, as the
order and as what is bounded; the balance of classes, over the whole table; the first ``k`` of a row. Ranks are given
anew. Each part of the table is scored, and after the balance cut, by itself: what a worker holds does not grow with the
table, as stores are mapped. In the driver the balance alone takes some bytes a candidate.
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
    EVERYTHING,
    RerankJob,
    kept_path,
    open_cutter,
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
    """Inputs: ``candidates``, ``outputs``, ``candidate_outputs``. Goes on from the parts that ``out`` holds. Returns
    the table's summary, with how many candidates each rule took (``by_k`` those beyond the first k)."""
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
    for _ in on.map(open_cutter, config, left):
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
    """The column of the last states, if they are asked for. ValueError for what the stores cannot answer."""
    least, most = spec.confidence
    if not 0 <= least < most <= 1:
        raise ValueError(f"confidence: [{least}, {most}] leaves nothing; give a lower and a higher bound from 0 to 1")
    if spec.min_distance >= spec.max_distance:
        raise ValueError(f"min_distance: {spec.min_distance}, but max_distance is {spec.max_distance}; let it be less")
    if not spec.rerank and (spec.min_distance, spec.max_distance) != EVERYTHING:
        raise ValueError(
            "min_distance and max_distance: they bound the teacher's angle, which rerank alone asks for; set rerank, "
            "or bound the distances of the neighbours"
        )
    layouts = [read_store(inputs[name]).layout for name in ("outputs", "candidate_outputs")]
    if layouts[1].outputs == 1:
        for name, given in (("confidence", spec.confidence != EVERYTHING), ("balance", spec.balance is not None)):
            if given:
                raise ValueError(f"{name}: a regression has neither probabilities nor classes; leave it out")
    return _last_column(spec, layouts) if spec.rerank else None


def _last_column(spec: RerankSpec, layouts: Sequence[Layout]) -> str:
    """That of the deepest layer of either store, which both must have."""
    layers = [layer for layout in layouts for layer in layout.layers]
    if not layers:
        raise ValueError("rerank: the stores hold no layers, but the teacher's last one is asked for; add it to them")
    columns = [layout.column_of(max(layers), spec.pooling) for layout in layouts]
    if len(set(columns)) == 1:
        return columns[0]
    raise ValueError(f"rerank: the stores call the last layer {' and '.join(columns)}; make them with equal poolings")


# --- the balance, in the driver ---------------------------------------------------------------------------


def _balance(table: Path, meta: TableMeta, out: Path, times: float) -> None:
    """Leave for each part which of its entries stay."""
    several = [read_scores(out, number)[0] for number in range(meta.parts)]
    columns = [read_part(table, number, ("row_key", "rank", "candidate_key")) for number in range(meta.parts)]
    whole = Scores(
        np.concatenate([scores.kept for scores in several]),
        np.concatenate([scores.label for scores in several]),
        np.concatenate([scores.distance for scores in several]),
    )
    rank = np.concatenate([ranks_of(part) for part in columns])
    tie = np.concatenate([_ties(part) for part in columns])
    kept, start = balanced(whole, rank, tie, times), 0
    for number, scores in enumerate(several):
        end = start + len(scores.kept)
        with replacing(kept_path(out, number)) as draft, draft.open("wb") as file:
            np.save(file, kept[start:end])
        start = end


def _ties(part: pa.Table) -> npt.NDArray[np.uint64]:
    """A number that follows from both keys of an entry."""
    row, candidate = (_words(part[name]) for name in ("row_key", "candidate_key"))
    return row ^ candidate


def _words(keys: pa.ChunkedArray) -> npt.NDArray[np.uint64]:
    return np.frombuffer(b"".join(keys.to_pylist()), "<u8").reshape(-1, 2)[:, 0]

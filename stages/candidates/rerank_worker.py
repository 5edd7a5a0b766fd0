"""Scores the parts of a candidate table and writes the reranked parts, in a worker: numpy over mapped stores."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cluster.resources import Worker
from stages.atomic import replacing
from stages.cache_folder import CacheFolder
from stages.candidates.rerank_rules import (
    Mask,
    Numbers,
    Scores,
    first_of_each_row,
    highest_probability,
    within_bounds,
)
from stages.candidates.table import Candidate, part_rows, read_part, write_part
from stages.corpus.reader import SCRATCH
from stages.outputs.node_cache import KEYS, Decoded, decode, locate
from stages.outputs.quarantine import read_quarantined
from stages.retrieval.angles import angles
from stages.specs.candidates import RerankSpec

NO_BOUNDS = (0.0, 1.0)
"""Bounds that every probability and every distance satisfies."""


@dataclass(frozen=True, slots=True)
class RerankJob:
    """What a worker needs to rerank parts. ``column`` is the store's column of last-layer states; None where no rule
    needs states."""

    spec: RerankSpec
    inputs: Mapping[str, Path]
    column: str | None
    text: tuple[str, ...]
    out: Path

    @property
    def labelled(self) -> bool:
        """Whether a rule needs the teacher's logits."""
        return self.spec.confidence != NO_BOUNDS or self.spec.balance is not None


def scores_path(out: Path, number: int) -> Path:
    return out / SCRATCH / f"scores-{number:05d}.npz"


def kept_path(out: Path, number: int) -> Path:
    return out / SCRATCH / f"kept-{number:05d}.npy"


def read_scores(out: Path, number: int) -> tuple[Scores, dict[str, int]]:
    """The scores of a part, and how many of its entries each rule removed."""
    with np.load(scores_path(out, number)) as saved:
        taken = {name: int(saved[name]) for name in saved.files if name.startswith("by_")}
        return Scores(saved["kept"], saved["label"], saved["distance"]), taken


def ranks_of(part: pa.Table) -> Numbers:
    ranks: Numbers = part["rank"].to_numpy().astype(np.int64)
    return ranks


@dataclass(frozen=True, slots=True)
class StoredOutputs:
    """Mapped columns of a teacher-output store."""

    directory: Path
    decoded: Decoded

    def of(self, column: str, keys: Sequence[bytes]) -> npt.NDArray[np.generic]:
        """The values of a column for these rows, [len(keys), width]. ValueError where the store lacks a row."""
        places = locate(self.decoded.columns[KEYS], keys, self.directory)
        found: npt.NDArray[np.generic] = self.decoded.columns[column][places]
        return found


def _open_outputs(directory: Path, columns: Sequence[str], worker: Worker) -> StoredOutputs:
    return StoredOutputs(directory, decode(directory, columns, (), CacheFolder.of(os.environ), worker.note))


def open_scorer(config: RerankJob, worker: Worker) -> Callable[[int], None]:
    """Map the stores; return a function that scores one part of the table."""
    spec, states = config.spec, [config.column] if config.column else []
    columns = ["logits"] * config.labelled + states
    candidates = _open_outputs(config.inputs["candidate_outputs"], columns, worker) if columns else None
    train = _open_outputs(config.inputs["outputs"], states, worker) if states else None
    bad = [read_quarantined(config.inputs[name]) for name in ("outputs", "candidate_outputs")]

    def score(number: int) -> None:
        part = read_part(config.inputs["candidates"], number, ("row_key", "distance", "candidate_key"))
        pairs = zip(part["row_key"].to_pylist(), part["candidate_key"].to_pylist(), strict=True)
        sound = np.array([row not in bad[0] and key not in bad[1] for row, key in pairs], np.bool_)
        scored, taken = score_sound(part if sound.all() else part.filter(pa.array(sound)))
        if not sound.all():
            scored, taken["by_quarantine"] = spread_out(scored, sound), int((~sound).sum())
        arrays: dict[str, Any] = {"kept": scored.kept, "label": scored.label, "distance": scored.distance, **taken}
        with replacing(scores_path(config.out, number)) as draft, draft.open("wb") as file:
            np.savez(file, **arrays)
        worker.advance(len(sound))

    def score_sound(part: pa.Table) -> tuple[Scores, dict[str, int]]:
        rows, keys = part["row_key"].to_pylist(), part["candidate_key"].to_pylist()
        kept, label = np.ones(len(rows), np.bool_), np.zeros(len(rows), np.int64)
        distance, taken = part["distance"].to_numpy().astype(np.float64), dict[str, int]()
        if config.labelled and candidates is not None:
            logits = candidates.of("logits", keys)
            probability, label = highest_probability(logits), logits.argmax(1)
            kept = (probability >= spec.confidence[0]) & (probability <= spec.confidence[1])
            taken["by_confidence"] = int((~kept).sum())
        if config.column and candidates is not None and train is not None:
            distance = angles(train.of(config.column, rows), candidates.of(config.column, keys))
            kept, more = within_bounds(distance, spec.min_distance, spec.max_distance, kept)
            taken.update(more)
        return Scores(kept, label, distance), taken

    return score


def spread_out(scores: Scores, sound: Mask) -> Scores:
    """The scores of the ``sound`` entries at their places among all entries; the others are not kept."""
    kept, label, distance = np.zeros(len(sound), np.bool_), np.zeros(len(sound), np.int64), np.zeros(len(sound))
    kept[sound], label[sound], distance[sound] = scores.kept, scores.label, scores.distance
    return Scores(kept, label, distance)


def open_part_writer(config: RerankJob, worker: Worker) -> Callable[[int], None]:
    """Return a function that writes one reranked part: of the entries that pass all rules, the first ``k`` of each
    row."""
    spec, table, out = config.spec, config.inputs["candidates"], config.out

    def write(number: int) -> None:
        part = read_part(table, number, ("row_key", "rank", "candidate_key", *config.text))
        scores, taken = read_scores(out, number)
        kept: Mask = scores.kept if spec.balance is None else np.load(kept_path(out, number))
        row = part["row_key"].combine_chunks().dictionary_encode().indices.to_numpy().astype(np.int64)
        chosen = first_of_each_row(row, ranks_of(part), scores.distance if spec.rerank else None, kept, spec.k)
        if spec.balance is not None:
            taken["by_balance"] = int(scores.kept.sum() - kept.sum())
        taken["by_k"] = int(kept.sum()) - len(chosen)
        found = _by_row(part.take(pa.array(chosen)), scores.distance[chosen].tolist(), config.text)
        write_part(out, number, config.text, found, taken, part_rows(table, number))
        worker.advance(part.num_rows)

    return write


def _by_row(part: pa.Table, distances: Sequence[float], text: Sequence[str]) -> list[tuple[bytes, list[Candidate]]]:
    """(row key, its candidates) for each training row in ``part``, in the order of ``part``."""
    found: dict[bytes, list[Candidate]] = {}
    texts = zip(*(part[name].to_pylist() for name in text), strict=True)
    for key, distance, several in zip(part["row_key"].to_pylist(), distances, texts, strict=True):
        found.setdefault(key, []).append(Candidate(several, distance))
    return list(found.items())

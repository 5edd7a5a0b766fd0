"""Example rows of a candidate table with their candidates, for display."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from stages.candidates.table import read_candidates, read_part, read_table_meta
from stages.corpus.reader import read_split
from stages.corpus.row_key import KEY_BYTES
from stages.specs.tasks import TRAIN


@dataclass(frozen=True, slots=True)
class ShownCandidate:
    """A candidate to display. ``distance`` is NaN where the table has none."""

    rank: int
    distance: float
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Example:
    """A training row and its candidates by rank. ``texts`` are the row's own; None where no corpus was given."""

    row_key: bytes
    texts: tuple[str, ...] | None
    candidates: tuple[ShownCandidate, ...]


def examples(table: Path, rows: int, corpus: Path | None = None) -> list[Example]:
    """At most ``rows`` training rows that have candidates, evenly spaced over the table."""
    keys = read_candidates(table, ("row_key",))["row_key"].unique()
    count = min(rows, len(keys))
    chosen = [keys[place * len(keys) // count].as_py() for place in range(count)]
    found = _candidates(table, chosen)
    texts = _texts(corpus, chosen) if corpus is not None else {}
    return [Example(key, texts.get(key), tuple(found[key])) for key in chosen]


def _candidates(table: Path, chosen: list[bytes]) -> Mapping[bytes, list[ShownCandidate]]:
    """The candidates of the chosen rows. Reads one part at a time, as a table may be large."""
    meta, found = read_table_meta(table), {key: list[ShownCandidate]() for key in chosen}
    wanted = pa.array(chosen, pa.binary(KEY_BYTES))
    for number in range(meta.parts):
        part = read_part(table, number, ("row_key", "rank", "distance", *meta.text))
        for row in part.filter(pc.is_in(part["row_key"], value_set=wanted)).to_pylist():
            found[row["row_key"]].append(
                ShownCandidate(row["rank"], row["distance"], tuple(row[name] for name in meta.text))
            )
    return found


def _texts(corpus: Path, chosen: list[bytes]) -> Mapping[bytes, tuple[str, ...]]:
    split, wanted = read_split(corpus, TRAIN), set(chosen)
    return {key: texts for key, texts in zip(split.keys, split.texts(), strict=True) if key in wanted}

"""What the index stage leaves, and how its ``index.json`` is read. Needs no FAISS.

index.json            what it is, how it is searched and how well; written last
index.faiss           centres, quantiser and inverted lists, mapped when they are read (kinds with lists)
graph-00000.faiss     a graph for each shard of the vectors (hnsw)
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

META = "index.json"
FAISS = "index.faiss"


@dataclass(frozen=True, slots=True)
class IndexMeta:
    """``probe`` are lists that a search visits, or a graph's efSearch. ``widen``: so many times the neighbours that are
    asked for are found by their codes, then put in order by the vectors. ``recall`` is that of 8 neighbours against
    exact search, over ``queries`` rows of the bank, none of which counts as its own neighbour."""

    kind: str
    rows: int
    width: int
    lists: int
    probe: int
    widen: int
    recall: float
    queries: int
    bytes: int
    seconds: Mapping[str, float]


def graph_path(directory: Path, number: int) -> Path:
    return directory / f"graph-{number:05d}.faiss"


def write_index_meta(directory: Path, meta: IndexMeta) -> None:
    draft = directory / f"{META}.tmp"
    draft.write_text(json.dumps(asdict(meta), indent=1) + "\n", "utf-8")
    os.replace(draft, directory / META)


def read_index_meta(directory: Path) -> IndexMeta:
    """ValueError where there is no finished index."""
    path = directory / META
    if not path.is_file():
        raise ValueError(f"index: {path} is not there; {directory} holds no finished index")
    return IndexMeta(**json.loads(path.read_text("utf-8")))

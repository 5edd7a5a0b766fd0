"""The files of a finished index, and the reader of its ``index.json``. Needs no FAISS.

index.json            kind, size, search settings and measured recall; written last
index.faiss           centres and quantiser (kinds with inverted lists)
index.ivfdata         the inverted lists, mapped when the index is read
index.sizes.npy       uint64 [lists], rows in each inverted list
graph-00000.faiss     a graph for each shard of the vectors (hnsw)
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from stages.atomic import replacing

META = "index.json"
FAISS = "index.faiss"
LISTS = "index.ivfdata"


@dataclass(frozen=True, slots=True)
class IndexMeta:
    """``probe``: number of inverted lists that a search visits, or the efSearch of graphs. ``widen``: a search for k
    neighbours finds ``widen`` * k by their codes, then orders them by the exact vectors. ``recall``: recall@8 against
    exact search over ``queries`` rows of the bank, none of which counts as its own neighbour. ``bytes``: size of the
    index's files without ``index.json``. ``seconds``: wall time of each step of the build."""

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


def sizes_path(lists: Path) -> Path:
    """The file beside a file of inverted lists that has the rows in each list."""
    return lists.with_suffix(".sizes.npy")


def graph_path(directory: Path, number: int) -> Path:
    return directory / f"graph-{number:05d}.faiss"


def write_index_meta(directory: Path, meta: IndexMeta) -> None:
    with replacing(directory / META) as draft:
        draft.write_text(json.dumps(asdict(meta), indent=1) + "\n", "utf-8")


def read_index_meta(directory: Path) -> IndexMeta:
    """ValueError where there is no finished index."""
    path = directory / META
    if not path.is_file():
        raise ValueError(f"index: {path} is not there; {directory} holds no finished index")
    return IndexMeta(**json.loads(path.read_text("utf-8")))

"""A candidate table: for each row of train, further texts for the teacher to label. All makers write this format.

    candidates-00000.parquet   row_key, rank, distance, candidate_key, and the task's text columns
    candidates.json            its maker and its counts; written last

``row_key`` is the key of the training row, ``candidate_key`` the key of the candidate's texts. The candidates of a row
have ranks 0, 1, 2 ..., the nearest first; a row may have fewer than ``k``, or none. ``distance`` is the angle between
row and candidate as a share of pi (arccos(cos) / pi, from 0 to 1), or NaN where the maker has no distances. Needs no
torch.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stages.atomic import replacing
from stages.corpus.row_key import KEY_BYTES, row_key

META = "candidates.json"
ROWS_A_PART = 4096
"""Training rows in a part."""

FACTS = b"stillhouse"


@dataclass(frozen=True, slots=True)
class Candidate:
    """One text (or pair of texts) for a training row."""

    texts: tuple[str, ...]
    distance: float = float("nan")


@dataclass(frozen=True, slots=True)
class TableMeta:
    """``rows``: training rows for which candidates were made; ``short`` of them have fewer than ``k``. ``candidates``:
    all candidates; ``distinct``: their distinct texts. ``facts``: counts that differ from maker to maker."""

    maker: str
    k: int
    text: tuple[str, ...]
    parts: int
    rows: int
    candidates: int
    distinct: int
    short: int
    facts: Mapping[str, float]


def schema(text: Sequence[str]) -> pa.Schema:
    """The columns of a table for a task with the text columns ``text``."""
    fields = [
        pa.field("row_key", pa.binary(KEY_BYTES), nullable=False),
        pa.field("rank", pa.int16(), nullable=False),
        pa.field("distance", pa.float32(), nullable=False),
        pa.field("candidate_key", pa.binary(KEY_BYTES), nullable=False),
    ]
    return pa.schema(fields + [pa.field(name, pa.string(), nullable=False) for name in text])


def part_path(directory: Path, number: int) -> Path:
    return directory / f"candidates-{number:05d}.parquet"


def write_part(
    directory: Path,
    number: int,
    text: Sequence[str],
    found: Sequence[tuple[bytes, Sequence[Candidate]]],
    facts: Mapping[str, float],
    rows: int | None = None,
) -> None:
    """Write the candidates of some training rows, ``found``, in rank order. ``finish`` adds up the ``facts`` of all
    parts. ``rows`` is the number of training rows where ``found`` omits rows without candidates."""
    flat = [(key, rank, one) for key, several in found for rank, one in enumerate(several)]
    columns = [
        pa.array([key for key, _, _ in flat], pa.binary(KEY_BYTES)),
        pa.array([rank for _, rank, _ in flat], pa.int16()),
        pa.array([one.distance for _, _, one in flat], pa.float32()),
        pa.array([row_key(one.texts) for _, _, one in flat], pa.binary(KEY_BYTES)),
        *(pa.array([one.texts[place] for _, _, one in flat], pa.string()) for place in range(len(text))),
    ]
    content = {"rows": len(found) if rows is None else rows, "facts": dict(facts)}
    described = schema(text).with_metadata({FACTS: json.dumps(content).encode()})
    with replacing(part_path(directory, number)) as draft:
        pq.write_table(pa.Table.from_arrays(columns, schema=described), draft, compression="zstd")


def join_parts(source: Path, parts: int, directory: Path, number: int, text: Sequence[str]) -> int:
    """Write the parts 0 to ``parts`` - 1 of the folder ``source`` as one part. Returns the number of candidates."""
    found: dict[bytes, list[Candidate]] = {}
    facts, rows = Counter[str](), 0
    for each in range(parts):
        table = read_part(source, each, ("row_key", "distance", *text))
        texts = zip(*(table[name].to_pylist() for name in text), strict=True)
        for key, distance, several in zip(
            table["row_key"].to_pylist(), table["distance"].to_pylist(), texts, strict=True
        ):
            found.setdefault(key, []).append(Candidate(several, distance))
        stated = _stated(part_path(source, each))
        assert isinstance(stated["facts"], dict)
        facts.update(stated["facts"])
        rows += part_rows(source, each)
    write_part(directory, number, text, list(found.items()), facts, rows)
    return sum(map(len, found.values()))


def finished_part(directory: Path, number: int, rows: int) -> bool:
    """Whether an earlier attempt wrote that part for ``rows`` training rows."""
    return _stated(part_path(directory, number)).get("rows") == rows


def part_rows(directory: Path, number: int) -> int:
    """The number of training rows that a part covers, those without candidates included. ValueError where the part
    cannot be read."""
    rows = _stated(part_path(directory, number)).get("rows")
    if not isinstance(rows, int):
        raise ValueError(f"{part_path(directory, number)}: this part cannot be read; make the candidates again")
    return rows


def _stated(path: Path) -> Mapping[str, object]:
    try:
        metadata = pq.read_metadata(path).metadata or {}
    except (pa.ArrowException, OSError):
        return {}
    stated: Mapping[str, object] = json.loads(metadata.get(FACTS, b"{}"))
    return stated


def finish(directory: Path, maker: str, k: int, text: Sequence[str], parts: int) -> TableMeta:
    """Write ``candidates.json`` for a table of ``parts`` parts, with which the table is finished."""
    facts: dict[str, float] = {}
    rows = 0
    for number in range(parts):
        stated = _stated(part_path(directory, number))
        assert isinstance(stated["facts"], dict)
        assert isinstance(stated["rows"], int)
        rows += stated["rows"]
        for name, value in stated["facts"].items():
            facts[name] = facts.get(name, 0) + value
    table = _read(directory, parts, ("row_key", "candidate_key"))
    counts = pc.value_counts(table["row_key"].combine_chunks()).field("counts")
    full = int(pc.sum(pc.greater_equal(counts, k)).as_py() or 0) if len(counts) else 0
    distinct = int(pc.count_distinct(table["candidate_key"]).as_py())
    meta = TableMeta(maker, k, tuple(text), parts, rows, table.num_rows, distinct, rows - full, facts)
    with replacing(directory / META) as draft:
        draft.write_text(json.dumps(asdict(meta), indent=1) + "\n", "utf-8")
    return meta


def read_table_meta(directory: Path) -> TableMeta:
    """ValueError where there is no finished table."""
    path = directory / META
    if not path.is_file():
        raise ValueError(f"candidates: {path} is not there; {directory} holds no finished candidate table")
    stated = json.loads(path.read_text("utf-8"))
    return TableMeta(**{**stated, "text": tuple(stated["text"])})


def read_candidates(directory: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """The whole table, or these columns of it: in the order of train and, for one row, by rank."""
    meta = read_table_meta(directory)
    return _read(directory, meta.parts, columns or (*schema(meta.text).names,))


def _read(directory: Path, parts: int, columns: Sequence[str]) -> pa.Table:
    tables = [read_part(directory, number, columns) for number in range(parts)]
    if not tables:
        kinds = schema(())
        return pa.table({name: pa.array([], kinds.field(name).type) for name in columns if name in kinds.names})
    return pa.concat_tables(tables).combine_chunks()


def read_part(directory: Path, number: int, columns: Sequence[str]) -> pa.Table:
    """These columns of one part. ValueError where it cannot be read."""
    path = part_path(directory, number)
    try:
        with path.open("rb") as file:
            return pq.ParquetFile(file).read(columns=list(columns)).replace_schema_metadata(None)
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path}: this part cannot be read ({reason}); make the candidates again") from error


def summary(meta: TableMeta) -> dict[str, object]:
    """The counts of a table, as they stand in the artifact's record."""
    return {
        "rows": meta.rows,
        "candidates": meta.candidates,
        "distinct": meta.distinct,
        "rows_with_fewer": meta.short,
        **{name: int(value) if float(value).is_integer() else value for name, value in meta.facts.items()},
    }

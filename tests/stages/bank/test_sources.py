"""Files of texts of every kind, compressed or not, read as a stream; and what is said of those that cannot be read."""

import bz2
import csv
import gzip
import io
import json
import lzma
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from banks import sentences, write_parquet

from stages.bank.sources import blocks, spans

TEXTS = [*sentences(40), 'quoted "words", and a comma', "ünï cödé ✓"]


def zstd(data: bytes) -> bytes:
    """Two frames, as where files were joined."""
    half = len(data) // 2
    return b"".join(pa.Codec("zstd").compress(part, asbytes=True) for part in (data[:half], data[half:]))


PACK = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zstd}


def written(kind: str) -> bytes:
    match kind:
        case "txt":
            return "".join(f"{text}\n" for text in TEXTS).encode()
        case "jsonl":
            return "".join(json.dumps({"id": 1, "text": text}) + "\n" for text in TEXTS).encode()
        case "csv":
            stream = io.StringIO()
            csv.writer(stream).writerows([("id", "text"), *((1, text) for text in TEXTS)])
            return stream.getvalue().encode("utf-8-sig")
        case _:
            return ("text\tid\n" + "".join(f"{text}\t1\n" for text in TEXTS)).encode()


def read(path: Path, columns: tuple[str, ...] = ("text",), rows: int = 16) -> list[str]:
    found = [block for span in spans(path, columns) for block in blocks(span, columns, rows)]
    assert all(len(block.rows) <= rows for block in found)
    return [str(row[0]).rstrip("\n") for block in found for row in block.rows]


@pytest.mark.parametrize("packed", PACK)
@pytest.mark.parametrize("kind", ["txt", "jsonl", "csv", "tsv"])
def test_lines_of_every_kind_are_read_in_order(tmp_path: Path, kind: str, packed: str) -> None:
    path = tmp_path / f"texts.v1.{kind}{packed}"
    path.write_bytes(PACK[packed](written(kind)))
    assert read(path) == TEXTS


@pytest.mark.parametrize(
    "column",
    [
        pa.array(TEXTS, pa.large_string()),
        pa.array(TEXTS, pa.string()).dictionary_encode(),
        pa.array(TEXTS, pa.string()),
    ],
    ids=lambda column: str(column.type),
)
def test_parquet_is_read_by_row_groups(tmp_path: Path, column: pa.Array, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.bank.sources.SPAN_ROWS", 12)
    pq.write_table(pa.table({"id": range(len(TEXTS)), "text": column}), tmp_path / "a.parquet", row_group_size=5)
    assert len(spans(tmp_path / "a.parquet", ("text",))) == 3
    assert read(tmp_path / "a.parquet") == TEXTS


def test_a_quoted_field_may_hold_a_line_end(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('text,n\n"one\ntwo",1\nthree,2\n')
    assert read(tmp_path / "a.csv") == ["one\ntwo", "three"]


@pytest.mark.parametrize("packed", [name for name in PACK if name])
def test_a_file_that_is_cut_short_is_named(tmp_path: Path, packed: str) -> None:
    path = tmp_path / f"a.txt{packed}"
    path.write_bytes(PACK[packed]("".join(f"{text}\n" for text in sentences(4000)).encode())[:-100])
    with pytest.raises(ValueError, match=r"a\.txt.*cut short or damaged"):
        read(path)


def test_a_parquet_file_that_is_cut_short_is_named(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", TEXTS)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match=r"a\.parquet: not a whole Parquet file"):
        read(path)


@pytest.mark.parametrize("kind", ["jsonl", "csv", "tsv"])
def test_a_missing_column_is_named_with_those_that_are_there(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    path.write_bytes(written(kind))
    with pytest.raises(ValueError, match=r"no column sentence; it has (id, text|text, id)"):
        spans(path, ("sentence",))


def test_a_missing_column_of_parquet_is_named_with_those_that_are_there(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", TEXTS, id=list(range(len(TEXTS))))
    with pytest.raises(ValueError, match="no column sentence; it has text, id"):
        spans(path, ("sentence",))
    with pytest.raises(ValueError, match="column id is int64; a text must be a string"):
        spans(path, ("id",))


def test_what_is_not_utf8_is_named_by_its_line(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"fine\nfine\nd\xe9j\xe0 vu\n")
    with pytest.raises(ValueError, match=r"a\.txt: line 3: byte 0xe9 is not UTF-8"):
        read(tmp_path / "a.txt")


@pytest.mark.parametrize("name", ["a.docx", "a.parquet.gz", "texts", "a.json", "gz"])
def test_an_unknown_kind_of_file_is_refused_with_those_known(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(ValueError, match=r"unknown kind of file.*parquet, csv, tsv, jsonl, txt"):
        spans(tmp_path / name, ("text",))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a\.txt: no such file"):
        spans(tmp_path / "a.txt", ("text",))


def test_plain_text_has_no_pairs(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n")
    with pytest.raises(ValueError, match="it has one text per line, but text names 2 columns"):
        spans(tmp_path / "a.txt", ("one", "two"))


def test_a_record_of_other_length_is_named_by_its_line(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,n\none,1\ntwo\n")
    with pytest.raises(ValueError, match="line 3: 1 fields; the header has 2"):
        read(tmp_path / "a.csv")

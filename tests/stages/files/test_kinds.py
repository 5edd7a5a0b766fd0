"""Which kind of file a name stands for, and files that are of another kind than their names."""

import bz2
import gzip
import lzma
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stages.files.kinds import kind_of, parquet_rows, split_suffix
from stages.files.rows import open_rows


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.csv", ("csv", "")),
        ("a.CSV", ("csv", "")),
        ("a.b.Csv.GZ", ("csv", "gz")),
        ("a.jsonl.zst", ("jsonl", "zst")),
        ("a.Parquet", ("parquet", "")),
    ],
)
def test_upper_and_lower_case_suffixes_are_alike(name: str, kind: tuple[str, str]) -> None:
    assert kind_of(Path(name)) == kind


def test_a_name_without_its_endings_keeps_its_case_and_its_dots() -> None:
    assert split_suffix(Path("x/Dev.1.CSV.gz"), ("csv",)) == "Dev.1"
    assert split_suffix(Path("x/dev.txt"), ("csv",)) is None


def test_rows_of_parquet_are_counted_from_its_footer(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"a": range(7)}), path)
    assert parquet_rows(path) == 7
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ValueError, match=r"a\.parquet: not a whole Parquet file") as caught:
        parquet_rows(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (gzip.compress(b"a\n1\n"), "compressed with gzip; let its name end in .gz"),
        (bz2.compress(b"a\n1\n"), "compressed with bzip2"),
        (lzma.compress(b"a\n1\n"), "compressed with xz"),
        (b"PK\x03\x04 and so on", "a zip archive or a spreadsheet; unpack it, or export it as CSV"),
        (b"PAR1 and so on", "a Parquet file; let its name end in .parquet"),
        ("a\n1\n".encode("utf-16"), "in UTF-16; save the file as UTF-8"),
    ],
    ids=["gzip", "bzip2", "xz", "zip", "parquet", "utf-16"],
)
def test_a_file_of_another_kind_than_its_name_is_refused_with_what_it_is(
    tmp_path: Path, data: bytes, message: str
) -> None:
    (tmp_path / "a.csv").write_bytes(data)
    with pytest.raises(ValueError, match=message), open_rows(tmp_path / "a.csv", ["a"]):
        pass


def test_a_pipe_is_refused_before_it_is_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.csv")
    with pytest.raises(ValueError, match="a pipe or device; give a regular file"), open_rows(tmp_path / "a.csv", ["a"]):
        pass

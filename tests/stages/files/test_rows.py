"""Rows of data files as a stream: the same from every kind of file, and bad rows beside good ones."""

import csv
import gzip
import io
from pathlib import Path

import pytest

from stages.files.rows import LONGEST_FIELD, FileRow, open_rows

ROWS = ["plain", "a, b", 'a "quote"', "caf\u00e9", ""]


def read(path: Path, *columns: str) -> list[FileRow]:
    with open_rows(path, columns) as file:
        return list(file.rows)


def as_csv(rows: list[str]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerows([["n", "a"], *([number, row] for number, row in enumerate(rows))])
    return text.getvalue().encode()


def test_a_compressed_csv_has_the_rows_of_the_plain_one(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(as_csv(ROWS))
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(as_csv(ROWS)))
    assert read(tmp_path / "a.csv", "a") == read(tmp_path / "a.csv.gz", "a")
    assert [row.values for row in read(tmp_path / "a.csv", "a", "n")] == [(a, str(n)) for n, a in enumerate(ROWS)]


def test_a_bad_row_is_a_problem_of_that_row_and_the_rows_after_it_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('a,b\n1,2\n1\n"x"y,2\n3,4\n')
    rows = read(tmp_path / "a.csv", "a")
    assert [(row.place, row.values, bool(row.problem)) for row in rows] == [
        ("row 1 (line 2)", ("1",), False),
        ("row 2 (line 3)", (), True),
        ("row 3 (line 4)", (), True),
        ("row 4 (line 5)", ("3",), False),
    ]


def test_bytes_that_are_not_utf8_matter_only_where_they_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"a,b\n1,caf\xe9\n")
    assert [row.values for row in read(tmp_path / "a.csv", "a")] == [("1",)]


def test_a_quote_without_an_end_does_not_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert LONGEST_FIELD < 2**30
    monkeypatch.setattr("stages.files.rows.LONGEST_FIELD", 1000)
    (tmp_path / "a.csv").write_text('a,b\n1,2\n"x,2\n' + "3,4\n" * 1000)
    bad = [row for row in read(tmp_path / "a.csv", "a") if row.problem]
    assert "a quote that is opened in line 3 has no end" in bad[0].problem


def test_json_lines_tell_their_columns_while_they_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n\n{"b": 2}\n{\n')
    with open_rows(tmp_path / "a.jsonl", ("a", "b")) as file:
        assert file.names == []
        rows = list(file.rows)
        assert file.names == ["a", "b"]
    assert [row.values for row in rows] == [(1, None), (None, 2), ()]
    assert rows[2].place == "row 3 (line 4)" and rows[2].problem.startswith("not JSON (")


@pytest.mark.parametrize("text", ["[" * 100_000, "1" * 5000])
def test_json_that_python_cannot_read_is_a_problem_of_its_row(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.jsonl").write_text(f"{text}\n")
    (row,) = read(tmp_path / "a.jsonl", "a")
    assert row.problem

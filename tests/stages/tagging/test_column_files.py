"""CoNLL's column files are read as sentences; what is wrong with a line is a problem of its sentence."""

import gzip
from pathlib import Path

import pytest

from stages.files.rows import FileRow
from stages.tagging.column_files import is_column_file, open_columns

CONLL = """-DOCSTART- -X- O O

EU NNP B-NP B-ORG
rejects VBZ B-VP O

-DOCSTART- -X- O O

\tPeter\t NNP  I-NP I-PER\r
. . O O


"""


def rows(path: Path, word_column: int = 1, tag_column: int | None = -1) -> list[FileRow]:
    with open_columns(path, word_column, tag_column) as file:
        assert file.names == ["words", "tags"]
        return list(file.rows)


def written(path: Path, content: str) -> Path:
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    return path


def test_sentences_are_divided_by_blank_lines_and_marks_of_documents_are_left_out(tmp_path: Path) -> None:
    assert rows(written(tmp_path / "eng.txt", CONLL)) == [
        FileRow(1, 4, (["EU", "rejects"], ["B-ORG", "O"])),
        FileRow(2, 9, (["Peter", "."], ["I-PER", "O"])),
    ]


def test_columns_are_counted_from_both_ends(tmp_path: Path) -> None:
    path = written(tmp_path / "a.conll", "1 EU x B-ORG\n2 rejects y O")
    assert rows(path, 2, 3)[0].values == (["EU", "rejects"], ["x", "y"])
    assert rows(path, -3, None)[0].values == (["EU", "rejects"], None)


def test_a_mark_of_a_document_without_blank_lines_ends_a_sentence(tmp_path: Path) -> None:
    path = written(tmp_path / "a.txt", "EU B-ORG\n-DOCSTART- O\nrejects O\n")
    assert [row.values[0] for row in rows(path)] == [["EU"], ["rejects"]]


def test_only_spaces_and_tabs_separate_columns(tmp_path: Path) -> None:
    path = written(tmp_path / "a.txt", "a\u00a0b O\n\u3000 O\n")
    assert rows(path)[0].values == (["a\u00a0b", "\u3000"], ["O", "O"])


def test_a_compressed_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress(CONLL.encode()))
    assert [row.values[1] for row in rows(path)] == [["B-ORG", "O"], ["I-PER", "O"]]


@pytest.mark.parametrize(
    ("content", "columns", "problem"),
    [
        ("a O\nb\n\nc O\n", (1, -1), "line 2 has one column, so no tag beside the word; mend it"),
        ("a O\nb\n\nc O\n", (1, 2), "line 2 has 1 columns, so no tag_column 2; mend it, or name another"),
        ("a O\nb O\n\nc O\n", (3, 2), "line 1 has 2 columns, so no word_column 3"),
        ("a O\nb\udcff O\n\nc O\n", (1, -1), "line 2: byte 0xff is not UTF-8; save the file as UTF-8"),
    ],
)
def test_a_wrong_line_is_a_problem_of_its_sentence(
    tmp_path: Path, content: str, columns: tuple[int, int], problem: str
) -> None:
    found = rows(written(tmp_path / "a.txt", content), *columns)
    assert found[0].problem.startswith(problem)
    assert (found[0].values, found[0].number, found[0].line) == ((), 1, 2)
    assert found[1].number == 2


def test_column_0_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="tag_column: 0; columns are counted from 1, or from the end with -1"):
        rows(written(tmp_path / "a.txt", CONLL), 1, 0)


def test_files_of_another_kind_and_damaged_ones_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(gzip.compress(CONLL.encode()))
    with pytest.raises(ValueError, match="compressed with gzip"):
        rows(tmp_path / "a.txt")
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(CONLL.encode() * 1000)[:-9])
    with pytest.raises(ValueError, match=r"b.txt.gz: this file is cut short or damaged"):
        rows(tmp_path / "b.txt.gz")


def test_column_files_are_known_by_their_names() -> None:
    names = ("eng.train.txt", "a.conll", "a.bio.gz", "A.IOB", "a.jsonl", "a.parquet", "a.csv.gz", "conll", "a.gz")
    assert [name for name in names if is_column_file(Path(name))] == ["eng.train.txt", "a.conll", "a.bio.gz", "A.IOB"]

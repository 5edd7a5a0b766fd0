"""A data file is read once and counted; a file that cannot be a task is refused in one line."""

from pathlib import Path

import pytest

from stages.corpus.inspection.profile import SAMPLE_ROWS, profile_table

GOOD = "sentence,label\n" + "".join(f"a text {row},{('bad', 'good')[row % 2]}\n" for row in range(40))


def refusal(path: Path, content: str | bytes) -> str:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError) as caught:
        profile_table(path)
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix(f"{path.parent}/")


def test_values_are_counted_and_blanks_and_nulls_are_not(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"a": "two words", "b": 1}\n{"a": " ", "b": null}\n{"b": "2.5"}\n')
    a, b = profile_table(tmp_path / "t.jsonl").columns
    assert (a.name, a.present, a.texts, a.numbers, a.words) == ("a", 1, 1, 0, 2)
    assert (b.name, b.present, b.texts, b.numbers, b.whole) == ("b", 2, 0, 2, 1)
    assert b.values == {"1": 1, "2.5": 1}


def test_the_sample_is_of_the_whole_file_and_the_same_each_time(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("number\n" + "".join(f"{row}\n" for row in range(3 * SAMPLE_ROWS)))
    first = profile_table(tmp_path / "t.csv")
    assert first.rows == 3 * SAMPLE_ROWS and len(first.sample) == SAMPLE_ROWS
    assert first.columns[0].rising and first.columns[0].values is None
    assert {int(str(number)) // SAMPLE_ROWS for (number,) in first.sample} == {0, 1, 2}
    assert profile_table(tmp_path / "t.csv").sample == first.sample


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("t.csv", b"", "t.csv: no rows; a train split needs at least 1"),
        ("t.csv", b"sentence,label\n", "t.csv: no rows; a train split needs at least 1"),
        ("t.csv", GOOD + "a,b,c\nd\n", "t.csv: 2 of 42 rows cannot be used: row 41 (line 42): 3 fields; the header"),
        ("t.csv", GOOD.replace(",", ";"), "t.csv: a single column, sentence;label; its columns are separated by semi"),
        ("t.csv", GOOD.encode("utf-16"), "t.csv: this file is in UTF-16"),
        ("t.csv", GOOD.replace("label", "l\u00e9bel").encode("latin-1"), "t.csv: in the header byte 0xe9 is not UTF-8"),
        ("t.jsonl", b"[1]\n", "t.jsonl: row 1: a list; a line must be one JSON object"),
        ("t.tsv", "a good film\t1\nanother film\t0\n" * 9, "t.tsv: the first line seems to be a row and no header"),
        ("t.tsv", "spam\tbuy this\nham\thello\nspam\tnow\n" * 9, "t.tsv: the first line seems to be a row and no"),
        ("t.csv", "it was a very long day,x\nand so,y\n", "t.csv: the first line seems to be a row and no header"),
    ],
)
def test_a_file_that_is_no_table_of_a_task_is_refused(
    tmp_path: Path, name: str, content: str | bytes, line: str
) -> None:
    assert refusal(tmp_path / name, content).startswith(line)


def test_the_header_is_not_judged_where_its_columns_are_given(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("0,1\na text,x\nanother,y\n")
    names = [column.name for column in profile_table(tmp_path / "t.csv", check_header=False).columns]
    assert names == ["0", "1"]

"""The checker of submissions to the GLUE leaderboard, and the table of its files."""

import zipfile
from pathlib import Path

import pytest

from pipeline.leaderboard.check import file_problems, zip_problems
from pipeline.leaderboard.files import FILES, HEADER, LeaderboardFile

BY_NAME = {file.name: file for file in FILES}
WNLI, RTE, STSB = BY_NAME["WNLI.tsv"], BY_NAME["RTE.tsv"], BY_NAME["STS-B.tsv"]

OFFICIAL_ROWS = {
    "CoLA.tsv": 1063,
    "SST-2.tsv": 1821,
    "MRPC.tsv": 1725,
    "STS-B.tsv": 1379,
    "QQP.tsv": 390965,
    "MNLI-m.tsv": 9796,
    "MNLI-mm.tsv": 9847,
    "QNLI.tsv": 5463,
    "RTE.tsv": 3000,
    "WNLI.tsv": 146,
    "AX.tsv": 1104,
}
NAMES = {"entailment", "neutral", "contradiction"}


def sound(file: LeaderboardFile) -> str:
    return file.text([float(index % 2) for index in range(file.rows)])


def write_zip(path: Path, **changes: str | None) -> Path:
    """A zip of sound files, of which ``changes`` replaces some by their name without ``.tsv``; None leaves one out."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in FILES:
            text = changes.get(file.name.removesuffix(".tsv"), sound(file))
            if text is not None:
                archive.writestr(file.name, text)
    return path


def test_the_files_have_the_official_numbers_of_rows() -> None:
    assert {file.name: file.rows for file in FILES} == OFFICIAL_ROWS


def test_inference_is_written_by_name_and_all_other_classes_by_number() -> None:
    values = {name: set(file.values or ()) for name, file in BY_NAME.items()}
    assert values.pop("STS-B.tsv") == set()
    assert {values.pop(name) == NAMES for name in ("MNLI-m.tsv", "MNLI-mm.tsv", "AX.tsv")} == {True}
    assert {values.pop(name) == {"entailment", "not_entailment"} for name in ("RTE.tsv", "QNLI.tsv")} == {True}
    assert all(found == {"0", "1"} for found in values.values()) and len(values) == 5


def test_a_label_has_the_value_that_the_leaderboard_means_by_it() -> None:
    assert [RTE.value(0), RTE.value(1)] == ["entailment", "not_entailment"]
    assert BY_NAME["AX.tsv"].value(2) == "contradiction"
    assert WNLI.value(1) == "1" and WNLI.task.labels == ("not_entailment", "entailment")


def test_a_score_is_moved_into_its_bounds() -> None:
    assert [STSB.value(score) for score in (-0.2, 0.0, 3.14159, 5.4)] == ["0.000", "0.000", "3.142", "5.000"]


@pytest.mark.parametrize("file", [file for file in FILES if file.rows < 2000], ids=lambda file: file.name)
def test_a_sound_file_has_no_problem(file: LeaderboardFile) -> None:
    assert file_problems(file, sound(file)) == []


LINES = sound(WNLI).splitlines()


@pytest.mark.parametrize(
    ("lines", "problems"),
    [
        ([*LINES[:8], *LINES[9:]], ["145 rows; the official split has 146", "no row has the index 7"]),
        (
            [*LINES[:9], LINES[8], *LINES[9:]],
            ["147 rows; the official split has 146", "several rows have the index 7"],
        ),
        (
            [*LINES[:8], "6\t0", *LINES[9:]],
            ["no row has the index 7", "several rows have the index 6"],
        ),
        (
            [*LINES[:-1], "146\t1"],
            ["no row has the index 145", "the index 146 is out of range; the last row is 145"],
        ),
        (
            [*LINES[:8], LINES[9], LINES[8], *LINES[10:]],
            ["the rows are not in the order of their index: 7 stands after a larger one"],
        ),
        ([*LINES[:8], "7\t2", *LINES[9:]], ["line 9: the prediction is '2'; it must be 0 or 1"]),
        ([*LINES[:8], "7\tentailment", *LINES[9:]], ["line 9: the prediction is 'entailment'; it must be 0 or 1"]),
        (
            [*LINES[:8], "7,0", *LINES[9:]],
            ["line 9: not an index, a tab and a prediction", "no row has the index 7"],
        ),
        (
            [*LINES[:8], "7.0\t1", *LINES[9:]],
            ["line 9: not an index, a tab and a prediction", "no row has the index 7"],
        ),
        (
            ["id\tlabel", *LINES[1:]],
            [r"its first line is 'id\tlabel'; write 'index\tprediction'"],
        ),
        (
            [HEADER],
            ["0 rows; the official split has 146", "no row has the index 0, 1, 2 and 143 more"],
        ),
    ],
    ids=[
        "missing row",
        "added twice",
        "doubled in the place of another",
        "index out of range",
        "order",
        "number",
        "name",
        "commas",
        "fraction",
        "header",
        "empty",
    ],
)
def test_each_mistake_in_a_file_is_described(lines: list[str], problems: list[str]) -> None:
    assert file_problems(WNLI, "\n".join(lines) + "\n") == [f"WNLI.tsv: {problem}" for problem in problems]


@pytest.mark.parametrize("value", ["5.001", "-0.1", "nan", "inf", "high", ""])
def test_a_score_out_of_range_is_a_problem(value: str) -> None:
    lines = sound(STSB).splitlines()
    text = "\n".join([*lines[:3], f"2\t{value}", *lines[4:]])
    assert file_problems(STSB, text) == [
        f"STS-B.tsv: line 4: the prediction is {value!r}; it must be a number from 0 to 5"
    ]


def test_windows_line_ends_are_read() -> None:
    assert file_problems(WNLI, "\r\n".join(LINES)) == []


def test_a_zip_of_sound_files_has_no_problem(tmp_path: Path) -> None:
    assert zip_problems(write_zip(tmp_path / "all.zip")) == []


def test_a_zip_lacks_no_file_and_has_no_other(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "some.zip", AX=None, QQP=None)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("predictions/AX.tsv", sound(BY_NAME["AX.tsv"]))
        archive.writestr("readme.txt", "")
    assert zip_problems(path) == [
        "QQP.tsv: is missing",
        "AX.tsv: is missing",
        "predictions/AX.tsv, readme.txt: is no file of the leaderboard, whose files are in no folder",
    ]


def test_a_mistake_within_a_zip_is_found(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "wrong.zip", WNLI=sound(WNLI).replace("\n9\t", "\n8\t"))
    assert zip_problems(path) == [
        "WNLI.tsv: no row has the index 9",
        "WNLI.tsv: several rows have the index 8",
    ]


def test_a_file_that_is_no_zip_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "text.zip").write_text("index\tprediction\n")
    (line,) = zip_problems(tmp_path / "text.zip")
    assert line.startswith(f"{tmp_path / 'text.zip'}: is no zip that can be read")

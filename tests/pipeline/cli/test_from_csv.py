"""From a CSV file to an int8 model and its latency in four commands, without a recipe written by hand."""

import csv
import json
from pathlib import Path

import pytest
from project import stillhouse
from tiny import packaged_model

GOOD, BAD = ("great", "lovely", "superb", "funny", "warm"), ("dull", "awful", "boring", "cold", "weak")
SHORT = ("--set", "train.epochs=2", "--set", "teacher.finetune.epochs=2", "--set", "seeds=[0]")
"""Fewer epochs and seeds than a recipe of ``init`` has, for the time of the test."""


def reviews(rows: int) -> list[tuple[int, str, str]]:
    found = []
    for row in range(rows):
        words, stars = ((GOOD, "good"), (BAD, "bad"))[row % 2]
        one, other = words[row % 5], words[(row // 5) % 5]
        found.append((row, f"The film was {one} and {other}, says viewer {row}.", stars))
    return found


@pytest.mark.slow
def test_four_commands_make_an_int8_model_of_a_csv_file_and_measure_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with (tmp_path / "reviews.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("id", "review", "stars"), *reviews(200)])
    student = "recipe.yaml:vanilla-kd/two/0@reviews"
    for arguments in (
        ("init", "reviews.csv", "--teacher", str(packaged_model())),
        ("run", "recipe.yaml", "--inline", *SHORT, "--set", "method=[vanilla-kd]"),
        ("export", student, "--to", "onnx-int8", "--out", "small", *SHORT, "--set", "method=[vanilla-kd]"),
    ):
        result = stillhouse(*arguments)
        assert result.code == 0, result.err
    export = json.loads((tmp_path / "small" / "export.json").read_text())
    assert export["check"]["scores_before"]["accuracy"] > 90 and export["check"]["scores_after"]["accuracy"] > 90
    result = stillhouse("latency", "small", "--batch", "1", "--format", "json")
    assert result.code == 0, result.err
    teacher, model, small = json.loads(result.out)
    assert (teacher["model"], model["model"]) == ("teacher", "distil/vanilla-kd/two/0@reviews")
    assert small["bytes"] < 20_000_000 and small["p50_ms"] > 0 and small["runtime"] == "ONNX int8"

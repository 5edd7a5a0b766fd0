"""Tags of words are read in their task's scheme while planning, and refused in one line with file, row and remedy."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from project import graph_of, write_plannable_assets

from pipeline.errors import RequestError

ROWS = [{"words": ["EU", "rejects", str(number)], "tags": ["B-ORG", "O", "O"]} for number in range(40)]
BEGINS_WITH_I = {"words": ["in", "Rome", "."], "tags": ["O", "I-LOC", "O"]}
TAGS = ["O", "B-ORG", "I-ORG", "B-LOC", "I-LOC"]


def planned(tmp_path: Path, row: Mapping[str, object], **changes: object) -> None:
    """Plan a task whose 11th row is ``row``."""
    assets = write_plannable_assets(tmp_path / "assets", ("tiny",))
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(one) + "\n" for one in [*ROWS[:10], row, *ROWS[10:]]), "utf-8")
    columns = {"text": "words", "label": "tags", "labels": TAGS}
    task = {"name": "mine", "kind": "tokens", "files": {"train": str(file)}, **columns, **changes}
    graph_of(assets, tmp_path / "runs", task=[task], method=["vanilla-kd"])


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (BEGINS_WITH_I, r"row 11: word 2 \('Rome'\) has I-LOC, but no B-LOC or I-LOC before it; .*scheme: iob1"),
        ({"words": ["a", "b"], "tags": ["O", "X"]}, r"row 11: word 2 \('b'\): 'X' is no BIO tag"),
        ({"words": ["a", "b"], "tags": ["O", "B-PER"]}, r"row 11: word 2 \('b'\): 'B-PER' is no tag of the task"),
        ({"words": ["a", "b"], "tags": ["O"]}, r"row 11: 1 tags for 2 words; give one for each word"),
        ({"words": "a b", "tags": ["O", "O"]}, r"row 11: words are 'a b', a str; a row needs a list of strings"),
    ],
)
def test_rows_with_wrong_tags_are_refused_while_planning(
    tmp_path: Path, row: Mapping[str, object], problem: str
) -> None:
    with pytest.raises(RequestError, match=rf"rows\.jsonl: {problem}") as refused:
        planned(tmp_path, row)
    assert "\n" not in str(refused.value)


def test_a_task_may_repair_tags_that_do_not_begin_with_b(tmp_path: Path) -> None:
    planned(tmp_path, BEGINS_WITH_I, scheme="repair")


def test_in_iob1_a_tag_that_begins_with_b_after_no_entity_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"row 1: word 1 \('EU'\) has B-ORG after no entity.*scheme: iob2"):
        planned(tmp_path, BEGINS_WITH_I, scheme="iob1")


def test_a_scheme_needs_labels_on_words(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="scheme: iob1 is of tags of words; add kind: tokens, or leave it out"):
        planned(tmp_path, BEGINS_WITH_I, scheme="iob1", kind=None, labels=["no", "yes"])

"""The card of an exported folder."""

import re

import pytest
import yaml

from stages.cards.exported import EvaluatedModel, Evaluations, exported_card
from stages.specs.tasks import Task

TASK = Task(name="reviews", text=("text",), labels=("bad", "good"))
REPORT: dict[str, object] = {"parameters": 1_500_000, "max_length": 32}
OWN_CARD = """---
base_model: roberta-large
library_name: transformers
license: mit
---
# distil/vanilla-kd/two/0@reviews

A student.

## Use

How it is loaded.

## Scores

| split | metric | score x 100 |
| --- | --- | ---: |
| validation | accuracy | 75.80 |

The weights are those of the last epoch.

## Lineage
"""
STUDENT = EvaluatedModel(
    "student", 1_500_000, {"validation": {"accuracy": 75.8}, "test": {"accuracy": 74.0}}, 1.5, "CPU X"
)
TEACHER = EvaluatedModel("finetune@reviews", 3_000_000, {"validation": {"accuracy": 80.0}}, 6.0, "CPU X")


def card(form: str, own: str = OWN_CARD, evaluations: Evaluations | None = None) -> tuple[dict[str, object], str]:
    """The fields of the front matter, and the body."""
    text = exported_card("two", form, REPORT, "32 rows: no label changes", own, TASK, evaluations)
    _, front, body = re.split(r"^---\n", text, maxsplit=2, flags=re.MULTILINE)
    return yaml.safe_load(front), body


def test_scores_stand_beside_the_teachers_with_their_share_where_it_is_known() -> None:
    _, body = card("onnx", evaluations=Evaluations(STUDENT, TEACHER))
    assert "| validation | accuracy | 75.80 | 80.00 | 94.8 % |" in body and "| test | accuracy | 74.00 |  |  |" in body
    assert "The teacher is finetune@reviews, with 3,000,000 parameters; this model has 50 % of them." in body
    assert "one row took 1.5 ms, the teacher 6.0 ms (median on CPU X)" in body
    assert body.count("| split | metric |") == 1 and "The weights are those of the last epoch." in body


def test_without_a_teacher_the_table_has_the_students_scores_alone() -> None:
    _, body = card("onnx", evaluations=Evaluations(STUDENT))
    assert "| test | accuracy | 74.00 |\n" in body and "teacher" not in body


def test_the_scores_of_the_evaluation_stand_in_the_front_matter_but_not_for_an_int8_model() -> None:
    front, _ = card("onnx", evaluations=Evaluations(STUDENT, TEACHER))
    (model,) = front["model-index"]  # type: ignore[misc]
    values = {(one["dataset"]["split"], one["metrics"][0]["value"]) for one in model["results"]}
    assert values == {("validation", 75.8), ("test", 74.0)}
    assert (front["library_name"], front["license"], front["base_model"]) == ("onnx", "mit", "roberta-large")
    assert "model-index" not in card("onnx-int8", evaluations=Evaluations(STUDENT, TEACHER))[0]


def test_the_section_on_use_stays_where_it_is_true() -> None:
    assert "How it is loaded." in card("safetensors")[1]
    assert "How it is loaded." not in card("onnx")[1]
    assert "# two" in card("onnx")[1] and "# distil/" not in card("onnx")[1]


@pytest.mark.parametrize(("form", "library"), [("onnx", "onnx"), ("safetensors", "transformers")])
def test_a_model_without_a_card_gets_one(form: str, library: str) -> None:
    front, body = card(form, "", Evaluations(STUDENT))
    assert (front["library_name"], front["pipeline_tag"]) == (library, "text-classification")
    assert "## Scores\n\n| split |" in body

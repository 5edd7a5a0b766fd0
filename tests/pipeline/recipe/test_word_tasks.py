"""Tasks whose words have labels as they are read, and what is refused."""

import pytest

from pipeline.errors import RequestError
from pipeline.recipe import Recipe, parse
from stages.specs.axes.kinds import TOKEN_LABELS

MINE = {"name": "mine", "kind": "tokens", "text": "words", "label": "tags", "labels": ["O", "B-X", "I-X"]}
RECIPE = {
    "name": "words",
    "data": {"source": "data"},
    "task": MINE,
    "teacher": {"model": "encoder", "finetune": {}},
    "student": {"label": "two", "cut": {"of": "teacher", "layers": [1, 2]}},
    "method": ["no-kd"],
}


def recipe(**changes: object) -> Recipe:
    return parse({**RECIPE, **changes})


def refusal(**changes: object) -> str:
    with pytest.raises(RequestError) as caught:
        recipe(**changes)
    line = str(caught.value)
    assert "\n" not in line
    return line


def test_a_task_of_ones_own_has_a_label_for_each_word() -> None:
    (task,) = recipe().tasks
    assert task.task.kind is TOKEN_LABELS and task.task.outputs == 3 and task.kind is None
    assert task.task.metrics == ("entity_f1", "entity_precision", "entity_recall")


@pytest.mark.parametrize("block", ["conll2003", {"name": "conll2003", "kind": "tokens"}])
def test_the_built_in_task_is_known_by_its_name(block: object) -> None:
    (task,) = recipe(task=block).tasks
    assert task.task.unit == "word" and task.task.text == ("tokens",) and len(task.task.labels or ()) == 9


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"labels": None}, "labels: missing, and needed: the tags"),
        ({"labels": ["O", "PER"]}, "PER"),
        ({"labels": ["B-X", "I-X"]}, "labels: O is missing"),
        ({"regression": True}, "regression: true, but of the kind tokens each word has a label"),
        ({"text": ["one", "other"]}, "labels of words need one column"),
        ({"metric": "matthews"}, "metric"),
    ],
)
def test_a_task_that_cannot_have_labels_on_words_is_refused(changes: dict[str, object], problem: str) -> None:
    block = {name: value for name, value in {**MINE, **changes}.items() if value is not None}
    assert problem in refusal(task=block)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"method": "rail-kd", "task": {"name": "sst2", "kind": "tokens"}}, "the words of sst2 have no labels"),
        ({"student": {"bilstm": {}}}, "bilstm"),
        ({"teacher": {"model": "encoder", "finetune": {}, "head": "mean"}}, "mine has a label for each word"),
        ({"student": {"model": "encoder", "head": "cls"}}, "mine has a label for each word"),
        ({"teacher": {"model": "encoder", "labels": ["O", "B-X", "I-X"]}}, "teacher.labels"),
        ({"task": "sst2", "teacher": {"model": "encoder", "finetune": {}, "head": "crf"}}, "the words of sst2 have no"),
        (
            {"method": "universal-kd"},
            "universal-kd needs classifiers of whole rows, and mine has a label for each word",
        ),
    ],
)
def test_what_has_no_meaning_for_words_is_refused_by_name(changes: dict[str, object], problem: str) -> None:
    assert problem in refusal(**changes)


def test_a_method_that_changes_the_words_of_rows_is_refused_with_method_and_task() -> None:
    bank = {"files": ["bank.parquet"], "encoder": "tfidf"}
    generator = {"cut": {"of": "base", "layers": [1]}, "pretrain": {"texts": "bank"}}
    line = refusal(method="mate-kd", models={"generator": generator}, bank=bank)
    assert "mate-kd changes the words of rows" in line and "the tags of mine" in line


def test_candidates_that_compare_logits_of_rows_are_refused() -> None:
    line = refusal(
        method=["no-kd", "knn"],
        bank={"files": ["bank.parquet"], "encoder": "tfidf"},
        candidates={"neighbours": {"by": "neighbours", "rerank": True}},
    )
    assert "compares logits of rows" in line and "mine" in line

"""Which output means which label: read from the model's configuration, never assumed."""

import itertools
from collections.abc import Sequence

import pytest

from stages.models.label_order import label_order
from stages.specs.tasks import BUILT_IN, Task

MNLI = BUILT_IN["mnli"]
SST2 = BUILT_IN["sst2"]
STSB = BUILT_IN["stsb"]


def config(*names: str, architecture: str = "BertForSequenceClassification") -> dict[str, object]:
    return {"architectures": [architecture], "id2label": {str(i): name for i, name in enumerate(names)}}


def numbered(count: int) -> dict[str, object]:
    return config(*(f"LABEL_{i}" for i in range(count)))


@pytest.mark.parametrize("names", list(itertools.permutations(("entailment", "neutral", "contradiction"))))
def test_output_order_i_is_the_one_that_means_label_i(names: Sequence[str]) -> None:
    assert MNLI.labels == ("entailment", "neutral", "contradiction")
    order = label_order(config(*names), MNLI, None) or (0, 1, 2)
    assert tuple(names[place] for place in order) == MNLI.labels


def test_outputs_in_the_tasks_own_order_need_no_order() -> None:
    assert label_order(config("entailment", "neutral", "contradiction"), MNLI, None) is None


def test_names_agree_whatever_their_case_and_their_dashes() -> None:
    assert label_order(config("CONTRADICTION", "NEUTRAL", "ENTAILMENT"), MNLI, None) == (2, 1, 0)
    task = Task(name="t", text=("text",), labels=("very negative", "very positive"))
    assert label_order(config("Very_Positive", "very-negative"), task, None) == (1, 0)


def test_labels_that_differ_only_in_signs_are_distinguished() -> None:
    """Without its signs, -1 reads as 1."""
    task = Task(name="t", text=("text",), labels=("-1", "0", "1"))
    assert label_order(config("1", "0", "-1"), task, None) == (2, 1, 0)
    signs = Task(name="t", text=("text",), labels=("-", "+"))
    assert label_order(config("+", "-"), signs, None) == (1, 0)
    with pytest.raises(ValueError, match=r"teacher\.labels"):
        label_order(config("pos", "neg"), signs, None)


def test_outputs_with_numbers_for_names_are_refused_with_the_remedy() -> None:
    with pytest.raises(ValueError) as caught:
        label_order(numbered(2), SST2, None)
    assert str(caught.value) == (
        "teacher.labels: the teacher's outputs are LABEL_0, LABEL_1, the labels of sst2 are negative, positive; list "
        "the labels in the order of the outputs, for example teacher.labels: [negative, positive]"
    )
    with pytest.raises(ValueError, match=r"teacher\.labels: \[negative, positive\]"):
        label_order({"architectures": ["BertForSequenceClassification"]}, SST2, None)


def test_a_declared_order_overrides_that_of_the_model() -> None:
    assert label_order(numbered(3), MNLI, ("contradiction", "entailment", "neutral")) == (1, 2, 0)
    wrong = config("entailment", "neutral", "contradiction")
    assert label_order(wrong, MNLI, ("contradiction", "neutral", "entailment")) == (2, 1, 0)


@pytest.mark.parametrize(
    "declared", [("negative",), ("negative", "negative"), ("negative", "happy"), ("negative", "positive", "neutral")]
)
def test_a_declared_order_that_is_not_the_tasks_labels_is_refused(declared: Sequence[str]) -> None:
    with pytest.raises(ValueError, match=r"^teacher\.labels: .* the labels of sst2 are negative, positive"):
        label_order(numbered(2), SST2, declared)


@pytest.mark.parametrize(
    ("found", "task", "has", "needs"),
    [
        (numbered(2), MNLI, 2, 3),
        (numbered(3), SST2, 3, 2),
        (numbered(2), STSB, 2, 1),
        ({"architectures": ["BertForSequenceClassification"]}, STSB, 2, 1),
        ({"architectures": ["BertForSequenceClassification"], "num_labels": 3}, STSB, 3, 1),
    ],
)
def test_a_head_of_another_size_is_refused(found: dict[str, object], task: Task, has: int, needs: int) -> None:
    with pytest.raises(ValueError, match=rf"^teacher\.model: it has {has} outputs, {task.name} needs {needs}; add"):
        label_order(found, task, None)


@pytest.mark.parametrize("architecture", ["BertModel", "BertForMaskedLM"])
def test_a_model_without_a_classification_head_is_to_be_fine_tuned_first(architecture: str) -> None:
    message = rf"^teacher\.model: it has no classification head \({architecture}\); add teacher\.finetune$"
    with pytest.raises(ValueError, match=message):
        label_order(config("negative", "positive", architecture=architecture), SST2, None)
    with pytest.raises(ValueError, match="none named"):
        label_order({}, SST2, None)


def test_a_regression_has_one_output_which_needs_no_order() -> None:
    assert label_order(numbered(1), STSB, None) is None
    assert label_order({"architectures": ["BertForSequenceClassification"], "num_labels": 1}, STSB, None) is None


def test_a_classifier_of_images_has_a_head_of_its_own_name() -> None:
    task = Task(name="mine", image="image", text=(), labels=("cat", "dog"))
    found = {"id2label": {"0": "dog", "1": "cat"}}
    order = label_order({"architectures": ["CifarResnetForImageClassification"], **found}, task, None)
    assert order == (1, 0)
    with pytest.raises(ValueError, match=r"it has no head that classifies images \(BertForSequenceClassification\)"):
        label_order({"architectures": ["BertForSequenceClassification"], **found}, task, None)


def test_outputs_for_words_are_known_by_the_exact_names_of_the_tags() -> None:
    task = Task(name="mine", text=("words",), labels=("O", "B-X", "I-X"), metrics=("entity_f1",), unit="word")
    head = {"architectures": ["BertForTokenClassification"]}
    assert label_order({**head, "id2label": {"0": "I-X", "1": "O", "2": "B-X"}}, task, None) == (1, 2, 0)
    with pytest.raises(ValueError, match="its outputs are o, b-x, i-x"):
        label_order({**head, "id2label": {"0": "o", "1": "b-x", "2": "i-x"}}, task, None)
    with pytest.raises(ValueError, match="no head for labels on words"):
        label_order({"architectures": ["BertForSequenceClassification"]}, task, None)

"""Tasks of the kind ``embedding`` as they are read: their metrics and methods, and what is refused."""

import pytest

from pipeline.errors import RequestError
from pipeline.recipe import Recipe, parse
from stages.specs.pretraining import SentenceEmbedding

RECIPE = {
    "name": "embedding",
    "data": {"source": "data"},
    "task": {"name": "stsb", "kind": "embedding"},
    "teacher": {"model": "encoder"},
    "bank": {"files": ["sentences.txt"]},
    "student": {"label": "three", "cut": {"of": "teacher", "layers": [1, 3, 5]}},
    "method": "embedding-cosine",
    "train": {"epochs": 4, "learning_rate": 5.0e-4, "max_length": 64},
}


def recipe(**changes: object) -> Recipe:
    return parse({**RECIPE, **changes})


def refusal(**changes: object) -> str:
    with pytest.raises(RequestError) as caught:
        recipe(**changes)
    line = str(caught.value)
    assert "\n" not in line
    return line


def test_methods_are_settings_of_embeddings_and_keys_of_train_are_those_of_the_recipe() -> None:
    squared = {"use": "embedding-squared", "label": "raw", "embedding": {"projection": "kept", "normalized": False}}
    (task,) = recipe(method=["embedding-cosine", squared, "embedding-similarities"]).tasks
    assert task.kind == "embedding" and task.max_length == 64
    assert {use.label: use.embedding for use in task.methods} == {
        "embedding-cosine": SentenceEmbedding(loss="cosine"),
        "raw": SentenceEmbedding(loss="squared", projection="kept", normalized=False),
        "embedding-similarities": SentenceEmbedding(loss="similarities"),
    }
    assert {(use.train.epochs, use.train.learning_rate) for use in task.methods} == {(4, 5.0e-4)}


def test_a_task_of_ones_own_is_of_pairs_with_a_score_and_has_both_correlations() -> None:
    own = {"name": "mine", "kind": "embedding", "text": ["a", "b"], "label": "score", "files": {"train": "pairs.csv"}}
    (task,) = recipe(task=own).tasks
    assert task.task.regression and task.task.metrics == ("pearson", "spearman")
    (task,) = recipe(task={**own, "metric": "spearman"}).tasks
    assert task.task.metrics == ("spearman",)


def test_a_task_without_a_kind_has_labels_as_before() -> None:
    (task,) = recipe(task="stsb", method="no-kd").tasks
    assert task.kind is None and task.methods[0].embedding is None


OWN = {"name": "mine", "kind": "embedding", "files": {"train": "a.csv"}}

REFUSALS: list[tuple[dict[str, object], str]] = [
    ({"task": {"name": "mrpc", "kind": "embedding"}}, "task.kind: embedding, but mrpc has labels, and cosines are "),
    ({"task": {**OWN, "text": "a"}}, "task.kind: embedding, but a row of mine has one text"),
    ({"task": {**OWN, "text": ["a", "b"], "labels": ["n", "y"]}}, "task: mine needs exactly one of labels and "),
    ({"task": {**OWN, "text": ["a", "b"], "metric": "accuracy"}}, "task.metric: accuracy does not fit a regression"),
    ({"task": {"name": "stsb", "kind": "embedding", "select": "pearson"}}, "task.select: pearson, but no epoch is "),
    ({"task": {"name": "stsb", "kind": "embeddings"}}, "task.kind: embeddings, must be "),
    ({"bank": None}, "bank: missing, and needed: students learn from its texts"),
    ({"teacher": {"model": "x", "finetune": {}}}, "teacher.finetune: a sentence encoder teaches as it is"),
    ({"teacher": {"model": "x", "head": "mean"}}, "teacher.head: mean, but a sentence encoder has no head"),
    ({"teacher": {"model": "x", "least": 80}}, "teacher.least: 80.0, but its embeddings are of no task"),
    ({"teacher": {"model": "x", "labels": ["a", "b"]}}, "teacher.labels: stsb is a regression and has no labels"),
    ({"student": {"bilstm": {}}}, "student.bilstm: has no layers"),
    ({"student": {"model": "x", "head": "cls"}}, "student.head: cls, but a sentence encoder has no head"),
    ({"student": {"cut": {"of": "base", "layers": [1]}}}, "student.cut.of: base, but the teacher is given fine-tuned"),
    ({"student": {"start": "other"}}, "student.start: other, must be an entry of models with pretrain"),
    ({"models": {"m": {"model": "x", "method": "no-kd"}}}, "models.m: is trained for labels"),
    ({"candidates": {"rewritten": {"by": "words"}}}, "candidates: rewritten are for methods that learn from labels"),
    ({"method": "vanilla-kd"}, "method: vanilla-kd learns from labels or logits, and stsb is of the kind "),
    ({"method": "embedding-cosin"}, "method: embedding-cosin is no method of sentence embeddings; did you mean "),
    ({"method": {"use": "embedding-cosine", "rates": [1e-4, 2e-4]}}, "method.rates: are compared on held-out labels"),
    ({"method": {"use": "embedding-cosine", "data": "knn"}}, "method.data: is of rows with labels"),
    ({"method": {"use": "embedding-cosine", "targets": "teacher"}}, "method.targets: is of labels and logits"),
    ({"method": {"use": "embedding-cosine", "taught_by": "itself"}}, "method.taught_by: itself, but sentence "),
    ({"method": {"use": "embedding-cosine", "structure": "pick"}}, "method.structure: is of layers, and "),
    ({"method": {"use": "embedding-cosine", "embedding": {"layer": 3}}}, "method.embedding.layer: unknown key"),
    (
        {"method": {"use": "embedding-cosine", "embedding": {"projection": "keep"}}},
        "method.embedding.projection: keep, ",
    ),
    (
        {"train": {"select": "dev"}},
        "train.select: dev is not of trainings on texts without labels, which have ",
    ),
    ({"train": {"rates": [1e-4, 2e-4]}}, "train.rates: "),
    ({"method": {"use": "embedding-cosine", "train": {"micro_batch": 4}}}, "method.train.micro_batch: 4 is not of "),
    ({"search": {"vary": {"train.epochs": [1, 2]}}}, "search.task: stsb is of the kind embedding, whose methods "),
    ({"task": "stsb", "method": {"use": "no-kd", "embedding": {}}}, "method.embedding: is of methods of tasks of the "),
    ({"task": "stsb", "method": "embedding-cosine"}, "method: embedding-cosine is for tasks of sentence embeddings"),
]


@pytest.mark.parametrize(("changes", "line"), REFUSALS, ids=[line for _, line in REFUSALS])
def test_what_does_not_fit_the_kind_is_refused_in_one_line(changes: dict[str, object], line: str) -> None:
    assert refusal(**changes).startswith(line)


def test_tasks_with_and_without_labels_share_a_recipe_by_overrides() -> None:
    both = recipe(
        task=["sst2", {"name": "stsb", "kind": "embedding"}],
        method="no-kd",
        overrides={"stsb": {"method": "embedding-cosine"}},
    )
    assert [(task.kind, task.methods[0].label) for task in both.tasks] == [
        (None, "no-kd"),
        ("embedding", "embedding-cosine"),
    ]
    assert refusal(task=["sst2", {"name": "stsb", "kind": "embedding"}], method="no-kd").startswith(
        "method: no-kd learns"
    )

"""The metric that selects epochs is of trainings alone: no corpus and nothing else made of one depends on it."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from project import graph_of, nodes_by_name, write_plannable_assets, write_plannable_model

from pipeline.graph.nodes import Node
from stages.specs.corpus import CorpusSpec
from stages.specs.student import DistilSpec

TASK = {"name": "tiny", "text": "sentence", "labels": ["bad", "good"], "metric": ["f1", "accuracy"]}


@pytest.fixture
def assets(tmp_path: Path) -> Path:
    assets = write_plannable_assets(tmp_path / "assets")
    write_plannable_model(
        assets / "finetuned",
        architectures=["BertForSequenceClassification"],
        id2label={"0": "bad", "1": "good"},
        label2id={"bad": 0, "good": 1},
    )
    write_plannable_model(assets / "encoder", hidden_size=24)
    (assets / "bank.txt").write_text("".join(f"a sentence of the bank, number {row}\n" for row in range(50)), "utf-8")
    return assets


def nodes(assets: Path, select: str | None, teacher: Mapping[str, object]) -> Mapping[str, Node]:
    """The nodes of a recipe whose task selects epochs by a metric, with students that need all that a teacher and a
    bank give."""
    methods = [{"use": "minimax-knn", "targets": {"calibrated": True}}, "no-kd"]
    task = TASK if select is None else {**TASK, "select": select}
    bank = {"files": [str(assets / "bank.txt")], "encoder": str(assets / "encoder")}
    changes = {"task": task, "teacher": teacher, "method": methods, "bank": bank}
    return nodes_by_name(graph_of(assets, assets.parent / "runs", **changes)[1])


def moved(before: Mapping[str, Node], after: Mapping[str, Node]) -> set[str]:
    """The names of the nodes whose keys differ."""
    assert before.keys() == after.keys()
    return {name for name in before if before[name].key != after[name].key}


def test_another_selecting_metric_moves_no_key_but_those_of_trainings_and_of_what_reads_their_models(
    assets: Path,
) -> None:
    given = {"model": str(assets / "finetuned")}
    by_f1, by_accuracy = nodes(assets, None, given), nodes(assets, "accuracy", given)
    students = {f"{kind}/{method}/two/0@tiny" for kind in ("distil", "evaluate") for method in ("minimax-knn", "no-kd")}
    assert moved(by_f1, by_accuracy) == students
    stages = {node.spec.stage for name, node in by_f1.items() if name not in students}
    assert stages >= {"corpus", "teach", "calibrate", "neighbours", "unlabelled"}


def test_the_metric_is_in_the_spec_of_every_training_where_it_is_not_the_headline(assets: Path) -> None:
    teacher = {"model": str(assets / "model"), "finetune": {"epochs": 2}}
    for select, expected in ((None, None), ("f1", None), ("accuracy", "accuracy")):
        specs = [node.spec for node in nodes(assets, select, teacher).values()]
        trainings = [spec for spec in specs if isinstance(spec, DistilSpec)]
        assert len(trainings) == 3 and {spec.train.select_metric for spec in trainings} == {expected}
        assert {spec.task.select for spec in specs if isinstance(spec, CorpusSpec)} == {None}
    assert not moved(nodes(assets, None, teacher), nodes(assets, "f1", teacher))

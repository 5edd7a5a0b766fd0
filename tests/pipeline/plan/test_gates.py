"""``teacher.least`` while planning: which nodes are not built for a score that is known, and which are."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from project import graph_of, record_for, write_artifact, write_plannable_assets, write_plannable_model

from pipeline.artifacts.record import Record
from pipeline.errors import RequestError
from pipeline.graph.nodes import Graph, Node, ScoreGate
from pipeline.plan.gates import check_gates, refusal
from pipeline.plan.planner import Plan, plan
from pipeline.storage.directory import Directory
from stages.specs.evaluation import EvaluateSpec

Scores = dict[str, dict[str, float]]
LABELS = ["bad", "good"]
OTHER = {"name": "other", "text": "sentence", "labels": LABELS}
TINY = {"name": "tiny", "text": "sentence", "labels": LABELS}


@pytest.fixture
def assets(tmp_path: Path) -> Path:
    assets = write_plannable_assets(tmp_path / "assets", ("tiny", "other"))
    write_plannable_model(
        assets / "tuned",
        architectures=["BertForSequenceClassification"],
        id2label={"0": "bad", "1": "good"},
        label2id={"bad": 0, "good": 1},
    )
    write_plannable_model(assets / "encoder", hidden_size=24)
    (assets / "bank.txt").write_text("".join(f"a sentence of the bank, number {row}\n" for row in range(50)), "utf-8")
    return assets


@pytest.fixture
def storage(tmp_path: Path) -> Directory:
    return Directory(tmp_path / "runs")


def teacher(assets: Path, least: float, model: str = "model", **more: object) -> dict[str, object]:
    tuned = {} if model == "tuned" else {"finetune": {"epochs": 6, **more}}
    return {"model": str(assets / model), "least": least, **tuned}


def keep_scores(storage: Directory, graph: Graph, scores: Scores, task: str = "tiny") -> None:
    """Put the evaluation of a task's teacher into the storage, with these scores."""
    (node,) = [one for one in graph.nodes if one.name == f"evaluate/teacher@{task}"]
    write_artifact(storage, node, scores=scores)


def planned(assets: Path, storage: Directory, scores: Scores, task: str = "tiny", /, **changes: object) -> Plan:
    """The plan for the tiny recipe, where the teacher has these scores."""
    recipe, graph = graph_of(assets, storage, **changes)
    keep_scores(storage, graph, scores, task)
    return plan(graph, storage, recipe.name)


def built(found: Plan) -> set[str]:
    return {step.node.name for step in found.builds}


def refused(found: Plan) -> dict[str, str]:
    """Node -> why it is not built, of those that are refused themselves."""
    return {step.node.name: step.why for step in found.steps if step.node.key in found.refused}


def low(score: float, split: str = "validation") -> Scores:
    return {split: {"accuracy": score}}


NO_KD = {"distil/no-kd/two/0@tiny", "evaluate/no-kd/two/0@tiny"}


def test_nothing_is_built_from_a_teacher_whose_known_score_is_too_low_and_the_plan_says_why(
    assets: Path, storage: Directory
) -> None:
    found = planned(assets, storage, low(40.0), teacher=teacher(assets, 95))
    assert built(found) == {"corpus@tiny", "finetune@tiny"} | NO_KD
    assert refused(found) == {
        "teach@tiny": "teacher.least: 95, but the teacher model of tiny scores 40.0 (validation accuracy), so nothing "
        "is distilled from it; train it better (teacher.finetune), take another teacher.model, or lower teacher.least"
    }
    steps = {step.node.name: step for step in found.steps}
    assert {name: (step.action, step.why) for name, step in steps.items() if step.node.key in found.blocked} == {
        "distil/vanilla-kd/two/0@tiny": ("skip", "not built, as teach@tiny is not built"),
        "evaluate/vanilla-kd/two/0@tiny": ("skip", "not built, as distil/vanilla-kd/two/0@tiny is not built"),
    }


def test_what_only_a_refused_student_needs_is_not_built(assets: Path, storage: Directory) -> None:
    bank = {"files": [str(assets / "bank.txt")], "encoder": str(assets / "encoder")}
    found = planned(assets, storage, low(40.0), teacher=teacher(assets, 95), bank=bank, method="knn")
    assert not built(found)
    assert set(refused(found)) == {"teach@tiny", "teach/candidates:neighbours@tiny"}


@pytest.mark.parametrize("score", [95.0, 99.5])
def test_a_teacher_that_scores_enough_is_not_refused(assets: Path, storage: Directory, score: float) -> None:
    found = planned(assets, storage, low(score), teacher=teacher(assets, 95))
    assert not refused(found) and not found.blocked
    assert {"teach@tiny", "distil/vanilla-kd/two/0@tiny"} <= built(found)


def test_a_score_that_is_computed_again_is_not_known_yet(assets: Path, storage: Directory) -> None:
    recipe, graph = graph_of(assets, storage, teacher=teacher(assets, 95))
    keep_scores(storage, graph, low(40.0))
    assert not refused(plan(graph, storage, recipe.name, "finetune"))
    again = plan(graph, storage, recipe.name, "teach")
    assert set(refused(again)) == {"teach@tiny"}
    assert not built(again) and not again.forced, "no record is withdrawn for what is not built"


# --- which evaluation and which nodes -------------------------------------------------------------


def test_a_teacher_that_is_given_fine_tuned_is_refused_by_its_score_too(assets: Path, storage: Directory) -> None:
    found = planned(assets, storage, low(40.0), teacher=teacher(assets, 95, "tuned"))
    assert set(refused(found)) == {"teach@tiny"}
    assert built(found) >= NO_KD
    assert "the teacher tuned of tiny scores 40.0" in refused(found)["teach@tiny"]


@pytest.mark.parametrize(("matched", "other"), [(90.0, 40.0), (40.0, 90.0), (40.0, 60.0)])
def test_of_two_dev_splits_the_lowest_score_counts(
    assets: Path, storage: Directory, matched: float, other: float
) -> None:
    table = {"sentence": [f"other dev {row}" for row in range(30)], "label": [0, 1] * 15}
    pq.write_table(pa.table(table), assets / "data" / "tiny" / "validation_other.parquet")
    data = assets / "data" / "tiny"
    splits = ("train", "validation", "validation_other")
    task = {**TINY, "files": {split: str(data / f"{split}.parquet") for split in splits}}
    scores = low(matched) | low(other, "validation_other")
    found = planned(assets, storage, scores, teacher=teacher(assets, 85), task=task)
    split = "validation" if matched < other else "validation_other"
    assert f"scores {min(matched, other):.1f} ({split} accuracy)" in refused(found)["teach@tiny"]


@pytest.mark.parametrize(("task", "names"), [("tiny", set()), ("other", {"teach@other"})])
def test_a_task_may_have_another_floor(assets: Path, storage: Directory, task: str, names: set[str]) -> None:
    changes = {
        "task": [TINY, OTHER],
        "teacher": teacher(assets, 30),
        "overrides": {"other": {"teacher": {"least": 70}}},
    }
    found = planned(assets, storage, low(40.0), task, **changes)
    assert set(refused(found)) == names


def test_reranked_candidates_need_the_score_too(assets: Path, storage: Directory) -> None:
    bank = {"files": [str(assets / "bank.txt")], "encoder": str(assets / "encoder")}
    candidates = {"neighbours": {"rerank": True}}
    found = planned(
        assets,
        storage,
        low(40.0),
        teacher=teacher(assets, 95),
        bank=bank,
        method=["no-kd", "knn"],
        candidates=candidates,
    )
    assert "teach/candidates:neighbours@tiny" in refused(found)
    assert "rerank/neighbours@tiny" in {step.node.name for step in found.steps if step.node.key in found.blocked}
    assert built(found) == {"corpus@tiny", "finetune@tiny"} | NO_KD


def test_a_teacher_after_an_epoch_needs_the_score_of_the_whole_teacher(assets: Path, storage: Directory) -> None:
    method = ["no-kd", {"use": "vanilla-kd", "taught_by": "teacher:2"}]
    found = planned(assets, storage, low(40.0), teacher=teacher(assets, 95, keep="epochs"), method=method)
    assert set(refused(found)) == {"teach/teacher:2@tiny"}
    assert built(found) >= NO_KD


# --- the message ----------------------------------------------------------------------------------

NODE = Node("evaluate/teacher@tiny", "evaluate", "tiny", EvaluateSpec(), {})


def evaluation(folder: Path, scores: Scores) -> Record:
    (folder / "0001").mkdir()
    return record_for(NODE, folder / "0001", scores=scores)


@pytest.mark.parametrize(
    ("score", "least", "text"),
    [
        (84.97, 85.0, "teacher.least: 85, but the teacher model of tiny scores 84.97 ("),
        (84.999996, 85.0, "teacher.least: 85, but the teacher model of tiny scores 84.999996 ("),
        (84.94, 84.96, "teacher.least: 84.96, but the teacher model of tiny scores 84.9 ("),
        (float("nan"), 1.0, "teacher.least: 1, but the teacher model of tiny scores nan ("),
        (-3.0, 0.0, "teacher.least: 0, but the teacher model of tiny scores -3.0 ("),
    ],
)
def test_a_refusal_has_as_many_digits_as_tell_the_score_from_the_floor(
    tmp_path: Path, score: float, least: float, text: str
) -> None:
    gate = ScoreGate(NODE, "model", "accuracy", ("validation",), least)
    message = refusal(gate, "tiny", evaluation(tmp_path, low(score)))
    assert message.startswith(text)


def test_a_floor_without_any_labelled_dev_split_is_refused(tmp_path: Path) -> None:
    gate = ScoreGate(NODE, "model", "accuracy", ("validation",), 85.0)
    node = Node("teach@tiny", "teach", "tiny", EvaluateSpec(), {}, gate=gate)
    with pytest.raises(RequestError, match="the dev splits of tiny have no labels"):
        check_gates(node, {NODE.key: evaluation(tmp_path, {})})

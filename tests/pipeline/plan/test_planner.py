import json
import shutil
from collections.abc import Iterable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from project import (
    change_weights,
    graph_in,
    graph_of,
    nodes_by_name,
    tiny_recipe,
    write_artifact,
    write_plannable_assets,
    write_plannable_model,
)

from pipeline.artifacts.record import artifact_path, record_name
from pipeline.errors import RequestError
from pipeline.execution.runner import Outcome, record_names
from pipeline.graph.nodes import Graph, Quantity
from pipeline.plan.planner import Plan, Step, plan, spec_changes
from pipeline.recipe import parse
from pipeline.storage.directory import Directory
from stages.specs.corpus import CorpusSpec
from stages.specs.teacher import TeachSpec

BOTH = ["no-kd", "vanilla-kd"]


@pytest.fixture
def assets(tmp_path: Path) -> Path:
    return write_plannable_assets(tmp_path / "assets")


@pytest.fixture
def storage(tmp_path: Path) -> Directory:
    return Directory(tmp_path / "runs")


def build_all(graph: Graph, storage: Directory) -> None:
    """The storage after a run."""
    records = {node.key: write_artifact(storage, node) for node in graph.nodes}
    record_names(graph, Outcome(records), storage, "tiny")


def planned(assets: Path, storage: Directory, stage: str | None = None, /, **changes: object) -> Plan:
    recipe, graph = graph_of(assets, storage, **changes)
    return plan(graph, storage, recipe.name, stage)


def by_name(found: Plan) -> dict[str, Step]:
    return {step.node.name: step for step in found.steps}


def built(found: Plan) -> dict[str, str]:
    """Node -> why it is built."""
    return {step.node.name: step.why for step in found.builds}


def student(method: str, seed: int = 0) -> set[str]:
    """A student and its evaluation."""
    return {f"distil/{method}/two/{seed}@tiny", f"evaluate/{method}/two/{seed}@tiny"}


@pytest.fixture
def done(assets: Path, storage: Directory) -> Directory:
    """The names of all nodes of the tiny recipe."""
    build_all(graph_of(assets, storage)[1], storage)
    return storage


# --- reuse, build, skip ---------------------------------------------------------------------------


def test_at_first_everything_is_built(assets: Path, storage: Directory) -> None:
    found = planned(assets, storage)
    assert {step.action for step in found.steps} == {"build"}
    assert set(built(found).values()) == {"never built"}


def test_existing_artifacts_are_reused_with_their_date(assets: Path, done: Directory) -> None:
    found = planned(assets, done)
    assert not found.builds
    assert {step.why for step in found.steps} == {"built 2026-01-01T00:00:00+00:00"}


def test_a_plan_leaves_no_trace(assets: Path, storage: Directory) -> None:
    planned(assets, storage)
    assert not storage.local.exists()


def test_a_students_setting_rebuilds_that_student_and_its_evaluation_alone(assets: Path, done: Directory) -> None:
    changed = ["no-kd", {"use": "vanilla-kd", "training": {"temperature": 4.0}}]
    assert set(built(planned(assets, done, method=changed))) == student("vanilla-kd")


def test_a_new_method_with_a_teacher_rebuilds_neither_teacher_nor_store(assets: Path, done: Directory) -> None:
    found = planned(assets, done, method=[*BOTH, "annealing-kd"])
    assert set(built(found)) == student("annealing-kd")


def test_a_new_seed_builds_its_students_alone(assets: Path, done: Directory) -> None:
    assert set(built(planned(assets, done, seeds=[0, 1]))) == student("no-kd", 1) | student("vanilla-kd", 1)


def test_a_new_method_that_first_needs_a_store_builds_it(assets: Path, storage: Directory) -> None:
    build_all(graph_of(assets, storage, method="no-kd")[1], storage)
    assert set(built(planned(assets, storage, method=BOTH))) == {"teach@tiny"} | student("vanilla-kd")


def test_nodes_that_nothing_needs_are_skipped(assets: Path, done: Directory) -> None:
    """The store was removed, and every student exists, so no node needs it."""
    remove(done, "teach@tiny")
    step = by_name(planned(assets, done))["teach@tiny"]
    assert (step.action, step.why) == ("skip", "no node that is built needs it")


def test_a_lost_store_is_built_again_for_a_new_student(assets: Path, done: Directory) -> None:
    remove(done, "teach@tiny")
    found = built(planned(assets, done, seeds=[0, 1]))
    assert set(found) == {"teach@tiny"} | student("no-kd", 1) | student("vanilla-kd", 1)
    assert found["teach@tiny"] == "its artifact was removed"


def test_a_student_is_built_even_if_its_evaluation_exists(assets: Path, done: Directory) -> None:
    remove(done, "distil/no-kd/two/0@tiny")
    assert built(planned(assets, done)) == {"distil/no-kd/two/0@tiny": "its artifact was removed"}


def test_a_members_evaluation_is_built_even_if_that_of_the_ensemble_exists(assets: Path, storage: Directory) -> None:
    one = {"cut": {"of": "teacher", "layers": [1]}, "method": "no-kd"}
    models = {"one": one, "both": {"members": ["teacher", "one"]}}
    build_all(graph_of(assets, storage, models=models)[1], storage)
    remove(storage, "evaluate/one@tiny")
    assert built(planned(assets, storage, models=models)) == {"evaluate/one@tiny": "its artifact was removed"}


def home(storage: Directory, name: str) -> Path:
    """The directory of a node's key."""
    key = (storage.local / ".named" / "tiny" / f"{name}.key").read_text("utf-8")
    return next(storage.local.glob(f"*/{key}"))


def remove(storage: Directory, name: str) -> None:
    shutil.rmtree(home(storage, name))


# --- why ------------------------------------------------------------------------------------------


def test_a_changed_field_is_named_with_its_old_and_new_value(assets: Path, done: Directory) -> None:
    changed = {"epochs": 5, "learning_rate": 5.0e-3, "max_length": 16}
    assert built(planned(assets, done, train=changed)) == {
        "distil/no-kd/two/0@tiny": "train.epochs: 2 -> 5",
        "evaluate/no-kd/two/0@tiny": "input model changed (distil/no-kd/two/0@tiny)",
        "distil/vanilla-kd/two/0@tiny": "train.epochs: 2 -> 5",
        "evaluate/vanilla-kd/two/0@tiny": "input model changed (distil/vanilla-kd/two/0@tiny)",
    }


def test_a_changed_file_is_named(assets: Path, done: Directory) -> None:
    data = assets / "data" / "tiny"
    pq.write_table(pq.read_table(data / "train.parquet").slice(1), data / "train.parquet")
    found = built(planned(assets, done))
    assert found["corpus@tiny"] == "input data/train changed (train.parquet)"
    assert found["teach@tiny"] == "input corpus changed (corpus@tiny); input model changed (finetune@tiny)"


def test_a_changed_model_is_named(assets: Path, done: Directory) -> None:
    change_weights(assets / "model")
    found = built(planned(assets, done))
    assert found["finetune@tiny"] == f"input start changed ({assets / 'model'})"
    assert "corpus@tiny" not in found


def test_the_first_three_of_many_changes_are_named(assets: Path, done: Directory) -> None:
    changed = {"epochs": 5, "learning_rate": 1.0e-4, "batch_size": 8, "warmup": 0.5, "max_length": 16}
    why = built(planned(assets, done, train=changed))["distil/no-kd/two/0@tiny"]
    assert why == "train.epochs: 2 -> 5; train.learning_rate: 0.005 -> 0.0001; train.batch_size: 32 -> 8 and 1 more"


def test_a_changed_version_of_a_stage_is_named(assets: Path, done: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TeachSpec, "version", 7)
    found = built(planned(assets, done))
    assert found["teach@tiny"] == "version of teach: 2 -> 7"
    assert set(found) == {"teach@tiny"} | student("vanilla-kd")


def test_another_recipe_has_its_own_names(assets: Path, done: Directory) -> None:
    """Reasons compare with the last run of the same recipe only."""
    why = built(planned(assets, done, name="other", train={"epochs": 3}))["distil/no-kd/two/0@tiny"]
    assert why == "never built"


@pytest.mark.parametrize("harm", ["removed", "cut"])
def test_a_record_whose_file_is_gone_is_not_reused_and_the_plan_says_which(
    assets: Path, done: Directory, harm: str
) -> None:
    file = home(done, "distil/no-kd/two/0@tiny") / "0001" / "result.txt"
    file.unlink()
    if harm == "cut":
        file.write_text("cont", "utf-8")
    found = built(planned(assets, done))
    assert found == {"distil/no-kd/two/0@tiny": "result.txt is missing or cut short"}


def test_a_record_from_a_newer_version_is_refused(assets: Path, done: Directory) -> None:
    path = home(done, "teach@tiny") / "record.json"
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), "format": 9}), "utf-8")
    with pytest.raises(RequestError, match=r"record format 9 is newer than 1, .*; upgrade Stillhouse$"):
        planned(assets, done)


def test_changes_of_a_spec_are_named_leaf_by_leaf() -> None:
    before = {"a": {"b": 1, "c": [1, 2]}, "gone": 1, "same": 0}
    after = {"a": {"b": 2, "c": [1, 2, 3]}, "same": 0, "new": {"x": 1}}
    assert spec_changes(before, after) == [
        "a.b: 1 -> 2",
        "a.c: [1, 2] -> [1, 2, 3]",
        "new: None -> {'x': 1}",
        "gone: 1 -> None",
    ]


# --- --stage --------------------------------------------------------------------------------------


def test_a_stage_given_by_name_is_built_with_what_depends_on_it(assets: Path, done: Directory) -> None:
    found = planned(assets, done, "teach@tiny")
    assert set(built(found)) == {"teach@tiny"} | student("vanilla-kd")
    assert set(built(found).values()) == {"requested by --stage teach@tiny"}
    assert by_name(found)["corpus@tiny"].action == "reuse"


def test_a_stage_given_by_name_is_built_with_its_missing_inputs_and_nothing_else(
    assets: Path, storage: Directory
) -> None:
    found = planned(assets, storage, "teach")
    assert set(built(found)) == {"corpus@tiny", "finetune@tiny", "teach@tiny"} | student("vanilla-kd")
    assert by_name(found)["distil/no-kd/two/0@tiny"].action == "skip"


@pytest.mark.parametrize(
    ("stage", "expected"),
    [
        ("distil/no-kd", student("no-kd")),
        ("distil/no-kd/two/0@tiny", student("no-kd")),
        ("evaluate/teacher", {"evaluate/teacher@tiny"}),
        (
            "distil@tiny",
            student("no-kd") | student("vanilla-kd") | {"finetune@tiny", "teach@tiny", "evaluate/teacher@tiny"},
        ),
    ],
)
def test_a_stage_is_named_by_role_or_by_the_start_of_a_name(
    assets: Path, done: Directory, stage: str, expected: set[str]
) -> None:
    assert set(built(planned(assets, done, stage))) == expected


def test_a_stage_of_one_task_leaves_the_other_alone(tmp_path: Path, storage: Directory) -> None:
    assets = write_plannable_assets(tmp_path / "two", ("tiny", "other"))
    tasks = [{"name": name, "text": "sentence", "labels": ["bad", "good"]} for name in ("tiny", "other")]
    build_all(graph_of(assets, storage, task=tasks)[1], storage)
    found = planned(assets, storage, "teach@other", task=tasks)
    assert {step.node.task for step in found.builds} == {"other"}


@pytest.mark.parametrize(
    ("stage", "right"),
    [
        ("teech", "did you mean teach?"),
        ("teach@tinny", "did you mean teach@tiny?"),
        ("zzz", "known: corpus, corpus@tiny, "),
    ],
)
def test_an_unknown_stage_names_the_nearest(assets: Path, done: Directory, stage: str, right: str) -> None:
    with pytest.raises(RequestError) as caught:
        planned(assets, done, stage)
    assert str(caught.value).startswith(f"--stage: {stage} selects no node of this recipe; {right}")


# --- figures --------------------------------------------------------------------------------------


def test_rows_and_bytes_are_exact_or_bounds_and_become_exact_when_built(assets: Path, storage: Directory) -> None:
    before = by_name(planned(assets, storage))
    assert before["corpus@tiny"].rows == Quantity.exact(120)
    assert before["teach@tiny"].rows == Quantity.exact(81), "a tenth of the 90 rows of train is held out"
    assert before["distil/no-kd/two/0@tiny"].rows == Quantity.exact(81)
    # 16 bytes of key, 2 logits of 4, embeddings and 4 layers of width 32 in 2 bytes each.
    assert before["teach@tiny"].bytes == Quantity.at_most(81 * (16 + 2 * 4 + 5 * 32 * 2))
    assert before["evaluate/teacher@tiny"].rows == Quantity.exact(30)
    build_all(graph_of(assets, storage)[1], storage)
    after = by_name(planned(assets, storage))["teach@tiny"]
    assert (after.rows, after.bytes) == (Quantity.exact(10), Quantity.exact(len("content")))


def test_rows_of_any_kind_of_file_are_known(assets: Path, storage: Directory) -> None:
    data = assets / "data" / "tiny"
    (data / "train.parquet").unlink()
    lines = [f"text {row},{row % 2}" for row in range(60)]
    (data / "train.csv").write_text("\n".join(["sentence,label", *lines, *lines[:20]]) + "\n", "utf-8")
    found = by_name(planned(assets, storage))
    assert found["corpus@tiny"].rows == Quantity.exact(80 + 30)
    assert found["distil/no-kd/two/0@tiny"].rows == Quantity.about(72), "rows of equal texts stay together"
    assert found["teach@tiny"].rows == Quantity.at_most(72)
    assert found["teach@tiny"].bytes == Quantity.at_most(72 * (16 + 2 * 4 + 5 * 32 * 2))


def test_a_sample_bounds_the_rows(assets: Path, storage: Directory) -> None:
    data = {"source": str(assets / "data"), "train_rows": 40, "eval_rows": 20, "holdout_min_rows": 0}
    found = by_name(planned(assets, storage, data=data))
    assert found["corpus@tiny"].rows == Quantity.exact(60)
    assert found["teach@tiny"].rows == Quantity.exact(36)


# --- size -----------------------------------------------------------------------------------------


def test_a_plan_of_a_thousand_nodes_is_made_and_remade(assets: Path, storage: Directory) -> None:
    recipe = parse(tiny_recipe(assets, seeds=list(range(250)), method=BOTH))
    graph = graph_in(storage, recipe)
    assert len(graph.nodes) == 1004
    assert len(plan(graph, storage, "tiny").builds) == 1004
    build_all(graph, storage)
    assert not plan(graph, storage, "tiny").builds
    assert len(plan(graph, storage, "tiny", "teach").builds) == 501


def test_two_methods_that_are_the_same_are_built_once(assets: Path, storage: Directory) -> None:
    same = [{"use": "vanilla-kd", "label": label} for label in ("one", "another")]
    found = planned(assets, storage, method=same)
    assert roles(found.steps).count("distil") == 1


def roles(steps: Iterable[Step]) -> list[str]:
    return [step.node.role for step in steps]


def test_only_a_corpus_reads_data(assets: Path, storage: Directory) -> None:
    _, graph = graph_of(assets, storage)
    readers = [node.name for node in graph.nodes if any(name.startswith("data/") for name in node.inputs)]
    assert readers == ["corpus@tiny"]
    assert isinstance(nodes_by_name(graph)["corpus@tiny"].spec, CorpusSpec)


def test_a_path_in_a_record_says_where_the_files_are(assets: Path, done: Directory) -> None:
    step = by_name(planned(assets, done))["teach@tiny"]
    assert step.record is not None
    assert (artifact_path(done, step.record) / "result.txt").exists()
    assert (done.local / record_name("teach", step.node.key)).exists()


def test_a_model_that_is_fine_tuned_already_needs_no_finetuning(assets: Path, storage: Directory) -> None:
    head = {"architectures": ["BertForSequenceClassification"], "id2label": {"0": "bad", "1": "good"}}
    model = write_plannable_model(assets / "tuned", **head)
    found = planned(assets, storage, teacher={"model": str(model)})
    assert "finetune" not in roles(found.steps)
    assert by_name(found)["teach@tiny"].node.inputs["model"].identity  # type: ignore[union-attr]


# --- records of another spec ----------------------------------------------------------------------


def change_recorded_spec(storage: Directory, name: str, **fields: object) -> None:
    """As if an earlier version had built the artifact with other defaults, under the same key."""
    path = home(storage, name) / "record.json"
    record = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({**record, "spec": {**record["spec"], **fields}}), "utf-8")


def test_a_record_of_another_spec_and_all_that_depends_on_it_are_stale(assets: Path, done: Directory) -> None:
    change_recorded_spec(done, "teach@tiny", pooling="cls")
    found = planned(assets, done)
    assert built(found) == {
        "teach@tiny": "pooling: recorded cls, requested mean",
        "distil/vanilla-kd/two/0@tiny": "an input of it is built again",
        "evaluate/vanilla-kd/two/0@tiny": "an input of it is built again",
    }
    assert set(found.stale) == {step.node.key for step in found.builds}


def test_a_record_that_lacks_a_file_and_is_of_another_spec_is_stale_too(assets: Path, done: Directory) -> None:
    (home(done, "teach@tiny") / "0001" / "result.txt").unlink()
    change_recorded_spec(done, "teach@tiny", pooling="cls")
    assert len(planned(assets, done).stale) == 3


def test_a_stale_record_that_nothing_requested_needs_is_skipped(assets: Path, done: Directory) -> None:
    change_recorded_spec(done, "teach@tiny", pooling="cls")
    found = planned(assets, done, method="no-kd")
    assert found.builds == () and found.stale == {}


def test_a_store_of_another_version_with_unknown_fields_offers_no_rows(assets: Path, done: Directory) -> None:
    change_recorded_spec(done, "teach@tiny", added_by_a_later_version=3)
    (assets / "model" / "tokenizer.json").write_text('{"vocab": {"other": 1}}', "utf-8")
    assert "carried over" not in built(planned(assets, done))["teach@tiny"]

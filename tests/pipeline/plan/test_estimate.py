import json
import os
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from project import (
    graph_in,
    graph_of,
    tiny_recipe,
    write_artifact,
    write_plannable_assets,
    write_plannable_model,
    write_project,
)

from pipeline.artifacts.provenance import hardware
from pipeline.artifacts.record import Record, record_name
from pipeline.graph.fingerprint import Json
from pipeline.monitor.forecast import Forecast, total_text
from pipeline.plan.estimate import DurationEstimator, approximate_time, estimate, read_all
from pipeline.plan.planner import Plan, plan
from pipeline.recipe import Recipe, parse
from pipeline.storage.directory import Directory

ROWS = {"corpus": 120, "pretrain": 72, "finetune": 72, "teach": 72, "distil": 72, "evaluate": 30}
"""Rows that a record of each role speaks of; a plan speaks of 81 training rows, as 9 of 90 are held out."""
LEARNT = 81 / 72


@pytest.fixture
def assets(tmp_path: Path) -> Path:
    return write_plannable_assets(tmp_path / "assets")


@pytest.fixture
def storage(tmp_path: Path) -> Directory:
    return Directory(tmp_path / "runs")


def built(assets: Path, storage: Directory, /, *, seconds: float = 10.0, **changes: object) -> dict[str, Record]:
    """Node -> its record: each took ``seconds``; of a student's, 80 % were training."""
    records = {}
    for node in graph_of(assets, storage, **changes)[1].nodes:
        record = write_artifact(storage, node)
        facts = {"rows": ROWS[node.role], **({"train_seconds": 0.8 * seconds} if node.spec.stage == "distil" else {})}
        records[node.name] = keep(storage, replace(record, seconds=seconds, facts=facts))
    return records


def keep(storage: Directory, record: Record) -> Record:
    (storage.local / record_name(record.stage, record.key)).write_text(json.dumps(asdict(record)), "utf-8")
    return record


def planned(assets: Path, storage: Directory, /, **changes: object) -> tuple[Recipe, Plan]:
    recipe, graph = graph_of(assets, storage, **changes)
    return recipe, plan(graph, storage, recipe.name)


def seconds_by_key(
    assets: Path, storage: Directory, /, *, machine: Mapping[str, Json] | None = None, **changes: object
) -> dict[str, float]:
    """Node -> its estimated seconds."""
    recipe, found = planned(assets, storage, **changes)
    seconds = estimate(found, storage, machine or hardware(), recipe.resources)
    return {step.node.name: seconds[step.node.key] for step in found.steps if step.node.key in seconds}


def test_without_records_there_is_no_estimate(assets: Path, storage: Directory) -> None:
    assert seconds_by_key(assets, storage) == {}


def test_a_new_seed_takes_what_the_seed_before_took(assets: Path, storage: Directory) -> None:
    """The record: 10 s for 72 rows, 2 s of them not training. The plan has 81 rows."""
    built(assets, storage)
    found = seconds_by_key(assets, storage, seeds=[0, 1])
    student = pytest.approx(2 + 8 * LEARNT)
    assert found == {
        "distil/no-kd/two/1@tiny": student,
        "evaluate/no-kd/two/1@tiny": pytest.approx(10),
        "distil/vanilla-kd/two/1@tiny": student,
        "evaluate/vanilla-kd/two/1@tiny": pytest.approx(10),
    }


def test_training_takes_longer_with_its_epochs_and_the_rest_does_not(assets: Path, storage: Directory) -> None:
    built(assets, storage)
    train = {"epochs": 6, "learning_rate": 5.0e-3, "max_length": 16}
    assert seconds_by_key(assets, storage, train=train)["distil/no-kd/two/0@tiny"] == pytest.approx(2 + 8 * LEARNT * 3)


def test_the_teacher_takes_longer_with_the_rows_whatever_its_weights_are(assets: Path, storage: Directory) -> None:
    """The sample makes another corpus, so another fine-tuned teacher, of the same shape."""
    built(assets, storage)
    found = seconds_by_key(
        assets, storage, data={"source": str(assets / "data"), "train_rows": 45, "holdout_min_rows": 0}
    )
    assert found["teach@tiny"] == pytest.approx(10 * 40 / 72)
    assert found["finetune@tiny"] == pytest.approx(2 + 8 * 40 / 72)
    assert found["corpus@tiny"] == pytest.approx(10 * 75 / 120)


def test_the_store_of_an_epoch_takes_what_that_of_the_teacher_took(assets: Path, storage: Directory) -> None:
    teacher = {"model": str(assets / "model"), "finetune": {"epochs": 6, "learning_rate": 1.0e-2, "keep": "epochs"}}
    built(assets, storage, teacher=teacher)
    method = ["no-kd", {"use": "vanilla-kd", "label": "early", "taught_by": "teacher:1"}]
    found = seconds_by_key(assets, storage, teacher=teacher, method=method)
    assert found["teach/teacher:1@tiny"] == found["evaluate/teacher:1@tiny"] * LEARNT == pytest.approx(10 * LEARNT)


def test_probes_and_ensembles_take_what_like_ones_took(assets: Path, storage: Directory) -> None:
    models = {
        "one": {"cut": {"of": "teacher", "layers": [1]}, "method": "no-kd"},
        "both": {"members": ["teacher", "one"]},
    }
    probing = {"use": "vanilla-kd", "label": "probing", "structure": "outputs"}
    built(assets, storage, models=models, method=probing)
    again = {
        "one": {"cut": {"of": "teacher", "layers": [2]}, "method": "no-kd"},
        "three": {"members": ["teacher", "one"]},
    }
    teacher = {"model": str(assets / "model"), "finetune": {"epochs": 5, "learning_rate": 1.0e-2}}
    found = seconds_by_key(assets, storage, models=again, method=probing, teacher=teacher)
    assert found["ensemble/three@tiny"] == pytest.approx(10)
    assert found["probe@tiny"] == pytest.approx(10 * LEARNT)
    probing = {**probing, "structure": {"kind": "outputs", "groups": [[1]]}}
    assert "probe:1@tiny" not in seconds_by_key(assets, storage, models=again, method=probing, teacher=teacher)


def test_a_model_of_another_shape_is_not_comparable(assets: Path, storage: Directory) -> None:
    built(assets, storage)
    found = seconds_by_key(assets, storage, student={"label": "two", "cut": {"of": "teacher", "layers": [1, 2, 3]}})
    assert found == {}


def test_a_model_that_started_from_another_is_not_comparable(assets: Path, storage: Directory) -> None:
    built(assets, storage)
    write_plannable_model(assets / "wide", hidden_size=64)
    found = seconds_by_key(assets, storage, teacher={"model": str(assets / "wide"), "finetune": {"epochs": 6}})
    assert "teach@tiny" not in found
    assert "finetune@tiny" not in found


def test_a_masked_language_model_with_a_teacher_is_not_comparable_with_one_without(
    assets: Path, storage: Directory
) -> None:
    whole = {"model": str(assets / "model"), "pretrain": {"texts": "task", "seed": 1}}

    def models(**pretrain: object) -> dict[str, object]:
        small = {"cut": {"of": "lm", "layers": [1, 3]}, "pretrain": {"texts": "task", **pretrain}}
        return {"lm": whole, "small": small}

    built(assets, storage, models=models())
    assert "pretrain/small@tiny" in seconds_by_key(assets, storage, models=models(seed=2))
    assert "pretrain/small@tiny" not in seconds_by_key(assets, storage, models=models(taught_by="lm"))


@pytest.mark.parametrize("change", [{"max_length": 32}, {"batch_size": 8}, {"precision": "bfloat16"}])
def test_other_text_lengths_and_batch_sizes_are_not_comparable(
    assets: Path, storage: Directory, change: dict[str, object]
) -> None:
    built(assets, storage)
    train = {"epochs": 2, "learning_rate": 5.0e-3, "max_length": 16, **change}
    assert "distil/no-kd/two/0@tiny" not in seconds_by_key(assets, storage, train=train)


@pytest.mark.parametrize("change", [{"processor": "another"}, {"cores": 999}, {"gpus": ["a card"]}])
def test_another_machine_is_not_comparable(assets: Path, storage: Directory, change: dict[str, Json]) -> None:
    built(assets, storage)
    assert seconds_by_key(assets, storage, machine={**hardware(), **change}, seeds=[0, 1]) == {}


def test_another_memory_or_host_name_is_the_same_machine(assets: Path, storage: Directory) -> None:
    built(assets, storage)
    machine = {**hardware(), "host": "another", "memory_bytes": 1}
    assert seconds_by_key(assets, storage, machine=machine, seeds=[0, 1])


def test_workers_and_threads_that_the_recipe_asks_for_must_agree(assets: Path, storage: Directory) -> None:
    built(assets, storage)
    ask = {"distil": {"workers": 2, "cpus_per_worker": 1}, "evaluate": {"cpus_per_worker": 1}}
    assert set(seconds_by_key(assets, storage, seeds=[0, 1], resources=ask)) == {
        "evaluate/no-kd/two/1@tiny",
        "evaluate/vanilla-kd/two/1@tiny",
    }


def test_the_estimate_is_the_median_of_comparable_records(assets: Path, storage: Directory) -> None:
    records = built(assets, storage, seeds=[0, 1], method="no-kd")
    keep(storage, replace(records["evaluate/no-kd/two/1@tiny"], seconds=1000.0))
    assert seconds_by_key(assets, storage, seeds=[2], method="no-kd")["evaluate/no-kd/two/2@tiny"] == pytest.approx(
        (10 + 1000) / 2
    )


def test_a_stage_that_had_given_up_workers_is_expected_to_take_as_long_as_with_all_of_them(
    assets: Path, storage: Directory
) -> None:
    for name, record in built(assets, storage, method="no-kd").items():
        if name == "evaluate/no-kd/two/0@tiny":
            keep(storage, replace(record, seconds=100.0, full_seconds=25.0))
    found = seconds_by_key(assets, storage, seeds=[0, 1], method="no-kd")
    assert found["evaluate/no-kd/two/1@tiny"] == 25.0


def test_a_store_with_copied_rows_is_not_used(assets: Path, storage: Directory) -> None:
    record = built(assets, storage)["teach@tiny"]
    keep(storage, replace(record, facts={"rows": 81, "computed": 1, "carried": 80}))
    data = {"source": str(assets / "data"), "train_rows": 45}
    assert "teach@tiny" not in seconds_by_key(assets, storage, data=data)


def test_a_damaged_record_is_skipped(assets: Path, storage: Directory) -> None:
    record = built(assets, storage)["evaluate/no-kd/two/0@tiny"]
    path = storage.local / "distil" / ("0" * 64) / "record.json"
    path.parent.mkdir()
    path.write_text("{", "utf-8")
    assert record.key in {found.key for found in read_all(storage)}
    assert seconds_by_key(assets, storage, seeds=[0, 1])


def test_if_nothing_is_to_be_built_no_record_is_read(assets: Path, storage: Directory) -> None:
    built(assets, storage)
    recipe, found = planned(assets, storage)
    assert estimate(found, Directory(storage.local / "nowhere"), hardware(), recipe.resources) == {}


def test_a_plan_of_a_thousand_steps_is_estimated(assets: Path, storage: Directory) -> None:
    recipe = parse(tiny_recipe(assets, seeds=list(range(250))))
    graph = graph_in(storage, recipe)
    for node in graph.nodes:
        write_artifact(storage, node)
    found = plan(graph, storage, recipe.name, "evaluate")
    assert len(estimate(found, storage, hardware(), recipe.resources)) == 501


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "~1 s"), (12.4, "~12 s"), (59.6, "~1 min"), (250, "~4 min"), (3599, "~1 h 0 min"), (7800, "~2 h 10 min")],
)
def test_times_are_rounded(seconds: float, text: str) -> None:
    assert approximate_time(seconds) == text


def test_the_total_is_that_of_a_simulated_run_and_counts_steps_without_an_estimate(
    assets: Path, storage: Directory
) -> None:
    _, found = planned(assets, storage, method="no-kd")
    assert len(found.builds) == 5

    def text(total: float | None, unknown: int) -> str:
        return total_text(found, Forecast({}, {}, frozenset(), total, unknown))

    assert text(None, 5) == "time unknown: no comparable record on such hardware; plan --probe measures it"
    assert text(150.0, 3) == (
        "at least ~2 min 30 s on this machine: 3 of 5 stages have no comparable record on such hardware; "
        "plan --probe measures them"
    )
    assert text(198.0, 0) == "~3 min 20 s on this machine"
    assert text(32.4, 0) == "~32 s on this machine"
    assert text(7800.0, 0) == "~2 h 10 min on this machine"


def test_a_plan_has_times_in_its_table_and_in_json(assets: Path, tmp_path: Path) -> None:
    project = write_project(tmp_path, assets, seeds=[0, 1])
    built(assets, Directory(project.storage), method=["no-kd", "vanilla-kd"])
    steps = project.plan()
    assert steps["evaluate/no-kd/two/1@tiny"]["seconds"] == 10.0
    assert steps["evaluate/no-kd/two/0@tiny"]["seconds"] is None
    table = project("plan").out
    assert "~10 s" in table
    assert "4 to build" in table
    # Two students of 11 s and two evaluations of 10 s. All have one thread, so on two cores two run at a time.
    assert table.rstrip().endswith(f"~{42 if os.cpu_count() == 1 else 21} s on this machine")


def test_records_of_a_run_improve_its_own_estimates(assets: Path, storage: Path) -> None:
    recipe, found = planned(assets, storage, seeds=[0, 1, 2])
    estimator = DurationEstimator(found, hardware(), recipe.resources)
    assert estimator.seconds() == {}
    node = {step.node.name: step.node for step in found.steps}
    first = write_artifact(storage, node["distil/no-kd/two/0@tiny"])
    estimator.add(replace(first, seconds=10.0, facts={"rows": ROWS["distil"], "train_seconds": 8.0}))
    seconds_by_key = estimator.seconds()
    alike = {node[f"distil/{method}/two/{seed}@tiny"].key for method in ("no-kd", "vanilla-kd") for seed in range(3)}
    assert set(seconds_by_key) == alike
    assert seconds_by_key[node["distil/vanilla-kd/two/2@tiny"].key] == pytest.approx(2.0 + 8.0 * LEARNT)


def test_a_probe_counts_where_no_record_does(assets: Path, storage: Path) -> None:
    recipe, found = planned(assets, storage, seeds=[0, 1])
    node = {step.node.name: step.node for step in found.steps}
    student, corpus = node["distil/no-kd/two/0@tiny"], node["corpus@tiny"]
    estimator = DurationEstimator(found, hardware(), recipe.resources, probed={student.key: 99.0, corpus.key: 5.0})
    assert estimator.seconds() == {student.key: 99.0, corpus.key: 5.0}
    record = replace(write_artifact(storage, student), seconds=9.0, facts={"rows": 72, "train_seconds": 8.0})
    estimator.add(record)
    assert estimator.seconds()[student.key] == pytest.approx(1.0 + 8.0 * LEARNT)
    assert estimator.seconds()[corpus.key] == 5.0

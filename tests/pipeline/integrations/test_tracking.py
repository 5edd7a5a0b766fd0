"""Trainings are sent to real MLflow and W&B where they are installed; what happens if one is missing, or fails.

To run all of it: ``pip install -c constraints.txt '.[mlflow,wandb]'``.
"""

import json
import threading
from importlib.util import find_spec
from pathlib import Path

import pytest
from project import Project, as_storage, graph_in, write_project

from pipeline.artifacts.record import find
from pipeline.errors import RequestError
from pipeline.integrations.tensorboard_links import named_trainings
from pipeline.integrations.tracking import TrackingThread, check_tracking, report_of
from pipeline.integrations.training_report import TrainingReport
from pipeline.recipe import Tracking, load

KINDS = ("mlflow", "wandb")


def student_nodes(project: Project) -> dict[str, TrainingReport]:
    """The reports of the trainings that the project has built."""
    graph = graph_in(project.storage, load(project.recipe))
    found = {}
    for name, node in named_trainings(graph).items():
        record = find(as_storage(project.storage), node.spec.stage, node.key)
        assert record is not None
        found[name] = report_of(name, node, record, as_storage(project.storage))
    return found


def test_a_report_has_the_spec_the_history_and_the_scores_by_readable_names(built: Project) -> None:
    reports = student_nodes(built)
    students = {f"tiny/{method}/two/{seed}" for method in ("no-kd", "vanilla-kd") for seed in (0, 1)}
    assert set(reports) == students | {"tiny/teacher/model/0"}
    one = reports["tiny/vanilla-kd/two/1"]
    history = json.loads((Path(one.tags["artifact"]) / "history.json").read_text("utf-8"))
    assert [epoch["loss"] for epoch in one.epochs] == [epoch["loss"] for epoch in history["epochs"]]
    assert one.final["validation_accuracy"] == history["scores"]["validation"]["accuracy"]
    assert one.final["last_epoch_validation_accuracy"] == history["last_epoch_scores"]["validation"]["accuracy"]
    assert one.parameters["train.seed"] == 1
    assert one.parameters["method.targets.kind"] == "teacher"
    assert one.tags["stage"] == "distil" and one.tags["recipe"] == "tiny"
    assert one.began > 1e9


def test_only_trainings_are_sent_and_each_once(built: Project) -> None:
    graph = graph_in(built.storage, load(built.recipe))
    sent: list[TrainingReport] = []
    thread = TrackingThread(lambda: sent.append, graph, as_storage(built.storage), pytest.fail)
    for node in graph.nodes:
        record = find(as_storage(built.storage), node.spec.stage, node.key)
        assert record is not None
        thread.committed(node, record)
    thread.close()
    assert len(sent) == len(student_nodes(built)) == 5


def test_a_tracker_that_fails_is_one_warning_and_is_not_called_again(built: Project) -> None:
    sent: list[str] = []
    warned: list[str] = []

    def fail(training: TrainingReport) -> None:
        sent.append(training.name)
        raise ConnectionError("no route to host\nand much more")

    graph = graph_in(built.storage, load(built.recipe))
    thread = TrackingThread(lambda: fail, graph, as_storage(built.storage), warned.append)
    for node in graph.nodes:
        record = find(as_storage(built.storage), node.spec.stage, node.key)
        assert record is not None
        thread.committed(node, record)
    thread.close()
    assert len(sent) == 1
    assert warned == ["tracking: ConnectionError: no route to host; nothing more is sent in this run"]


def test_a_tracker_that_hangs_delays_the_end_of_a_run_by_the_timeout_at_most(built: Project) -> None:
    graph = graph_in(built.storage, load(built.recipe))
    node, *_ = named_trainings(graph).values()
    record = find(as_storage(built.storage), node.spec.stage, node.key)
    assert record is not None
    freed, warned = threading.Event(), list[str]()

    def hang(_: TrainingReport) -> None:
        freed.wait(60)

    thread = TrackingThread(lambda: hang, graph, as_storage(built.storage), warned.append)
    thread.committed(node, record)
    thread.close(0.2)
    freed.set()
    assert warned == ["tracking: not all trainings were sent within 0.2 s"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_library_is_one_line_before_any_work(kind: str, assets: Path, tmp_path: Path) -> None:
    if find_spec(kind):
        pytest.skip(f"{kind} is installed")
    with pytest.raises(RequestError, match=rf"^tracking\.kind: {kind}, which is not installed here; pip install"):
        check_tracking(Tracking.model_validate({"kind": kind, "project": "p"}))
    project = write_project(tmp_path, assets, tracking={"kind": kind})
    result = project("run", "--inline")
    assert (result.code, len(result.err.splitlines())) == (2, 1)
    assert not list(project.storage.glob("*/*/record.json"))


def test_tracking_changes_no_key(assets: Path, tmp_path: Path) -> None:
    keys = []
    for name, tracking in (("none", None), ("some", {"kind": "mlflow", "uri": "sqlite:////nowhere/at/all.db"})):
        project = write_project(tmp_path / name, assets, tracking=tracking)
        keys.append([node.key for node in graph_in(tmp_path, load(project.recipe)).nodes])
    assert keys[0] == keys[1]


def test_the_project_defaults_to_the_recipes_name(assets: Path, tmp_path: Path) -> None:
    def project_of(**more: str) -> str:
        project = write_project(tmp_path, assets, tracking={"kind": "wandb", **more})
        tracking = load(project.recipe).tracking
        assert tracking is not None
        return tracking.project

    assert (project_of(), project_of(project="glue")) == ("tiny", "glue")


def test_an_unknown_kind_of_tracker_is_refused(assets: Path, tmp_path: Path) -> None:
    project = write_project(tmp_path, assets, tracking={"kind": "comet"})
    with pytest.raises(RequestError, match=r"tracking\.kind: comet"):
        load(project.recipe)


# --- the libraries themselves -----------------------------------------------------------------------


def test_trainings_are_sent_to_mlflow(assets: Path, tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    project = write_project(tmp_path / "project", assets, tracking={"kind": "mlflow", "uri": uri, "project": "p"})
    result = project("run", "--inline")
    assert (result.code, result.err) == (0, "")
    client = mlflow.MlflowClient(tracking_uri=uri)
    runs = client.search_runs([client.get_experiment_by_name("p").experiment_id])
    reports = student_nodes(project)
    assert {run.info.run_name for run in runs} == set(reports)
    for run in runs:
        one = reports[run.info.run_name]
        assert run.info.status == "FINISHED"
        assert run.data.params == {name: str(value) for name, value in one.parameters.items()}
        assert run.data.metrics["validation_accuracy"] == one.final["validation_accuracy"]
        assert run.data.tags["stillhouse.key"] == one.tags["key"]
        losses = client.get_metric_history(run.info.run_id, "loss")
        assert [(loss.step, loss.value) for loss in losses] == [
            (number, epoch["loss"]) for number, epoch in enumerate(one.epochs, 1)
        ]


def test_an_mlflow_that_cannot_be_reached_fails_no_training(
    assets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    uri = "http://127.0.0.1:9"  # no server listens there
    project = write_project(tmp_path / "project", assets, tracking={"kind": "mlflow", "uri": uri}, method="no-kd")
    result = project("run", "--inline")
    assert result.code == 0
    assert "nothing more is sent in this run" in " ".join((result.out + result.err).split())


def test_trainings_are_sent_to_wandb(assets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    project = write_project(tmp_path, assets, tracking={"kind": "wandb", "project": "p"}, method="no-kd")
    result = project("run", "--inline")
    assert (result.code, result.err) == (0, "")
    kept = sorted(project.storage.glob(".logs/*/wandb/offline-run-*/run-*.wandb"))
    reports = student_nodes(project)
    assert len(kept) == len(reports) == 2
    written = b"".join(path.read_bytes() for path in kept)
    for one in reports.values():
        assert one.name.encode() in written
        assert one.tags["key"].encode() in written
    assert b"validation_accuracy" in written

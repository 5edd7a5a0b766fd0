"""``plan --probe``: what it measures, what it keeps, and what a plan makes of it."""

import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pytest
from project import Project, graph_of, nodes_by_name, start, write_project

from cluster.amount import Amount
from cluster.inline import Inline
from cluster.resources import Capacity
from cluster.temporary import remove_abandoned
from pipeline.artifacts.provenance import hardware
from pipeline.monitor.forecast import forecast, planned_run
from pipeline.plan import probe as probing
from pipeline.plan.extrapolate import PlannedRun, extrapolated
from pipeline.plan.measurements import Measurements, Topics, origin, trained_origin
from pipeline.plan.planner import Plan, plan
from pipeline.plan.probe import models_to_time, probe
from pipeline.plan.resources import allot
from pipeline.recipe import Recipe
from pipeline.storage.directory import Directory

DRAWN = {"use": "vanilla-kd", "label": "drawn", "data": {"kind": "knn", "k": 4, "draw": 1}}
MINIMAX = {"use": "vanilla-kd", "label": "minimax", "data": {"kind": "minimax-knn", "k": 4, "keep": 2}}


@pytest.fixture(scope="module")
def probed(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, str, str]:
    """A project whose plan was probed once, and what that printed. Not to be changed."""
    project = write_project(tmp_path_factory.mktemp("probed"), assets)
    result = project("plan", "--probe", "--inline")
    assert result.code == 0, result.err
    return project, result.out, result.err


def test_a_probe_gives_a_time_to_every_node_of_a_first_run(probed: tuple[Project, str, str]) -> None:
    project, out, err = probed
    assert "probed in" in err
    assert "rows of tiny, model on tiny, model cut on tiny" in err
    steps = project.plan("--inline")
    assert {step["action"] for step in steps.values()} == {"build"}
    assert {step["seconds_from"] for step in steps.values()} == {"probe"}
    assert all(step["seconds"] is not None and step["ends"] is not None for step in steps.values())
    assert out.rstrip().splitlines()[-1].endswith(" on this machine")
    assert "(probe)" in out


def test_a_second_plan_uses_what_was_measured_and_measures_nothing(probed: tuple[Project, str, str]) -> None:
    project = probed[0]
    before = {path.name: path.stat().st_mtime_ns for path in (project.storage / ".timings").iterdir()}
    result = project("plan", "--inline")
    assert "(probe)" in result.out
    assert result.err == ""
    assert {path.name: path.stat().st_mtime_ns for path in (project.storage / ".timings").iterdir()} == before


def test_other_settings_are_extrapolated_and_other_shapes_are_not(probed: tuple[Project, str, str]) -> None:
    project = probed[0]
    usual = project.plan("--inline")
    longer = project.plan("--inline", "--set", "train.epochs=40")
    name = "distil/no-kd/two/0@tiny"
    assert float(str(longer[name]["seconds"])) > float(str(usual[name]["seconds"]))
    deeper = project.plan("--inline", "--set", "student.cut={of: teacher, layers: [1, 2, 3]}")
    assert deeper[name]["seconds"] is None
    assert deeper["finetune@tiny"]["seconds"] is not None
    batches = project.plan("--inline", "--set", "train.batch_size=8")
    assert batches[name]["seconds"] is None


def test_without_a_probe_a_first_plan_knows_no_time(assets: Path, tmp_path: Path) -> None:
    result = write_project(tmp_path, assets)("plan")
    assert result.out.rstrip().endswith("time unknown: no comparable record on such hardware; plan --probe measures it")


# --- extrapolation ------------------------------------------------------------------------------------


FORWARD = {"load": 1.0, "forward_row": 0.01, "single": 0.05, "store_float32_row": 0.02, "keep": 0.5, "save": 2.0}
STEPS = {"first": 3.0, "train_row": 0.1}


def on_one_core(found: Plan, recipe: Recipe) -> PlannedRun:
    """The run of a plan on a Ray of its own, with one core."""
    capacity = Capacity.fixed(Amount(1.0))
    return PlannedRun(found, lambda node: allot(node, recipe.resources, capacity), capacity)


def fabricated(recipe: Recipe, run: PlannedRun, storage: Directory) -> Measurements:
    """Measurements with round figures of all that a plan needs."""
    measured, topics = Measurements(storage), Topics(hardware())
    measured.keep(topics.place(run.inline), {"open": 4.0, "close": 1.0, "worker": 2.0, "group": 8.0, "imports": 5.0})
    nodes = [step.node for step in run.plan.steps]
    for model in models_to_time(nodes, run):
        measured.keep(topics.model(model.origin, model.corpus, model.resources), FORWARD)
        for train in model.trainings:
            measured.keep(topics.training(model.origin, model.corpus, train, model.resources), STEPS)
    corpus = next(node for node in nodes if node.role == "corpus")
    measured.keep(topics.corpus(corpus), {"sample": 3.0, "sample_rows": 28.0, "token_row": 0.1})
    return measured


def test_times_follow_from_rows_epochs_and_fixed_costs(assets: Path, tmp_path: Path) -> None:
    storage = Directory(tmp_path / "runs")
    calibrated = {"use": "vanilla-kd", "targets": {"calibrated": True}}
    recipe, graph = graph_of(assets, storage, method=["no-kd", calibrated])
    run = on_one_core(plan(graph, storage, recipe.name), recipe)
    measured = fabricated(recipe, run, storage)
    found = {node.name: node.key for node in graph.nodes}
    seconds = extrapolated(run, measured, Topics(hardware()))
    # The corpus: 128 rows, 28 of them in the sample, and the start of its worker.
    assert seconds[found["corpus@tiny"]] == pytest.approx(3 + 0.1 * 100 + 2)
    # A training has 86 rows, 10 held out, 32 to score it on at the end; the first one starts the group.
    epoch = 86 * 0.1 + 10 * 0.01 + 0.5
    fixed = 1 + 3 + 32 * 0.01 + 2
    assert seconds[found["finetune@tiny"]] == pytest.approx(fixed + 6 * epoch + 8 + 5)
    assert seconds[found["distil/no-kd/two/0@tiny"]] == pytest.approx(fixed + 2 * epoch)
    assert seconds[found["teach@tiny"]] == pytest.approx(1 + 86 * 0.02)
    assert seconds[found["calibrate@tiny"]] == pytest.approx(1 + 10 * 0.02)
    assert seconds[found["evaluate/teacher@tiny"]] == pytest.approx(1 + 32 * 0.01 + 24 * 0.05)
    whole = forecast(run, recipe, measured)
    assert whole.unknown == 0
    assert whole.total == pytest.approx(4 + sum(seconds.values()) + 1), "one core runs one stage at a time"


def test_stages_that_fit_side_by_side_shorten_the_run(assets: Path, tmp_path: Path) -> None:
    storage = Directory(tmp_path / "runs")
    recipe, graph = graph_of(assets, storage, method="no-kd", seeds=[0, 1])
    one = on_one_core(plan(graph, storage, recipe.name), recipe)
    two = replace(one, capacity=Capacity.fixed(Amount(2.0)))
    measured = fabricated(recipe, one, storage)
    alone, together = forecast(one, recipe, measured), forecast(two, recipe, measured)
    student = next(node.key for node in graph.nodes if node.name == "distil/no-kd/two/0@tiny")
    assert alone.total is not None and together.total is not None
    assert together.seconds[student] == pytest.approx(alone.seconds[student] + 8 + 5), "it has a group of its own"
    assert together.total < alone.total - alone.seconds[student] + 8 + 5


def test_candidates_cost_a_step_for_each_that_is_trained_on_and_a_pass_for_each_that_is_scored(
    assets: Path, tmp_path: Path
) -> None:
    storage = Directory(tmp_path / "runs")
    bank = {"generated": {"rows": 50}, "encoder": "tfidf"}
    recipe, graph = graph_of(assets, storage, method=["vanilla-kd", DRAWN, MINIMAX], bank=bank)
    run = on_one_core(plan(graph, storage, recipe.name), recipe)
    seconds = extrapolated(run, fabricated(recipe, run, storage), Topics(hardware()))
    found = {node.name: seconds.get(node.key) for node in graph.nodes}
    plain, drawn, minimax = (found[f"distil/{label}/two/0@tiny"] for label in ("vanilla-kd", "drawn", "minimax"))
    assert plain is not None and drawn is not None and minimax is not None
    assert drawn - plain == pytest.approx(2 * 86 * 1 * 0.1)
    assert minimax - plain == pytest.approx(2 * 86 * (2 * 0.1 + 4 * 0.01))


def test_a_damaged_measurement_counts_as_none(assets: Path, tmp_path: Path) -> None:
    storage = Directory(tmp_path / "runs")
    topic = Topics(hardware()).place(inline=True)
    for text in ("", "[]", '{"figures": {"open": "x"}}', "{"):
        storage.write(topic.name, text)
        assert Measurements(storage).figures(topic) is None
    Measurements(storage).keep(topic, {"open": 1.5})
    assert Measurements(storage).figures(topic) == {"open": 1.5}


def test_figures_are_of_one_machine(tmp_path: Path) -> None:
    measured = Measurements(Directory(tmp_path))
    measured.keep(Topics(hardware()).place(inline=True), {"open": 1.5})
    other = Topics({**hardware(), "cores": 999}).place(inline=True)
    assert measured.figures(other) is None


def test_the_layers_that_are_cut_out_do_not_matter_only_how_many(assets: Path, tmp_path: Path) -> None:
    cuts = {"a": [1, 2], "b": [3, 4], "c": [1]}
    students = [{"label": name, "cut": {"of": "teacher", "layers": cut}} for name, cut in cuts.items()]
    recipe, graph = graph_of(assets, tmp_path / "runs", student=students, method="no-kd")
    nodes = nodes_by_name(graph)
    a, b, c = (trained_origin(nodes[f"distil/no-kd/{label}/0@tiny"]) for label in "abc")
    run, topics = planned_run(plan(graph, Directory(tmp_path / "runs"), recipe.name), recipe, False), Topics({})
    corpus, resources = nodes["corpus@tiny"], run.resources(nodes["distil/no-kd/a/0@tiny"])
    names = [topics.model(one, corpus, resources).name for one in (a, b, c)]
    assert names[0] == names[1] != names[2]
    assert origin(nodes["evaluate/teacher@tiny"].inputs["model"]).starts == ()
    assert len(models_to_time(list(graph.nodes), run)) == 3, "the teacher, and two shapes of students"


def test_once_its_time_is_up_a_probe_says_what_it_left_out(
    assets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probing, "TOTAL_SECONDS", 1e-9)
    storage = Directory(tmp_path / "runs")
    recipe, graph = graph_of(assets, storage)
    run = planned_run(plan(graph, storage, recipe.name), recipe, inline=True)
    report = probe(run, Inline, Measurements(storage), Topics(hardware()), lambda _: True, tmp_path / "probe")
    assert report.measured == ["the start of a run and of its workers", "rows of tiny"]
    assert report.left_out == ["model on tiny", "model cut on tiny"]
    assert "not probed, as 0 s were up: model on tiny, model cut on tiny (probe again)" in str(report)


def test_a_probe_begins_with_the_models_that_none_has_measured(
    assets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = Directory(tmp_path / "runs")
    recipe, graph = graph_of(assets, storage)
    run = planned_run(plan(graph, storage, recipe.name), recipe, inline=True)
    fabricated(recipe, run, storage)
    (student,) = [model for model in models_to_time(list(graph.nodes), run) if model.origin.starts]
    topic = Topics(hardware()).model(student.origin, student.corpus, student.resources)
    (storage.local / topic.name).unlink()
    monkeypatch.setattr(probing, "TOTAL_SECONDS", 1e-9)
    report = probe(run, Inline, Measurements(storage), Topics(hardware()), lambda _: True, tmp_path / "probe")
    assert report.left_out == ["model cut on tiny", "model on tiny"]


def test_what_a_killed_probe_leaves_in_the_temporary_folder_is_removed_by_the_next_process(
    assets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = write_project(tmp_path, assets)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    command = ("plan", str(project.recipe), "--storage", str(project.storage), "--probe", "--inline")
    process = start(*command, TMPDIR=str(temporary))
    deadline = time.monotonic() + 100
    while (
        not list(temporary.glob("stillhouse-probe-*/[!.]*")) and process.poll() is None and time.monotonic() < deadline
    ):
        time.sleep(0.01)
    process.kill()
    process.communicate()
    assert len(list(temporary.glob("stillhouse-probe-*"))) == 1
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    remove_abandoned()
    assert list(temporary.glob("stillhouse-*")) == []

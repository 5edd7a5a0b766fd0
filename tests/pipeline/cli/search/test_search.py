"""``stillhouse search``: a search that was stopped, widened and run again, over one stored teacher."""

import json
import os
import shutil
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from project import CommandResult, Project, start, stillhouse, write_project
from waiting import wait_for

from pipeline.artifacts.model_names import write_names

pytestmark = pytest.mark.timeout(900)  # the machine may be busy

SEED = 1_000_003
RATES = {"low": 1.0e-4, "high": 1.0e-3, "log": True}
SEARCH = {
    "method": "vanilla-kd",
    "by": "tpe",
    "trials": 4,
    "vary": {"train.learning_rate": RATES, "training.temperature": [1, 2, 4]},
}
TRIAL = "distil/vanilla-kd/two/trial-"


def search(project: Project, *options: str) -> dict[str, Any]:
    """What ``search --format json`` prints of a search in which no trial fails."""
    result = project("search", "--inline", "--format", "json", *options)
    assert result.code == 0, result.err
    found: dict[str, Any] = json.loads(result.out)
    return found


def proposals(found: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
    """Number of a trial -> its values."""
    return {trial["trial"]: trial["values"] for trial in found["trials"]}


def written(project: Project) -> dict[str, int]:
    """Key of each artifact -> when its record was written, in nanoseconds."""
    return {path.parent.name: path.stat().st_mtime_ns for path in project.storage.glob("[a-z]*/*/record.json")}


def stopped_after_a_trial(project: Project, artifacts: int) -> CommandResult:
    """The result of a search that gets a SIGINT, as from Ctrl-C, as soon as there are more than ``artifacts``."""

    def write_and_interrupt(*arguments: Any) -> None:
        write_names(*arguments)
        if len(written(project)) > artifacts:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.cli.run_plan.write_names", write_and_interrupt)
        return project("search", "--inline")


@dataclass(frozen=True)
class SearchedProject:
    """A search that was stopped and then run to its end: the artifacts before it and when it was stopped, and what the
    second call printed."""

    project: Project
    before: dict[str, int]
    stopped: dict[str, int]
    found: dict[str, Any]


def searchable(folder: Path, assets: Path, storage: Path, **search: object) -> Project:
    """A project with a search, whose storage is a copy of ``storage``."""
    project = write_project(folder, assets, name="searched", seeds=[0, 1], search={**SEARCH, **search})
    shutil.copytree(storage, project.storage)
    return project


@pytest.fixture(scope="module")
def searched(
    assets: Path, first_run: tuple[Project, CommandResult], tmp_path_factory: pytest.TempPathFactory
) -> SearchedProject:
    project = searchable(tmp_path_factory.mktemp("searched"), assets, first_run[0].storage)
    before = written(project)
    result = stopped_after_a_trial(project, len(before))
    assert result.code == 130 and "stopped; the next run resumes from here" in result.err
    return SearchedProject(project, before, written(project), search(project))


# --- stopped and widened ---------------------------------------------------------------------------


def test_a_search_that_was_stopped_goes_on_and_trains_no_trial_twice(searched: SearchedProject) -> None:
    trained_before = searched.stopped.keys() - searched.before.keys()
    assert 1 <= len(trained_before) < 4
    assert searched.found["trained"] == 4 - len(trained_before)
    assert [trial["status"] for trial in searched.found["trials"]] == ["done"] * 4
    assert len({trial["key"] for trial in searched.found["trials"]}) == 4
    after = written(searched.project)
    assert {key: after[key] for key in searched.stopped} == searched.stopped, "no artifact was built again"
    assert after.keys() - searched.before.keys() == {trial["key"] for trial in searched.found["trials"]}


def test_a_search_reads_the_stored_teacher_and_trains_students_alone(searched: SearchedProject) -> None:
    new = written(searched.project).keys() - searched.before.keys()
    stages = {
        path.parent.parent.name for path in searched.project.storage.glob("*/*/record.json") if path.parent.name in new
    }
    assert stages == {"distil"}


def test_a_search_that_was_stopped_proposes_what_one_without_an_interruption_does(
    searched: SearchedProject, assets: Path, tmp_path: Path
) -> None:
    whole = searchable(tmp_path, assets, searched.project.storage)
    shutil.rmtree(whole.storage / ".searches")
    found = search(whole)
    assert proposals(found) == proposals(searched.found) and found["trained"] == 0


def test_the_best_is_first_by_the_score_on_held_out_rows_and_then_by_their_loss(searched: SearchedProject) -> None:
    found = searched.found
    ranks = [(-trial["score"], trial["loss"]) for trial in found["trials"]]
    assert ranks == sorted(ranks)
    assert found["best"] == found["trials"][0]["trial"]
    best = found["trials"][0]
    history = json.loads((Path(best["artifact"]).parent / "history.json").read_text("utf-8"))
    selected = history["epochs"][history["best_epoch"] - 1]
    assert (best["score"], best["loss"], best["epoch"]) == (
        selected["score"],
        selected["selection_loss"],
        history["best_epoch"],
    )


def test_more_trials_and_a_wider_range_count_the_trials_that_there_are(
    searched: SearchedProject, tmp_path: Path
) -> None:
    project = Project(tmp_path / "copy")
    shutil.copytree(searched.project.folder, project.folder)
    wider = (
        "search.vary={train.learning_rate: {low: 1.0e-5, high: 1.0e-2, log: true}, training.temperature: [1, 2, 4, 8]}"
    )
    found = search(project, "--set", "search.trials=5", "--set", wider)
    assert found["trained"] == 1 and len(found["trials"]) == 5
    assert proposals(searched.found).items() <= proposals(found).items()
    narrower = "search.vary={train.learning_rate: {low: 1.0e-9, high: 2.0e-9}, training.temperature: [1]}"
    dry = json.loads(project("search", "--dry-run", "--format", "json", "--set", narrower).out)
    assert [trial["status"] for trial in dry["trials"]] == ["open"], "of trials outside of its range it counts none"


def test_a_dry_run_lists_what_would_be_trained_and_writes_nothing(searched: SearchedProject) -> None:
    files = {path for path in searched.project.storage.rglob("*") if ".identity" not in path.parts}
    result = searched.project("search", "--dry-run", "--set", "search.trials=7", "--set", "search.by=random")
    assert result.code == 0 and result.out.count("to be trained") == 3
    assert "4 of 7 trials done" in result.out and "3 to train: ~" in result.out
    assert {path for path in searched.project.storage.rglob("*") if ".identity" not in path.parts} == files


@pytest.mark.slow
def test_a_search_whose_process_was_killed_trains_only_what_is_missing(
    searched: SearchedProject, first_run: tuple[Project, CommandResult], assets: Path, tmp_path: Path
) -> None:
    project = searchable(tmp_path, assets, first_run[0].storage)
    before = written(project)
    process = start("search", str(project.recipe), "--storage", str(project.storage), "--inline")
    wait_for(lambda: len(written(project)) > len(before), process)
    process.kill()
    process.communicate()
    killed, found = written(project), search(project)
    assert found["trained"] == 4 - len(killed.keys() - before.keys())
    assert {key: written(project)[key] for key in killed} == killed
    assert proposals(found) == proposals(searched.found)


def test_the_hours_of_a_search_count_over_all_of_its_rounds_and_what_is_done_is_kept(
    searched: SearchedProject, first_run: tuple[Project, CommandResult], assets: Path, tmp_path: Path
) -> None:
    project = searchable(tmp_path, assets, first_run[0].storage)
    many, seconds = "search.trials=200", 6.0
    result = project("search", "--inline", "--set", many, "--set", f"limits.hours={seconds / 3600}")
    assert result.code == 1, result.err
    trained = len(written(project)) - len(searched.before)
    assert f"limits.hours: {seconds / 3600:g}, and that time is over: {trained} of 200 trials are done; " in result.err
    assert result.err.endswith("finished work is kept, and the same command goes on from there\n")
    assert f"{trained} of 200 trials done" in result.out
    listed = json.loads(project("search", "--dry-run", "--format", "json", "--set", many).out)
    assert [trial["status"] for trial in listed["trials"]].count("done") == trained < 200


# --- what it prints -------------------------------------------------------------------------------


def test_the_lines_for_the_recipe_make_the_best_trial_when_they_stand_there(
    searched: SearchedProject, tmp_path: Path
) -> None:
    result = searched.project("search")
    assert result.code == 0 and "4 of 4 trials done, 0 trained now" in result.out
    _, _, lines = result.out.partition("in the place of vanilla-kd in the list method:\n")
    recipe = yaml.safe_load(searched.project.recipe.read_text("utf-8"))
    recipe["method"] = yaml.safe_load(lines)
    project = Project(tmp_path)
    project.recipe.write_text(yaml.safe_dump({**recipe, "search": None, "seeds": SEED, "sweep_seed": 1}), "utf-8")
    best = searched.found["trials"][0]
    assert project.plan()[f"distil/vanilla-kd/two/{SEED}@tiny"]["key"] == best["key"]
    assert f"best: trial {best['trial']} (train.learning_rate " in result.out
    assert f"accuracy {best['score']:.2f}, loss {best['loss']:.4f} on the held-out slice" in result.out


def test_a_report_lists_no_trial_and_a_run_trains_none(searched: SearchedProject) -> None:
    assert {row["seed"] for row in searched.project.rows()} == {0, 1}
    assert "nothing to do" in searched.project("run", "--inline").out


def test_a_trial_is_found_by_its_name(searched: SearchedProject) -> None:
    best = searched.found["trials"][0]
    assert best["node"] == f"{TRIAL}{best['trial']}@tiny"
    result = stillhouse("show", best["node"], "--storage", str(searched.project.storage))
    assert result.code == 0 and best["key"] in result.out


def test_gc_keeps_the_trials_of_a_recipe_for_as_long_as_it_has_the_search(searched: SearchedProject) -> None:
    listed = searched.project("gc", "--as-written").out.splitlines()
    assert not [line for line in listed if TRIAL in line and "│ artifact " in line]
    without = searched.project("gc", "--as-written", "--set", "search=null").out.splitlines()
    assert len([line for line in without if TRIAL in line and "│ artifact " in line]) == 4


# --- trials that fail -----------------------------------------------------------------------------


def test_a_trial_that_diverges_fails_alone_and_is_not_run_again_without_retry(
    assets: Path, first_run: tuple[Project, CommandResult], tmp_path: Path
) -> None:
    vary = {"train": {"learning_rate": [1.0e9, 1.0e-3]}}
    project = searchable(tmp_path, assets, first_run[0].storage, method="no-kd", by="grid", vary=vary)
    outcomes = []
    for options in ((), (), ("--retry",)):
        result = project("search", "--inline", "--format", "json", *options)
        found = json.loads(result.out)
        outcomes.append((result.code, found["trained"], [trial["status"] for trial in found["trials"]]))
        assert "diverges" in found["trials"][1]["problem"]
    assert outcomes == [(1, 2, ["done", "failed"]), (1, 0, ["done", "failed"]), (1, 1, ["done", "failed"])]

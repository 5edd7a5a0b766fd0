"""``stillhouse search --address``: a search on a running Ray that is killed, run again and widened."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from project import CommandResult, Project, write_project
from rays import Rays
from waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

TRIALS, MORE = 6, 8
SEARCH = {
    "method": "vanilla-kd",
    "by": "tpe",
    "trials": TRIALS,
    "parallel": 2,
    "vary": {"train.learning_rate": {"low": 1.0e-4, "high": 1.0e-3, "log": True}, "training.temperature": [1, 2, 4]},
}
WIDER = "search.vary={train.learning_rate: {low: 1.0e-5, high: 1.0e-2, log: true}, training.temperature: [1, 2, 4, 8]}"


@pytest.fixture(scope="module")
def rays() -> Iterator[Rays]:
    """A head of two CPUs."""
    with Rays(cpus=2) as started:
        yield started


@pytest.fixture
def project(assets: Path, first_run: tuple[Project, CommandResult], tmp_path: Path) -> Project:
    """A project with a search, whose teacher is trained and stored, and which has no trial."""
    found = write_project(tmp_path, assets, name="searched", seeds=[0, 1], search=SEARCH)
    shutil.copytree(first_run[0].storage, found.storage, symlinks=True)
    return found


def command(rays: Rays, project: Project, *options: str) -> list[str]:
    place = ("--storage", str(project.storage), "--address", rays.address)
    return ["-m", "pipeline", "search", str(project.recipe), "--format", "json", *place, *options]


def search(rays: Rays, project: Project, *options: str) -> dict[str, Any]:
    """What the command prints of a search in which no trial fails."""
    done = rays.python(*command(rays, project, *options), cwd=project.folder, timeout=900)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert {trial["status"] for trial in found["trials"]} == {"done"}
    return found


def written(project: Project) -> dict[str, int]:
    """``stage/key`` of each artifact -> when its record was written, in nanoseconds."""
    records = project.storage.glob("[a-z]*/*/record.json")
    return {path.parent.relative_to(project.storage).as_posix(): path.stat().st_mtime_ns for path in records}


def test_a_search_on_a_ray_that_is_killed_and_widened_trains_no_trial_twice_and_runs_no_teacher(
    rays: Rays, project: Project
) -> None:
    before = written(project)
    process = subprocess.Popen(
        [sys.executable, *command(rays, project)],
        cwd=project.folder,
        env=rays.environment(),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    wait_for(lambda: len(written(project)) > len(before), process)
    process.kill()
    process.communicate()

    killed = written(project)
    assert len(killed) < len(before) + TRIALS, "the search was killed before its end"
    resumed = search(rays, project)
    assert resumed["trained"] == TRIALS - (len(killed) - len(before)) and len(resumed["trials"]) == TRIALS

    again = written(project)
    widened = search(rays, project, "--set", f"search.trials={MORE}", "--set", WIDER)
    assert widened["trained"] == MORE - TRIALS and len(widened["trials"]) == MORE
    numbers = {trial["trial"]: trial["key"] for trial in widened["trials"]}
    assert {trial["trial"]: trial["key"] for trial in resumed["trials"]}.items() <= numbers.items()

    after = written(project)
    assert {name: after[name] for name in again} == again and {name: again[name] for name in killed} == killed
    new = {name.split("/")[0] for name in after.keys() - before.keys()}
    assert new == {"distil"}, "neither the teacher nor its store was made again"
    assert len(after) == len(before) + MORE

"""What is left of a run that is killed, and what the next one makes of it: the bits of a run that never was cut.

Checkpoints within a training are proved by the tests of the loop; these runs are too short for one.
"""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from project import CommandResult, Project, result_of, start, write_project
from tiny import write_tiny_task
from waiting import attempt_contains, log_contains, wait_for

STUDENT = "distil/vanilla-kd/two/0@tiny"
LONG = {"epochs": 15, "learning_rate": 5.0e-3}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def long_project(folder: Path, assets: Path) -> Project:
    """Data and a model whose trainings take seconds, so that they can be stopped half-way."""
    train = {**LONG, "max_length": 16}
    teacher = {"model": str(assets / "model"), "finetune": LONG}
    return write_project(folder, assets, method="vanilla-kd", teacher=teacher, train=train)


@pytest.fixture(scope="module")
def long_assets(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("long")
    shutil.copytree(assets / "model", folder / "model")
    return write_tiny_task(folder / "data", {"train": 600, "validation": 32}).parent


@pytest.fixture(scope="module")
def undisturbed(long_assets: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The same recipe in another storage, run without an interruption."""
    project = long_project(tmp_path_factory.mktemp("undisturbed"), long_assets)
    result = project("run", "--inline")
    assert result.code == 0, result.err
    return project


def weights(project: Project, name: str) -> bytes:
    return (project.artifact(name) / "model" / "model.safetensors").read_bytes()


def committed(project: Project) -> dict[str, int]:
    """Node -> when its record was written, in nanoseconds."""
    paths = project.storage.glob("[a-z]*/*/record.json")
    return {json.loads(path.read_text("utf-8"))["name"]: path.stat().st_mtime_ns for path in paths}


def run_process(project: Project, *options: str) -> "subprocess.Popen[str]":
    return start("run", str(project.recipe), "--storage", str(project.storage), *options)


# --- inline ---------------------------------------------------------------------------------------


def kill_while(project: Project, node: str, moment: Callable[[], bool]) -> dict[str, int]:
    """Kill a run at that moment, in the middle of that node; return what it had committed.

    A node of milliseconds may be through before it is hit: then it is taken away, and hit again.
    """
    for _ in range(5):
        process = run_process(project, "--inline")
        wait_for(moment, process)
        process.kill()
        process.communicate()
        found = committed(project)
        if node not in found:
            return found
        shutil.rmtree(project.artifact(node).parent)
    raise AssertionError(f"{node} was never hit")


def test_a_run_that_was_killed_in_every_stage_gives_the_same_bits(
    long_assets: Path, undisturbed: Project, tmp_path: Path
) -> None:
    project = long_project(tmp_path, long_assets)
    teach = str(project.plan()["teach@tiny"]["key"])
    waiting = {
        "corpus@tiny": attempt_contains(project, "scratch"),
        "finetune@tiny": log_contains(project, "finetune@tiny", "epoch 3/15"),
        "teach@tiny": (project.storage / ".work" / teach).exists,
        STUDENT: log_contains(project, STUDENT, "epoch 3/15"),
    }
    found: dict[str, int] = {}
    for node, moment in waiting.items():
        before, found = found, kill_while(project, node, moment)
        assert before.items() <= found.items(), "nothing that was committed is built again"
    assert list(found) != []
    result = project("run", "--inline")
    assert result.code == 0, result.err
    assert found.items() <= committed(project).items()
    assert weights(project, STUDENT) == weights(undisturbed, STUDENT)
    assert weights(project, "finetune@tiny") == weights(undisturbed, "finetune@tiny")
    assert project.unfinished() == []


# --- over Ray -------------------------------------------------------------------------------------


def training_workers(pid: int) -> list[int]:
    """The processes below this one in which Ray trains."""
    parents, workers = {}, []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                state, parent = (folder / "stat").read_text().rsplit(")", 1)[1].split()[:2]
                title = (folder / "cmdline").read_bytes()
            except (FileNotFoundError, ProcessLookupError):
                continue
            parents[int(folder.name)] = int(parent)
            if title.startswith(b"ray::StageProcess.train") and state not in "ZX":
                workers.append(int(folder.name))

    def below(one: int) -> bool:
        return one == pid or (one in parents and below(parents[one]))

    return [worker for worker in workers if below(worker)]


@dataclass(frozen=True)
class Accidents:
    """A run over Ray that met with Ctrl-C, then with a killed worker, then with a killed driver."""

    project: Project
    interrupted: CommandResult
    after_interrupt: dict[str, int]
    lease: dict[str, object]
    after_worker: str
    found: dict[str, int]


@pytest.fixture(scope="module")
def accidents(long_assets: Path, tmp_path_factory: pytest.TempPathFactory) -> Accidents:
    project = long_project(tmp_path_factory.mktemp("accidents"), long_assets)
    training, studying = (log_contains(project, name, "epoch 3/15") for name in ("finetune@tiny", STUDENT))

    first = run_process(project)
    wait_for(training, first)
    first.send_signal(signal.SIGINT)
    interrupted, after_interrupt = result_of(first), committed(project)
    work = project.storage / ".work" / str(project.plan()["finetune@tiny"]["key"])
    lease = json.loads((work / "0001" / ".lease.json").read_text("utf-8"))
    shutil.rmtree(project.storage / ".logs")

    second = run_process(project)
    wait_for(training, second)
    (worker,) = training_workers(second.pid)
    os.kill(worker, signal.SIGKILL)
    wait_for(studying, second)
    log = next((project.storage / ".logs").glob("*/finetune@tiny.log")).read_text("utf-8")
    second.kill()
    second.communicate()
    return Accidents(project, interrupted, after_interrupt, lease, log, committed(project))


def test_ctrl_c_over_ray_ends_with_130_and_one_line(accidents: Accidents) -> None:
    assert accidents.interrupted.code == 130
    assert accidents.interrupted.err == "stillhouse: stopped; the next run resumes from here\n"
    assert accidents.lease["released"] is True
    assert set(accidents.after_interrupt) == {"corpus@tiny"}


def test_a_killed_training_worker_is_replaced_and_the_run_goes_on(accidents: Accidents) -> None:
    assert accidents.after_worker.count("epoch 3/15") == 2, "the training began anew: it was too short for a checkpoint"
    assert accidents.after_worker.count("epoch 15/15") == 1
    assert "finetune@tiny" in accidents.found


def test_after_all_these_interruptions_the_next_run_gives_the_same_bits(
    accidents: Accidents, undisturbed: Project
) -> None:
    assert accidents.after_interrupt.items() <= accidents.found.items()
    assert STUDENT not in accidents.found
    result = accidents.project("run", "--inline")
    assert result.code == 0, result.err
    assert accidents.found.items() <= committed(accidents.project).items()
    for name in ("finetune@tiny", STUDENT):
        assert weights(accidents.project, name) == weights(undisturbed, name)
    assert accidents.project.unfinished() == []

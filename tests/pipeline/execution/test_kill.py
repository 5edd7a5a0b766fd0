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
from house import House, Said, said_by, settle, start
from moments import log_says, wait_for, work_holds
from tiny import write_tiny_task

STUDENT = "distil/vanilla-kd/two/0@tiny"
LONG = {"epochs": 15, "learning_rate": 5.0e-3}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def long_house(folder: Path, ground: Path) -> House:
    """Trainings of seconds, so that they can be stopped half-way."""
    train = {**LONG, "max_length": 16}
    teacher = {"model": str(ground / "model"), "finetune": LONG}
    return settle(folder, ground, method="vanilla-kd", teacher=teacher, train=train)


@pytest.fixture(scope="module")
def long_ground(ground: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("long")
    shutil.copytree(ground / "model", folder / "model")
    return write_tiny_task(folder / "data", {"train": 600, "validation": 32}).parent


@pytest.fixture(scope="module")
def undisturbed(long_ground: Path, tmp_path_factory: pytest.TempPathFactory) -> House:
    """The same recipe in another storage, run without an accident."""
    house = long_house(tmp_path_factory.mktemp("undisturbed"), long_ground)
    said = house("run", "--inline")
    assert said.code == 0, said.err
    return house


def weights(house: House, name: str) -> bytes:
    return (house.artifact(name) / "model" / "model.safetensors").read_bytes()


def committed(house: House) -> dict[str, int]:
    """Node -> when its record was written, in nanoseconds."""
    paths = house.storage.glob("[a-z]*/*/record.json")
    return {json.loads(path.read_text("utf-8"))["name"]: path.stat().st_mtime_ns for path in paths}


def run_process(house: House, *options: str) -> "subprocess.Popen[str]":
    return start("run", str(house.recipe), "--storage", str(house.storage), *options)


# --- inline ---------------------------------------------------------------------------------------


def kill_while(house: House, node: str, moment: Callable[[], bool]) -> dict[str, int]:
    """Kill a run at that moment, in the middle of that node; return what it had committed.

    A node of milliseconds may be through before it is hit: then it is taken away, and hit again.
    """
    for _ in range(5):
        process = run_process(house, "--inline")
        wait_for(moment, process)
        process.kill()
        process.communicate()
        found = committed(house)
        if node not in found:
            return found
        shutil.rmtree(house.artifact(node).parent)
    raise AssertionError(f"{node} was never hit")


def test_a_run_killed_in_every_stage_ends_with_the_bits_of_one_that_was_not(
    long_ground: Path, undisturbed: House, tmp_path: Path
) -> None:
    house = long_house(tmp_path, long_ground)
    teach = str(house.plan()["teach@tiny"]["key"])
    moments = {
        "corpus@tiny": work_holds(house, "scratch"),
        "finetune@tiny": log_says(house, "finetune@tiny", "epoch 3/15"),
        "teach@tiny": (house.storage / ".work" / teach).exists,
        STUDENT: log_says(house, STUDENT, "epoch 3/15"),
    }
    found: dict[str, int] = {}
    for node, moment in moments.items():
        before, found = found, kill_while(house, node, moment)
        assert before.items() <= found.items(), "nothing that was committed is built again"
    assert list(found) != []
    said = house("run", "--inline")
    assert said.code == 0, said.err
    assert found.items() <= committed(house).items()
    assert weights(house, STUDENT) == weights(undisturbed, STUDENT)
    assert weights(house, "finetune@tiny") == weights(undisturbed, "finetune@tiny")
    assert house.left() == []


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
            if title.startswith(b"ray::RayTrainWorker") and state not in "ZX":
                workers.append(int(folder.name))

    def below(one: int) -> bool:
        return one == pid or (one in parents and below(parents[one]))

    return [worker for worker in workers if below(worker)]


@dataclass(frozen=True)
class Accidents:
    """A run over Ray that met with Ctrl-C, then with a killed worker, then with a killed driver."""

    house: House
    interrupted: Said
    after_interrupt: dict[str, int]
    lease: dict[str, object]
    after_worker: str
    found: dict[str, int]


@pytest.fixture(scope="module")
def accidents(long_ground: Path, tmp_path_factory: pytest.TempPathFactory) -> Accidents:
    house = long_house(tmp_path_factory.mktemp("accidents"), long_ground)
    training, studying = (log_says(house, name, "epoch 3/15") for name in ("finetune@tiny", STUDENT))

    first = run_process(house)
    wait_for(training, first)
    first.send_signal(signal.SIGINT)
    interrupted, after_interrupt = said_by(first), committed(house)
    work = house.storage / ".work" / str(house.plan()["finetune@tiny"]["key"])
    lease = json.loads((work / "0001" / ".lease.json").read_text("utf-8"))
    shutil.rmtree(house.storage / ".logs")

    second = run_process(house)
    wait_for(training, second)
    (worker,) = training_workers(second.pid)
    os.kill(worker, signal.SIGKILL)
    wait_for(studying, second)
    log = next((house.storage / ".logs").glob("*/finetune@tiny.log")).read_text("utf-8")
    second.kill()
    second.communicate()
    return Accidents(house, interrupted, after_interrupt, lease, log, committed(house))


def test_ctrl_c_over_ray_ends_with_130_and_one_line(accidents: Accidents) -> None:
    assert accidents.interrupted.code == 130
    assert accidents.interrupted.err == "stillhouse: stopped; the next run goes on from here\n"
    assert accidents.lease["released"] is True
    assert set(accidents.after_interrupt) == {"corpus@tiny"}


def test_a_killed_training_worker_is_replaced_and_the_run_goes_on(accidents: Accidents) -> None:
    assert accidents.after_worker.count("epoch 3/15") == 2, "the training began anew: it was too short for a checkpoint"
    assert accidents.after_worker.count("epoch 15/15") == 1
    assert "finetune@tiny" in accidents.found


def test_after_all_accidents_the_next_run_ends_with_the_bits_of_one_that_had_none(
    accidents: Accidents, undisturbed: House
) -> None:
    assert accidents.after_interrupt.items() <= accidents.found.items()
    assert STUDENT not in accidents.found
    said = accidents.house("run", "--inline")
    assert said.code == 0, said.err
    assert accidents.found.items() <= committed(accidents.house).items()
    for name in ("finetune@tiny", STUDENT):
        assert weights(accidents.house, name) == weights(undisturbed, name)
    assert accidents.house.left() == []

"""Several Ray nodes: work is spread over them, packed, and done again elsewhere when one is gone."""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rays import Rays, wait_until

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
DRIVERS = HERE / "nodes_work.py"
PATIENT = {"RAY_health_check_failure_threshold": "12"}
"""A busy machine is no dead node."""


@pytest.fixture(scope="module")
def rays() -> Iterator[Rays]:
    """A head of one CPU, and two nodes with 4 CPUs, one GPU in name, and a disk each."""
    with Rays(cpus=1, environment=PATIENT) as started:
        started.add(2, cpus=4, gpus=1, resources={"disk": 1})
        yield started


def environment(rays: Rays) -> dict[str, str]:
    found = rays.environment()
    return {**found, "PYTHONPATH": os.pathsep.join([str(HERE), found["PYTHONPATH"]])}


def started(rays: Rays, name: str, folder: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, str(DRIVERS), name, rays.address, str(folder)],
        env=environment(rays),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def ended(process: "subprocess.Popen[str]") -> dict[str, Any]:
    try:
        out, err = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 0, err
    found: dict[str, Any] = json.loads(out.splitlines()[-1])
    return found


def test_work_is_spread_over_the_nodes_and_packed_there(rays: Rays, tmp_path: Path) -> None:
    found = ended(started(rays, "spread", tmp_path))
    assert sorted(found["nodes"]) == [[1, 0], [4, 1], [4, 1]], "capacity is that of all nodes"
    assert not found["grows"], "nobody says how far nodes joined by hand may grow"
    assert found["mapped"] >= 2
    assert sorted(Counter(half["node"] for half in found["halves"]).values()) == [2, 2]
    assert {tuple(half["gpus"]) for half in found["halves"]} == {("0",)}, "two share the one GPU of their node"
    assert found["disk"] in {half["node"] for half in found["halves"]}
    assert len({one["node"] for one in found["trained"]}) == 2, "a training with workers on two nodes"
    assert {one["sum"] for one in found["trained"]} == {21.0}
    assert {one["sum"] for one in found["shared"]} == {1.0}


def test_stages_that_want_most_of_the_cluster_at_once_do_not_wait_for_each_other_for_ever(
    rays: Rays, tmp_path: Path
) -> None:
    found = ended(started(rays, "side_by_side", tmp_path))
    assert found == {"one": 3.0, "two": 5.0, "three": sum(n * n for n in range(12))}


def test_actors_that_the_driver_cannot_do_without_are_on_its_own_node(rays: Rays, tmp_path: Path) -> None:
    assert ended(started(rays, "actors_elsewhere", tmp_path)) == {"elsewhere": 0}


def test_what_the_nodes_do_not_hold_is_waited_for_and_then_refused_with_the_numbers(rays: Rays, tmp_path: Path) -> None:
    found = ended(started(rays, "too_much", tmp_path))
    assert found["notes"][0].startswith("waiting 3 s (limits.pending) for 2 workers of 1 CPU, 2 GPUs each: ")
    assert "2 workers of 1 CPU, 2 GPUs each did not come within " in found["said"]
    # Nodes that started one after the other may differ in free memory, and are then listed one by one.
    alike = re.findall(r"(\d+) nodes? of 4 CPUs, 1 GPU", found["said"])
    assert sum(map(int, alike)) == 2, found["said"]
    assert found["after"] == [0, 1, 4], "the session serves on"


def test_what_a_killed_node_was_at_is_done_again_on_another(rays: Rays, tmp_path: Path) -> None:
    """The training's two workers need a node each, and hold all CPUs but three: the map has a worker on each node."""
    doomed = rays.nodes[-1]
    process = started(rays, "accident", tmp_path)

    def items() -> list[str]:
        return [path.name.split("-")[1] for path in tmp_path.glob("item-*")]

    wait_until("three items are under way", lambda: len(items()) == 3 or process.poll() is not None, within=240)
    wait_until("the training is at its tenth step", lambda: checkpoint(tmp_path) == 10, within=60)
    rays.kill(doomed)
    (tmp_path / "killed").touch()
    rays.add(1, cpus=4, gpus=1, resources={"disk": 1})
    found = ended(process)
    assert found["mapped"] == [n * n for n in range(12)]
    again = [item for item, count in Counter(items()).items() if count > 1]
    assert len(again) == 1, "the item that the node was at, and no other"
    total, lives = found["trained"]
    assert total == sum(3.0 * step for step in range(30))
    assert lives == 2, "it went on from its checkpoint"


def checkpoint(folder: Path) -> int:
    """The step at which the training's checkpoint stands."""
    step: int = json.loads((folder / "checkpoint").read_text("utf-8"))[0]
    return step

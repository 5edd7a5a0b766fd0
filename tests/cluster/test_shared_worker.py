"""Several trainings in the threads of one worker process, on a Ray that declares a GPU which is not there."""

import json
from typing import Any

import pytest
from drivers import driver

Found = dict[str, Any]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """What the driver ``sharing`` prints: for two groups of trainings, how they ran."""
    process = driver("sharing", str(tmp_path_factory.mktemp("sharing")), RAY_OVERRIDE_RESOURCES='{"CPU": 4, "GPU": 1}')
    try:
        out, err = process.communicate(timeout=240)
    finally:
        process.kill()
    assert process.returncode == 0, err
    result: Found = json.loads(out.splitlines()[-1])
    return result


def test_as_many_trainings_as_a_worker_has_slots_run_at_once_in_threads_of_one_process(found: Found) -> None:
    held = found["held"]
    assert held["while_full"] == [0, 1, 2], "the fourth waits"
    processes, threads = zip(*(held["ended"][number] for number in (0, 2, 3)), strict=True)
    assert len(set(processes)) == 1
    assert len(set(threads)) == 3


def test_a_training_that_fails_leaves_the_others_of_its_process_and_its_slot_serves_the_next(found: Found) -> None:
    held = found["held"]
    assert held["failed"] == "row 1 is broken"
    assert held["done"] == [False, True, False, False], "the fourth has begun, and two run on"
    assert held["ended"][3][0] == held["ended"][0][0], "the fourth took the free slot"


def test_each_training_of_a_process_has_its_own_progress_and_notes(found: Found) -> None:
    held = found["held"]
    assert held["progress"] == [0, 1, 2, 3]
    assert held["notes"] == [[f"training {number}"] for number in range(4)]


def test_trainings_with_other_resources_share_no_process(found: Found) -> None:
    assert found["held"]["other"] not in {ended[0] for ended in found["held"]["ended"] if not isinstance(ended, str)}


def test_all_trainings_of_a_process_that_dies_go_on_from_their_checkpoints(found: Found) -> None:
    killed = found["killed"]
    lives, began, processes = zip(*killed["ended"], strict=True)
    assert lives == (2, 2, 2)
    assert began == (3, 3, 3)
    assert len(set(processes)) == 1
    assert processes[0] != found["held"]["ended"][0][0]
    assert killed["progress"] == [[3, 3]] * 3, "the progress of the process that died is subtracted"

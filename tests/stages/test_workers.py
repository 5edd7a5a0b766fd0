"""What a worker group ends with, where one of its workers is killed on the way: what one worker alone ends with."""

import os
import signal
from datetime import timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch
from lessons import (
    CLASSES,
    FORKSERVER,
    MINIMAX,
    VANILLA,
    Alone,
    curve,
    equal,
    farthest,
    setup_of,
    signal_for,
    small_bert,
    spec_of,
)

from stages.specs.method import Method
from stages.training.checkpoint import Progress
from stages.training.loop import fit

EPOCHS = 2
TOLERANCE = 1e-5
"""Of a weight, after a dozen steps at a rate of 3e-3."""


def trained(method: Method, checkpoint: Path, place: Alone) -> tuple[torch.nn.Module, Progress]:
    """26 rows in batches of 5, with a checkpoint each step."""
    model = small_bert(CLASSES)
    setup = setup_of(spec_of(method, batch_size=5, epochs=EPOCHS), CLASSES, checkpoint, signal_for(method, CLASSES))
    return model, fit(model, setup, place)


def work(rank: int, folder: str, life: str, method: Method, deadly: int) -> None:
    """One of two workers. The second kills its process at step ``deadly``."""
    torch.set_num_threads(1)
    meeting = f"file://{folder}/meeting-{life}"
    torch.distributed.init_process_group("gloo", meeting, timedelta(seconds=200), rank=rank, world_size=2)

    def check(step: int) -> None:
        if rank == 1 and step == deadly:
            os.kill(os.getpid(), signal.SIGKILL)

    place = Alone(check, rank=rank, world_size=2)
    model, progress = trained(method, Path(folder) / "checkpoint.pt", place)
    torch.save((model.state_dict(), curve(progress), place.notes), f"{folder}/{life}-{rank}.pt")
    torch.distributed.destroy_process_group()


def worker(rank: int, folder: Path, life: str, method: Method, deadly: int = 0) -> BaseProcess:
    started = FORKSERVER.Process(target=work, args=(rank, str(folder), life, method, deadly))
    started.start()
    return started


@pytest.mark.parametrize("method", [VANILLA, MINIMAX], ids=["vanilla", "minimax"])
def test_two_workers_of_which_one_is_killed_and_that_go_on_end_where_one_ends(method: Method, tmp_path: Path) -> None:
    first, second = (worker(rank, tmp_path, "first", method, deadly=9) for rank in (0, 1))
    second.join()
    assert second.exitcode == -signal.SIGKILL
    first.kill()  # as Ray Train does with what is left of a group
    first.join()
    again = worker(1, tmp_path, "second", method)
    work(0, str(tmp_path), "second", method, 0)
    again.join()
    assert again.exitcode == 0
    (weights, told, notes), (others, _, _) = (torch.load(tmp_path / f"second-{rank}.pt") for rank in (0, 1))
    assert notes[0].startswith("goes on from epoch 2, step ")
    assert equal(weights, others), "the workers end with the same weights"
    model, progress = trained(method, tmp_path / "alone.pt", Alone())
    assert farthest(weights, model.state_dict()) < TOLERANCE
    for together, single in zip(told, curve(progress), strict=True):
        assert together[:2] == single[:2]
        assert together[2:] == pytest.approx(single[2:], rel=1e-5)

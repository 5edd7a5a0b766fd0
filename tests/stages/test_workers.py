"""A worker group of which one worker is killed ends, after it is resumed, with the weights of a single worker."""

import os
import signal
from datetime import timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch
from training_setups import (
    CLASSES,
    FORKSERVER,
    MINIMAX,
    VANILLA,
    LocalWorker,
    epoch_results,
    equal_weights,
    max_difference,
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
"""The greatest difference of a weight, after a dozen steps at a learning rate of 3e-3."""


def trained(method: Method, checkpoint: Path, place: LocalWorker) -> tuple[torch.nn.Module, Progress]:
    """Train on 26 rows in batches of 5, with a checkpoint after each step."""
    model = small_bert(CLASSES)
    setup = setup_of(spec_of(method, batch_size=5, epochs=EPOCHS), CLASSES, checkpoint, signal_for(method, CLASSES))
    return model, fit(model, setup, place)


def work(rank: int, folder: str, run: str, method: Method, kill_at: int) -> None:
    """Run one of two workers. The second kills its own process at step ``kill_at``."""
    torch.set_num_threads(1)
    meeting = f"file://{folder}/meeting-{run}"
    torch.distributed.init_process_group("gloo", meeting, timedelta(seconds=200), rank=rank, world_size=2)

    def check(step: int) -> None:
        if rank == 1 and step == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    place = LocalWorker(check, rank=rank, world_size=2)
    model, progress = trained(method, Path(folder) / "checkpoint.pt", place)
    torch.save((model.state_dict(), epoch_results(progress), place.notes), f"{folder}/{run}-{rank}.pt")
    torch.distributed.destroy_process_group()


def start_worker(rank: int, folder: Path, run: str, method: Method, kill_at: int = 0) -> BaseProcess:
    started = FORKSERVER.Process(target=work, args=(rank, str(folder), run, method, kill_at))
    started.start()
    return started


@pytest.mark.parametrize("method", [VANILLA, MINIMAX], ids=["vanilla", "minimax"])
def test_two_workers_resumed_after_one_was_killed_end_with_the_weights_of_a_single_worker(
    method: Method, tmp_path: Path
) -> None:
    first, second = (start_worker(rank, tmp_path, "first", method, kill_at=9) for rank in (0, 1))
    second.join()
    assert second.exitcode == -signal.SIGKILL
    first.kill()  # as Ray Train does with the remaining workers of a group
    first.join()
    again = start_worker(1, tmp_path, "second", method)
    work(0, str(tmp_path), "second", method, 0)
    again.join()
    assert again.exitcode == 0
    (weights, results, notes), (others, _, _) = (torch.load(tmp_path / f"second-{rank}.pt") for rank in (0, 1))
    assert notes[0].startswith("goes on from epoch 2, step ")
    assert equal_weights(weights, others), "the workers end with the same weights"
    model, progress = trained(method, tmp_path / "alone.pt", LocalWorker())
    assert max_difference(weights, model.state_dict()) < TOLERANCE
    for together, single in zip(results, epoch_results(progress), strict=True):
        assert together[:2] == single[:2]
        assert together[2:] == pytest.approx(single[2:], rel=1e-5)

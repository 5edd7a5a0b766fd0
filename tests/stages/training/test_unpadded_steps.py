"""Trainings whose layers compute no padding, beside the same trainings on padded batches."""

from pathlib import Path

import pytest
from torch import nn
from training_setups import (
    CLASSES,
    DRAWN,
    GENERATED,
    HARD,
    MINIMAX,
    VANILLA,
    Interrupted,
    LocalWorker,
    Weights,
    assert_two_workers_train_as_one_does,
    equal_weights,
    max_difference,
    setup_of,
    signal_for,
    small_bert,
    spec_of,
)

from stages.specs.axes.data import FreeLB
from stages.specs.axes.optimizers import Sgd
from stages.specs.method import Method
from stages.training.checkpoint import Progress
from stages.training.loop import fit
from stages.training.setup import TrainingSetup
from stages.training.steps.graphs import graphs_problem

METHODS = {
    "labels": HARD,
    "teacher": VANILLA,
    "drawn": DRAWN,
    "minimax": MINIMAX,
    "generated": GENERATED,
    "freelb": VANILLA.model_copy(update={"data": FreeLB()}),
}


def setup(method: Method, checkpoint: Path, **train: object) -> TrainingSetup:
    spec = spec_of(method, **{"unpadded": True, **train})
    return setup_of(spec, CLASSES, checkpoint, signal_for(method, CLASSES))


def trained(method: Method, checkpoint: Path, dropout: float = 0.0, **train: object) -> Weights:
    model = small_bert(CLASSES, dropout=dropout)
    fit(model, setup(method, checkpoint, **train), LocalWorker())
    return model.state_dict()


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_without_dropout_the_weights_are_those_of_the_padded_training_but_for_rounding(
    method: Method, tmp_path: Path
) -> None:
    """By SGD, as AdamW's first steps have one size however small a gradient is."""
    sgd = {"optimizer": Sgd(), "learning_rate": 0.05}
    padded = trained(method, tmp_path / "padded.pt", unpadded=False, **sgd)
    unpadded = trained(method, tmp_path / "unpadded.pt", **sgd)
    assert max_difference(padded, unpadded) < 2e-5
    assert max_difference(padded, small_bert(CLASSES).state_dict()) > 0.01, "the training moved the weights"


def test_dropout_draws_other_masks_than_in_the_padded_training(tmp_path: Path) -> None:
    padded = trained(HARD, tmp_path / "padded.pt", dropout=0.1, unpadded=False)
    assert max_difference(padded, trained(HARD, tmp_path / "unpadded.pt", dropout=0.1)) > 1e-3


@pytest.mark.parametrize("method", [VANILLA, MINIMAX], ids=["teacher", "minimax"])
def test_an_interrupted_training_ends_with_the_same_bits(method: Method, tmp_path: Path) -> None:
    def cut(reached: int) -> None:
        if reached == 10:
            raise Interrupted

    with pytest.raises(Interrupted):
        fit(small_bert(CLASSES, dropout=0.1), setup(method, tmp_path / "cut.pt"), LocalWorker(cut))
    resumed = small_bert(CLASSES, seed=5, dropout=0.1)
    fit(resumed, setup(method, tmp_path / "cut.pt"), LocalWorker())
    assert equal_weights(resumed.state_dict(), trained(method, tmp_path / "whole.pt", dropout=0.1))


def by_worker(checkpoint: Path, worker: LocalWorker) -> tuple[nn.Module, Progress]:
    model = small_bert(CLASSES)
    return model, fit(model, setup(VANILLA, checkpoint), worker)


def test_two_workers_train_as_one_does(tmp_path: Path) -> None:
    assert_two_workers_train_as_one_does(by_worker, tmp_path)


def test_such_steps_are_not_captured_on_a_gpu(tmp_path: Path) -> None:
    gpu = LocalWorker(device="cuda:0")
    assert "unpadded" in (graphs_problem("bert", setup(HARD, tmp_path / "cut.pt"), gpu) or "")
    assert graphs_problem("bert", setup(HARD, tmp_path / "cut.pt", unpadded=False), gpu) is None

"""The training of a masked language model: its loss against NumPy, interrupted and resumed, and by two workers."""

import math
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
from masked_trainings import TOKENS, masked_setup, results, small_masked_model
from training_setups import FORKSERVER, Interrupted, LocalWorker, equal_weights, max_difference

from stages.corpus.batches import epoch_batches
from stages.pretraining.loop import PretrainingSetup, fit_masked_model
from stages.pretraining.masking import masked_batch
from stages.pretraining.progress import PretrainingProgress
from stages.specs.pretraining import MaskedDistillation, Masking, PretrainSpec
from stages.specs.seeds import seed_of

TOLERANCE = 5e-5
"""The greatest difference of a weight between one worker and two, after 12 steps at up to 3e-3: AdamW scales
rounding errors of gradients that are nearly 0 up to parts of a step."""


def cut_at(number: int) -> Callable[[int], None]:
    def check(reached: int) -> None:
        if reached == number:
            raise Interrupted

    return check


# --- the loss ---------------------------------------------------------------------------------------


def log_probabilities(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def test_the_held_out_loss_and_accuracy_are_those_of_the_whole_model_in_numpy(tmp_path: Path) -> None:
    model, setup = small_masked_model(), masked_setup(tmp_path / "c.pt", steps=1)
    before = fit_masked_model(small_masked_model(), setup, LocalWorker()).before
    order = np.argsort(-setup.held_out.costs, kind="stable")
    batch = masked_batch(setup.held_out, order, Masking(), TOKENS, seed_of(0, 0, 64, 8192, 1))
    with torch.no_grad():
        logits = model.eval()(**batch.inputs).logits.double().numpy()
    logits = logits.reshape(-1, logits.shape[-1])[batch.places.numpy()]
    targets = batch.targets.numpy()
    losses = -log_probabilities(logits)[np.arange(len(targets)), targets]
    assert before is not None and before.loss == pytest.approx(losses.mean(), rel=1e-6)
    assert before.accuracy == pytest.approx(100 * np.mean(logits.argmax(1) == targets))


def test_the_first_loss_is_the_mean_over_the_predicted_tokens_of_the_batch(tmp_path: Path) -> None:
    setup = masked_setup(tmp_path / "c.pt", steps=1, batch_size=26, masking=Masking(share=0.4))
    progress = fit_masked_model(small_masked_model(dropout=0.0), setup, LocalWorker())
    (loss,) = (epoch.loss for epoch in progress.history)
    (rows,) = epoch_batches(setup.texts.costs, 26, seed_of(0, 0))
    batch = masked_batch(setup.texts, rows, setup.spec.masking, TOKENS, seed_of(0, 0, 0))
    with torch.no_grad():
        logits = small_masked_model(dropout=0.0).eval()(**batch.inputs).logits.double().numpy()
    logits = logits.reshape(-1, logits.shape[-1])[batch.places.numpy()]
    expected = -log_probabilities(logits)[np.arange(batch.predicted), batch.targets.numpy()].mean()
    assert loss == pytest.approx(expected, rel=1e-6)


def test_training_ends_after_the_given_steps_and_the_schedule_with_it(tmp_path: Path) -> None:
    rates: list[tuple[int, float]] = []
    setup = masked_setup(tmp_path / "c.pt", steps=9, warmup=0.0)
    object.__setattr__(setup, "note_epoch", lambda epoch, rate: rates.append((epoch.steps, rate)))
    worker = LocalWorker()
    progress = fit_masked_model(small_masked_model(), setup, worker)
    assert [(epoch.epoch, epoch.steps) for epoch in progress.history] == [(1, 7), (2, 9)]
    assert [steps for steps, _ in rates] == [7, 9] and rates[-1][1] == pytest.approx(3e-3 / 9)
    assert sum(worker.advanced) == setup.spec.texts_read(26) == 26 + 8


def test_a_training_in_bfloat16_has_nearly_the_losses_of_one_in_float32(tmp_path: Path) -> None:
    found = [
        fit_masked_model(small_masked_model(), masked_setup(tmp_path / precision, precision=precision), LocalWorker())
        for precision in ("float32", "bfloat16")
    ]
    whole, half = ([epoch.held_out.loss for epoch in progress.history] for progress in found)
    assert half == pytest.approx(whole, rel=0.02) and half != whole


def test_a_loss_that_is_not_finite_ends_the_training_with_the_setting_to_change(tmp_path: Path) -> None:
    model = small_masked_model()
    with torch.no_grad():
        model.cls.predictions.bias[7] = math.inf
    with pytest.raises(ValueError, match=r"diverges in epoch 1 .*choose a lower learning_rate than 0\.003"):
        fit_masked_model(model, masked_setup(tmp_path / "c.pt"), LocalWorker())


# --- interrupted and resumed ------------------------------------------------------------------------


def test_a_training_that_was_interrupted_twice_ends_with_the_same_bits(tmp_path: Path) -> None:
    whole = small_masked_model()
    uncut = fit_masked_model(whole, masked_setup(tmp_path / "uncut.pt", 1e9), LocalWorker())
    for number in (4, 8):
        with pytest.raises(Interrupted):
            worker = LocalWorker(cut_at(number))
            fit_masked_model(small_masked_model(), masked_setup(tmp_path / "cut.pt"), worker)
    resumed, last = small_masked_model(seed=5), LocalWorker()
    progress = fit_masked_model(resumed, masked_setup(tmp_path / "cut.pt"), last)
    assert last.notes[0] == "goes on from epoch 2, step 3" and last.restored == 26 + 12
    assert equal_weights(resumed.state_dict(), whole.state_dict())
    assert results(progress) == results(uncut) and progress.before == uncut.before


def test_a_checkpoint_of_another_kind_is_not_read_and_the_training_says_so(tmp_path: Path) -> None:
    torch.save({"format": 99}, tmp_path / "c.pt")
    worker = LocalWorker()
    fit_masked_model(small_masked_model(), masked_setup(tmp_path / "c.pt", steps=1), worker)
    assert worker.notes[0] == "starts over: c.pt is a checkpoint of format 99, this version has 1"


# --- two workers ------------------------------------------------------------------------------------


def work(rank: int, folder: str) -> None:
    """Train as one of two workers, with an odd number of rows in the last batch of each epoch."""
    torch.set_num_threads(1)
    meeting = f"file://{folder}/meeting"
    torch.distributed.init_process_group("gloo", meeting, timedelta(seconds=200), rank=rank, world_size=2)
    for name in KINDS:
        model, setup = small_masked_model(dropout=0.0), two_epochs(name, Path(folder) / f"{name}-{rank}.pt")
        progress = fit_masked_model(model, setup, LocalWorker(rank=rank, world_size=2))
        torch.save((model.state_dict(), figures(progress)), f"{folder}/{name}-ended-{rank}.pt")
    torch.distributed.destroy_process_group()


KINDS = ("alone", "taught")


def two_epochs(kind: str, checkpoint: Path) -> PretrainingSetup:
    """A training without a teacher, or with one."""
    if kind == "alone":
        return masked_setup(checkpoint, epochs=2, batch_size=5)
    teacher = small_masked_model(seed=7)
    return masked_setup(checkpoint, teacher=teacher, distillation=MaskedDistillation(), epochs=2, batch_size=5)


def figures(progress: PretrainingProgress) -> list[tuple[float, ...]]:
    """The results of each epoch, and its distances from the teacher if there is one."""
    taught = ((epoch.teacher.soft, epoch.teacher.cosine) if epoch.teacher else () for epoch in progress.history)
    return [(*own, *distances) for own, distances in zip(results(progress), taught, strict=True)]


def test_two_workers_end_with_the_weights_of_one(tmp_path: Path) -> None:
    other = FORKSERVER.Process(target=work, args=(1, str(tmp_path)))
    other.start()
    work(0, str(tmp_path))
    other.join()
    assert other.exitcode == 0
    for kind in KINDS:
        (weights, history), (others, _) = (torch.load(tmp_path / f"{kind}-ended-{rank}.pt") for rank in (0, 1))
        assert equal_weights(weights, others)
        model = small_masked_model(dropout=0.0)
        single = fit_masked_model(model, two_epochs(kind, tmp_path / f"{kind}.pt"), LocalWorker())
        assert max_difference(weights, model.state_dict()) < TOLERANCE
        for one, own in zip(history, figures(single), strict=True):
            assert one == pytest.approx(own, rel=1e-5)


# --- the spec ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("texts", "spec", "trained", "steps", "read"),
    [
        (1000, PretrainSpec(), 950, 90, 2850),
        (1000, PretrainSpec(rows=100, holdout=0.1, batch_size=8, steps=15), 90, 15, 90 + 24),
        (100_000, PretrainSpec(epochs=1), 98_000, 3063, 98_000),
        (2, PretrainSpec(), 1, 3, 3),
    ],
)
def test_texts_steps_and_rows_follow_from_the_spec(
    texts: int, spec: PretrainSpec, trained: int, steps: int, read: int
) -> None:
    assert spec.texts_of(texts)[0] == trained
    assert (spec.steps_of(trained), spec.texts_read(trained)) == (steps, read)

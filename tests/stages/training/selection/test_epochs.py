"""Which epoch's weights a training keeps: by score, by likelihood, or the last."""

from pathlib import Path

import numpy as np
import pytest
from torch.nn import functional
from training_setups import (
    CLASSES,
    HARD,
    NUMBER,
    LocalWorker,
    Weights,
    equal_weights,
    logits_of,
    setup_of,
    small_bert,
    spec_of,
    stored_outputs,
)

from stages.specs.axes.targets import TeacherTargets
from stages.specs.axes.training import Annealing
from stages.specs.method import Method
from stages.specs.student import Train
from stages.training.checkpoint import Epoch, Progress
from stages.training.loop import fit
from stages.training.selection.epochs import is_selected, selection_loss, selection_scores, selection_warnings

TWO_PHASES = Method(targets=TeacherTargets(), training=Annealing(first_phase=0.67))


def trained(method: Method, checkpoint: Path, seed: int = 0, **train: object) -> tuple[Progress, list[Weights]]:
    """A training of six epochs at so high a rate that scores go up and down, and the weights after each epoch."""
    spec = spec_of(method, **{"epochs": 6, "learning_rate": 2e-2, **train})
    checkpoint.unlink(missing_ok=True)
    setup = setup_of(spec, CLASSES, checkpoint, stored_outputs(CLASSES) if method.needs_teacher else None)
    model = small_bert(CLASSES, seed)
    by_epoch: list[Weights] = []

    def record(_: int) -> None:
        by_epoch.append({name: value.clone() for name, value in model.state_dict().items()})

    return fit(model, setup, LocalWorker(before_note=record)), by_epoch


def test_the_selection_loss_is_the_cross_entropy_or_the_squared_error_of_torch() -> None:
    for task in (CLASSES, NUMBER):
        rows = setup_of(spec_of(HARD), task, Path("none.pt")).select
        logits = logits_of(small_bert(task), rows)
        if task.regression:
            expected = functional.mse_loss(logits[:, 0], rows.labels)
        else:
            expected = functional.cross_entropy(logits, rows.labels)
        assert selection_loss(task, logits.numpy(), rows.labels.numpy()) == pytest.approx(float(expected), rel=1e-5)


def test_the_selection_loss_of_logits_too_large_for_an_exponential_is_finite() -> None:
    logits = np.array([[1e4, 0.0, 0.0]], np.float32)
    assert selection_loss(CLASSES, logits, np.array([1])) == 1e4


def test_with_likelihood_the_epoch_of_the_lowest_loss_is_kept_and_the_training_itself_is_the_same(
    tmp_path: Path,
) -> None:
    for seed in range(8):
        by_metric, weights = trained(HARD, tmp_path / "metric.pt", seed)
        losses = [epoch.selection_loss for epoch in by_metric.history]
        if int(np.argmin(losses)) != by_metric.best:
            break
    by_likelihood, _ = trained(HARD, tmp_path / "likelihood.pt", seed, select_by="likelihood")
    assert [epoch.selection_loss for epoch in by_likelihood.history] == losses
    assert by_likelihood.best == int(np.argmin(losses)) != by_metric.best, "or this proves nothing"
    assert equal_weights(by_likelihood.best_weights, weights[by_likelihood.best])


def test_the_metric_of_the_spec_selects_and_the_headline_where_it_names_none(tmp_path: Path) -> None:
    task = CLASSES.model_copy(update={"metrics": ("accuracy", "macro_f1")})
    headline = fit(small_bert(task), setup_of(spec_of(HARD), task, tmp_path / "headline.pt"), LocalWorker())
    setup, worker = setup_of(spec_of(HARD, select_metric="macro_f1"), task, tmp_path / "other.pt"), LocalWorker()
    model = small_bert(task)
    by_macro_f1 = fit(model, setup, worker)
    logits = logits_of(model, setup.select).numpy()
    scored = selection_scores(task, "macro_f1", logits, setup.select)
    assert by_macro_f1.history[-1].score == scored.score == scored.metrics["macro_f1"]
    assert headline.history[-1].score == scored.metrics["accuracy"] != scored.score, "or this proves nothing"
    assert "  macro_f1 " in worker.notes[0]


def test_of_epochs_of_equal_loss_the_later_is_selected() -> None:
    first, second = (Epoch("train", number, 0.1, score, 0.5, 1.0) for number, score in ((1, 90.0), (2, 80.0)))
    assert is_selected(Train(select_by="likelihood"), second, first)
    assert not is_selected(Train(), second, first)
    assert is_selected(Train(select="last"), second, first)


def test_select_last_keeps_the_last_epoch_though_an_earlier_one_scored_higher(tmp_path: Path) -> None:
    for seed in range(8):
        progress, weights = trained(HARD, tmp_path / "last.pt", seed, select="last")
        if max(epoch.score for epoch in progress.history) > progress.history[-1].score:
            break
    assert max(epoch.score for epoch in progress.history) > progress.history[-1].score, "or this proves nothing"
    assert progress.best == 5 and equal_weights(progress.best_weights, weights[-1])


@pytest.mark.parametrize("rule", [{"select_by": "likelihood"}, {"select": "last"}], ids=["likelihood", "last"])
def test_the_second_phase_starts_from_the_epoch_of_the_first_that_the_rule_selects(
    rule: dict[str, object], tmp_path: Path
) -> None:
    """One step an epoch: AdamW's first step, at half the rate, moves no weight further than by that."""
    progress, weights = trained(TWO_PHASES, tmp_path / "two.pt", batch_size=26, warmup=0.9, **rule)
    first = [epoch for epoch in progress.history if epoch.phase == "anneal"]
    assert len(first) == 4
    selected = 3 if "select" in rule else int(np.argmin([epoch.selection_loss for epoch in first]))
    moved = [max(float((weights[4][name] - before[name]).abs().max()) for name in before) for before in weights[:4]]
    assert [distance < 1.05e-2 for distance in moved] == [epoch == selected for epoch in range(4)]


def test_a_likeliest_epoch_whose_score_is_far_below_another_is_warned_of() -> None:
    def epochs(*scored: tuple[float, float]) -> list[Epoch]:
        return [Epoch("train", number, 0.5, score, loss, 1.0) for number, (score, loss) in enumerate(scored)]

    sure, near = epochs((68.8, 0.56), (79.0, 0.62), (77.1, 0.83)), epochs((76.0, 0.56), (79.0, 0.62))
    likeliest = Train(select_by="likelihood")
    (warning,) = selection_warnings(likeliest, sure, 0)
    assert warning == (
        "epoch 1 was kept, the likeliest, whose score 68.8 is 10.2 below that of epoch 2; give a lower learning_rate "
        "or fewer epochs, or select_by: metric"
    )
    assert selection_warnings(likeliest, near, 0) == []
    assert selection_warnings(Train(), sure, 1) == []
    assert selection_warnings(likeliest, epochs((float("nan"), 0.5), (float("nan"), 0.4)), 1) == []

"""The training loop against one written by hand: losses, teachers, and the selection of the best epoch."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.optimizer import register_optimizer_step_pre_hook
from training_setups import (
    ANNEALING,
    CLASSES,
    HARD,
    NUMBER,
    SKEWED,
    SMOOTHED,
    VANILLA,
    InMemoryColumns,
    LocalWorker,
    Weights,
    equal_weights,
    logits_of,
    max_difference,
    random_rows,
    setup_of,
    signal_for,
    small_bert,
    spec_of,
    stored_outputs,
)

from stages.corpus.batches import epoch_batches
from stages.models.forward import forward
from stages.specs.axes.targets import Smoothed, TeacherTargets
from stages.specs.axes.training import Annealing
from stages.specs.method import Method
from stages.specs.schedule import OutputRequest
from stages.specs.seeds import seed_of
from stages.specs.tasks import Task
from stages.training.checkpoint import Progress
from stages.training.loop import TrainingSetup, fit
from stages.training.signal import LiveSignal, StoredSignal

# --- against a loop written by hand -----------------------------------------------------------------


def by_hand(model: nn.Module, setup: TrainingSetup, teacher: Tensor | None) -> list[float]:
    """The mean loss of each epoch in plain torch, by the papers' formulas, without the project's losses and
    schedule."""
    train, epochs = setup.spec.train, setup.spec.train.epochs
    halves = [(0, epochs)] if setup.spec.method.training.kind == "one-phase" else [(0, epochs // 2), (1, epochs // 2)]
    history: list[tuple[float, float, Weights]] = []
    for phase, length in halves:
        if phase == 1:
            model.load_state_dict(max(reversed(history), key=lambda entry: entry[1])[2])
        optimizer = by_hand_optimizer(model, setup)
        steps = -(-len(setup.train) // train.batch_size) * length
        rising = max(1, round(train.warmup * steps))
        step = 0
        for epoch in range(length):
            total = 0.0
            seed = seed_of(train.seed, phase, epoch)
            for rows in epoch_batches(setup.train.costs, train.batch_size, seed):
                rate = (step + 1) / rising if step < rising else (steps - step) / (steps - rising)
                for group in optimizer.param_groups:
                    group["lr"] = train.learning_rate * rate
                batch = setup.train.batch(rows, "cpu")
                logits, *_ = forward(model, batch.inputs)
                outputs = None if teacher is None else teacher[torch.from_numpy(rows)]
                scale = (epoch + 1) / length if phase == 0 else None
                loss = by_hand_loss(logits, batch.labels, outputs, setup, scale)
                optimizer.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), train.max_grad_norm)
                optimizer.step()
                total += float(loss.detach().double()) * len(rows)
                step += 1
            state = {name: value.clone() for name, value in model.state_dict().items()}
            history.append((total / len(setup.train), by_hand_score(model, setup), state))
    return [loss for loss, _, _ in history]


def by_hand_optimizer(model: nn.Module, setup: TrainingSetup) -> torch.optim.Optimizer:
    decays, plain = [], []
    for name, parameter in model.named_parameters():
        (plain if name.endswith("bias") or "LayerNorm" in name else decays).append(parameter)
    groups = [{"params": decays, "weight_decay": setup.spec.train.weight_decay}, {"params": plain, "weight_decay": 0}]
    return torch.optim.AdamW(groups, foreach=False, fused=False)


def by_hand_loss(
    logits: Tensor, labels: Tensor, teacher: Tensor | None, setup: TrainingSetup, scale: float | None
) -> Tensor:
    """``scale`` is Phi in an annealing's first phase; the grid below has as many epochs there as temperatures."""
    regression, method = setup.task.regression, setup.spec.method
    hard = ((logits[:, 0] - labels) ** 2).mean() if regression else functional.cross_entropy(logits, labels)
    if isinstance(method.targets, Smoothed):
        uniform = torch.tensor(method.targets.distribution or (1 / 3, 1 / 3, 1 / 3))
        target = 0.8 * functional.one_hot(labels, 3) + 0.2 * uniform
        return functional.cross_entropy(logits, target)
    if teacher is None:
        return hard
    if isinstance(method.training, Annealing):
        return hard if scale is None else functional.mse_loss(logits, scale * teacher)
    if regression:
        return 0.3 * hard + 0.7 * functional.mse_loss(logits, teacher)
    probabilities = functional.softmax(teacher / 3.0, -1)
    soft = functional.kl_div(functional.log_softmax(logits / 3.0, -1), probabilities, reduction="batchmean")
    return 0.3 * hard + 0.7 * 9.0 * soft


def by_hand_score(model: nn.Module, setup: TrainingSetup) -> float:
    found = logits_of(model, setup.select)
    model.train()
    if setup.task.regression:
        return float(np.corrcoef(found[:, 0].numpy(), setup.select.labels.numpy())[0, 1])
    return float((found.argmax(-1) == setup.select.labels).float().mean())


@pytest.mark.parametrize(
    ("method", "task", "epochs"),
    [
        (HARD, CLASSES, 2),
        (SMOOTHED, CLASSES, 2),
        (SKEWED, CLASSES, 2),
        (VANILLA, CLASSES, 2),
        (ANNEALING, CLASSES, 6),
        (HARD, NUMBER, 2),
        (VANILLA, NUMBER, 2),
        (ANNEALING, NUMBER, 6),
    ],
)
def test_the_losses_are_those_of_a_loop_written_by_hand(
    method: Method, task: Task, epochs: int, tmp_path: Path
) -> None:
    setup = setup_of(spec_of(method, epochs=epochs), task, tmp_path / "checkpoint.pt", signal_for(method, task))
    everything = np.arange(len(setup.train))
    teacher = setup.signal.read(everything, OutputRequest(((0, 1.0),) * setup.signal.teachers)).get("logits")
    expected = by_hand(small_bert(task), setup, teacher)
    found = [epoch.loss for epoch in fit(small_bert(task), setup, LocalWorker()).history]
    np.testing.assert_allclose(found, expected, rtol=2e-6)
    assert expected[-1] < expected[0] or isinstance(method.training, Annealing), "it learns"


@pytest.mark.parametrize("greatest", [1e-3, 1e3])
def test_the_gradient_of_a_step_is_clipped_to_max_grad_norm(greatest: float, tmp_path: Path) -> None:
    norms: list[float] = []

    def record_norm(optimizer: torch.optim.Optimizer, *_: object) -> None:
        gradients = [parameter.grad for group in optimizer.param_groups for parameter in group["params"]]
        norms.append(float(torch.cat([gradient.flatten() for gradient in gradients]).norm()))

    setup = setup_of(spec_of(HARD, epochs=1, max_grad_norm=greatest), CLASSES, tmp_path / "checkpoint.pt")
    hook = register_optimizer_step_pre_hook(record_norm)
    fit(small_bert(CLASSES), setup, LocalWorker())
    hook.remove()
    assert len(norms) == 7
    if greatest < 1:
        assert norms == pytest.approx([greatest] * 7, rel=1e-2)
    else:
        assert all(1e-3 < norm < greatest for norm in norms), "too short to be clipped"


# --- teachers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [VANILLA, ANNEALING], ids=["one-phase", "annealing"])
def test_training_with_a_live_teacher_equals_training_from_its_store(method: Method, tmp_path: Path) -> None:
    teacher = small_bert(CLASSES, seed=99).eval()
    models = [small_bert(CLASSES, dropout=0.1) for _ in range(2)]
    signals = [stored_outputs(CLASSES), LiveSignal(teacher)]
    found = [
        fit(model, setup_of(spec_of(method), CLASSES, tmp_path / f"{number}.pt", signal), LocalWorker())
        for number, (model, signal) in enumerate(zip(models, signals, strict=True))
    ]
    assert max_difference(models[0].state_dict(), models[1].state_dict()) < 1e-4
    losses = [[epoch.loss for epoch in progress.history] for progress in found]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)
    assert equal_weights(teacher.state_dict(), small_bert(CLASSES, seed=99).state_dict()), "the teacher learns nothing"


def test_training_from_a_store_runs_no_model_but_the_student(tmp_path: Path) -> None:
    signal = stored_outputs(CLASSES)
    model, ran = small_bert(CLASSES), []
    hook = nn.modules.module.register_module_forward_hook(lambda module, *_: ran.append(module))
    fit(model, setup_of(spec_of(VANILLA), CLASSES, tmp_path / "checkpoint.pt", signal), LocalWorker())
    hook.remove()
    assert sum(module is model for module in ran) == 3 * (7 + 1), "a forward a step, and one an epoch to score"
    assert {id(module) for module in ran} <= {id(module) for module in model.modules()}


def test_a_stored_row_is_paired_with_its_own_row_of_the_split() -> None:
    rows = random_rows(CLASSES, 26, seed=1)
    signal = StoredSignal([InMemoryColumns({"logits": np.arange(26.0, dtype=np.float32)[:, None]})])
    chosen, request = np.array([5, 0, 25]), OutputRequest(((0, 1.0),))
    batch = replace(rows.batch(chosen, "cpu"), read=signal.read(chosen, request))
    assert signal(batch, request)["logits"].tolist() == [[5.0], [0.0], [25.0]]


# --- divergence, and the selection of the best epoch --------------------------------------------------------------


@pytest.mark.parametrize("epochs", [1, 3])
@pytest.mark.parametrize("task", [CLASSES, NUMBER], ids=lambda task: task.name)
def test_a_training_that_diverges_names_the_learning_rate(task: Task, epochs: int, tmp_path: Path) -> None:
    """After a single step the weights are no longer finite, while the loss of the epoch still is."""
    spec = spec_of(HARD, epochs=epochs, batch_size=26, learning_rate=1e38, warmup=0.0)
    with pytest.raises(
        ValueError, match=r"^training diverges in .* choose a lower learning_rate than 1e\+38, "
    ) as caught:
        fit(small_bert(task), setup_of(spec, task, tmp_path / "checkpoint.pt"), LocalWorker())
    assert "\n" not in str(caught.value)


def test_the_later_of_equally_good_epochs_is_the_best(tmp_path: Path) -> None:
    """A learning rate too small to change a prediction: all epochs score the same, their weights differ."""
    model = small_bert(CLASSES)
    setup = setup_of(spec_of(HARD, learning_rate=1e-9), CLASSES, tmp_path / "checkpoint.pt")
    progress = fit(model, setup, LocalWorker())
    assert len({epoch.score for epoch in progress.history}) == 1
    assert progress.best == 2
    assert equal_weights(progress.best_weights, model.state_dict())


def weights_after_each_epoch(model: nn.Module, setup: TrainingSetup) -> tuple[Progress, list[Weights]]:
    by_epoch: list[Weights] = []

    def record(number: int) -> None:
        by_epoch.append({name: value.clone() for name, value in model.state_dict().items()})

    return fit(model, setup, LocalWorker(before_note=record)), by_epoch


def test_the_best_weights_are_those_of_the_epoch_with_the_best_score(tmp_path: Path) -> None:
    """At so high a rate scores go up and down; of a few seeds one at least has its best epoch before its last."""
    for seed in range(8):
        model = small_bert(CLASSES, seed)
        setup = setup_of(spec_of(HARD, epochs=6, learning_rate=2e-2), CLASSES, tmp_path / f"{seed}.pt")
        progress, by_epoch = weights_after_each_epoch(model, setup)
        scores = [epoch.score for epoch in progress.history]
        assert progress.best == max(range(6), key=lambda epoch: (scores[epoch], epoch))
        assert equal_weights(progress.best_weights, by_epoch[progress.best])
        assert equal_weights(model.state_dict(), by_epoch[-1]), "the model itself ends with its last weights"
        if progress.best < 5:
            break
    assert progress.best < 5, "otherwise this test proves nothing"


def test_annealings_second_phase_starts_from_the_best_of_the_first_with_a_new_optimizer(tmp_path: Path) -> None:
    """One step an epoch. The second phase's only step is AdamW's first, in plain torch, from the best weights."""
    train = {"epochs": 9, "batch_size": 26, "learning_rate": 3e-2, "warmup": 0.0}
    spec = spec_of(Method(targets=TeacherTargets(), training=Annealing(first_phase=0.89)), **train)
    for seed in range(8):
        setup = setup_of(spec, CLASSES, tmp_path / f"{seed}.pt", stored_outputs(CLASSES))
        trained = small_bert(CLASSES, seed)
        progress, by_epoch = weights_after_each_epoch(trained, setup)
        assert [epoch.phase for epoch in progress.history] == ["anneal"] * 8 + ["labels"]
        scores = [epoch.score for epoch in progress.history[:8]]
        best = max(range(8), key=lambda epoch: (scores[epoch], epoch))
        if best < 7:
            break
    assert best < 7, "the first phase's last epoch is its best with every seed: this proves nothing"
    model = small_bert(CLASSES)
    model.load_state_dict(by_epoch[best])
    optimizer = by_hand_optimizer(model, setup)
    batch = setup.train.batch(np.arange(26), "cpu")
    functional.cross_entropy(forward(model, batch.inputs)[0], batch.labels).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for group in optimizer.param_groups:
        group["lr"] = 3e-2
    optimizer.step()
    # Where a gradient is all but zero, AdamW's first step is its sign: rounding may turn it.
    moved = torch.cat([(model.state_dict()[name] - value).flatten() for name, value in trained.state_dict().items()])
    assert float((moved.abs() > 1e-4).float().mean()) < 0.02

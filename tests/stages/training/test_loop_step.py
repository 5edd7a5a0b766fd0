"""One step of the loop: with micro-batches, compiled, and without waiting for the device."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode
from training_setups import (
    CLASSES,
    GENERATED,
    HARD,
    NUMBER,
    SKEWED,
    VANILLA,
    Interrupted,
    LocalWorker,
    equal_weights,
    max_difference,
    setup_of,
    signal_for,
    small_bert,
    spec_of,
    stored_outputs,
)

from stages.specs.method import Method
from stages.specs.tasks import Task
from stages.training.loop import Training, fit
from stages.training.optimizer import make_optimizer


@pytest.mark.parametrize("micro_batch", [1, 3, 4, 100])
@pytest.mark.parametrize("task", [CLASSES, NUMBER], ids=lambda task: task.name)
def test_micro_batches_train_as_the_whole_batch_does(micro_batch: int, task: Task, tmp_path: Path) -> None:
    """Without dropout, whose masks differ. Batches of 8 of 26 rows: the last has 2."""
    models, curves = [], []
    for name, parts in (("whole", None), ("parts", micro_batch)):
        spec = spec_of(VANILLA, batch_size=8, micro_batch=parts)
        models.append(small_bert(task))
        progress = fit(models[-1], setup_of(spec, task, tmp_path / f"{name}.pt", stored_outputs(task)), LocalWorker())
        curves.append([epoch.loss for epoch in progress.history])
    np.testing.assert_allclose(curves[0], curves[1], rtol=1e-5)
    assert max_difference(models[0].state_dict(), models[1].state_dict()) < 1e-4


def test_no_forward_pass_has_more_rows_than_the_micro_batch_and_steps_are_as_many(tmp_path: Path) -> None:
    passes: list[int] = []
    steps: list[object] = []
    model = small_bert(CLASSES)
    hooks = [
        model.register_forward_pre_hook(
            lambda module, _, given: passes.append(len(given["input_ids"])) if module.training else None,
            with_kwargs=True,
        ),
        register_optimizer_step_pre_hook(lambda optimizer, *_: steps.append(optimizer)),
    ]
    spec = spec_of(HARD, epochs=1, batch_size=8, micro_batch=3)
    fit(model, setup_of(spec, CLASSES, tmp_path / "checkpoint.pt"), LocalWorker())
    for hook in hooks:
        hook.remove()
    assert sorted(passes) == sorted([3, 3, 2] * 3 + [2])
    assert len(steps) == 4


@pytest.mark.parametrize("method", [VANILLA, GENERATED], ids=["vanilla", "generated"])
def test_frozen_embeddings_keep_their_bits_and_all_other_weights_are_trained(method: Method, tmp_path: Path) -> None:
    """Also after an interruption, and without moments of the optimizer for them."""

    def cut(reached: int) -> None:
        if reached == 10:
            raise Interrupted

    setup = setup_of(spec_of(method, freeze=("embeddings",)), CLASSES, tmp_path / "cut.pt", stored_outputs(CLASSES))
    with pytest.raises(Interrupted):
        fit(small_bert(CLASSES), setup, LocalWorker(cut))
    training = Training(small_bert(CLASSES, seed=5), setup, LocalWorker())
    training.run()
    first, last = small_bert(CLASSES).state_dict(), training.model.state_dict()
    same = {name for name in first if torch.equal(first[name], last[name])}
    words = "bert.embeddings.word_embeddings.weight"
    assert words in same and {name for name in same if "embeddings" not in name} == set()
    groups = make_optimizer(training.parts.all, setup.spec.train).param_groups
    assert all(parameter.requires_grad for group in groups for parameter in group["params"])
    assert sum(len(group["params"]) for group in groups) == len(list(training.parts.all.parameters())) - 1
    whole = small_bert(CLASSES)
    fit(whole, setup_of(setup.spec, CLASSES, tmp_path / "whole.pt", stored_outputs(CLASSES)), LocalWorker())
    assert equal_weights(whole.state_dict(), last)


def test_an_out_of_memory_error_names_the_micro_batch(tmp_path: Path) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    model = small_bert(CLASSES)
    model.register_forward_pre_hook(full)
    setup = setup_of(spec_of(HARD, batch_size=8), CLASSES, tmp_path / "checkpoint.pt")
    with pytest.raises(
        ValueError, match=r"^train\.micro_batch: .* of 8 rows does not fit .* set train\.micro_batch to 4"
    ):
        fit(model, setup, LocalWorker())


# --- what a step waits for, and how it is run -------------------------------------------------------------


class Looks(TorchDispatchMode):
    """Counts how often the value of a tensor is read, which on a GPU waits for all kernels before it."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), given: Any = None) -> Any:
        self.count += function is torch.ops.aten._local_scalar_dense.default
        return function(*arguments, **(given or {}))


@pytest.mark.parametrize("method", [HARD, SKEWED, VANILLA], ids=["hard", "skewed", "vanilla"])
def test_no_step_waits_for_the_device_outside_of_the_model(method: Method, tmp_path: Path) -> None:
    looks, by_epoch, within = Looks(), [], [0]
    model = small_bert(CLASSES)
    model.register_forward_pre_hook(lambda *_: within.append(-looks.count))
    model.register_forward_hook(lambda *_: within.append(looks.count))
    place = LocalWorker(before_note=lambda _: by_epoch.append(looks.count - sum(within)))
    for batch_size in (26, 2):
        spec = spec_of(method, epochs=1, batch_size=batch_size)
        setup = setup_of(spec, CLASSES, tmp_path / f"{batch_size}.pt", signal_for(method, CLASSES), 1e9)
        with looks:
            fit(model, replace(setup, write_curves=lambda *_: None), place)
    assert by_epoch == [0, 0], "the sums are copied as a whole when an epoch ends, of 1 step as of 13"


def test_a_compiled_student_is_the_same_student(tmp_path: Path) -> None:
    """torch is made to run the model uncompiled, which is quick: the test is about which module is compiled."""
    found = []
    for name, compiled in (("plain", False), ("compiled", True)):
        model = small_bert(CLASSES, dropout=0.1)
        setup = setup_of(spec_of(VANILLA, compile=compiled), CLASSES, tmp_path / f"{name}.pt", stored_outputs(CLASSES))
        with torch.compiler.set_stance("force_eager"):
            progress = fit(model, setup, LocalWorker())
        found.append((model.state_dict(), progress))
    assert equal_weights(found[0][0], found[1][0])
    assert equal_weights(found[0][1].best_weights, found[1][1].best_weights)

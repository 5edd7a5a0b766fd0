"""Several teachers of one student: averaged, or followed one after the other."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from training_setups import (
    CLASSES,
    NUMBER,
    InMemoryColumns,
    LocalWorker,
    equal_weights,
    logits_of,
    random_rows,
    setup_of,
    small_bert,
    spec_of,
)

from stages.corpus.batches import Rows
from stages.specs.axes.targets import TeacherTargets
from stages.specs.axes.training import Continuation, OnePhase, Progressive
from stages.specs.layers import Pick, state_name
from stages.specs.method import Method
from stages.specs.tasks import Task
from stages.training.loop import fit
from stages.training.setup import TrainingSetup
from stages.training.signal import StoredSignal

MEAN = Method(targets=TeacherTargets(), training=OnePhase(temperature=3.0, teacher_weight=0.7))
LAYERS = Pick(pairs=((1, 2),))


def said_by(task: Task, seed: int) -> np.ndarray:
    return logits_of(small_bert(task, seed=seed), random_rows(task, 26, seed=1)).numpy()


def taught_by(outputs: list[np.ndarray], method: Method, task: Task, folder: Path, **train: object) -> TrainingSetup:
    sources = [InMemoryColumns({"logits": values}) for values in outputs]
    return setup_of(spec_of(method, **train), task, folder / f"{len(outputs)}.pt", StoredSignal(sources))


def weights_after(setup: TrainingSetup, task: Task) -> dict[str, torch.Tensor]:
    model = small_bert(task)
    fit(model, setup, LocalWorker())
    return model.state_dict()


@pytest.mark.parametrize("task", [CLASSES, NUMBER], ids=lambda task: task.name)
def test_several_equal_teachers_train_as_one_of_them_does(task: Task, tmp_path: Path) -> None:
    outputs = said_by(task, 99)
    alone = weights_after(taught_by([outputs], MEAN, task, tmp_path), task)
    assert equal_weights(weights_after(taught_by([outputs, outputs], MEAN, task, tmp_path), task), alone)
    assert equal_weights(weights_after(taught_by([outputs] * 4, MEAN, task, tmp_path), task), alone)


def test_the_mean_of_the_logits_of_several_teachers_is_learned(tmp_path: Path) -> None:
    one, two = said_by(CLASSES, 99), said_by(CLASSES, 98)
    for shares in (None, (0.25, 0.75)):
        method = Method(targets=TeacherTargets(shares=shares), training=MEAN.training)
        mean = np.average([one, two], axis=0, weights=shares).astype(np.float32)
        found = weights_after(taught_by([one, two], method, CLASSES, tmp_path), CLASSES)
        expected = weights_after(taught_by([mean], MEAN, CLASSES, tmp_path), CLASSES)
        assert equal_weights(found, expected)
        (tmp_path / "1.pt").unlink(), (tmp_path / "2.pt").unlink()


def test_calibrated_teachers_train_as_teachers_whose_stored_logits_are_divided_by_their_temperatures(
    tmp_path: Path,
) -> None:
    one, two = said_by(CLASSES, 99), said_by(CLASSES, 98)
    for outputs, temperatures in (([one], [1.7]), ([one, two], [1.7, 0.6])):
        setup = taught_by(outputs, MEAN, CLASSES, tmp_path)
        assert isinstance(setup.signal, StoredSignal)
        calibrated = replace(setup, signal=replace(setup.signal, temperatures=temperatures))
        divided = [values / np.float32(number) for values, number in zip(outputs, temperatures, strict=True)]
        found = weights_after(calibrated, CLASSES)
        setup.checkpoint.unlink()
        assert equal_weights(found, weights_after(taught_by(divided, MEAN, CLASSES, tmp_path), CLASSES))
        setup.checkpoint.unlink()
        assert not equal_weights(found, weights_after(setup, CLASSES))
        setup.checkpoint.unlink()


class Watched(InMemoryColumns):
    """Records from which teacher each column was read."""

    seen: list[tuple[int, str]]
    number: int

    def gather(self, name: str, rows: Rows) -> np.ndarray:
        self.seen.append((self.number, name))
        return super().gather(name, rows)


def test_progressive_reads_logits_and_layers_of_one_teacher_at_a_time(tmp_path: Path) -> None:
    seen: list[tuple[int, str]] = []
    sources = []
    for number in range(3):
        source = Watched({"logits": said_by(CLASSES, number), "hidden_02": np.zeros((26, 16), np.float16)})
        object.__setattr__(source, "seen", seen)
        object.__setattr__(source, "number", number)
        sources.append(source)
    method = Method(targets=TeacherTargets(), training=Progressive(first_phase=0.6), structure=LAYERS)
    signal = StoredSignal(sources, sources, {2: state_name(2)})
    setup = setup_of(spec_of(method, epochs=5), CLASSES, tmp_path / "checkpoint.pt", signal)
    progress = fit(small_bert(CLASSES), replace(setup, teacher_widths=dict.fromkeys(range(13), 16)), LocalWorker())
    assert [epoch.phase for epoch in progress.history] == ["follow"] * 3 + ["labels"] * 2
    assert seen == [(number, name) for number in range(3) for _ in range(7) for name in ("logits", "hidden_02")]


def test_continuation_reads_the_teacher_while_its_weight_is_above_zero(tmp_path: Path) -> None:
    seen: list[tuple[int, str]] = []
    source = Watched({"logits": said_by(CLASSES, 99)})
    object.__setattr__(source, "seen", seen)
    object.__setattr__(source, "number", 0)
    method = Method(targets=TeacherTargets(), training=Continuation(max_temperature=4, together=0.5, margin=0.1))
    setup = setup_of(spec_of(method, epochs=4), CLASSES, tmp_path / "checkpoint.pt", StoredSignal([source]))
    losses = [epoch.loss for epoch in fit(small_bert(CLASSES), setup, LocalWorker()).history]
    assert len(seen) == 2 * 7 and all(np.isfinite(losses))

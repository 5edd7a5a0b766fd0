"""The outputs for a row come from a classifier that was fitted on other rows: they do not depend on its own label."""

from hashlib import blake2b

import numpy as np
import pytest

from stages.specs.tasks import Task
from stages.teaching.folds import fold_of, out_of_fold
from stages.teaching.linear_probe import LabelledStates

GENERATOR = np.random.Generator(np.random.PCG64(5))
STATES = (GENERATOR.normal(size=(60, 4)) * [1, 30, 0.01, 2] + [0, 500, 3, 0]).astype(np.float32)
LABELS = (STATES[:, 0] > STATES[:, 0].mean()).astype(np.int64)
NUMBER = Task(name="number", text=("text",), metrics=("pearson",))
KEYS = [blake2b(bytes([row // 256, row % 256]), digest_size=16).digest() for row in range(450)]
TWO = Task(name="two", text=("text",), labels=("a", "b"))


def folds_of(keys: list[bytes]) -> np.ndarray:
    """Of five: the key is a number, its first byte the lowest."""
    return np.array([sum(byte << 8 * place for place, byte in enumerate(key)) % 5 for key in keys])


def probed(
    states: np.ndarray, labels: np.ndarray, places: np.ndarray | None = None, task: Task = TWO
) -> tuple[np.ndarray, float, float]:
    """The logits for the first keys, and the scores out of fold and in sample."""
    examples = LabelledStates(np.arange(len(states)) if places is None else places, labels)
    logits, fitted = out_of_fold(states, KEYS[: len(states)], examples, task, 1.0, 5)
    return logits, examples.score(logits, task), fitted


def test_classifiers_overfit_noise_and_predict_none_of_it_out_of_fold() -> None:
    generator = np.random.Generator(np.random.PCG64(11))
    noise = generator.normal(size=(450, 384)).astype(np.float32)
    _, held_out, fitted = probed(noise, generator.integers(0, 2, 450))
    assert fitted > 99 and abs(held_out - 50) < 7


def test_classifiers_predict_separable_states_out_of_fold() -> None:
    generator = np.random.Generator(np.random.PCG64(12))
    labels = generator.integers(0, 2, 450)
    states = generator.normal(size=(450, 16)) + 4.0 * labels[:, None]
    _, held_out, fitted = probed(states.astype(np.float32), labels)
    assert held_out > 99 and fitted > 99


def test_the_outputs_for_a_row_do_not_depend_on_its_own_label() -> None:
    flipped = LABELS.copy()
    flipped[7] = 1 - LABELS[7]
    before, after = probed(STATES, LABELS)[0], probed(STATES, flipped)[0]
    folds = folds_of(KEYS[:60])
    assert np.array_equal(before[folds == folds[7]], after[folds == folds[7]]) and np.isfinite(before).all()
    assert (before != after)[folds != folds[7]].all()


def test_the_outputs_for_a_row_do_not_depend_on_other_labels_of_the_same_text() -> None:
    """It is one row of the store, and lies in one fold with all its labels."""
    places = np.append(np.arange(60), 7)
    logits = [probed(STATES, np.append(LABELS, label), places)[0] for label in (0, 1)]
    assert np.array_equal(logits[0][7], logits[1][7])
    assert not np.array_equal(logits[0], logits[1])


def test_a_row_lies_in_the_same_fold_wherever_it_stands_and_folds_are_of_a_size() -> None:
    found = np.array([fold_of(key, 5) for key in KEYS])
    assert np.array_equal(found, folds_of(KEYS)) and np.bincount(found).min() > 60
    order = np.argsort(KEYS[:60])
    examples = LabelledStates(np.arange(60), LABELS[order])
    moved, _ = out_of_fold(STATES[order], [KEYS[row] for row in order], examples, TWO, 1.0, 5)
    np.testing.assert_allclose(moved, probed(STATES, LABELS)[0][order], atol=5e-3)


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_fewer_rows_than_folds_are_spoken_of_all_the_same(rows: int) -> None:
    logits, held_out, fitted = probed(STATES[:rows], np.arange(rows) % 2)
    assert logits.shape == (rows, 2) and np.isfinite(logits).all()
    assert 0 <= held_out <= 100 and fitted == 100
    logits, *_ = probed(STATES[:rows], np.linspace(1, 2, rows, dtype=np.float32), task=NUMBER)
    assert logits.shape == (rows, 1) and np.isfinite(logits).all()


def test_of_a_row_without_any_other_no_label_is_likelier() -> None:
    logits, *_ = probed(STATES[:1], np.array([1]))
    assert np.array_equal(logits, np.zeros((1, 2)))
    assert np.array_equal(probed(STATES[:1], np.array([3.5], np.float32), task=NUMBER)[0], [[0.0]])


def test_a_label_that_lies_in_one_fold_alone_is_rare_to_the_classifier_of_the_others() -> None:
    folds = folds_of(KEYS[:60])
    alone = (folds == 3).astype(np.int64)
    logits, *_ = probed(STATES, alone)
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    others = int((folds != 3).sum())
    np.testing.assert_allclose(shares[folds == 3, 1], 1 / (others + 3), rtol=1e-4)  # 1/(others + 2) of the other's
    assert np.isfinite(logits).all()

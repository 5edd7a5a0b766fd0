"""What is said of a row comes from a classifier of other rows: its own label has no part in it."""

from hashlib import blake2b

import numpy as np
import pytest

from stages.specs.tasks import Task
from stages.teaching.folds import fold_of, out_of_fold
from stages.teaching.linear_probe import Examples

GENERATOR = np.random.Generator(np.random.PCG64(5))
STATES = (GENERATOR.normal(size=(60, 4)) * [1, 30, 0.01, 2] + [0, 500, 3, 0]).astype(np.float32)
LABELS = (STATES[:, 0] > STATES[:, 0].mean()).astype(np.int64)
NUMBER = Task(name="number", text=("text",), metrics=("pearson",))
KEYS = [blake2b(bytes([row // 256, row % 256]), digest_size=16).digest() for row in range(450)]
TWO = Task(name="two", text=("text",), labels=("a", "b"))


def folds_of(keys: list[bytes]) -> np.ndarray:
    """Of five: the key is a number, its first byte the lowest."""
    return np.array([sum(byte << 8 * place for place, byte in enumerate(key)) % 5 for key in keys])


def spoken(
    states: np.ndarray, labels: np.ndarray, places: np.ndarray | None = None, task: Task = TWO
) -> tuple[np.ndarray, float, float]:
    """What is said of the first keys, and the scores out of fold and in sample."""
    examples = Examples(np.arange(len(states)) if places is None else places, labels)
    said, fitted = out_of_fold(states, KEYS[: len(states)], examples, task, 1.0, 5)
    return said, examples.score(said, task), fitted


def test_of_noise_classifiers_know_what_they_were_fitted_on_by_heart_and_nothing_out_of_fold() -> None:
    generator = np.random.Generator(np.random.PCG64(11))
    noise = generator.normal(size=(450, 384)).astype(np.float32)
    _, unseen, fitted = spoken(noise, generator.integers(0, 2, 450))
    assert fitted > 99 and abs(unseen - 50) < 7


def test_of_separable_states_classifiers_are_right_out_of_fold() -> None:
    generator = np.random.Generator(np.random.PCG64(12))
    labels = generator.integers(0, 2, 450)
    states = generator.normal(size=(450, 16)) + 4.0 * labels[:, None]
    _, unseen, fitted = spoken(states.astype(np.float32), labels)
    assert unseen > 99 and fitted > 99


def test_a_rows_own_label_has_no_part_in_what_is_said_of_it() -> None:
    flipped = LABELS.copy()
    flipped[7] = 1 - LABELS[7]
    before, after = spoken(STATES, LABELS)[0], spoken(STATES, flipped)[0]
    folds = folds_of(KEYS[:60])
    assert np.array_equal(before[folds == folds[7]], after[folds == folds[7]]) and np.isfinite(before).all()
    assert (before != after)[folds != folds[7]].all()


def test_the_labels_of_the_same_text_have_no_part_in_what_is_said_of_it_either() -> None:
    """It is one row of the store, and lies in one fold with all its labels."""
    places = np.append(np.arange(60), 7)
    said = [spoken(STATES, np.append(LABELS, label), places)[0] for label in (0, 1)]
    assert np.array_equal(said[0][7], said[1][7])
    assert not np.array_equal(said[0], said[1])


def test_a_row_lies_in_the_same_fold_wherever_it_stands_and_folds_are_of_a_size() -> None:
    found = np.array([fold_of(key, 5) for key in KEYS])
    assert np.array_equal(found, folds_of(KEYS)) and np.bincount(found).min() > 60
    order = np.argsort(KEYS[:60])
    examples = Examples(np.arange(60), LABELS[order])
    moved, _ = out_of_fold(STATES[order], [KEYS[row] for row in order], examples, TWO, 1.0, 5)
    np.testing.assert_allclose(moved, spoken(STATES, LABELS)[0][order], atol=5e-3)


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_fewer_rows_than_folds_are_spoken_of_all_the_same(rows: int) -> None:
    said, unseen, fitted = spoken(STATES[:rows], np.arange(rows) % 2)
    assert said.shape == (rows, 2) and np.isfinite(said).all()
    assert 0 <= unseen <= 100 and fitted == 100
    said, *_ = spoken(STATES[:rows], np.linspace(1, 2, rows, dtype=np.float32), task=NUMBER)
    assert said.shape == (rows, 1) and np.isfinite(said).all()


def test_of_a_row_without_any_other_no_label_is_likelier() -> None:
    said, *_ = spoken(STATES[:1], np.array([1]))
    assert np.array_equal(said, np.zeros((1, 2)))
    assert np.array_equal(spoken(STATES[:1], np.array([3.5], np.float32), task=NUMBER)[0], [[0.0]])


def test_a_label_that_lies_in_one_fold_alone_is_rare_to_the_classifier_of_the_others() -> None:
    folds = folds_of(KEYS[:60])
    alone = (folds == 3).astype(np.int64)
    said, *_ = spoken(STATES, alone)
    shares = np.exp(said) / np.exp(said).sum(1, keepdims=True)
    others = int((folds != 3).sum())
    np.testing.assert_allclose(shares[folds == 3, 1], 1 / (others + 3), rtol=1e-4)  # 1/(others + 2) of the other's
    assert np.isfinite(said).all()

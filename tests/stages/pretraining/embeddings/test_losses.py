"""The losses of sentence embeddings against NumPy."""

import numpy as np
import pytest
import torch

from stages.pretraining.embeddings.losses import embedding_losses
from stages.specs.pretraining import SentenceEmbedding
from stages.training.objective.relations import Workers

generator = np.random.Generator(np.random.PCG64(3))
STUDENT, TEACHER = (generator.normal(size=(5, 4)) * 3 for _ in range(2))
WIDE = generator.normal(size=(5, 7))


def units(values: np.ndarray) -> np.ndarray:
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def losses(student: np.ndarray, teacher: np.ndarray, **settings: object) -> np.ndarray:
    embedding = SentenceEmbedding(**settings)
    return embedding_losses(torch.from_numpy(student), torch.from_numpy(teacher), embedding, Workers(rows=5)).numpy()


def test_the_cosine_loss_is_one_less_the_cosine() -> None:
    expected = 1 - (units(STUDENT) * units(TEACHER)).sum(1)
    assert losses(STUDENT, TEACHER, loss="cosine") == pytest.approx(expected)
    assert losses(5 * STUDENT, TEACHER, loss="cosine") == pytest.approx(expected)
    assert losses(STUDENT, 2 * STUDENT, loss="cosine") == pytest.approx(np.zeros(5), abs=1e-12)


def test_the_squared_error_is_that_of_embeddings_with_the_length_that_the_settings_name() -> None:
    plain, scaled = ((a - b) ** 2 for a, b in ((STUDENT, TEACHER), (units(STUDENT), units(TEACHER))))
    for settings, expected in (
        ({"normalize": False}, plain),
        ({"normalize": True}, scaled),
        ({"normalize": True, "normalized": False}, plain),
        ({"normalize": False, "normalized": True}, scaled),
    ):
        assert losses(STUDENT, TEACHER, loss="squared", **settings) == pytest.approx(expected.mean(1))


def test_the_squared_error_of_unit_vectors_is_the_cosine_loss_times_two_over_the_width() -> None:
    squared, cosine = (losses(STUDENT, TEACHER, loss=loss, normalize=True) for loss in ("squared", "cosine"))
    assert squared == pytest.approx(2 / 4 * cosine)


def test_the_similarity_loss_compares_the_cosines_within_a_batch_at_any_widths() -> None:
    for teacher in (TEACHER, WIDE):
        own, other = units(STUDENT) @ units(STUDENT).T, units(teacher) @ units(teacher).T
        assert losses(STUDENT, teacher, loss="similarities") == pytest.approx(((own - other) ** 2).mean(1))
    rotated = STUDENT @ np.linalg.qr(generator.normal(size=(4, 4)))[0]
    assert losses(rotated, STUDENT, loss="similarities") == pytest.approx(np.zeros(5), abs=1e-12)

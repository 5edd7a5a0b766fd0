"""Each loss against the same sum written in NumPy, and the identities of the papers."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from stages.specs.axes.kinds import CLASSIFICATION, REGRESSION
from stages.specs.axes.losses import (
    cross_entropy,
    smoothed_cross_entropy,
    soft_cross_entropy,
    squared_error,
    virtual_logits,
)

GENERATOR = np.random.Generator(np.random.PCG64(3))
STUDENT = GENERATOR.normal(0, 2, (7, 4))
TEACHER = GENERATOR.normal(0, 3, (7, 4))
LABELS = GENERATOR.integers(0, 4, 7)
DISTRIBUTION = np.array([0.4, 0.3, 0.2, 0.1])


def softmax(values: np.ndarray) -> np.ndarray:
    powers = np.exp(values - values.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def tensor(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(values)


def gradient(loss_of_logits: object, logits: np.ndarray) -> np.ndarray:
    leaf = tensor(logits).clone().requires_grad_(True)
    loss_of_logits(leaf).sum().backward()  # type: ignore[operator]
    assert leaf.grad is not None
    return leaf.grad.numpy()


def test_cross_entropy_is_minus_the_log_of_the_labels_probability() -> None:
    expected = -np.log(softmax(STUDENT)[np.arange(7), LABELS])
    np.testing.assert_allclose(cross_entropy(tensor(STUDENT), tensor(LABELS)), expected, rtol=1e-12)


@pytest.mark.parametrize("distribution", [np.full(4, 0.25), DISTRIBUTION])
def test_smoothed_cross_entropy_is_the_cross_entropy_to_the_mixed_target(distribution: np.ndarray) -> None:
    target = 0.9 * np.eye(4)[LABELS] + 0.1 * distribution
    expected = -(target * np.log(softmax(STUDENT))).sum(-1)
    found = smoothed_cross_entropy(tensor(STUDENT), tensor(LABELS), 0.1, tensor(distribution))
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 7.0])
def test_soft_cross_entropy_is_the_squared_temperature_times_the_divergence(temperature: float) -> None:
    teacher, student = softmax(TEACHER / temperature), softmax(STUDENT / temperature)
    expected = temperature**2 * (teacher * np.log(teacher / student)).sum(-1)
    found = soft_cross_entropy(tensor(STUDENT), tensor(TEACHER), temperature)
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_squared_error_is_the_mean_over_classes() -> None:
    expected = ((STUDENT - TEACHER) ** 2).mean(-1)
    np.testing.assert_allclose(squared_error(tensor(STUDENT), tensor(TEACHER)), expected, rtol=1e-12)


def test_the_hard_loss_of_a_regression_is_the_squared_distance_to_the_label() -> None:
    values, labels = STUDENT[:, :1], TEACHER[:, 0]
    found = REGRESSION.loss(tensor(values), tensor(labels))
    np.testing.assert_allclose(found, (values[:, 0] - labels) ** 2, rtol=1e-12)


def test_the_hard_loss_of_a_classification_is_the_cross_entropy() -> None:
    found = CLASSIFICATION.loss(tensor(STUDENT), tensor(LABELS))
    torch.testing.assert_close(found, cross_entropy(tensor(STUDENT), tensor(LABELS)), rtol=0, atol=0)


def test_averaged_over_rows_the_soft_loss_is_torchs_batchmean() -> None:
    scale = 3.0
    reference = functional.kl_div(
        functional.log_softmax(tensor(STUDENT) / scale, -1),
        functional.softmax(tensor(TEACHER) / scale, -1),
        reduction="batchmean",
    )
    found = soft_cross_entropy(tensor(STUDENT), tensor(TEACHER), scale).mean() / scale**2
    torch.testing.assert_close(found, reference, rtol=1e-10, atol=0)


def test_equal_logits_have_no_divergence_and_no_gradient() -> None:
    shifted = TEACHER + 5.0  # the same distribution
    found = soft_cross_entropy(tensor(shifted), tensor(TEACHER), 4.0)
    np.testing.assert_allclose(found, np.zeros(7), atol=1e-12)
    pushed = gradient(lambda leaf: soft_cross_entropy(leaf, tensor(TEACHER), 4.0), shifted)
    np.testing.assert_allclose(pushed, np.zeros((7, 4)), atol=1e-12)


def test_label_smoothing_has_the_gradient_of_kd_from_a_uniform_teacher() -> None:
    def smoothed(leaf: torch.Tensor) -> torch.Tensor:
        return smoothed_cross_entropy(leaf, tensor(LABELS), 0.3, torch.full((4,), 0.25, dtype=torch.float64))

    def taught(leaf: torch.Tensor) -> torch.Tensor:
        undecided = torch.zeros(7, 4, dtype=torch.float64)
        return 0.7 * cross_entropy(leaf, tensor(LABELS)) + 0.3 * soft_cross_entropy(leaf, undecided, 1.0)

    np.testing.assert_allclose(gradient(smoothed, STUDENT), gradient(taught, STUDENT), atol=1e-12)


def test_a_virtual_teacher_with_equal_probabilities_is_uniform() -> None:
    logits = virtual_logits(tensor(LABELS), 4, 0.25)
    np.testing.assert_allclose(softmax(logits.numpy()), np.full((7, 4), 0.25), rtol=1e-6)


def test_at_high_temperature_the_gradient_tends_to_the_distance_of_the_centred_logits() -> None:
    """Hinton et al. 2015, section 2.1: with the factor tau^2 it does not vanish as tau grows."""
    limit = ((STUDENT - STUDENT.mean(-1, keepdims=True)) - (TEACHER - TEACHER.mean(-1, keepdims=True))) / 4
    for temperature, tolerance in ((100.0, 0.1), (1000.0, 0.01)):
        found = gradient(lambda leaf, tau=temperature: soft_cross_entropy(leaf, tensor(TEACHER), tau), STUDENT)
        np.testing.assert_allclose(found, limit, atol=tolerance)


def test_squared_error_refuses_a_target_that_would_broadcast() -> None:
    with pytest.raises(AssertionError):
        squared_error(torch.zeros(5, 1), torch.zeros(5))
    assert torch.broadcast_shapes((5, 1), (5,)) == (5, 5), "what the original annealing code computed on STS-B"

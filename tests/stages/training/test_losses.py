"""Each loss against the same sum written in NumPy, and the identities of the papers."""

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from stages.specs.method import Method, OnePhase, TeacherTargets, Virtual
from stages.specs.schedule import LossWeights
from stages.training.losses import (
    cross_entropy,
    excess_over_margin,
    hard_loss,
    logit_terms,
    smoothed_cross_entropy,
    soft_cross_entropy,
    squared_error,
    uniform,
    virtual_logits,
    weighted_sum,
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


def logit_loss(
    logits_BC: Tensor,
    labels_B: Tensor,
    outputs: Mapping[str, Tensor],
    method: Method,
    weights: LossWeights,
    regression: bool,
) -> Tensor:
    """[B]: the weighted sum of ``logit_terms``."""
    return weighted_sum(logit_terms(logits_BC, labels_B, outputs, method, weights, regression), weights)


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
    found = hard_loss(tensor(values), tensor(labels), regression=True)
    np.testing.assert_allclose(found, (values[:, 0] - labels) ** 2, rtol=1e-12)


def test_the_hard_loss_of_a_classification_is_the_cross_entropy() -> None:
    found = hard_loss(tensor(STUDENT), tensor(LABELS), regression=False)
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
        return smoothed_cross_entropy(leaf, tensor(LABELS), 0.3, uniform(4).double())

    def taught(leaf: torch.Tensor) -> torch.Tensor:
        undecided = torch.zeros(7, 4, dtype=torch.float64)
        return 0.7 * cross_entropy(leaf, tensor(LABELS)) + 0.3 * soft_cross_entropy(leaf, undecided, 1.0)

    np.testing.assert_allclose(gradient(smoothed, STUDENT), gradient(taught, STUDENT), atol=1e-12)


@pytest.mark.parametrize("temperature", [1.0, 20.0])
def test_the_virtual_teacher_has_the_probabilities_of_yuan_et_al(temperature: float) -> None:
    """(1 - w) CE + w tau^2 KL(p_d^tau || p^tau), p_d = 0.99 for the label and the rest shared."""
    rule = np.full((7, 4), 0.01 / 3)
    rule[np.arange(7), LABELS] = 0.99
    softened = rule ** (1 / temperature) / (rule ** (1 / temperature)).sum(-1, keepdims=True)
    own = softmax(STUDENT / temperature)
    soft = temperature**2 * (softened * np.log(softened / own)).sum(-1)
    hard = -np.log(softmax(STUDENT)[np.arange(7), LABELS])
    method = Method(targets=Virtual(correct=0.99), training=OnePhase(temperature=temperature, teacher_weight=0.3))
    weights = LossWeights(hard=0.7, soft=0.3, temperature=temperature)
    found = logit_loss(tensor(STUDENT), tensor(LABELS), {}, method, weights, regression=False)
    np.testing.assert_allclose(found, 0.7 * hard + 0.3 * soft, rtol=1e-5)


def test_a_virtual_teacher_with_equal_probabilities_is_uniform() -> None:
    logits = virtual_logits(tensor(LABELS), 4, 0.25)
    np.testing.assert_allclose(softmax(logits.numpy()), np.full((7, 4), 0.25), rtol=1e-6)


def test_the_mean_over_classes_is_the_sum_divided_by_their_number() -> None:
    outputs, weights = {"logits": tensor(TEACHER)}, LossWeights(soft=1.0, temperature=3.0)
    losses = {
        reduction: logit_loss(
            tensor(STUDENT),
            tensor(LABELS),
            outputs,
            Method(targets=TeacherTargets(), training=OnePhase(reduction=reduction)),
            weights,
            regression=False,
        )
        for reduction in ("sum", "mean")
    }
    np.testing.assert_allclose(losses["mean"] * 4, losses["sum"], rtol=1e-12)
    element_mean = functional.kl_div(
        functional.log_softmax(tensor(STUDENT) / 3, -1), functional.softmax(tensor(TEACHER) / 3, -1), reduction="none"
    ).mean()
    np.testing.assert_allclose(losses["mean"].mean(), 9 * element_mean, rtol=1e-10)


def test_only_the_distance_above_the_margin_counts() -> None:
    distance = tensor(np.array([0.0, 0.5, 2.0]))
    assert excess_over_margin(distance, 0.5).tolist() == [0.0, 0.0, 1.5]
    method, weights = Method(targets=TeacherTargets()), LossWeights(match=0.5, scale=0.8, margin=1.0)
    found = logit_loss(tensor(STUDENT), tensor(LABELS), {"logits": tensor(TEACHER)}, method, weights, regression=False)
    apart = ((STUDENT - 0.8 * TEACHER) ** 2).mean(-1)
    np.testing.assert_allclose(found, 0.5 * np.maximum(0, apart - 1.0), rtol=1e-12)


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


def test_the_uniform_distribution_is_equal_over_classes_and_sums_to_one() -> None:
    assert uniform(5).tolist() == pytest.approx([0.2] * 5)

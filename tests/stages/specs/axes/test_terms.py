"""Each term against the same value written in NumPy, and sums of terms."""

from dataclasses import dataclass, field, replace
from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from stages.specs.axes.kinds import CLASSIFICATION, REGRESSION, TaskKind
from stages.specs.axes.terms import (
    DISTANCES,
    Distance,
    LabelTerm,
    LayerTerm,
    SmoothedLabelTerm,
    SoftTerm,
    SquaredTerm,
    VirtualTerm,
    followed_layers,
    layer_term,
    teacher_term,
    weighted_sum,
)
from stages.specs.layer_map import LayerGroup

GENERATOR = np.random.Generator(np.random.PCG64(3))
STUDENT = GENERATOR.normal(0, 2, (7, 4))
TEACHER = GENERATOR.normal(0, 3, (7, 4))
LABELS = GENERATOR.integers(0, 4, 7)
LAYERS = LayerTerm(2.0, (LayerGroup(1, (3, 4)), LayerGroup(2, (6,))))


def softmax(values: np.ndarray) -> np.ndarray:
    powers = np.exp(values - values.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def tensor(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values)


@dataclass(frozen=True)
class Rows:
    logits: Tensor = field(default_factory=lambda: tensor(STUDENT))
    labels: Tensor = field(default_factory=lambda: tensor(LABELS))
    teacher_logits: Tensor = field(default_factory=lambda: tensor(TEACHER))
    kind: TaskKind = CLASSIFICATION

    @property
    def label_loss(self) -> Tensor:
        return self.kind.loss(self.logits, self.labels)

    def layer_error(self, term: LayerTerm) -> Tensor:
        return torch.full((len(self.labels),), float(len(term.groups)))


def test_the_label_term_is_the_cross_entropy_or_the_squared_error_of_a_regression() -> None:
    expected = -np.log(softmax(STUDENT)[np.arange(7), LABELS])
    np.testing.assert_allclose(LabelTerm(0.5).value(Rows()), expected, rtol=1e-12)
    values = Rows(tensor(STUDENT[:, :1]), tensor(TEACHER[:, 0]), kind=REGRESSION)
    np.testing.assert_allclose(LabelTerm(0.5).value(values), (STUDENT[:, 0] - TEACHER[:, 0]) ** 2, rtol=1e-12)


@pytest.mark.parametrize("distribution", [None, (0.4, 0.3, 0.2, 0.1)])
def test_the_smoothed_label_term_mixes_the_label_with_a_distribution(distribution: tuple[float, ...] | None) -> None:
    target = 0.9 * np.eye(4)[LABELS] + 0.1 * np.array(distribution or [0.25] * 4)
    expected = -(target * np.log(softmax(STUDENT))).sum(-1)
    np.testing.assert_allclose(SmoothedLabelTerm(1.0, 0.1, distribution).value(Rows()), expected, rtol=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 20.0])
def test_the_virtual_teacher_has_the_probabilities_of_yuan_et_al(temperature: float) -> None:
    """tau^2 KL(p_d^tau || p^tau), p_d = 0.99 for the label and the rest shared."""
    rule = np.full((7, 4), 0.01 / 3)
    rule[np.arange(7), LABELS] = 0.99
    softened = rule ** (1 / temperature) / (rule ** (1 / temperature)).sum(-1, keepdims=True)
    own = softmax(STUDENT / temperature)
    soft = temperature**2 * (softened * np.log(softened / own)).sum(-1)
    term = VirtualTerm(0.3, SoftTerm(0.3, temperature), 0.99)
    np.testing.assert_allclose(term.value(Rows()), soft, rtol=1e-5)
    assert term.schedule == {"temperature": temperature} and teacher_term([term]) is None


def test_the_mean_over_classes_is_the_sum_divided_by_their_number() -> None:
    summed, mean = (SoftTerm(1.0, 3.0, reduction).value(Rows()) for reduction in ("sum", "mean"))
    np.testing.assert_allclose(mean * 4, summed, rtol=1e-12)
    element_mean = functional.kl_div(
        functional.log_softmax(tensor(STUDENT) / 3, -1), functional.softmax(tensor(TEACHER) / 3, -1), reduction="none"
    ).mean()
    np.testing.assert_allclose(mean.mean(), 9 * element_mean, rtol=1e-10)


def test_the_squared_term_counts_only_the_distance_above_its_margin() -> None:
    apart = ((STUDENT - 0.8 * TEACHER) ** 2).mean(-1)
    term = SquaredTerm(0.5, 0.8, 1.0)
    np.testing.assert_allclose(term.value(Rows()), np.maximum(0, apart - 1.0), rtol=1e-12)
    np.testing.assert_allclose(replace(term, margin=0.0).value(Rows()), apart, rtol=1e-12)


def test_the_sum_of_terms_has_each_with_its_weight() -> None:
    terms = (LabelTerm(0.25), SoftTerm(0.75, 2.0), LAYERS)
    values = [term.value(Rows()) for term in terms]
    expected = 0.25 * values[0] + 0.75 * values[1] + 2.0 * 2.0
    torch.testing.assert_close(weighted_sum(terms, values), expected, rtol=0, atol=1e-12)


def test_the_terms_on_logits_and_on_layers_are_found_among_the_others() -> None:
    terms = (LabelTerm(0.5), SquaredTerm(0.5), LAYERS)
    assert teacher_term(terms) == SquaredTerm(0.5) and layer_term(terms) == LAYERS
    assert followed_layers(terms) == (3, 4, 6) and followed_layers(terms[:2]) == ()
    assert teacher_term(terms[:1]) is None and layer_term(terms[:2]) is None


def test_the_distances_of_recipes_make_the_terms_of_their_names() -> None:
    assert DISTANCES["kl"](0.5, 3.0, "mean") == SoftTerm(0.5, 3.0, "mean")
    assert DISTANCES["squared"](0.5, 3.0, "mean") == SquaredTerm(0.5)
    assert set(DISTANCES) == set(get_args(Distance))

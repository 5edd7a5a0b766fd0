"""What the kinds of tasks say of a model's outputs."""

from typing import get_args

import numpy as np
import pytest
import torch

from stages.specs.axes.kinds import CLASSIFICATION, REGRESSION, TOKEN_LABELS, TaskKind
from stages.specs.axes.terms import SoftTerm, SquaredTerm
from stages.specs.tasks import BUILT_IN, Metric

LOGITS = np.array([[1.0, 3.0, 2.0], [0.5, -1.0, 0.0]], np.float32)


def test_a_class_is_that_of_the_largest_logit_and_a_number_the_output_itself() -> None:
    assert CLASSIFICATION.predictions(LOGITS).tolist() == [1, 0]
    assert REGRESSION.predictions(LOGITS[:, :1]).tolist() == [1.0, 0.5]


@pytest.mark.parametrize("kind", [CLASSIFICATION, REGRESSION])
def test_labels_and_predictions_have_the_number_type_of_the_kind(kind: TaskKind) -> None:
    assert kind.predictions(LOGITS).dtype == np.dtype(kind.label_type)


def test_the_loss_is_the_cross_entropy_or_the_squared_error() -> None:
    logits, labels = torch.from_numpy(LOGITS), torch.tensor([1, 2])
    expected = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    torch.testing.assert_close(CLASSIFICATION.loss(logits, labels), expected)
    assert REGRESSION.loss(logits[:, :1], torch.tensor([3.0, 0.5])).tolist() == [4.0, 0.0]


def test_a_regression_has_the_squared_error_in_the_place_of_a_divergence() -> None:
    softened = SoftTerm(0.7, 3.0)
    assert CLASSIFICATION.teacher_term(softened) is softened
    assert REGRESSION.teacher_term(softened) == SquaredTerm(0.7)


def test_each_metric_fits_a_kind_and_those_of_each_task_fit_its_own() -> None:
    assert CLASSIFICATION.metrics | REGRESSION.metrics | TOKEN_LABELS.metrics == set(get_args(Metric))
    assert not CLASSIFICATION.metrics & REGRESSION.metrics
    assert CLASSIFICATION.metrics & TOKEN_LABELS.metrics == {"accuracy"}
    assert all(set(task.metrics) <= task.kind.metrics for task in BUILT_IN.values())

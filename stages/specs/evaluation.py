"""The specs of the stages that score models: ``evaluate`` and ``ensemble``."""

from typing import ClassVar

from stages.specs.base import Spec


class EvaluateSpec(Spec):
    """Metrics of a model on the labelled splits of a corpus, its predictions on all splits for evaluation, and its size
    and latency. Inputs: ``corpus``, ``model``.

    ``label_order[i]`` is the model's output that means the task's label i; None where they agree.
    """

    stage: ClassVar[str] = "evaluate"
    version: ClassVar[int] = 1

    label_order: tuple[int, ...] | None = None


# --- of several models ------------------------------------------------------------------------------


class EnsembleSpec(Spec):
    """Metrics and predictions of the mean of several models' logits, weighted by ``shares`` if given (one for each
    member, with sum 1). Inputs: ``corpus``, and ``members/0``, ``members/1`` ..., the artifacts of ``evaluate`` for the
    members."""

    stage: ClassVar[str] = "ensemble"
    version: ClassVar[int] = 1

    shares: tuple[float, ...] | None = None

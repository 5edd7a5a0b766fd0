"""The specs of the stages that score models: ``evaluate`` and ``ensemble``."""

from typing import ClassVar

from stages.specs.base import Spec


class EvaluateSpec(Spec):
    """Metrics and predictions of a model on the labelled and unlabelled splits of a corpus, and its
    size and latency. Inputs: ``corpus``, ``model``."""

    stage: ClassVar[str] = "evaluate"
    version: ClassVar[int] = 1

    label_order: tuple[int, ...] | None = None


# --- of several models ------------------------------------------------------------------------------


class EnsembleSpec(Spec):
    """Metrics and predictions of the mean of several models' logits, by ``shares`` where given (one a member, together
    1). Inputs: ``corpus``, and ``members/0``, ``members/1`` ...: what ``evaluate`` left of each."""

    stage: ClassVar[str] = "ensemble"
    version: ClassVar[int] = 1

    shares: tuple[float, ...] | None = None

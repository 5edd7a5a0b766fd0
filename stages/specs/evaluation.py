"""The specs of the stages that score models: ``evaluate``, ``similarity`` and ``ensemble``."""

from typing import ClassVar, Literal

from stages.specs.base import Spec


class EvaluateSpec(Spec):
    """Metrics of a model on the labelled splits of a corpus, its predictions on all splits for evaluation, and its size
    and latency. Inputs: ``corpus``, ``model``.

    ``label_order[i]`` is the model's output that means the task's label i; None where they agree.
    """

    stage: ClassVar[str] = "evaluate"
    version: ClassVar[int] = 1

    label_order: tuple[int, ...] | None = None


class SimilaritySpec(Spec):
    """Correlations of a sentence encoder's cosines with the scores of pairs, on the splits of a corpus for evaluation,
    its cosine for each pair, and its size and latency. Inputs: ``corpus``, whose rows are pairs with a score, and
    ``model``.

    ``pooling`` is how the states of the model's last layer are pooled. Texts are cut at the corpus's ``max_length``.
    """

    stage: ClassVar[str] = "similarity"
    version: ClassVar[int] = 1

    pooling: Literal["mean", "cls"] = "mean"


# --- of several models ------------------------------------------------------------------------------


class EnsembleSpec(Spec):
    """Metrics and predictions of the mean of several models' logits, weighted by ``shares`` if given (one for each
    member, with sum 1). Inputs: ``corpus``, and ``members/0``, ``members/1`` ..., the artifacts of ``evaluate`` for the
    members."""

    stage: ClassVar[str] = "ensemble"
    version: ClassVar[int] = 1

    shares: tuple[float, ...] | None = None

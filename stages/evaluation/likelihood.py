"""The likelihood of labels under a classifier's logits. scipy is imported where it is computed."""

import numpy as np
import numpy.typing as npt

from stages.evaluation.predictions import Labels, Logits


def log_probabilities(logits: Logits, temperature: float = 1.0) -> npt.NDArray[np.float64]:
    """log softmax(z / T) of each row of ``logits`` z, [N, C]; computed in float64."""
    from scipy.special import log_softmax

    found: npt.NDArray[np.float64] = log_softmax(logits.astype(np.float64) / temperature, axis=1)
    return found


def negative_log_likelihood(logits: Logits, labels: Labels, temperature: float = 1.0) -> float:
    """The mean over rows of -log softmax(z / T)[y], in nats. ``logits`` z is [N, C], ``labels`` y [N], of integers."""
    return -float(log_probabilities(logits, temperature)[np.arange(len(labels)), labels].mean())

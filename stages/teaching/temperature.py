"""Temperature scaling: the one number that brings a classifier's probabilities closest to how often it is right.

Guo et al. 2017, "On Calibration of Modern Neural Networks", ICML: logits z are divided by T > 0, the minimum of the
mean negative log-likelihood of held-out labels under softmax(z / T) (eq. 9). The predicted classes stay the same. A
model that is too sure of itself, as fine-tuned transformers are, has T > 1.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from stages.evaluation.likelihood import log_probabilities, negative_log_likelihood
from stages.evaluation.predictions import Labels, Logits

CALIBRATION = "calibration.json"

LOWEST, HIGHEST = 0.1, 10.0
"""The temperatures among which the minimum is searched."""

BINS = 15
"""Bins of equal width for the expected calibration error, as in the paper."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """A temperature, and what it changes on the ``rows`` held-out rows on which it was found: the mean negative
    log-likelihood of their labels (in nats) and the expected calibration error (0 to 1), before and after."""

    temperature: float
    rows: int
    negative_log_likelihood_before: float
    negative_log_likelihood_after: float
    calibration_error_before: float
    calibration_error_after: float

    @property
    def at_bound(self) -> bool:
        """Whether the likelihood still rises at an end of the temperatures that are searched, or is 1, so that the rows
        do not determine the temperature."""
        log_t, tolerance = np.log(self.temperature), 1e-3
        at_end = log_t - np.log(LOWEST) < tolerance or np.log(HIGHEST) - log_t < tolerance
        return bool(at_end) or self.negative_log_likelihood_after < 1e-9

    def describe(self) -> str:
        """The calibration in one line."""
        return (
            f"temperature {self.temperature:.4g} on {self.rows:,} held-out rows: mean negative log-likelihood "
            f"{self.negative_log_likelihood_before:.4f} -> {self.negative_log_likelihood_after:.4f}, expected "
            f"calibration error {self.calibration_error_before:.4f} -> {self.calibration_error_after:.4f}"
        )


def fit_temperature(logits: Logits, labels: Labels) -> Calibration:
    """The calibration by ``logits`` [N, C] and ``labels`` [N], N >= 1. Of a model that labels every row right, the
    likelihood rises to the lowest temperature that is searched."""
    from scipy.optimize import minimize_scalar

    found = minimize_scalar(
        lambda log_t: negative_log_likelihood(logits, labels, float(np.exp(log_t))),
        bounds=(np.log(LOWEST), np.log(HIGHEST)),
        method="bounded",
        options={"xatol": 1e-6},
    )
    temperature = float(np.exp(found.x))
    return Calibration(
        temperature,
        len(labels),
        negative_log_likelihood(logits, labels, 1.0),
        negative_log_likelihood(logits, labels, temperature),
        calibration_error(logits, labels, 1.0),
        calibration_error(logits, labels, temperature),
    )


def calibration_error(logits: Logits, labels: Labels, temperature: float) -> float:
    """The expected calibration error, 0 to 1: rows are divided by the highest probability of softmax(z / T) into
    ``BINS`` bins; it is the mean over rows of |accuracy - mean highest probability| of the row's bin (Guo et al. 2017,
    eq. 3)."""
    probabilities = np.exp(log_probabilities(logits, temperature))
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    bins = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    gaps = np.bincount(bins, right - confidence, BINS)
    return float(np.abs(gaps).sum() / len(labels))


def write_calibration(directory: Path, calibration: Calibration) -> None:
    """Write ``calibration.json``."""
    (directory / CALIBRATION).write_text(json.dumps(asdict(calibration), indent=1) + "\n", "utf-8")


def read_calibration(directory: Path) -> Calibration:
    """The calibration in ``directory``. ValueError where there is none that can be read."""
    path = directory / CALIBRATION
    try:
        return Calibration(**json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path}: this calibration cannot be read ({reason}); run the recipe again") from error

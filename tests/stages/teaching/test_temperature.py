"""The temperature of a classifier against independent references, and its file."""

from pathlib import Path

import numpy as np
import pytest

from stages.evaluation.likelihood import negative_log_likelihood
from stages.teaching.temperature import (
    HIGHEST,
    LOWEST,
    calibration_error,
    fit_temperature,
    read_calibration,
    write_calibration,
)

GENERATOR = np.random.Generator(np.random.PCG64(5))
LOGITS = GENERATOR.normal(0.0, 2.0, (4000, 3)).astype(np.float32)
PROBABILITIES = np.exp(LOGITS) / np.exp(LOGITS).sum(1, keepdims=True)
LABELS = (PROBABILITIES.cumsum(1) > GENERATOR.random((4000, 1))).argmax(1)
"""Labels drawn from the softmax of the logits, which are therefore calibrated as they are."""


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_the_temperature_of_logits_that_are_a_multiple_of_calibrated_ones_is_that_multiple(factor: float) -> None:
    found = fit_temperature(LOGITS * np.float32(factor), LABELS)
    assert found.temperature == pytest.approx(factor, rel=0.05)
    assert not found.at_bound


def test_the_temperature_is_the_minimum_of_the_likelihood_over_a_grid() -> None:
    def reference(temperature: float) -> float:
        scaled = LOGITS.astype(np.float64) / temperature
        return float(np.mean(np.log(np.exp(scaled).sum(1)) - scaled[np.arange(len(LABELS)), LABELS]))

    found = fit_temperature(LOGITS * 2, LABELS)
    assert negative_log_likelihood(LOGITS, LABELS, 1.3) == pytest.approx(reference(1.3), rel=1e-12)
    grid = np.geomspace(LOWEST, HIGHEST, 2001) / 2
    best = float(grid[np.argmin([reference(one) for one in grid])])
    assert found.temperature == pytest.approx(2 * best, rel=2 * np.log(HIGHEST / LOWEST) / 2000)
    assert found.negative_log_likelihood_before == pytest.approx(reference(0.5), rel=1e-6)
    assert found.negative_log_likelihood_after <= found.negative_log_likelihood_before


def test_the_calibration_error_is_that_of_fifteen_bins_of_equal_width() -> None:
    scaled = np.exp(2 * LOGITS) / np.exp(2 * LOGITS).sum(1, keepdims=True)
    total = 0.0
    for low in np.arange(15) / 15:
        inside = [row for row in range(len(LABELS)) if low <= scaled[row].max() < low + 1 / 15]
        if inside:
            accuracy = np.mean([scaled[row].argmax() == LABELS[row] for row in inside])
            total += len(inside) * abs(accuracy - np.mean([scaled[row].max() for row in inside]))
    assert calibration_error(LOGITS * 2, LABELS, 1.0) == pytest.approx(total / len(LABELS), rel=1e-4)
    found = fit_temperature(LOGITS * 2, LABELS)
    assert found.calibration_error_after < 0.03 < 0.1 < found.calibration_error_before


@pytest.mark.parametrize("size", [1.0, 500.0])
def test_rows_that_are_all_labelled_right_do_not_determine_a_temperature(size: float) -> None:
    logits = np.eye(3, dtype=np.float32)[LABELS[:50]] * np.float32(size)
    assert fit_temperature(logits, LABELS[:50]).at_bound


def test_rows_that_are_all_labelled_wrong_do_not_determine_a_temperature() -> None:
    found = fit_temperature(np.eye(3, dtype=np.float32)[(LABELS[:50] + 1) % 3], LABELS[:50])
    assert found.at_bound and found.temperature == pytest.approx(HIGHEST, rel=1e-3)


def test_a_calibration_is_read_as_it_was_written_and_a_damaged_one_is_refused_in_one_line(tmp_path: Path) -> None:
    found = fit_temperature(LOGITS[:100], LABELS[:100])
    write_calibration(tmp_path, found)
    assert read_calibration(tmp_path) == found
    for text in ("", "[]", '{"temperature": 2}', "3"):
        (tmp_path / "calibration.json").write_text(text, "utf-8")
        with pytest.raises(ValueError, match=r"calibration\.json: this calibration cannot be read \(.*run the recipe"):
            read_calibration(tmp_path)

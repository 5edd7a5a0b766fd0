"""The stage ``calibrate``: the teacher on the held-out rows."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_tasks import TINY
from training_setups import RecordingListener, inline, logits_of

from stages.corpus.corpus import corpus
from stages.corpus.reader import read_meta
from stages.corpus.rowset import read_rowset
from stages.models.loading import load
from stages.specs.corpus import CorpusSpec, Files
from stages.specs.teacher import CalibrateSpec
from stages.teaching.calibrate import calibrate
from stages.teaching.temperature import fit_temperature, read_calibration


def test_the_temperature_is_that_of_the_teachers_logits_on_the_held_out_rows(
    tiny_corpus: Path, teacher: Path, tmp_path: Path
) -> None:
    listener = RecordingListener()
    facts = calibrate(CalibrateSpec(), {"corpus": tiny_corpus, "model": teacher}, tmp_path, inline(listener))
    rows = read_rowset(tiny_corpus, "holdout")
    expected = fit_temperature(logits_of(load(teacher), rows).numpy(), rows.labels.numpy())
    found = read_calibration(tmp_path)
    assert found.rows == facts["rows"] == len(rows) > 0
    assert found.temperature == facts["temperature"] == pytest.approx(expected.temperature, rel=1e-4)
    assert found.negative_log_likelihood_after == pytest.approx(expected.negative_log_likelihood_after, rel=1e-4)
    assert listener.expected == [len(rows)] and listener.done == len(rows)


def test_outputs_in_another_order_than_the_labels_are_reordered(
    tiny_corpus: Path, teacher: Path, tmp_path: Path
) -> None:
    rows = read_rowset(tiny_corpus, "holdout")
    logits = logits_of(load(teacher), rows).numpy()
    facts = calibrate(CalibrateSpec(label_order=(1, 0)), {"corpus": tiny_corpus, "model": teacher}, tmp_path, inline())
    turned = fit_temperature(logits[:, [1, 0]], rows.labels.numpy())
    assert facts["negative_log_likelihood_before"] == pytest.approx(turned.negative_log_likelihood_before, rel=1e-4)
    assert not np.isclose(
        turned.negative_log_likelihood_before,
        fit_temperature(logits, rows.labels.numpy()).negative_log_likelihood_before,
    )


def test_held_out_rows_that_do_not_determine_the_temperature_are_warned_of_in_one_line(
    tiny_corpus: Path, teacher: Path, tmp_path: Path
) -> None:
    """A teacher without weights in its head gives each row the same logits, which fit best at no finite temperature."""
    model = load(teacher)
    with torch.no_grad():
        for parameter in model.classifier.parameters():
            parameter.zero_()
        labels = read_rowset(tiny_corpus, "holdout").labels
        model.classifier.bias[1 - int(labels.float().mean().round())] = 1.0
    model.save_pretrained(tmp_path / "model")
    listener = RecordingListener()
    facts = calibrate(CalibrateSpec(), {"corpus": tiny_corpus, "model": tmp_path / "model"}, tmp_path, inline(listener))
    (line,) = facts["warnings"]  # type: ignore[misc]
    assert listener.lines == [line]
    assert line.startswith(
        f"targets.calibrated: {len(labels)} held-out rows do not determine the teacher's temperature"
    )


def test_a_regression_and_a_corpus_without_held_out_rows_are_refused(
    tiny_corpus: Path, pairs_corpus: Path, pairs_teacher: Path, encoder: Path, teacher: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="is a regression, which has no probabilities"):
        calibrate(CalibrateSpec(), {"corpus": pairs_corpus, "model": pairs_teacher}, tmp_path, inline())
    files = {f"data/{split}": tiny_corpus.parent / "tiny" / f"{split}.parquet" for split in ("train", "validation")}
    task = TINY.model_copy(update={"test": ()})
    (tmp_path / "corpus").mkdir()
    spec = CorpusSpec(task=task, source=Files(), max_length=16, holdout=0.0)
    corpus(spec, {"tokenizer": encoder, **files}, tmp_path / "corpus", inline())
    assert "holdout" not in read_meta(tmp_path / "corpus").splits
    with pytest.raises(ValueError, match=r"targets\.calibrated: true, but data\.holdout is 0; hold some rows out"):
        calibrate(CalibrateSpec(), {"corpus": tmp_path / "corpus", "model": teacher}, tmp_path, inline())

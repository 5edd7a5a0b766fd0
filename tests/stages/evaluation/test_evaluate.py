"""Scores, predictions, size and latency of a model on a corpus."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file
from training_setups import RecordingListener, inline

from stages.corpus.reader import read_split
from stages.corpus.rowset import read_rowset
from stages.evaluation.evaluate import evaluate
from stages.models.loading import load
from stages.models.predict import finite_or_raise, predict
from stages.specs.evaluation import EvaluateSpec


def examined(
    corpus: Path, model: Path, out: Path, spec: EvaluateSpec | None = None, listener: RecordingListener | None = None
) -> dict[str, object]:
    out.mkdir()
    return evaluate(spec or EvaluateSpec(), {"corpus": corpus, "model": model}, out, inline(listener))


def directly(model: Path, corpus: Path, split: str) -> np.ndarray:
    """Logits of plain transformers, one text at a time."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(corpus / "tokenizer")
    plain = AutoModelForSequenceClassification.from_pretrained(model).eval()
    found = []
    for texts in read_split(corpus, split).texts():
        with torch.no_grad():
            found.append(plain(**tokenizer(*texts, truncation=True, max_length=16, return_tensors="pt")).logits[0])
    return torch.stack(found).numpy()


def test_predictions_are_those_of_the_plain_model_row_by_row(tiny_corpus: Path, teacher: Path, tmp_path: Path) -> None:
    examined(tiny_corpus, teacher, tmp_path / "out")
    for split in ("validation", "test"):
        logits, rows = directly(teacher, tiny_corpus, split), read_split(tiny_corpus, split)
        table = pq.read_table(tmp_path / "out" / "predictions" / f"{split}.parquet")
        np.testing.assert_allclose(np.array(table["logits"].to_pylist()), logits, atol=1e-5)
        assert table["prediction"].to_pylist() == logits.argmax(-1).tolist()
        assert table["row_key"].to_pylist() == rows.keys
        assert table["index"].to_pylist() == rows.index.tolist()
        assert table.schema.field("logits").type == pa.list_(pa.float32(), 2)
        assert table.schema.field("prediction").type == pa.int64()


def test_scores_are_over_the_labelled_rows_and_a_split_without_labels_has_none(
    tiny_corpus: Path, teacher: Path, tmp_path: Path
) -> None:
    facts = examined(tiny_corpus, teacher, tmp_path / "out")
    predicted = directly(teacher, tiny_corpus, "validation").argmax(-1)
    right = predicted == read_split(tiny_corpus, "validation").labels
    assert facts["scores"] == {"validation": {"accuracy": pytest.approx(100 * right.mean())}}
    assert 0 < right.mean() < 1
    test = pq.read_table(tmp_path / "out" / "predictions" / "test.parquet")
    assert test["label"].null_count == test.num_rows == 10
    dev = pq.read_table(tmp_path / "out" / "predictions" / "validation.parquet")
    assert dev["label"].to_pylist() == read_split(tiny_corpus, "validation").labels.tolist()


def test_the_metrics_file_holds_the_scores_the_size_and_the_latency(
    tiny_corpus: Path, teacher: Path, tmp_path: Path
) -> None:
    listener = RecordingListener()
    facts = examined(tiny_corpus, teacher, tmp_path / "out", listener=listener)
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text("utf-8"))
    assert {"rows": 35, **metrics} == facts
    assert metrics["parameters"] == sum(value.numel() for value in load_file(teacher / "model.safetensors").values())
    assert 0 < metrics["latency_ms"] < 10_000
    assert listener.expected == [35] and listener.done == 35


def test_outputs_are_put_into_the_tasks_label_order(tiny_corpus: Path, teacher: Path, tmp_path: Path) -> None:
    examined(tiny_corpus, teacher, tmp_path / "plain")
    examined(tiny_corpus, teacher, tmp_path / "turned", EvaluateSpec(label_order=(1, 0)))
    plain, turned = (pq.read_table(tmp_path / name / "predictions" / "test.parquet") for name in ("plain", "turned"))
    assert [logits[::-1] for logits in turned["logits"].to_pylist()] == plain["logits"].to_pylist()
    assert [1 - label for label in turned["prediction"].to_pylist()] == plain["prediction"].to_pylist()


def test_a_regression_predicts_numbers_and_is_scored_by_correlation(
    pairs_corpus: Path, pairs_teacher: Path, tmp_path: Path
) -> None:
    facts = examined(pairs_corpus, pairs_teacher, tmp_path / "out")
    values, labels = directly(pairs_teacher, pairs_corpus, "validation")[:, 0], read_split(pairs_corpus, "validation")
    table = pq.read_table(tmp_path / "out" / "predictions" / "validation.parquet")
    np.testing.assert_allclose(table["prediction"].to_pylist(), values, atol=1e-5)
    assert table["prediction"].to_pylist() == [logits[0] for logits in table["logits"].to_pylist()]
    correlation = 100 * np.corrcoef(values, labels.labels)[0, 1]
    assert isinstance(facts["scores"], dict)
    assert facts["scores"]["validation"]["pearson"] == pytest.approx(correlation, abs=1e-3)
    assert facts["scores"]["validation"].keys() == {"pearson", "spearman"}


def test_a_model_whose_outputs_are_not_finite_is_refused_naming_split_and_row(
    tiny_corpus: Path, teacher: Path, tmp_path: Path
) -> None:
    shutil.copytree(teacher, tmp_path / "model")
    weights = load_file(teacher / "model.safetensors")
    weights["classifier.weight"].fill_(float("nan"))
    save_file(weights, tmp_path / "model" / "model.safetensors", {"format": "pt"})
    key = read_split(tiny_corpus, "validation").keys[0].hex()
    with pytest.raises(ValueError, match=f"^the logits on validation: 25 rows are not finite, the first is .* {key};"):
        examined(tiny_corpus, tmp_path / "model", tmp_path / "out")


def test_predicting_leaves_a_model_in_the_mode_it_was_in(tiny_corpus: Path, teacher: Path) -> None:
    rows, model = read_rowset(tiny_corpus, "validation"), load(teacher)
    first = predict(model.train(), rows, 2, "cpu")
    assert model.training
    assert np.array_equal(first, predict(model.eval(), rows, 2, "cpu")), "there is no dropout in a prediction"
    assert not model.training


def test_finite_values_pass_and_the_first_row_that_is_not_finite_is_named() -> None:
    values = np.ones((4, 2))
    names = [bytes([number] * 16) for number in range(4)]
    finite_or_raise(values, names, "what")
    values[2, 1], values[3, 0] = np.inf, np.nan
    with pytest.raises(ValueError, match=f"^what: 2 rows are not finite, the first is row_key {names[2].hex()}; check"):
        finite_or_raise(values, names, "what")

"""Exports of the kinds of models that a recipe may train."""

from pathlib import Path

import pytest
import torch
from tiny import packaged_model, random_classifier
from transformers import AutoTokenizer

from stages.deployment.checked_rows import generated_rows
from stages.deployment.classifier import OnnxClassifier
from stages.deployment.description import read_description, write_description
from stages.deployment.export import export
from stages.deployment.graph import check_exportable
from stages.specs.tasks import Task

PAIRS = Task(name="pairs", text=("one", "two"), labels=("a", "b", "c"))


@pytest.fixture(scope="module")
def mean_head(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student with a mean head that reads pairs."""
    directory = tmp_path_factory.mktemp("mean")
    tokenizer = AutoTokenizer.from_pretrained(packaged_model())
    model = random_classifier("bert", "mean", vocab_size=len(tokenizer), num_hidden_layers=1)
    model.config.id2label = dict(enumerate(PAIRS.labels or ()))
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    write_description(directory, PAIRS, 24)
    return directory


def test_a_pair_model_with_a_mean_head_computes_the_same_in_onnx_for_rows_and_batches_of_any_size(
    mean_head: Path, tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    description = read_description(mean_head)
    rows = generated_rows(description)
    assert {len(row) for row in rows.texts} == {2}
    found = export(mean_head, "onnx", tmp_path / "out", description, rows, "pairs")
    assert found.faithful
    check = found.report["check"]
    assert isinstance(check, dict)
    assert check["largest_difference"] < 1e-4 and check["labels_changed"] == 0
    assert found.report["inputs"] == ["input_ids", "attention_mask", "token_type_ids"]
    graph = OnnxClassifier(tmp_path / "out", 1)
    ids = torch.randint(1000, 2000, (1, 5)).numpy()
    one = graph.logits({"input_ids": ids, "attention_mask": ids * 0 + 1})
    several = graph.logits({"input_ids": ids.repeat(3, 0), "attention_mask": ids.repeat(3, 0) * 0 + 1})
    assert one.shape == (1, 3) and several == pytest.approx(one.repeat(3, 0), abs=1e-5)


def test_a_bilstm_is_refused_with_the_reason_and_what_to_use() -> None:
    with pytest.raises(ValueError, match=r"BiLSTM.*--to safetensors"):
        check_exportable({"model_type": "stillhouse-bilstm"})

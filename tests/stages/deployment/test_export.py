"""Exports of the kinds of models that a recipe may train."""

from pathlib import Path

import pytest
import torch
from tiny import packaged_model, random_classifier
from transformers import AutoTokenizer

from stages.deployment.bilstm_graph import ExportableBilstm
from stages.deployment.checked_rows import generated_rows
from stages.deployment.classifier import OnnxClassifier
from stages.deployment.description import ONNX_MODEL, read_description, write_description
from stages.deployment.export import export
from stages.deployment.graph import write_graph, write_int8
from stages.models.bilstm.model import BilstmConfig, BilstmForSequenceClassification
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


@pytest.mark.parametrize("pair", [False, True])
def test_the_traceable_bilstm_computes_what_the_model_does_for_rows_of_any_length(pair: bool) -> None:
    model, inputs = bilstm(pair), pair_inputs()
    with torch.no_grad():
        expected = model(**inputs).logits
        found = ExportableBilstm(model, list(inputs))(*inputs.values())
    assert found.numpy() == pytest.approx(expected.numpy(), abs=1e-6)
    assert not torch.allclose(expected[0], expected[1])


def test_a_bilstm_that_reads_pairs_computes_the_same_in_onnx_and_about_that_with_int8_weights(tmp_path: Path) -> None:
    model, inputs = bilstm(True), pair_inputs()
    example = {name: value[:2].numpy() for name, value in inputs.items()}
    write_graph(model, list(inputs), example, tmp_path / ONNX_MODEL)
    with torch.no_grad():
        expected = model(**inputs).logits.numpy()
    given = {name: value.numpy() for name, value in inputs.items()}
    assert OnnxClassifier(tmp_path, 1).logits(given) == pytest.approx(expected, abs=1e-5)
    (tmp_path / "int8").mkdir()
    write_int8(tmp_path / ONNX_MODEL, tmp_path / "int8" / ONNX_MODEL)
    found = OnnxClassifier(tmp_path / "int8", 1).logits(given)
    assert found == pytest.approx(expected, abs=0.02) and found != pytest.approx(expected, abs=1e-6)


def bilstm(pair: bool) -> BilstmForSequenceClassification:
    """A random BiLSTM of two layers with a projection; token 3 separates the texts of a pair."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 60, "embedding_size": 8, "projected_size": 5, "hidden_size": 6, "fc_size": 7}
    texts = {"pair": pair, "separator_id": 3 if pair else None, "leading_tokens": 1 if pair else 0}
    return BilstmForSequenceClassification(BilstmConfig(**sizes, **texts, lstm_layers=2, num_labels=3)).eval()


def pair_inputs() -> dict[str, torch.Tensor]:
    """Three rows of pairs: of 9 tokens, of 6, and of 4 whose second text is a separator alone."""
    torch.manual_seed(1)
    ids, mask, types = torch.randint(4, 60, (3, 9)), torch.zeros(3, 9).long(), torch.zeros(3, 9).long()
    for row, (first, length) in enumerate(((4, 9), (2, 6), (3, 4))):
        ids[row, first - 1] = ids[row, length - 1] = 3
        mask[row, :length], types[row, first:length] = 1, 1
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}

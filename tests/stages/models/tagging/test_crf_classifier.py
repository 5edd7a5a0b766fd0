"""A token classifier with a CRF starts as one without, is saved whole, and is not loaded without its CRF."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import write_tiny_model
from transformers import AutoModelForTokenClassification, BertForTokenClassification, PreTrainedModel

from stages.models.cutting import depth
from stages.models.tagging.classifier import build_token_classifier
from stages.models.tagging.crf_classifier import build_crf_classifier, has_crf, load_crf_classifier
from stages.tagging.crf import negative_log_likelihood, viterbi
from stages.tagging.word_logits import word_logits

LABELS = ("O", "B-X", "I-X")
IDS = torch.tensor([[5, 6, 7, 8, 9], [9, 8, 7, 6, 5]])
FIRST = torch.tensor([[1, 2, 3], [1, 3, -1]])
TAGS = torch.tensor([[1, 2, 0], [0, 1, -100]])


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("start"), layers=3, width=16, initializer_range=0.3)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, start: Path) -> Path:
    """A classifier whose CRF has been trained, so that its scores are not 0."""
    torch.manual_seed(0)
    model = build_crf_classifier(start, LABELS, constrained=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for _ in range(80):
        words, mask = word_logits(model(input_ids=IDS).logits, FIRST)
        loss = negative_log_likelihood(words, TAGS, mask, model.crf.chain()).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]
    assert viterbi(words, mask, model.crf.chain())[mask].tolist() == TAGS[mask].tolist()
    folder = tmp_path_factory.mktemp("trained")
    model.save_pretrained(folder)
    return folder


def logits_of(model: PreTrainedModel) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.eval()(input_ids=IDS).logits
    return found


def test_it_starts_as_the_token_classifier_without_a_crf(start: Path) -> None:
    torch.manual_seed(3)
    plain = build_token_classifier(start, LABELS, [0, 2])
    torch.manual_seed(3)
    model = build_crf_classifier(start, LABELS, (0, 2))
    assert torch.equal(logits_of(model), logits_of(plain))
    assert all((value == 0).all() for value in model.crf.parameters())
    assert model.state_dict().keys() - plain.state_dict().keys() == {"crf.transition", "crf.start", "crf.end"}


def test_a_saved_one_has_the_same_emissions_and_the_same_crf(trained: Path, tmp_path: Path) -> None:
    one = load_crf_classifier(trained)
    assert has_crf(trained)
    assert all((value != 0).any() for value in one.crf.parameters())
    one.save_pretrained(tmp_path)
    other = load_crf_classifier(tmp_path)
    assert one.state_dict().keys() == other.state_dict().keys()
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())
    assert torch.equal(logits_of(one), logits_of(other))
    # That constraints are in force again is part of the model.
    chain = other.crf.chain()
    assert chain.start[2].item() == chain.transition[0, 2].item() == -1e4


def test_transformers_does_not_load_it_without_its_crf(trained: Path) -> None:
    with pytest.raises(ValueError, match="stillhouse-crf"):
        AutoModelForTokenClassification.from_pretrained(trained)
    with pytest.raises(OSError, match=r"model.safetensors"):
        BertForTokenClassification.from_pretrained(trained)


def test_a_student_is_cut_from_one_with_its_head_and_crf(trained: Path, tmp_path: Path) -> None:
    whole = load_crf_classifier(trained)
    student = build_crf_classifier(trained, LABELS, (0,), constrained=True)
    assert depth(student.config) == 1
    kept = student.state_dict()
    assert all(torch.equal(value, whole.state_dict()[name]) for name, value in kept.items())
    student.save_pretrained(tmp_path)
    assert torch.equal(logits_of(load_crf_classifier(tmp_path)), logits_of(student))


def test_a_crf_for_other_labels_or_of_the_other_kind_is_refused(trained: Path) -> None:
    with pytest.raises(ValueError, match=r"its CRF is for the labels O, B-X, I-X, in this order; list the labels so"):
        build_crf_classifier(trained, ("O", "I-X", "B-X"), constrained=True)
    with pytest.raises(ValueError, match="its CRF is constrained; give the same, or start from a model without a CRF"):
        build_crf_classifier(trained, LABELS)


def test_directories_without_a_crf_or_without_its_weights_are_refused(
    trained: Path, start: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="holds no token classifier with a CRF; give a directory in which one was"):
        load_crf_classifier(start)
    weights = load_file(trained / "model.crf.safetensors")
    file = tmp_path / "model.crf.safetensors"
    save_file({name: value for name, value in weights.items() if name != "crf.end"}, file, {"format": "pt"})
    (tmp_path / "config.json").write_text(json.dumps(json.loads((trained / "config.json").read_text())))
    with pytest.raises(ValueError, match=r"the weights lack crf.end; give the model's own weights"):
        load_crf_classifier(tmp_path)
    file.unlink()
    with pytest.raises(ValueError, match=r"no weights that load .*save them there with save_pretrained"):
        load_crf_classifier(tmp_path)

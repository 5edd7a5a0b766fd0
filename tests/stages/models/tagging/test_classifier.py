"""Token classifiers start from encoders and from token classifiers, and no head is taken for another."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import ENCODER_SIZES, ENCODERS, random_classifier, write_tiny_model
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForTokenClassification,
    PreTrainedModel,
    pipeline,
)

from stages.models.cutting import depth
from stages.models.loading import quieten
from stages.models.tagging.classifier import (
    build_token_classifier,
    load_token_classifier,
    saved_labels,
)

LABELS = ("O", "B-X", "I-X")
IDS = torch.tensor([[5, 6, 7, 8, 9], [9, 8, 7, 6, 5]])


def logits_of(model: PreTrainedModel) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.eval()(input_ids=IDS, attention_mask=torch.ones_like(IDS)).logits
    return found


def encoder(architecture: str, directory: Path) -> Path:
    quieten()
    torch.manual_seed(1)
    config = AutoConfig.for_model(architecture, **{**ENCODER_SIZES, **ENCODERS[architecture]})
    AutoModel.from_config(config, dtype=torch.float32).save_pretrained(directory)
    return directory


@pytest.mark.parametrize("architecture", ENCODERS)
def test_any_encoder_becomes_a_token_classifier_that_transformers_loads(architecture: str, tmp_path: Path) -> None:
    start = encoder(architecture, tmp_path / "start")
    torch.manual_seed(0)
    model = build_token_classifier(start, LABELS)
    weights = AutoModel.from_pretrained(start).state_dict()
    kept = {name: value for name, value in model.base_model.state_dict().items() if "pooler" not in name}
    assert kept.keys() <= weights.keys()
    assert all(torch.equal(value, weights[name]) for name, value in kept.items())
    assert logits_of(model).shape == (2, 5, 3)
    model.save_pretrained(tmp_path / "model")
    again = AutoModelForTokenClassification.from_pretrained(tmp_path / "model")
    assert again.config.id2label == dict(enumerate(LABELS))
    assert torch.equal(logits_of(again), logits_of(model))
    assert torch.equal(logits_of(load_token_classifier(tmp_path / "model")), logits_of(model))


@pytest.mark.parametrize("architecture", ["bert", "distilbert", "mpnet", "modernbert"])
def test_layers_are_cut(architecture: str, tmp_path: Path) -> None:
    start = encoder(architecture, tmp_path / "start")
    torch.manual_seed(0)
    whole = build_token_classifier(start, LABELS)
    torch.manual_seed(0)
    model = build_token_classifier(start, LABELS, [0])
    assert (depth(whole.config), depth(model.config)) == (2, 1)
    own, other = model.state_dict(), whole.state_dict()
    assert own.keys() < other.keys()
    assert all(torch.equal(value, other[name]) for name, value in own.items())
    model.save_pretrained(tmp_path / "model")
    assert torch.equal(logits_of(load_token_classifier(tmp_path / "model")), logits_of(model))
    assert not torch.equal(logits_of(model), logits_of(whole))
    with pytest.raises(ValueError, match=r"cut.layers: the model has no layer 4; its layers are 1 to 2"):
        build_token_classifier(start, LABELS, [3])


def test_a_head_for_the_same_labels_is_kept_in_their_order(tmp_path: Path) -> None:
    torch.manual_seed(0)
    teacher = build_token_classifier(write_tiny_model(tmp_path / "start"), LABELS)
    teacher.save_pretrained(tmp_path / "teacher")
    other = build_token_classifier(tmp_path / "teacher", ("I-X", "O", "B-X"))
    torch.testing.assert_close(logits_of(other), logits_of(teacher)[:, :, [2, 0, 1]])
    other.save_pretrained(tmp_path / "other")
    assert saved_labels(tmp_path / "other") == ("I-X", "O", "B-X")


def test_a_head_for_other_labels_of_the_same_number_is_replaced(tmp_path: Path) -> None:
    teacher = build_token_classifier(write_tiny_model(tmp_path / "start"), LABELS)
    teacher.save_pretrained(tmp_path / "teacher")
    torch.manual_seed(5)
    other = build_token_classifier(tmp_path / "teacher", ("O", "B-Y", "I-Y"))
    assert not torch.equal(other.classifier.weight, teacher.classifier.weight)
    assert 0.01 < float(other.classifier.weight.detach().std()) < 0.04
    assert (other.classifier.bias == 0).all()
    torch.manual_seed(5)
    assert torch.equal(
        build_token_classifier(tmp_path / "teacher", ("O", "B-Y", "I-Y")).classifier.weight, other.classifier.weight
    )


def test_the_head_of_a_text_classifier_is_not_taken_for_one_of_tokens(tmp_path: Path) -> None:
    """Both are called ``classifier`` in a BERT, and have the same shape."""
    given = random_classifier("bert")
    given.save_pretrained(tmp_path / "text")
    torch.manual_seed(2)
    found = build_token_classifier(tmp_path / "text", LABELS)
    assert found.classifier.weight.shape == given.classifier.weight.shape
    assert not torch.equal(found.classifier.weight, given.classifier.weight)


def test_an_encoder_with_a_mean_head_of_this_project_is_a_start(tmp_path: Path) -> None:
    given = random_classifier("bert", "mean")
    given.save_pretrained(tmp_path / "mean")
    found = build_token_classifier(tmp_path / "mean", LABELS)
    weights = given.base_model.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in found.base_model.state_dict().items())
    found.save_pretrained(tmp_path / "model")
    assert torch.equal(logits_of(load_token_classifier(tmp_path / "model")), logits_of(found))


def test_missing_weights_and_architectures_without_token_classifiers_are_refused(tmp_path: Path) -> None:
    start = write_tiny_model(tmp_path / "start")
    file = start / "model.safetensors"
    weights = load_file(file)
    save_file({name: value for name, value in weights.items() if "layer.2" not in name}, file, {"format": "pt"})
    with pytest.raises(ValueError, match=r"the weights lack bert.encoder.layer.2.*give the model's own weights"):
        build_token_classifier(start, LABELS)
    file.write_bytes(b"")
    with pytest.raises(ValueError, match=r"start: no weights that load .*save them there with save_pretrained"):
        build_token_classifier(start, LABELS)
    (start / "config.json").write_text('{"model_type": "vit"}', "utf-8")
    with pytest.raises(ValueError, match="transformers has no token classifier of the architecture vit; start from"):
        build_token_classifier(start, LABELS)


def test_only_a_token_classifier_is_loaded_as_one(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no token classifier; give a directory in which one was saved"):
        load_token_classifier(write_tiny_model(tmp_path / "start"))


def test_a_saved_token_classifier_works_in_a_pipeline_of_transformers(tmp_path: Path) -> None:
    start = write_tiny_model(tmp_path / "start")
    torch.manual_seed(0)
    build_token_classifier(start, ("B-X", "I-X", "O")).save_pretrained(tmp_path / "model")
    found = pipeline("token-classification", str(tmp_path / "model"), tokenizer=str(start))("the film was fine")
    assert {one["entity"] for one in found} <= {"B-X", "I-X"}

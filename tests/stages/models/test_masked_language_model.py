"""Masked language models of any encoder: heads that are kept or made, and predictions at chosen places only."""

import threading
from pathlib import Path

import pytest
import torch
from tiny import write_tiny_model
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    BertForMaskedLM,
    PreTrainedModel,
)

from stages.models.loading import build
from stages.models.masked.language_model import PlacePredictor, build_masked_model
from stages.specs.student import Cut, Fresh, Pretrained
from stages.specs.tasks import Task

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
OF_DISTILBERT = {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64}
CONFIGS = {
    "bert": SIZES,
    "roberta": SIZES,
    "distilbert": OF_DISTILBERT,
    "mpnet": SIZES,
    "electra": {**SIZES, "embedding_size": 16},
    "deberta-v2": {**SIZES, "relative_attention": True, "position_biased_input": False},
    "modernbert": {**SIZES, "pad_token_id": 0},
}
TASK = Task(name="task", text=("text",), labels=("a", "b"))


def random_model(architecture: str) -> PreTrainedModel:
    torch.manual_seed(0)
    return AutoModelForMaskedLM.from_config(AutoConfig.for_model(architecture, vocab_size=60, **CONFIGS[architecture]))


@pytest.mark.parametrize("architecture", CONFIGS)
def test_predictions_at_some_places_are_those_of_the_whole_model_and_so_are_their_gradients(architecture: str) -> None:
    model = random_model(architecture).eval()
    ids = torch.randint(5, 60, (3, 9))
    inputs = {"input_ids": ids, "attention_mask": (torch.arange(9) < torch.tensor([[9], [6], [4]])).long()}
    places = torch.tensor([2, 7, 9 + 5, 18 + 3])
    targets = torch.tensor([8, 9, 10, 11])
    whole = model(**inputs).logits.reshape(-1, 60)[places]
    nn.functional.cross_entropy(whole, targets).backward()
    expected = {name: weights.grad for name, weights in model.named_parameters()}
    model.zero_grad()
    predictor = PlacePredictor(model)
    found = predictor(inputs, places)
    assert predictor.selects_states, "the head runs at the chosen places alone"
    nn.functional.cross_entropy(found.logits, targets).backward()
    torch.testing.assert_close(found.logits, whole)
    states = model.base_model(**inputs)[0]
    torch.testing.assert_close(found.states, states.reshape(-1, states.shape[-1])[places])
    for name, weights in model.named_parameters():
        torch.testing.assert_close(weights.grad, expected[name], rtol=1e-4, atol=1e-7, msg=name)


def test_models_that_are_loaded_at_once_in_threads_of_a_process_have_all_of_their_weights(tmp_path: Path) -> None:
    random_model("bert").save_pretrained(tmp_path)
    together, found = threading.Barrier(4), list[bool]()

    def load() -> None:
        together.wait(60)
        found.extend(build_masked_model(Pretrained(), tmp_path).new_head for _ in range(5))

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [False] * 20


class MixingHead(nn.Module):
    """A head that predicts a token from the states of all places of its row."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, states_BTH: torch.Tensor) -> torch.Tensor:
        return self.head(states_BTH + states_BTH.mean(1, keepdim=True))


def test_a_head_that_reads_the_states_of_other_places_is_given_them_all() -> None:
    model = random_model("bert").eval()
    model.cls = MixingHead(model.cls)
    inputs = {"input_ids": torch.randint(5, 60, (2, 6))}
    places, predictor = torch.tensor([1, 8]), PlacePredictor(model)
    assert not predictor.selects_states
    found = predictor(inputs, places)
    torch.testing.assert_close(found.logits, model(**inputs).logits.reshape(-1, 60)[places])
    torch.testing.assert_close(found.states, model.base_model(**inputs)[0].reshape(-1, found.states.shape[1])[places])


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT without a head."""
    return write_tiny_model(tmp_path_factory.mktemp("encoder"), layers=3, width=16, tie_word_embeddings=False)


def is_tied(model: BertForMaskedLM) -> bool:
    embeddings = model.bert.embeddings.word_embeddings.weight
    return model.cls.predictions.decoder.weight.data_ptr() == embeddings.data_ptr()


def test_an_encoder_without_a_head_gets_one_that_is_tied_to_its_word_embeddings(encoder: Path, tmp_path: Path) -> None:
    found = build_masked_model(Pretrained(), encoder)
    assert found.new_head and isinstance(found.model, BertForMaskedLM) and is_tied(found.model)
    found.model.save_pretrained(tmp_path)
    again = build_masked_model(Pretrained(), tmp_path)
    assert not again.new_head and isinstance(again.model, BertForMaskedLM) and is_tied(again.model)
    assert all(map(torch.equal, again.model.parameters(), found.model.parameters())), "the head is kept"


@pytest.mark.parametrize("head", ["cls", "mean"])
def test_a_classifier_gives_its_encoder_and_a_cut_the_layers(encoder: Path, tmp_path: Path, head: str) -> None:
    torch.manual_seed(1)
    classifier = build(Pretrained.model_validate({"head": head}), encoder, TASK)
    classifier.save_pretrained(tmp_path)
    found = build_masked_model(Cut(layers=(0, 2)), tmp_path)
    assert found.new_head and found.model.config.num_hidden_layers == 2
    layers = [classifier.base_model.encoder.layer[place] for place in (0, 2)]
    for own, layer in zip(found.model.base_model.encoder.layer, layers, strict=True):
        assert all(map(torch.equal, own.parameters(), layer.parameters()))
    found.model.save_pretrained(tmp_path / "cut")
    assert AutoModelForSequenceClassification.from_pretrained(tmp_path / "cut").config.num_hidden_layers == 2


def test_random_weights_have_the_changed_configuration(encoder: Path) -> None:
    torch.manual_seed(3)
    found = build_masked_model(Fresh(changes=(("hidden_size", 8), ("num_hidden_layers", 1))), encoder)
    assert found.new_head and (found.model.config.hidden_size, found.model.config.num_hidden_layers) == (8, 1)
    assert isinstance(found.model, BertForMaskedLM) and is_tied(found.model)


def test_an_encoder_that_lacks_weights_is_refused(encoder: Path, tmp_path: Path) -> None:
    model = BertForMaskedLM.from_pretrained(encoder)
    state = {name: value for name, value in model.state_dict().items() if "layer.1.attention.output.dense" not in name}
    model.save_pretrained(tmp_path, state_dict=state)
    with pytest.raises(ValueError, match=r"lack bert\.encoder\.layer\.1\.attention\.output\.dense\.bias .* and 1 more"):
        build_masked_model(Pretrained(), tmp_path)

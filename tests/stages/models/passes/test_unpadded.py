"""Layers that compute the tokens of a batch alone, beside the same layers on the padded batch."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import random_classifier
from torch import Tensor, nn

from stages.models.architectures import UNPADDED
from stages.models.cutting import encoder_layers
from stages.models.embeddings.words import embed
from stages.models.forward import forward
from stages.models.passes.unpadded import compute_tokens_only

LENGTHS = (9, 4, 7)


def padded_rows(lengths: tuple[int, ...] = LENGTHS) -> dict[str, Tensor]:
    ids = torch.randint(5, 60, (3, 9), generator=torch.Generator().manual_seed(2))
    return {"input_ids": ids, "attention_mask": (torch.arange(9) < torch.tensor(lengths)[:, None]).long()}


def both(architecture: str, head: str = "cls", **config: object) -> tuple[Any, Any]:
    """A small random model without dropout, and a copy of it whose layers compute tokens alone."""
    fields = ("hidden_dropout_prob", "attention_probs_dropout_prob", "dropout", "attention_dropout")
    none = dict.fromkeys((*fields, "seq_classif_dropout"), 0.0)
    model = random_classifier(architecture, head, **{**none, **config})
    other = copy.deepcopy(model)
    compute_tokens_only(other)
    return model, other


def layers_of(model: Any) -> list[nn.Module]:
    holder, name = encoder_layers(model)
    return list(getattr(holder, name))


@pytest.mark.parametrize("head", ["cls", "mean"])
@pytest.mark.parametrize("architecture", UNPADDED)
def test_logits_states_of_tokens_and_gradients_are_those_of_the_padded_model(architecture: str, head: str) -> None:
    inputs = padded_rows()
    mask = inputs["attention_mask"].bool()
    found = []
    for model in both(architecture, head):
        outputs = forward(model.train(), inputs, hidden=True)
        (outputs.logits.square().sum() + sum(state[mask].square().sum() for state in outputs.states)).backward()
        found.append((outputs, {name: weight.grad for name, weight in model.named_parameters()}))
    (padded, gradients), (unpadded, others) = found
    assert torch.allclose(padded.logits, unpadded.logits, atol=1e-5)
    assert [state.shape for state in padded.states] == [state.shape for state in unpadded.states]
    for one, other in zip(padded.states, unpadded.states, strict=True):
        assert torch.allclose(one[mask], other[mask], atol=1e-5)
    assert gradients.keys() == others.keys()
    for name, gradient in gradients.items():
        assert (gradient is None) == (others[name] is None)
        if gradient is not None:
            assert torch.allclose(gradient, others[name], rtol=1e-4, atol=1e-5), name


@pytest.mark.parametrize("architecture", UNPADDED)
@torch.no_grad()
def test_linear_layers_are_given_the_tokens_of_all_rows_and_no_padding(architecture: str) -> None:
    _, model = both(architecture)
    read: list[tuple[int, ...]] = []
    for layer in layers_of(model):
        for part in layer.modules():
            if isinstance(part, nn.Linear):
                part.register_forward_pre_hook(lambda _, args: read.append(tuple(args[0].shape[:2])))
    forward(model, padded_rows())
    assert len(read) == 12 and set(read) == {(1, sum(LENGTHS))}


@pytest.mark.parametrize("architecture", UNPADDED)
@torch.no_grad()
def test_rows_of_one_length_are_computed_as_they_are(architecture: str) -> None:
    padded, unpadded = both(architecture)
    inputs = padded_rows((9, 9, 9))
    assert torch.allclose(forward(padded, inputs).logits, forward(unpadded, inputs).logits, atol=1e-6)
    without_mask = {"input_ids": inputs["input_ids"]}
    assert torch.allclose(forward(padded, inputs).logits, forward(unpadded, without_mask).logits, atol=1e-6)


@torch.no_grad()
def test_a_mask_that_is_given_by_position_is_found() -> None:
    padded, unpadded = both("bert")
    inputs = padded_rows()
    states = [
        model.base_model(inputs["input_ids"], inputs["attention_mask"]).last_hidden_state
        for model in (padded, unpadded)
    ]
    assert torch.allclose(states[0][1, :4], states[1][1, :4], atol=1e-5)


@torch.no_grad()
def test_word_embeddings_are_read_in_the_place_of_tokens() -> None:
    padded, unpadded = both("bert")
    inputs = padded_rows()
    embedded = {"inputs_embeds": embed(padded, inputs["input_ids"]), "attention_mask": inputs["attention_mask"]}
    assert torch.allclose(forward(padded, inputs).logits, forward(unpadded, embedded).logits, atol=1e-5)


def test_dropout_is_drawn_for_tokens_alone_and_a_seed_gives_the_same_masks() -> None:
    _, model = both("bert", hidden_dropout_prob=0.5, attention_probs_dropout_prob=0.5)
    model.train()
    found = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        found.append(forward(model, padded_rows()).logits)
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])


def test_weights_have_the_names_they_had_and_the_saved_configuration_is_the_same(tmp_path: Path) -> None:
    padded, unpadded = both("bert")
    assert list(padded.state_dict()) == list(unpadded.state_dict())
    configs = []
    for name, model in (("padded", padded), ("unpadded", unpadded)):
        model.save_pretrained(tmp_path / name)
        configs.append(json.loads((tmp_path / name / "config.json").read_text("utf-8")))
    assert configs[0] == configs[1]


def test_a_model_is_changed_once_however_often_that_is_requested() -> None:
    padded, model = both("bert")
    hooks = len(model.base_model._forward_pre_hooks)
    compute_tokens_only(model)
    assert len(model.base_model._forward_pre_hooks) == hooks == 1
    assert torch.allclose(forward(padded, padded_rows()).logits, forward(model, padded_rows()).logits, atol=1e-5)
    assert type(layers_of(model)[0]).__name__ == "UnpaddedBertLayer"


@pytest.mark.parametrize("architecture", ["mpnet", "modernbert", "deberta"])
def test_an_architecture_whose_layers_need_padding_is_refused(architecture: str) -> None:
    fields: dict[str, object] = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]}
    model = random_classifier(architecture, "cls", **(fields if architecture == "deberta" else {}))
    with pytest.raises(ValueError, match=f"^{architecture}: its layers compute padding; use one of bert, camembert, "):
        compute_tokens_only(model)

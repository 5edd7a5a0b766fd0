"""Attention scores: what each layer's softmax is given, for every architecture that is known to give them."""

import math
from typing import Any

import pytest
import torch
from tiny import random_classifier
from torch import Tensor, nn

from stages.models.architectures import GIVES_SCORES
from stages.models.forward import attention_maps, attention_scores, forward, recorded_scores

FIELDS: dict[str, dict[str, object]] = {
    "deberta": {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "max_relative_positions": 8},
    "layoutlm": {"max_2d_position_embeddings": 8},
    "mobilebert": {"embedding_size": 16, "intra_bottleneck_size": 16, "true_hidden_size": 16},
}
"""What a small random model of an architecture sets besides its sizes."""

LENGTHS = (9, 4, 7)


def eager(architecture: str, head: str = "cls", **config: object) -> Any:
    model = random_classifier(architecture, head, **{**FIELDS.get(architecture, {}), **config})
    model.set_attn_implementation("eager")
    return model


def padded_rows() -> dict[str, Tensor]:
    ids = torch.randint(5, 60, (3, 9), generator=torch.Generator().manual_seed(2))
    return {"input_ids": ids, "attention_mask": (torch.arange(9) < torch.tensor(LENGTHS)[:, None]).long()}


@pytest.mark.parametrize("head", ["cls", "mean"])
@pytest.mark.parametrize("architecture", GIVES_SCORES)
@torch.no_grad()
def test_the_softmax_of_the_scores_is_the_models_own_attention_map(architecture: str, head: str) -> None:
    model, inputs = eager(architecture, head), padded_rows()
    scores, maps = attention_scores(model, inputs), attention_maps(model, inputs)
    assert [tuple(one.shape) for one in scores] == [(3, 2, 9, 9)] * 2
    for one, other in zip(scores, maps, strict=True):
        assert torch.equal(one.softmax(-1), other)
        for row, length in enumerate(LENGTHS):
            real = one[row, :, :length, :length]
            assert real.isfinite().all() and real.softmax(-1).allclose(other[row, :, :length, :length], atol=1e-6)


@torch.no_grad()
def test_the_scores_of_a_bert_are_products_of_queries_and_keys_over_the_root_of_their_width() -> None:
    model, inputs = eager("bert"), padded_rows()
    scores, states = attention_scores(model, inputs), forward(model, inputs, hidden=True).states
    for layer, found in enumerate(scores):
        own = model.bert.encoder.layer[layer].attention.self
        query, key = (part(states[layer]).view(3, 9, 2, 8).transpose(1, 2) for part in (own.query, own.key))
        by_hand = query @ key.transpose(-1, -2) / math.sqrt(8)
        for row, length in enumerate(LENGTHS):
            assert torch.allclose(found[row, :, :length, :length], by_hand[row, :, :length, :length], atol=1e-5)


@torch.no_grad()
def test_the_scores_of_an_mpnet_have_its_bias_of_relative_positions() -> None:
    model, inputs = eager("mpnet"), padded_rows()
    with_bias = attention_scores(model, inputs)[0]
    bias = model.mpnet.encoder.compute_position_bias(torch.zeros(3, 9, 16))
    assert bias.abs().max() > 0.1
    model.mpnet.encoder.relative_attention_bias.weight.zero_()
    without = attention_scores(model, inputs)[0]
    assert torch.allclose(with_bias[0], (without + bias)[0], atol=1e-5), "the first row has no padding"


def test_a_training_pass_gives_scores_before_dropout_with_gradients_to_queries_and_keys() -> None:
    model, inputs = eager("bert", attention_probs_dropout_prob=0.5, hidden_dropout_prob=0.0), padded_rows()
    with torch.no_grad():
        expected = attention_scores(model, inputs)[0]
    model.train()
    with recorded_scores(model) as scores:
        forward(model, inputs, hidden=True)
    assert torch.equal(scores[0], expected), "the first layer's scores do not depend on its own dropout"
    scores[1][:, :, :4, :4].square().sum().backward()
    first, second = (layer.attention.self for layer in model.bert.encoder.layer)
    for part in (first.query, first.key, first.value, second.query, second.key):
        assert isinstance(part, nn.Linear) and part.weight.grad is not None and part.weight.grad.abs().sum() > 0
    assert second.value.weight.grad is None


def test_a_pass_that_never_forms_scores_is_refused() -> None:
    model = random_classifier("bert", attn_implementation="sdpa")
    with pytest.raises(ValueError, match="bert: 0 tensors of attention scores for 2 layers; use another architecture"):
        attention_scores(model, padded_rows())

"""Which adapter a model has, and what it gives of a model that reads tokens."""

from typing import ClassVar

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

from stages.models.adapters.by_model import adapter_of
from stages.models.adapters.text import TextAdapter

CONFIG = BertConfig(
    vocab_size=30, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, num_labels=3
)
INPUTS = {"input_ids": torch.arange(12).reshape(2, 6), "attention_mask": torch.tensor([[1] * 6, [1] * 4 + [0] * 2])}


def test_a_model_of_tokens_gives_its_logits_the_states_of_every_layer_and_the_mask_of_its_tokens() -> None:
    model = BertForSequenceClassification(CONFIG).eval()
    adapter = adapter_of(model)
    with torch.no_grad():
        found = adapter.outputs(model, {**INPUTS, "labels": torch.zeros(2)}, True)
        expected = model(**INPUTS, output_hidden_states=True)
    assert isinstance(adapter, TextAdapter)
    assert torch.equal(found.logits, expected.logits)
    assert all(torch.equal(*pair) for pair in zip(found.states, expected.hidden_states, strict=True))
    assert found.mask is INPUTS["attention_mask"]
    assert adapter.widths(model) == tuple(states.shape[-1] for states in found.states) == (16, 16, 16)


def test_states_are_given_only_where_they_are_requested() -> None:
    model = BertForSequenceClassification(CONFIG).eval()
    assert adapter_of(model).outputs(model, INPUTS, False).states == ()


def test_a_pass_costs_the_same_tokens_on_each_thread_of_a_cpu_and_on_a_gpu_with_any_threads() -> None:
    adapter = TextAdapter()
    assert adapter.pass_cost("cpu", 3) == 3 * adapter.pass_cost("cpu", 1)
    assert adapter.pass_cost("cuda:1", 3) == adapter.pass_cost("cuda:0", 1)


def test_a_model_whose_main_input_has_no_adapter_is_refused_by_name() -> None:
    class ReadsSounds(nn.Module):
        main_input_name: ClassVar[str] = "input_values"

    with pytest.raises(ValueError, match=r"^ReadsSounds: reads input_values; use a model of input_ids"):
        adapter_of(ReadsSounds())

"""How much the states that a classification head reads differ between rows."""

from collections.abc import Mapping

import torch
from transformers import PreTrainedModel

from stages.corpus.batches import sorted_batches
from stages.corpus.rowset import Rowset
from stages.models.forward import pass_cost, pooled_state
from stages.outputs.layer_variance import evenly_spaced, variance_share
from stages.specs.student import Head

SAMPLED_ROWS = 32
"""Rows over which the variance of the last layer's states is measured. Where rows are alike it is 1e-5 or less, and 0.2
or more where they are not, so that few are enough."""


def last_state_variances(model: PreTrainedModel, rows: Rowset, device: str) -> Mapping[Head, float]:
    """The ``variance_share`` of the states that a head of each kind reads of the last layer, from at most
    ``SAMPLED_ROWS`` of the rows. The model is left in the mode (train or eval) it was in."""
    sample = evenly_spaced(len(rows), SAMPLED_ROWS)
    states: dict[Head, list[torch.Tensor]] = {"cls": [], "mean": []}
    training = model.training
    model.eval()
    with torch.no_grad():
        for chosen in sorted_batches(rows.costs[sample], pass_cost(model, device)):
            inputs = rows.batch(sample[chosen], device).inputs
            last = model.base_model(**inputs).last_hidden_state
            for head, found in states.items():
                found.append(pooled_state(last, inputs["attention_mask"], head).cpu())
    model.train(training)
    return {head: variance_share(torch.cat(found).numpy()) for head, found in states.items()}

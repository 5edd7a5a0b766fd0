"""A model's logits for a whole split, and checks on what a model computes."""

from collections.abc import Iterable, Mapping
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed
from torch import nn
from transformers import PreTrainedModel

from stages.corpus.batches import sorted_batches
from stages.corpus.rowset import Rowset
from stages.models.forward import forward, pooled_state
from stages.specs.student import Head

TOKENS_PER_PASS = {"cpu": 1024, "cuda": 65536}
"""Padded tokens of one forward pass, by kind of device; on a CPU, for each thread. The activations of more tokens do
not fit in a CPU's caches (measured: 30 % more rows a second than with 4,096 on one thread)."""


def tokens_per_pass(device: str, threads: int = 1) -> int:
    """Padded tokens of one forward pass on this device, before any lack of memory."""
    kind = device.split(":")[0]
    return TOKENS_PER_PASS[kind] * (threads if kind == "cpu" else 1)


def predict(
    model: nn.Module,
    rows: Rowset,
    outputs: int,
    device: str,
    rank: int = 0,
    world_size: int = 1,
    precision: str = "float32",
) -> npt.NDArray[np.float32]:
    """[rows, outputs]: the logits of every row. Workers share the batches, and all return the logits of all rows. The
    model is left in the mode (train or eval) it was in."""
    found = np.zeros((len(rows), outputs), np.float32)
    training = model.training
    model.eval()
    with torch.inference_mode(), autocast(device, precision):
        for batch_rows in sorted_batches(rows.tokens.lengths, tokens_per_pass(device))[rank::world_size]:
            logits, _ = forward(model, rows.batch(batch_rows, device).inputs)
            found[batch_rows] = logits.float().cpu().numpy()
    model.train(training)
    if world_size > 1:
        whole = torch.from_numpy(found).to(device)
        torch.distributed.all_reduce(whole)
        found = whole.cpu().numpy()
    return found


HEAD_SAMPLE = 32
"""Rows over which the variance of the last layer's states is measured. Where rows are alike it is 1e-5 or less, and 0.2
or more where they are not, so that few are enough."""


def last_state_variances(model: nn.Module, rows: Rowset, device: str) -> Mapping[Head, float]:
    """The variance between rows of the states that a head of each kind reads of the last layer, as a share of their
    mean squared norm, from at most ``HEAD_SAMPLE`` of the rows, evenly spaced. The model is left in the mode (train or
    eval) it was in."""
    sample = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), HEAD_SAMPLE)).astype(np.int64))
    states: dict[Head, list[torch.Tensor]] = {"cls": [], "mean": []}
    training = model.training
    model.eval()
    with torch.no_grad():
        for chosen in sorted_batches(rows.tokens.lengths[sample], tokens_per_pass(device)):
            inputs = rows.batch(sample[chosen], device).inputs
            last = cast(PreTrainedModel, model).base_model(**inputs).last_hidden_state
            for head, found in states.items():
                found.append(pooled_state(last, inputs["attention_mask"], head).double().cpu())
    model.train(training)
    return {head: _variance(torch.cat(found).numpy()) for head, found in states.items()}


def _variance(states: npt.NDArray[np.float64]) -> float:
    """The variance between rows over the mean squared norm; 0 for states of zeros."""
    energy = float(np.square(states).sum(1).mean())
    return float(np.square(states - states.mean(0)).sum(1).mean()) / energy if energy else 0.0


def autocast(device: str, precision: str) -> torch.autocast:
    """Autocast to bfloat16 or float16 if that is ``precision``; disabled for float32."""
    half = torch.float16 if precision == "float16" else torch.bfloat16
    return torch.autocast(device.split(":")[0], dtype=half, enabled=precision != "float32")


def finite_or_raise(
    values: npt.NDArray[np.floating], names: Iterable[bytes], what: str, remedy: str = "check the model's weights"
) -> None:
    """Raise ValueError with the row key of the first row that has a value which is not finite. ``names`` are the row
    keys; ``what`` names the values in the message, and ``remedy`` ends it."""
    bad = ~np.isfinite(values.reshape(len(values), -1)).all(-1)
    if bad.any():
        first = list(names)[int(np.flatnonzero(bad)[0])].hex()
        raise ValueError(f"{what}: {int(bad.sum())} rows are not finite, the first is row_key {first}; {remedy}")


def out_of_memory(error: RuntimeError) -> bool:
    """Whether ``error`` is torch's error for a lack of memory, on a device or on the host."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)

"""A model's logits for a whole split, and the scores made of them."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed
from torch import nn

from stages.corpus.batches import sorted_batches
from stages.corpus.rowset import Rowset
from stages.models.forward import forward

TOKENS = {"cpu": 1024, "cuda": 65536}
"""Padded tokens of a forward pass. On a CPU what a layer makes of more does not stay in its caches."""


def predict(
    model: nn.Module,
    rows: Rowset,
    outputs: int,
    device: str,
    rank: int = 0,
    world_size: int = 1,
    precision: str = "float32",
) -> npt.NDArray[np.float32]:
    """[rows, outputs]. Workers share the batches; all return all of it. The model is left in the mode it was in."""
    found = np.zeros((len(rows), outputs), np.float32)
    training = model.training
    model.eval()
    with torch.inference_mode(), autocast(device, precision):
        for batch_rows in sorted_batches(rows.tokens.lengths, TOKENS[device.split(":")[0]])[rank::world_size]:
            logits, _ = forward(model, rows.batch(batch_rows, device).inputs)
            found[batch_rows] = logits.float().cpu().numpy()
    model.train(training)
    if world_size > 1:
        whole = torch.from_numpy(found).to(device)
        torch.distributed.all_reduce(whole)
        found = whole.cpu().numpy()
    return found


def autocast(device: str, precision: str) -> torch.autocast:
    """bfloat16 or float16 autocast where the recipe names it; never otherwise."""
    half = torch.float16 if precision == "float16" else torch.bfloat16
    return torch.autocast(device.split(":")[0], dtype=half, enabled=precision != "float32")


def finite_or_raise(values: npt.NDArray[np.floating], names: Iterable[bytes], what: str) -> None:
    """Raise ValueError naming the first row whose values are not finite."""
    bad = ~np.isfinite(values.reshape(len(values), -1)).all(-1)
    if bad.any():
        first = list(names)[int(np.flatnonzero(bad)[0])].hex()
        raise ValueError(
            f"{what}: {int(bad.sum())} rows are not finite, the first is row_key {first}; check the model's weights"
        )


def out_of_memory(error: RuntimeError) -> bool:
    """Whether this is a lack of memory, on a device or on the host."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)

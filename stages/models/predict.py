"""A model's logits for a whole split, and checks on what a model computes."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed
from torch import nn

from stages.corpus.batches import sorted_batches
from stages.corpus.rowset import Rowset
from stages.device_turn import TURN
from stages.models.forward import forward, pass_cost


def predict(
    model: nn.Module,
    rows: Rowset,
    outputs: int,
    device: str,
    rank: int = 0,
    world_size: int = 1,
    precision: str = "float32",
    decided: bool = True,
) -> npt.NDArray[np.float32]:
    """[rows, outputs]: the logits of every row; of rows with entries those of every entry, one row after the other.
    Workers share the batches, and all return the logits of all rows. The model is left in the mode (train or eval) it
    was in. With ``decided``, the largest logits are the predictions, also of a model that predicts in another way
    (``ForwardOutputs.decided``)."""
    found = np.zeros((len(rows.labels), outputs), np.float32)
    training = model.training
    model.eval()
    with torch.inference_mode(), autocast(device, precision):
        for batch_rows in sorted_batches(rows.costs, pass_cost(model, device))[rank::world_size]:
            with TURN:
                given = forward(model, rows.batch(batch_rows, device).inputs)
                logits = given.decided() if decided and given.decided is not None else given.logits
            values = logits.float().cpu().numpy()
            if rows.offsets is None:
                found[batch_rows] = values
            else:
                inside = np.arange(values.shape[1]) < rows.entry_counts(batch_rows)[:, None]
                found[rows.places(batch_rows)] = values[inside]
    model.train(training)
    if world_size > 1:
        whole = torch.from_numpy(found).to(device)
        torch.distributed.all_reduce(whole)
        found = whole.cpu().numpy()
    return found


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

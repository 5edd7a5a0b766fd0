"""Frozen. An epoch of fine-tuning and a teacher's forward on a GPU as one writes them by hand, with torch and
transformers alone. ``benchmarks/gpu.py`` calls them with its own rows and batches of row numbers."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import get_linear_schedule_with_warmup


def inputs_of(rows: Sequence[Tensor], chosen: np.ndarray, pad: int, device: str) -> dict[str, Tensor]:
    """The chosen rows as a model takes them, padded to the longest."""
    ids = pad_sequence([rows[i] for i in chosen], batch_first=True, padding_value=pad)
    return {"input_ids": copied(ids, device), "attention_mask": copied((ids != pad).long(), device)}


def copied(values: Tensor, device: str) -> Tensor:
    """To a GPU from pinned memory, without waiting for it."""
    return values if device == "cpu" else values.pin_memory().to(device, non_blocking=True)


def epoch(
    model: nn.Module,
    rows: Sequence[Tensor],
    labels: Tensor,
    batches: Sequence[np.ndarray],
    pad: int,
    device: str,
    precision: str,
) -> None:
    """One epoch of fine-tuning: AdamW, linear warm-up, clipping, autocast. Returns when the device has finished."""
    model.to(device).train()
    decayed = [parameter for parameter in model.parameters() if parameter.ndim >= 2]
    others = [parameter for parameter in model.parameters() if parameter.ndim < 2]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=5e-5, fused=True)
    schedule = get_linear_schedule_with_warmup(optimizer, round(0.06 * len(batches)), len(batches))
    total = torch.zeros((), device=device)
    for chosen in batches:
        inputs = inputs_of(rows, chosen, pad, device)
        with torch.autocast(device.split(":")[0], dtype=torch.bfloat16, enabled=precision == "bfloat16"):
            loss = model(**inputs, labels=copied(labels[torch.from_numpy(chosen)], device)).loss
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        total += loss.detach()
    if not math.isfinite(float(total)):  # waits for the device
        raise ValueError(f"the loss of the bare loop is {float(total)}")


def forward(model: nn.Module, rows: Sequence[Tensor], batches: Sequence[np.ndarray], pad: int, device: str) -> None:
    """Logits and the mean state of each layer, in float16 on the host, of every row."""
    with torch.inference_mode(), torch.autocast(device.split(":")[0], dtype=torch.bfloat16):
        for chosen in batches:
            inputs = inputs_of(rows, chosen, pad, device)
            found = model(**inputs, output_hidden_states=True)
            weights = inputs["attention_mask"][:, :, None].float()
            means = [(state.float() * weights).sum(1) / weights.sum(1) for state in found.hidden_states]
            torch.stack(means).half().cpu()
            found.logits.float().cpu()

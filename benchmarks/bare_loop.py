"""Frozen. One epoch of fine-tuning as one writes it by hand, with torch and transformers alone.

    OMP_WAIT_POLICY=passive python benchmarks/bare_loop.py MODEL_DIRECTORY ROWS.npz [THREADS]

ROWS.npz holds ``tokens`` (all rows end to end), ``offsets``, ``labels`` and ``pad``. Prints the seconds of an
epoch, after the start and an epoch's first steps that are not counted. Benchmarks call ``epoch`` itself.
"""

import sys
import time
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForSequenceClassification, get_linear_schedule_with_warmup

Batches = Sequence[np.ndarray]


def pooled_batches(lengths: np.ndarray, size: int = 32, pool: int = 50, seed: int = 0) -> list[np.ndarray]:
    """Shuffle; sort pools of ``pool`` batches by length; shuffle the batches."""
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(lengths))
    batches = []
    for start in range(0, len(order), size * pool):
        rows = order[start : start + size * pool]
        rows = rows[np.argsort(lengths[rows], kind="stable")]
        batches += [rows[i : i + size] for i in range(0, len(rows), size)]
    return [batches[i] for i in generator.permutation(len(batches))]


def split_rows(tokens: np.ndarray, offsets: np.ndarray) -> list[Tensor]:
    return [torch.from_numpy(row.astype(np.int64)) for row in np.split(tokens, offsets[1:-1])]


def epoch(model: nn.Module, rows: Sequence[Tensor], labels: Tensor, batches: Batches, pad: int) -> float:
    """Train ``model`` on ``batches`` of row numbers; return the mean loss of a batch."""
    decayed = [parameter for parameter in model.parameters() if parameter.ndim >= 2]
    others = [parameter for parameter in model.parameters() if parameter.ndim < 2]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=5e-5, fused=True)
    schedule = get_linear_schedule_with_warmup(optimizer, round(0.06 * len(batches)), len(batches))
    model.train()
    total = torch.zeros(())
    for chosen in batches:
        ids = pad_sequence([rows[i] for i in chosen], batch_first=True, padding_value=pad)
        mask = (ids != pad).long()
        loss = model(input_ids=ids, attention_mask=mask, labels=labels[chosen]).loss
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        total += loss.detach()
    return float(total) / len(batches)


def main(directory: str, file: str, threads: int) -> None:
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    given = np.load(file)
    rows, labels, pad = (
        split_rows(given["tokens"], given["offsets"]),
        torch.from_numpy(given["labels"]),
        int(given["pad"]),
    )
    model = AutoModelForSequenceClassification.from_pretrained(directory)
    batches = pooled_batches(np.diff(given["offsets"]))
    epoch(model, rows, labels, batches[:8], pad)
    start = time.perf_counter()
    loss = epoch(model, rows, labels, batches, pad)
    print(f"{time.perf_counter() - start:.3f} s  {len(rows)} rows  {len(batches)} steps  mean loss {loss:.4f}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 1)

"""Frozen. A model's forward over batches of like length, with torch and transformers alone.

    OMP_WAIT_POLICY=passive python benchmarks/bare_forward.py MODEL_DIRECTORY ROWS.npz [THREADS]

ROWS.npz holds ``tokens`` (all rows end to end), ``offsets`` and ``pad``. Prints rows a second with every hidden
state asked for, after the start and a batch that is not counted. Benchmarks call ``forward`` itself.
"""

import sys
import time
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForSequenceClassification

Batches = Sequence[np.ndarray]


def sorted_batches(lengths: np.ndarray, tokens: int = 4096) -> list[np.ndarray]:
    """Longest first, at most ``tokens`` padded tokens a batch."""
    order = np.argsort(-lengths, kind="stable")
    batches, start = [], 0
    while start < len(order):
        count = max(1, tokens // int(lengths[order[start]]))
        batches.append(order[start : start + count])
        start += count
    return batches


def split_rows(tokens: np.ndarray, offsets: np.ndarray) -> list[Tensor]:
    return [torch.from_numpy(row.astype(np.int64)) for row in np.split(tokens, offsets[1:-1])]


def forward(
    model: nn.Module, rows: Sequence[Tensor], batches: Batches, pad: int, hidden: bool = True, width: int = 0
) -> None:
    """Run ``model`` over ``batches`` of row numbers, padded to their longest row, or to ``width`` if that is more."""
    model.eval()
    with torch.inference_mode():
        for chosen in batches:
            ids = pad_sequence([rows[i] for i in chosen], batch_first=True, padding_value=pad)
            ids = functional.pad(ids, (0, max(0, width - ids.shape[1])), value=pad)
            model(input_ids=ids, attention_mask=(ids != pad).long(), output_hidden_states=hidden)


def main(directory: str, file: str, threads: int) -> None:
    torch.set_num_threads(threads)
    given = np.load(file)
    rows, pad = split_rows(given["tokens"], given["offsets"]), int(given["pad"])
    model = AutoModelForSequenceClassification.from_pretrained(directory)
    batches = sorted_batches(np.diff(given["offsets"]))
    forward(model, rows, batches[-1:], pad)
    start = time.perf_counter()
    forward(model, rows, batches, pad)
    seconds = time.perf_counter() - start
    print(f"{len(rows) / seconds:.1f} rows/s  {len(rows)} rows  {len(batches)} batches  {seconds:.3f} s")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 1)

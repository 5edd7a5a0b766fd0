"""Frozen. Vanilla KD in the manner of the methods' released code, with torch and transformers alone.

    OMP_WAIT_POLICY=passive python benchmarks/original_loop.py STUDENT_DIRECTORY TEACHER_DIRECTORY ROWS.npz [THREADS]

As there (the Annealing-KD script for GLUE, 2022): rows padded to 128 when they are tokenised, a RandomSampler, the
teacher in eval mode at every step and with its graph, so that the backward pass goes through it too, the loss
fetched at every step, AdamW neither fused nor frugal, the norm clipped at 1, a linear schedule. The loss is that of
the same authors' minimax code, 0.5 CE + 0.5 tau^2 KL with tau 2. ROWS.npz is as for ``bare_loop``.
"""

import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, RandomSampler, TensorDataset
from transformers import AutoModelForSequenceClassification, get_linear_schedule_with_warmup


def padded(rows: Sequence[Tensor], labels: Tensor, pad: int, width: int = 128, size: int = 32) -> DataLoader[Any]:
    """Batches of (input_ids, attention_mask, token_type_ids, labels), every row ``width`` long."""
    ids = torch.stack([functional.pad(row, (0, width - len(row)), value=pad) for row in rows])
    data = TensorDataset(ids, (ids != pad).long(), torch.zeros_like(ids), labels)
    return DataLoader(data, sampler=RandomSampler(data), batch_size=size)


def train(student: nn.Module, teacher: nn.Module, loader: DataLoader[Any], epochs: int = 1, lr: float = 5e-5) -> float:
    """Return the mean loss of a batch. A frozen teacher has no graph; the student learns the same from it."""
    tau, steps = 2.0, epochs * len(loader)
    matrices = [parameter for parameter in student.parameters() if parameter.ndim >= 2]
    vectors = [parameter for parameter in student.parameters() if parameter.ndim < 2]
    groups = [{"params": matrices, "weight_decay": 0.01}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=lr)
    schedule = get_linear_schedule_with_warmup(optimizer, round(0.06 * steps), steps)
    student.zero_grad()
    total = 0.0
    for _ in range(epochs):
        for ids, mask, types, labels in loader:
            student.train()
            teacher.eval()
            learned = student(input_ids=ids, attention_mask=mask, token_type_ids=types)[0]
            taught = teacher(input_ids=ids, attention_mask=mask, token_type_ids=types)[0]
            soft = functional.kl_div(
                functional.log_softmax(learned / tau, -1), functional.softmax(taught / tau, -1), reduction="batchmean"
            )
            loss = 0.5 * functional.cross_entropy(learned, labels) + 0.5 * tau**2 * soft
            loss.backward()
            total += loss.item()
            nn.utils.clip_grad_norm_(student.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            student.zero_grad()
    return total / steps


def main(directory: str, teaching: str, file: str, threads: int) -> None:
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    given = np.load(file)
    rows = torch.from_numpy(given["tokens"].astype(np.int64)).split(np.diff(given["offsets"]).tolist())
    loader = padded(rows, torch.from_numpy(given["labels"]), int(given["pad"]))
    student, teacher = map(AutoModelForSequenceClassification.from_pretrained, (directory, teaching))
    start = time.perf_counter()
    loss = train(student, teacher, loader)
    print(f"{time.perf_counter() - start:.3f} s  {len(rows)} rows  {len(loader)} steps  mean loss {loss:.4f}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]) if len(sys.argv) > 4 else 1)

"""Frozen. Vanilla KD by TextBrewer's own ``GeneralDistiller``, set up as its README has it.

    OMP_WAIT_POLICY=passive python benchmarks/textbrewer_loop.py STUDENT_DIRECTORY TEACHER_DIRECTORY ROWS.npz [THREADS]

TextBrewer 0.2.1.post1 from PyPI, unchanged. It runs the teacher at every step, in eval mode under no_grad. Its loss is
the cross-entropy of the softened distributions without tau^2, so that ``kd_loss_weight`` 0.5 tau^2 gives the gradient
of 0.5 CE + 0.5 tau^2 KL. No checkpoint is written, and no log. ROWS.npz is as for ``bare_loop``.
"""

import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from textbrewer import DistillationConfig, GeneralDistiller, TrainingConfig
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader
from transformers import AutoModelForSequenceClassification, get_linear_schedule_with_warmup


def padded(rows: Sequence[Tensor], labels: Tensor, pad: int, width: int = 128, size: int = 32) -> DataLoader[Any]:
    """Batches of named tensors, every row ``width`` long."""
    ids = torch.stack([functional.pad(row, (0, width - len(row)), value=pad) for row in rows])
    columns = {"input_ids": ids, "attention_mask": (ids != pad).long(), "token_type_ids": torch.zeros_like(ids)}
    data = [{name: column[i] for name, column in {**columns, "labels": labels}.items()} for i in range(len(ids))]
    return DataLoader(data, shuffle=True, batch_size=size)


def adaptor(_batch: Mapping[str, Tensor], outputs: Any) -> dict[str, Tensor]:
    """What the distiller looks for in a model's outputs."""
    return {"logits": outputs.logits, "losses": outputs.loss}


def train(student: nn.Module, teacher: nn.Module, loader: DataLoader[Any], epochs: int = 1, lr: float = 5e-5) -> None:
    """Train ``student`` with a live ``teacher``."""
    tau, steps = 2.0, epochs * len(loader)
    matrices = [parameter for parameter in student.parameters() if parameter.ndim >= 2]
    vectors = [parameter for parameter in student.parameters() if parameter.ndim < 2]
    groups = [{"params": matrices, "weight_decay": 0.01}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=lr)
    schedule = {"num_warmup_steps": round(0.06 * steps), "num_training_steps": steps}
    aims = DistillationConfig(temperature=tau, kd_loss_type="ce", kd_loss_weight=0.5 * tau**2, hard_label_weight=0.5)
    with tempfile.TemporaryDirectory() as out:
        training = TrainingConfig(device="cpu", output_dir=out, log_dir=None, ckpt_frequency=0)
        distiller = GeneralDistiller(training, aims, teacher, student, adaptor, adaptor)
        with distiller:
            distiller.train(
                optimizer,
                loader,
                num_epochs=epochs,
                scheduler_class=get_linear_schedule_with_warmup,
                scheduler_args=schedule,
                max_grad_norm=1.0,
            )


def main(directory: str, teaching: str, file: str, threads: int) -> None:
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    given = np.load(file)
    rows = torch.from_numpy(given["tokens"].astype(np.int64)).split(np.diff(given["offsets"]).tolist())
    loader = padded(rows, torch.from_numpy(given["labels"]), int(given["pad"]))
    student, teacher = map(AutoModelForSequenceClassification.from_pretrained, (directory, teaching))
    start = time.perf_counter()
    train(student, teacher, loader)
    print(f"{time.perf_counter() - start:.3f} s  {len(rows)} rows  {len(loader)} steps")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]) if len(sys.argv) > 4 else 1)

"""The optimizer of a training, and what a step asks of a device's memory."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from stages.specs.student import Train


def make_optimizer(model: nn.Module, settings: Train) -> torch.optim.Optimizer:
    """AdamW, fused; no weight decay on biases and norms (Devlin et al. 2019)."""
    matrices = [parameter for parameter in model.parameters() if parameter.ndim >= 2]
    vectors = [parameter for parameter in model.parameters() if parameter.ndim < 2]
    groups = [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, fused=True)


@contextmanager
def memory_named(rows: int) -> Iterator[None]:
    """Where a GPU's memory does not suffice, say which key makes do with less."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        if rows == 1:
            raise
        raise ValueError(
            f"train.micro_batch: the GPU's memory does not hold {rows} rows a forward pass; set train.micro_batch to "
            f"{max(1, rows // 2)} (the batch stays as it is)"
        ) from error

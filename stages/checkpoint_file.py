"""The file of a checkpoint: a document of values and tensors with a format number, replaced as a whole."""

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed

from stages.atomic import make_folder, replacing


class OtherFormat(ValueError):
    """The file is a checkpoint of another format, or no checkpoint. The message states in one line what it is."""


def write_checkpoint(path: Path, form: int, content: Mapping[str, Any]) -> None:
    """Write ``content`` as a checkpoint of format ``form``, and wait until it is on the disk. If writing fails, the
    previous checkpoint stays in place."""
    make_folder(path.parent)
    with replacing(path, durable=True) as draft:
        torch.save({"format": form, **content}, draft)


def read_checkpoint(path: Path, form: int) -> Mapping[str, Any] | None:
    """The content of a checkpoint, with its tensors in host memory; None if there is no file. Raises ``OtherFormat``
    for a file that is no checkpoint of format ``form``."""
    if not path.exists():
        return None
    try:
        document = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        reason = (str(error).splitlines() or ["it ends too soon"])[0]
        raise OtherFormat(f"not a readable checkpoint ({reason})") from error
    found = document.get("format", 1) if isinstance(document, dict) else None
    if found != form:
        raise OtherFormat(f"a checkpoint of format {found}, this version has {form}")
    content: Mapping[str, Any] = document
    return content


def damaged(form: int, error: Exception) -> OtherFormat:
    """The error for a checkpoint of the right format that lacks a field or has one of another type (``error``)."""
    return OtherFormat(f"a damaged checkpoint of format {form} ({type(error).__name__}: {error})")


def equal_on_all_workers(position: Sequence[int] | None, numbers: int, world_size: int, device: str) -> bool:
    """Whether all workers have this position of so many ``numbers``, or all have none. Workers that went on from
    different checkpoints, or of which some started over, would train different models. Every worker must call it."""
    if world_size == 1:
        return True
    found = (0, *[0] * numbers) if position is None else (1, *position)
    lowest = torch.tensor(found, dtype=torch.int64, device=device)
    highest = lowest.clone()
    torch.distributed.all_reduce(lowest, torch.distributed.ReduceOp.MIN)
    torch.distributed.all_reduce(highest, torch.distributed.ReduceOp.MAX)
    return torch.equal(lowest, highest)

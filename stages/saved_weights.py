"""How the weights of a saved model are read, and the error for those that cannot be."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from stages.device_turn import TURN


@contextmanager
def weights_that_load(directory: Path, *others: type[Exception]) -> Iterator[None]:
    """A context in which the weights in ``directory`` are read. Raises ValueError, in one line with the remedy, in the
    place of OSError, SafetensorError and ``others``."""
    caught: tuple[type[Exception], ...] = (OSError, SafetensorError, *others)
    try:
        yield
    except caught as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"{directory}: no weights that load ({reason}); save them there with save_pretrained"
        ) from error


def load_saved(model_class: Any, directory: Path, variant: str | None, **more: Any) -> tuple[Any, list[str]]:
    """The model in ``directory`` in float32, by a class of transformers or of this project, and the names of the
    weights that are not there or of another shape, in order; these are random. ``variant`` and ``more`` are further
    arguments of ``from_pretrained``; without ``ignore_mismatched_sizes`` weights of another shape are an error.

    One thread of a process loads at a time, as transformers replaces functions of the whole process meanwhile. Nothing
    is fetched, and no code of the directory runs. Raises what transformers and safetensors raise, mostly OSError,
    ValueError, RuntimeError and SafetensorError."""
    with TURN:
        model, found = model_class.from_pretrained(
            directory,
            variant=variant,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
            dtype=torch.float32,
            **more,
        )
    return model, sorted({*found["missing_keys"], *(name for name, *_ in found["mismatched_keys"])})

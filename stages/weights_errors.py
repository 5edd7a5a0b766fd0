"""How weights of a saved model are read: by one thread of a process at a time, and with an error of one line."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from stages.device_turn import TURN


@contextmanager
def weights_that_load(directory: Path, *others: type[Exception]) -> Iterator[None]:
    """A context in which the weights in ``directory`` are read, by one thread of the process at a time. Raises
    ValueError, in one line with the remedy, in the place of OSError, SafetensorError and ``others``."""
    caught: tuple[type[Exception], ...] = (OSError, SafetensorError, *others)
    try:
        with TURN:  # transformers replaces functions of the whole process while it loads
            yield
    except caught as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"{directory}: no weights that load ({reason}); save them there with save_pretrained"
        ) from error

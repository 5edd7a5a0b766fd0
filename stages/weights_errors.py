"""The error for weights of a saved model that cannot be read."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError


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

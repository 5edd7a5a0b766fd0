"""Reads a pickle of plain data and arrays of bytes, such as CIFAR's own files, and executes nothing in it.

A pickle is a program that may call whatever it names. Here a name leads to one of four stand-ins, which are all that a
pickled array of bytes names, and any other name is refused before it is looked up: neither numpy nor anything else is
called by the pickle.
"""

import io
import pickle
from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np

from stages.images.decode import Pixels

MOST_ROWS = 2**31
"""More than the size of an array in any dimension."""


class _Name:
    """What a name in a pickle leads to. It has no attributes that the pickle could set."""

    __slots__ = ()

    def __call__(self, *_: object) -> object:
        raise pickle.UnpicklingError("calls what is not called in a file of arrays")


class _ArrayClass(_Name):
    """``numpy.ndarray``, which a pickle only names."""

    __slots__ = ()


class _MakeArray(_Name):
    """``numpy._core.multiarray._reconstruct``, whose arguments say nothing yet."""

    __slots__ = ()

    def __call__(self, *_: object) -> "_PickledArray":
        return _PickledArray()


class _MakeType(_Name):
    """``numpy.dtype``."""

    __slots__ = ()

    def __call__(self, *given: object) -> "_PickledType":
        name = given[0] if given else None
        return _PickledType(name.decode("latin-1") if isinstance(name, bytes) else str(name))


class _Encode(_Name):
    """``_codecs.encode``, by which Python 3 writes bytes for Python 2."""

    __slots__ = ()

    def __call__(self, *given: object) -> bytes:
        match given:
            case (str() as text, "latin1" | b"latin1"):
                return text.encode("latin-1")
        raise pickle.UnpicklingError("encodes bytes in an unknown way")


class _PickledType:
    """The type of the items of an array."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __setstate__(self, state: object) -> None:
        """What numpy keeps of a type beside its name says nothing of single bytes."""


class _PickledArray:
    """An array, once the pickle has given its shape, type and bytes."""

    __slots__ = ("values",)

    def __init__(self) -> None:
        self.values: Pixels = np.zeros(0, np.uint8)

    def __setstate__(self, state: object) -> None:
        match state:
            case (int(), tuple() as shape, _PickledType(name="u1"), fortran, bytes() as data):
                sizes = [size for size in shape if type(size) is int and 0 <= size < MOST_ROWS]
                if len(sizes) == len(shape) <= 4 and int(np.prod(sizes, dtype=object)) == len(data):
                    self.values = np.frombuffer(data, np.uint8).reshape(sizes, order="F" if fortran else "C")
                    return
        raise pickle.UnpicklingError("an array in it is not one of bytes (uint8)")


NAMES: Mapping[tuple[str, str], _Name] = {
    ("numpy", "ndarray"): _ArrayClass(),
    ("numpy", "dtype"): _MakeType(),
    ("numpy.core.multiarray", "_reconstruct"): _MakeArray(),
    ("numpy._core.multiarray", "_reconstruct"): _MakeArray(),
    ("_codecs", "encode"): _Encode(),
}
"""(module, name) in a pickle -> its stand-in."""


class ArrayUnpickler(pickle.Unpickler):
    """An unpickler of dict, list, tuple, bytes, str, numbers and arrays of bytes."""

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for a name. Raises UnpicklingError for any other name."""
        found = NAMES.get((module, name))
        if found is None:
            raise pickle.UnpicklingError(f"names {module}.{name}, which no file of arrays does")
        return found

    def persistent_load(self, pid: object) -> NoReturn:
        """Refuse what is kept outside of the file."""
        raise pickle.UnpicklingError(f"refers to {pid!r:.40} outside of the file")


def read_array_pickle(data: bytes) -> dict[str, Any]:
    """The dictionary in a pickle, with keys as ``str``; values that are arrays are read-only and of uint8. Strings of
    Python 2 are bytes. Raises ValueError, of one line, for a pickle that is damaged, holds anything else, or names
    anything but arrays."""
    try:
        found = ArrayUnpickler(io.BytesIO(data), encoding="bytes").load()
    except Exception as error:  # damage may raise anything
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"not a pickle of arrays ({reason})") from error
    if not isinstance(found, dict):
        raise ValueError(f"not a pickle of arrays (it holds a {type(found).__name__}, not a dictionary)")
    return {_name(key): _plain(value) for key, value in found.items()}


def _name(key: object) -> str:
    return key.decode("latin-1") if isinstance(key, bytes) else str(key)


def _plain(value: object) -> object:
    return value.values if isinstance(value, _PickledArray) else value

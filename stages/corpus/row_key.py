"""The key of a row: a hash of its texts, independent of its position, its file and its label."""

from collections.abc import Sequence
from hashlib import blake2b

KEY_BYTES = 16


def row_key(texts: Sequence[str]) -> bytes:
    """blake2b with 16 bytes over the task's text fields in order, each as UTF-8 after its length in bytes as a
    little-endian u64. The texts are not normalised."""
    parts: list[bytes] = []
    for text in texts:
        encoded = text.encode("utf-8")
        parts += (len(encoded).to_bytes(8, "little"), encoded)
    return blake2b(b"".join(parts), digest_size=KEY_BYTES).digest()


def split_keys(data: bytes) -> list[bytes]:
    """The single keys in ``data``, in which they are concatenated."""
    return [data[start : start + KEY_BYTES] for start in range(0, len(data), KEY_BYTES)]

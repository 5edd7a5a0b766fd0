"""What a row is known by: its texts, not its position, its file or its label."""

from collections.abc import Sequence
from hashlib import blake2b

KEY_BYTES = 16


def row_key(texts: Sequence[str]) -> bytes:
    """blake2b-16 over the task's text fields in order, each as UTF-8 with its length in bytes before it as
    a little-endian u64. Nothing is normalised; column names and labels have no part in it."""
    parts: list[bytes] = []
    for text in texts:
        encoded = text.encode("utf-8")
        parts += (len(encoded).to_bytes(8, "little"), encoded)
    return blake2b(b"".join(parts), digest_size=KEY_BYTES).digest()


def split_keys(data: bytes) -> list[bytes]:
    """Keys that lie end to end, each by itself."""
    return [data[start : start + KEY_BYTES] for start in range(0, len(data), KEY_BYTES)]

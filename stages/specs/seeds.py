"""Seeds derived from what they are for, so that no generator's state needs keeping."""

import hashlib


def seed_of(*parts: int) -> int:
    """63 bits from integers, the same everywhere: what seeds the randomness of one step."""
    text = ",".join(str(part) for part in parts).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1

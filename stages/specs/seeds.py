"""Seeds derived from the place where they are used, so that no generator's state has to be stored."""

import hashlib


def seed_of(*parts: int) -> int:
    """A seed of 63 bits from integers such as (seed, phase, epoch, step); the same on every machine."""
    text = ",".join(str(part) for part in parts).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1

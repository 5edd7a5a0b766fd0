"""Seeds derived from the place where they are used, so that no generator's state has to be stored."""

import hashlib


def seed_of(*parts: int) -> int:
    """A seed of 63 bits from integers such as (seed, phase, epoch, step); the same on every machine."""
    text = ",".join(str(part) for part in parts).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1


def seed_of_row(kind: int, seed: int, phase: int, epoch: int, row: int) -> int:
    """The seed of what is drawn for one row of train in an epoch, so that it depends on neither the batch nor the
    number of workers. ``kind`` tells draws for different uses apart; seeds of seven parts are of rows alone."""
    return seed_of(kind, seed, phase, epoch, row, 0, 0)

"""The leakage guard: which texts a task is evaluated on, so that no candidate repeats them.

Texts are compared without case, accents, spacing and punctuation. The corpus stage stores hashes of the texts of all
evaluation rows, sampled or not.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from stages.atomic import replacing

TREEBANK_BRACKETS = re.compile("-(?:l|r)(?:r|s|c)b-")
"""Brackets as treebanks write them: -LRB- for (, -RCB- for } ..., matched in lower case."""

NEITHER_LETTER_NOR_DIGIT = {code: None for code in range(128) if not chr(code).isalnum()}
"""A table for ``str.translate``, for ASCII."""

EVALUATED = "evaluated.parquet"
COLUMN = "folded"


def normalized(text: str) -> str:
    """The text's letters and digits, case-folded and without accents. For a text that has neither letters nor digits,
    its characters without white space."""
    if text.isascii():  # the same in a third of the time
        plain = text.lower()
        plain = TREEBANK_BRACKETS.sub("", plain) if "rb-" in plain or "sb-" in plain or "cb-" in plain else plain
        letters_and_digits = plain.translate(NEITHER_LETTER_NOR_DIGIT)
    else:
        plain = TREEBANK_BRACKETS.sub("", unicodedata.normalize("NFKD", text).casefold())
        letters_and_digits = "".join(filter(str.isalnum, plain))
    return letters_and_digits or "".join(plain.split())


def all_normalized(texts: Sequence[str]) -> tuple[str, ...]:
    """Each text of a row ``normalized``."""
    return tuple(normalized(text) for text in texts)


def guard_key(text: str) -> bytes:
    """A hash of 16 bytes, equal for texts that are equal when ``normalized``."""
    return blake2b(normalized(text).encode("utf-8", "surrogatepass"), digest_size=16).digest()


@dataclass(frozen=True, slots=True)
class Guard:
    """The ``guard_key`` of every text that a task is evaluated on: dev, test and the holdout that selects an epoch."""

    keys: frozenset[bytes]

    def blocks(self, texts: Sequence[str]) -> bool:
        """Whether the task is evaluated on any of these texts."""
        return any(guard_key(text) in self.keys for text in texts)


def write_guard(directory: Path, texts: Iterable[str]) -> int:
    """Write ``evaluated.parquet`` with the distinct keys of ``texts``; return how many there are."""
    keys = sorted({guard_key(text) for text in texts})
    with replacing(directory / EVALUATED) as draft:
        pq.write_table(pa.table({COLUMN: pa.array(keys, pa.binary(16))}), draft, use_dictionary=False)
    return len(keys)


def read_guard(corpus: Path) -> Guard:
    """The guard of the corpus in this directory. ValueError where it cannot be read, as without it evaluation texts
    could leak into training."""
    path = corpus / EVALUATED
    try:
        with path.open("rb") as file:
            keys = pq.ParquetFile(file).read(columns=[COLUMN])[COLUMN].to_pylist()
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path}: cannot be read ({reason}); build the corpus again") from error
    return Guard(frozenset(keys))

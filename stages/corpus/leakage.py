"""Texts that no candidate may be: those that a task is evaluated on, compared without case, accents, spacing and
punctuation. The corpus stage keeps them as hashes, of all evaluation rows, sampled or not."""

import os
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

BRACKETS = re.compile("-(?:l|r)(?:r|s|c)b-")
"""Brackets as treebanks write them."""

EVALUATED = "evaluated.parquet"
COLUMN = "folded"


def folded(text: str) -> str:
    """Its letters and digits in one case, without accents; where it has none, what is not a space."""
    plain = BRACKETS.sub("", unicodedata.normalize("NFKD", text).casefold())
    kept = "".join(filter(str.isalnum, plain))
    return kept or "".join(plain.split())


def fold_key(text: str) -> bytes:
    """Sixteen bytes that two texts share if they fold to the same."""
    return blake2b(folded(text).encode("utf-8", "surrogatepass"), digest_size=16).digest()


@dataclass(frozen=True, slots=True)
class Guard:
    """The fold keys of all texts that a task is evaluated on: dev, test and what is held out to select an epoch."""

    keys: frozenset[bytes]

    def blocks(self, texts: Sequence[str]) -> bool:
        """Whether one of the texts of a row is among them."""
        return any(fold_key(text) in self.keys for text in texts)


def write_guard(directory: Path, texts: Iterable[str]) -> int:
    """Keep the fold keys of these texts, each once; say how many there are."""
    keys = sorted({fold_key(text) for text in texts})
    draft = directory / f"{EVALUATED}.tmp"
    pq.write_table(pa.table({COLUMN: pa.array(keys, pa.binary(16))}), draft, use_dictionary=False)
    os.replace(draft, directory / EVALUATED)
    return len(keys)


def read_guard(corpus: Path) -> Guard:
    """That of the corpus in ``corpus``. ValueError where it cannot be read: without it, evaluation texts could leak."""
    path = corpus / EVALUATED
    try:
        with path.open("rb") as file:
            keys = pq.ParquetFile(file).read(columns=[COLUMN])[COLUMN].to_pylist()
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path}: cannot be read ({reason}); build the corpus again") from error
    return Guard(frozenset(keys))

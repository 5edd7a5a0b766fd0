"""How many tokens the rows of a table have, from a sample of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stages.corpus.tokenizer import load_tokenizer

LENGTHS = (32, 64, 128, 256, 512)
"""The lengths that are chosen among."""
SHARE_WHOLE = 0.98
"""The share of rows that are to be read whole."""


@dataclass(frozen=True, slots=True)
class RowLength:
    """``max_length`` tokens, at which no more than the share ``cut`` of the sampled rows, from 0 to 1, is cut off.
    ``usual``: the tokens that 98 % of the rows have at most."""

    max_length: int
    usual: int
    cut: float


def row_length(rows: Sequence[tuple[str, ...]], tokenizer: Path, most: int | None) -> RowLength:
    """The least of ``LENGTHS`` at which ``SHARE_WHOLE`` of the rows are whole, or the largest that a model reads with
    ``most`` positions (None: no bound). ``rows`` are the texts of at least one row; ``tokenizer`` is a model's
    directory. ValueError where it holds no tokenizer that loads."""
    counts = sorted(_token_counts(rows, tokenizer))
    usual = counts[min(len(counts) - 1, int(SHARE_WHOLE * len(counts)))]
    possible = [length for length in LENGTHS if most is None or length <= most] or [most or LENGTHS[-1]]
    chosen = next((length for length in possible if length >= usual), possible[-1])
    return RowLength(chosen, usual, sum(count > chosen for count in counts) / len(counts))


def _token_counts(rows: Sequence[tuple[str, ...]], directory: Path) -> list[int]:
    """The tokens of each row, special tokens included."""
    pairs = [row if len(row) == 2 else row[0] for row in rows]
    file = directory / "tokenizer.json"
    if file.exists():  # without transformers, whose import takes seconds
        from tokenizers import Tokenizer

        try:
            backend = Tokenizer.from_file(str(file))
        except Exception as error:  # the library raises no narrower class
            reason = str(error).splitlines()[0]
            raise ValueError(f"{file}: not a tokenizer ({reason}); save the model's again") from error
        backend.no_truncation()
        backend.no_padding()
        return [len(encoding.ids) for encoding in backend.encode_batch(pairs)]
    texts = [list(column) for column in zip(*rows, strict=True)]
    return [len(ids) for ids in load_tokenizer(directory)(*texts, truncation=False)["input_ids"]]

"""Whether a bank has enough texts for the candidates that are wanted: checked before a table is made."""

from pathlib import Path

from cluster.resources import On
from stages.bank.reader import read_bank_meta, read_bank_part
from stages.corpus.leakage import all_normalized, read_guard
from stages.corpus.reader import read_meta
from stages.specs.candidates import Sides


def usable_texts(bank: Path, corpus: Path, enough: int) -> int:
    """The number of distinct texts of the bank that the task is not evaluated on, counted up to ``enough``. Texts that
    are equal without case, accents, spacing and punctuation count once."""
    meta, guard = read_bank_meta(bank), read_guard(corpus)
    found: set[tuple[str, ...]] = set()
    for number in range(len(meta.parts)):
        table = read_bank_part(bank, number, meta.columns)
        for texts in zip(*(table[name].to_pylist() for name in meta.columns), strict=True):
            if not guard.blocks(texts):
                found.add(all_normalized(texts))
            if len(found) >= enough:
                return len(found)
    return len(found)


def check_capacity(bank: Path, corpus: Path, k: int, sides: Sides, on: On) -> dict[str, object]:
    """``{"warnings": [...]}`` where the bank has too few texts to give any row ``k`` candidates, which is also logged;
    {} otherwise. Raises ValueError where no text of the bank may be a candidate."""
    usable, rows = usable_texts(bank, corpus, k), read_bank_meta(bank).rows
    if not usable:
        raise ValueError(
            f"bank: the task {read_meta(corpus).task.name} is evaluated on each of its {rows:,} texts, so that none "
            "may be a candidate; give a bank of other texts"
        )
    most = 2 * usable if sides == "either" else usable
    if most >= k:
        return {}
    warning = (
        f"k: {k}, but only {usable:,} of the bank's {rows:,} texts may be candidates (the others are alike, or the "
        f"task is evaluated on them), so that no row has more than {most}; enlarge the bank, or set k to {most}"
    )
    on.log(warning)
    return {"warnings": [warning]}

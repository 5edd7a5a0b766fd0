"""Small banks to test with: files of texts, and the texts that a bank holds."""

import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from training_setups import RecordingListener, inline

from stages.bank.bank import bank
from stages.bank.reader import read_bank_meta, read_bank_part
from stages.specs.bank import BankSpec

NOUNS = ("river", "lamp", "garden", "engine", "letter", "window", "market", "bridge")
VERBS = ("carries", "hides", "follows", "mends", "crosses", "paints")


def sentences(count: int, start: int = 0) -> list[str]:
    """Distinct sentences of seven words or more."""
    return [
        f"the {NOUNS[n % 8]} of number {n} {VERBS[n % 6]} every {NOUNS[(n // 8) % 8]} " + "slowly " * (n % 5) + "today"
        for n in range(start, start + count)
    ]


def write_parquet(path: Path, texts: Sequence[object], group: int | None = None, **more: Sequence[object]) -> Path:
    pq.write_table(pa.table({"text": pa.array(texts, pa.string()), **more}), path, row_group_size=group or 1024)
    return path


def write_lines(path: Path, texts: Sequence[str]) -> Path:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), "utf-8")
    return path


def make_bank(out: Path, *files: Path, heard: RecordingListener | None = None, **spec: object) -> dict[str, int]:
    out.mkdir(exist_ok=True)
    inputs = {f"files/{number}": path for number, path in enumerate(files)}
    return bank(BankSpec(**spec), inputs, out, inline(heard))


def texts_of(out: Path) -> list[tuple[str, ...]]:
    """All texts of a bank, in its order."""
    meta = read_bank_meta(out)
    parts = [read_bank_part(out, number, meta.columns) for number in range(len(meta.parts))]
    return [row for part in parts for row in zip(*(part[name].to_pylist() for name in meta.columns), strict=True)]

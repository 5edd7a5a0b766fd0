"""Writes rows as tokenised shards for each split, with the tokenizer and ``corpus.json``.

The stages ``corpus`` and ``unlabelled`` choose the rows and write them through this module; ``stages/corpus/reader.py``
reads the files of both.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from cluster.resources import On
from stages.atomic import replacing
from stages.corpus.reader import META, SCRATCH, TOKENIZER, Role, part_path
from stages.corpus.tokenizer import (
    Item,
    PartFacts,
    SaveTokenizer,
    Tokenize,
    TokenizerFacts,
    WritePart,
    finished_part,
    open_tokenizer,
    write_rows_file,
)
from stages.specs.tasks import Task

PART_ROWS = 65_536

Facts = dict[str, dict[str, int]]


@dataclass(frozen=True, slots=True)
class SplitRows:
    """The rows of one split to be written: index, row_key, label, the text columns."""

    role: Role
    rows: pa.Table

    @property
    def parts(self) -> int:
        return -(-len(self.rows) // PART_ROWS)

    def part_rows(self, number: int) -> int:
        return min(PART_ROWS, len(self.rows) - number * PART_ROWS)

    def part(self, number: int) -> pa.Table:
        return self.rows.slice(number * PART_ROWS, PART_ROWS)


def write_splits(
    task: Task, max_length: int, tokenizer: Path, splits: Mapping[str, SplitRows], out: Path, on: On
) -> tuple[TokenizerFacts, Facts]:
    """Tokenise the parts that ``out`` lacks, and write ``corpus.json``. Returns for each split: rows, truncated rows,
    tokens."""
    (out / SCRATCH).mkdir(parents=True, exist_ok=True)
    config = Tokenize(tokenizer, task.text, max_length, out / SCRATCH, task.kind.has_entries)
    saved, parts = _tokenise(config, splits, out, on)
    facts = {name: _summed([parts[name, part] for part in range(split.parts)]) for name, split in splits.items()}
    _write_meta(task, max_length, splits, facts, saved, out)
    lost = {name: facts[name].lost_words for name in splits}
    return saved, {
        "rows": {name: split.rows.num_rows for name, split in splits.items()},
        "truncated": {name: facts[name].truncated for name in splits},
        "tokens": {name: facts[name].tokens for name in splits},
        **({"lost_words": lost} if task.kind.has_entries else {}),
    }


PartName = tuple[str, int]
"""(split, number of the part)."""


def _tokenise(
    config: Tokenize, splits: Mapping[str, SplitRows], out: Path, on: On
) -> tuple[TokenizerFacts, dict[PartName, PartFacts]]:
    """Save the tokenizer and write the parts that ``out`` does not hold yet."""
    names = [(name, part) for name, split in splits.items() for part in range(split.parts)]
    facts: dict[PartName, PartFacts] = {}
    for name, part in names:
        finished = finished_part(part_path(out, name, part), splits[name].part_rows(part))
        if finished is not None:
            facts[name, part] = finished
    missing = [part for part in names if part not in facts]
    if facts:
        on.log(f"{len(facts)} of {len(names)} parts were there already")
    on.expect(sum(splits[name].part_rows(part) for name, part in missing), "rows")
    parts = [
        WritePart(part_path(out, name, part), write_rows_file(splits[name].part(part), out / SCRATCH))
        for name, part in missing
    ]
    items: list[Item] = [SaveTokenizer(out / TOKENIZER), *parts]
    saved: TokenizerFacts | None = None
    for item, result in on.map(open_tokenizer, config, items):
        match result:
            case TokenizerFacts():
                saved = result
            case PartFacts():
                facts[missing[item - 1]] = result
                parts[item - 1].rows.unlink()
    assert saved is not None, "the first item saves the tokenizer"
    return saved, facts


def _summed(parts: list[PartFacts]) -> PartFacts:
    return PartFacts(
        rows=sum(part.rows for part in parts),
        tokens=sum(part.tokens for part in parts),
        truncated=sum(part.truncated for part in parts),
        lost_words=sum(part.lost_words for part in parts),
    )


def _write_meta(
    task: Task,
    max_length: int,
    splits: Mapping[str, SplitRows],
    facts: Mapping[str, PartFacts],
    tokenizer: TokenizerFacts,
    out: Path,
) -> None:
    content = {
        "task": task.document(),
        "splits": {
            name: {"role": split.role, "rows": split.rows.num_rows, "parts": split.parts, "tokens": facts[name].tokens}
            for name, split in splits.items()
        },
        "pad_token_id": tokenizer.pad_token_id,
        "max_length": max_length,
        "tokenizer_sha256": tokenizer.sha256,
    }
    with replacing(out / META) as draft:
        draft.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

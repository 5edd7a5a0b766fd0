"""The token that a tokenizer puts between the two texts of a pair, by which a BiLSTM finds where the second begins."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def separates_texts(directory: Path) -> bool:
    """Whether the tokenizer in ``directory`` puts a token of its own between the texts of a pair. Also True where its
    ``tokenizer.json`` is missing or damaged, so that only loading the tokenizer can tell."""
    try:
        document = json.loads((directory / "tokenizer.json").read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return True
    if not isinstance(document, dict) or "model" not in document:
        return True
    return any(_processors(document.get("post_processor")))


def _processors(processor: object) -> Iterator[bool]:
    """For each post-processor of a ``tokenizer.json`` that joins the texts of a pair, whether it separates them."""
    match processor:
        case {"type": "BertProcessing" | "RobertaProcessing"}:
            yield True
        case {"type": "TemplateProcessing", "pair": [*parts]}:
            kinds = [next(iter(part), "") for part in parts if isinstance(part, dict)]
            texts = [place for place, kind in enumerate(kinds) if kind == "Sequence"]
            yield len(texts) == 2 and "SpecialToken" in kinds[texts[0] : texts[1]]
        case {"type": "Sequence", "processors": [*processors]}:
            for one in processors:
                yield from _processors(one)


def frame_of_pairs(tokenizer: Any) -> tuple[int, int | None]:
    """How the fast ``tokenizer`` of transformers joins the texts of a pair: the number of tokens before the first text,
    and the id of the token that follows it; None if the second text follows at once, or has no tokens of its own."""
    encoded = tokenizer("a", "b")
    texts = encoded.sequence_ids(0)
    if not {0, 1} <= set(texts):
        return 0, None
    leading, second = texts.index(0), texts.index(1)
    between = [place for place in range(leading, second) if texts[place] is None]
    return leading, int(encoded["input_ids"][between[0]]) if between else None

"""How a tokenizer marks the two texts of a pair, from its files alone."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

TYPE_IDS_BY_DEFAULT = ("BertTokenizer", "DebertaTokenizer", "DebertaV2Tokenizer", "MobileBertTokenizer")
"""Classes of tokenizers that return ``token_type_ids`` where ``tokenizer_config.json`` names no ``model_input_names``.
What others do is found when the student is tried."""


def text_kinds(directory: Path) -> int | None:
    """How many numbers the tokenizer in ``directory`` uses in the ``token_type_ids`` of a pair of texts: 2 for BERT's.
    None if it returns none, or if its files do not say whether it does."""
    settings = _block(directory / "tokenizer_config.json")
    inputs = settings.get("model_input_names")
    returned = inputs if isinstance(inputs, list) else ["token_type_ids"] * (_class(settings) in TYPE_IDS_BY_DEFAULT)
    if "token_type_ids" not in returned:
        return None
    marks = list(_type_ids(_block(directory / "tokenizer.json").get("post_processor")))
    return 1 + max(marks) if marks else None


def _class(settings: Mapping[str, object]) -> str:
    """The name of a tokenizer's class, without ``Fast``."""
    return str(settings.get("tokenizer_class")).removesuffix("Fast")


def _type_ids(processor: object) -> Iterator[int]:
    """The numbers that a post-processor of ``tokenizer.json`` gives to the tokens of a pair."""
    match processor:
        case {"type": "BertProcessing"}:
            yield from (0, 1)
        case {"type": "RobertaProcessing"}:
            yield 0
        case {"type": "TemplateProcessing", "pair": [*parts]}:
            for part in parts:
                match part:
                    case {"Sequence": {"type_id": int(number)}} | {"SpecialToken": {"type_id": int(number)}}:
                        yield number
        case {"type": "Sequence", "processors": [*processors]}:
            for one in processors:
                yield from _type_ids(one)


def _block(path: Path) -> Mapping[str, object]:
    """The block of fields in a JSON file; {} if there is none that can be read."""
    try:
        document = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}

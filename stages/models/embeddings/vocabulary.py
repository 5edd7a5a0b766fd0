"""Whether two models have one vocabulary: the same map from tokens to ids, read from their tokenizers' files.

Equal sizes do not say so: the vocabularies of cased and uncased models may be of one size, and then a token id that one
model writes means another word to the next. Nothing heavy is imported here, so planning can compare models.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

Ids = dict[str, int]
"""Token -> id."""


def vocabulary_difference(first: Path, second: Path) -> str | None:
    """How the vocabularies of the models in two directories differ, in one line: the differing token of the lowest id,
    and how many tokens differ. None if every token has the same id in both.

    Raises ValueError if a directory holds no tokenizer that can be read (``token_ids``).
    """
    ids, others = token_ids(first), token_ids(second)
    if ids == others:
        return None
    differing = {token for token in ids.keys() | others.keys() if ids.get(token) != others.get(token)}
    lowest = min(differing, key=lambda token: (min(_known(ids, token), _known(others, token)), token))
    return (
        f"the token {lowest!r} has {_id_text(ids, lowest)} in {first} and {_id_text(others, lowest)} in {second}; "
        f"{len(differing):,} of {len(ids.keys() | others.keys()):,} tokens differ"
    )


def token_ids(directory: Path) -> Ids:
    """Each token of a model's tokenizer -> its id, added tokens included, as ``get_vocab`` of the loaded tokenizer
    gives them: from ``tokenizer.json``, else from ``vocab.txt`` or ``vocab.json``, with the tokens that
    ``added_tokens.json`` and ``tokenizer_config.json`` add.

    Raises ValueError if none of these files is there or lists tokens, and if one is damaged.
    """
    for name in ("tokenizer.json", "vocab.txt", "vocab.json"):
        path = directory / name
        if path.is_file():
            found = _READERS[name](path)
            break
    else:
        raise ValueError(
            f"{directory}: holds no tokenizer.json, vocab.txt or vocab.json; save the model's fast tokenizer there"
        )
    if not found:
        raise ValueError(f"{path}: lists no tokens; save the model's fast tokenizer there")
    for token, number in _added_beside(directory):
        found.setdefault(token, number)
    return found


def listed_tokens(path: Path) -> Iterator[tuple[object, int]]:
    """(token, id) for each token that a ``tokenizer.json`` lists, the added ones last. The token is None where an added
    one has an id and no text. Raises ValueError if the file is not JSON."""
    document = _read_json(path)
    match document:
        case {"model": {"vocab": dict() as vocabulary}}:
            yield from _numbers(vocabulary).items()
        case {"model": {"vocab": [*pieces]}}:  # Unigram: [piece, its log probability]
            for number, piece in enumerate(pieces):
                yield piece[0] if isinstance(piece, list) and piece else None, number
    match document:
        case {"added_tokens": [*tokens]}:
            for token in tokens:
                match token:
                    case {"id": int(number)}:
                        yield token.get("content"), number


def _added_beside(directory: Path) -> Iterator[tuple[str, int]]:
    """(token, id) for the tokens that stand in files of their own beside the vocabulary."""
    listed, config = directory / "added_tokens.json", directory / "tokenizer_config.json"
    if listed.is_file():
        yield from _numbers(_read_json(listed)).items()
    match _read_json(config) if config.is_file() else None:
        case {"added_tokens_decoder": dict() as decoder}:
            for number, token in decoder.items():
                match token:
                    case {"content": str(content)} if str(number).isdecimal():
                        yield content, int(number)


def _tokenizer_json_ids(path: Path) -> Ids:
    return {token: number for token, number in listed_tokens(path) if isinstance(token, str)}


def _vocab_txt_ids(path: Path) -> Ids:
    """A token on each line; its id is the number of the line, from 0."""
    try:
        with path.open(encoding="utf-8") as file:  # str.splitlines would also split at characters that are tokens
            return {line.rstrip("\n"): number for number, line in enumerate(file)}
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: is not text in UTF-8; copy or download it again") from error


def _vocab_json_ids(path: Path) -> Ids:
    return _numbers(_read_json(path))


_READERS = {"tokenizer.json": _tokenizer_json_ids, "vocab.txt": _vocab_txt_ids, "vocab.json": _vocab_json_ids}


def _read_json(path: Path) -> object:
    try:
        document: object = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: is not JSON; copy or download it again") from error
    return document


def _numbers(document: object) -> Ids:
    """The entries of an object that are whole numbers."""
    entries = document.items() if isinstance(document, dict) else ()
    return {token: number for token, number in entries if isinstance(number, int)}


def _known(ids: Mapping[str, int], token: str) -> float:
    return ids.get(token, float("inf"))


def _id_text(ids: Mapping[str, int], token: str) -> str:
    return f"id {ids[token]}" if token in ids else "no id"

"""Words as word pieces: which piece stands for a word, and which words are cut off.

A word's first piece stands for it, as in BERT's own experiments with CoNLL-2003 (Devlin et al. 2019, section 5.3): the
model's output there is the word's, and outputs at other pieces are not used. A word has no prediction if it lies behind
``max_length``, or if the tokenizer makes no piece of it; it counts as O when entities are scored.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stages.tagging.tags import OUTSIDE

Tokenizer = Any
"""A fast tokenizer of transformers, whose class cannot be named here without importing it."""


@dataclass(frozen=True, slots=True)
class Pieces:
    """A sentence as word pieces. ``first`` has the place in ``input_ids`` of the first piece of each word that has one,
    in order; ``kept`` has the numbers of these words, counted from 0, of the sentence's ``words``."""

    input_ids: tuple[int, ...]
    first: tuple[int, ...]
    kept: tuple[int, ...]
    words: int

    @property
    def places(self) -> tuple[int, ...]:
        """The place of the first piece of each word, -1 for a word that has none."""
        found = dict(zip(self.kept, self.first, strict=True))
        return tuple(found.get(word, -1) for word in range(self.words))

    @property
    def lost(self) -> int:
        """The number of words without a prediction."""
        return self.words - len(self.kept)


def check_tokenizer(tokenizer: Tokenizer) -> None:
    """Raise ValueError for a tokenizer that cannot take words one by one. Those on bytes (RoBERTa, GPT-2) know the
    beginning of a word by the space before it, which they must be set to add."""
    kinds = _pre_tokenizers(tokenizer)
    lacking = any(kind.get("type") == "ByteLevel" and not kind.get("add_prefix_space") for kind in kinds)
    # Such a tokenizer may add the space by a step of its own before the one on bytes.
    if lacking and not getattr(tokenizer, "add_prefix_space", False):
        raise ValueError(
            f"tokenizer: {tokenizer.name_or_path} adds no space before words; "
            "set add_prefix_space: true in its tokenizer_config.json"
        )


def align(tokenizer: Tokenizer, sentences: Sequence[Sequence[str]], max_length: int) -> list[Pieces]:
    """The sentences as word pieces, each with the tokenizer's special tokens and at most ``max_length`` pieces."""
    if not sentences:
        return []
    encoded = tokenizer(
        [list(words) for words in sentences],
        is_split_into_words=True,
        truncation=True,
        max_length=max_length,
        padding=False,
    )
    return [
        _pieces(ids, encoded.word_ids(row), len(words))
        for row, (words, ids) in enumerate(zip(sentences, encoded["input_ids"], strict=True))
    ]


def _pieces(ids: Sequence[int], word_ids: Sequence[int | None], words: int) -> Pieces:
    first: dict[int, int] = {}
    for place, word in enumerate(word_ids):
        if word is not None:
            first.setdefault(word, place)
    return Pieces(tuple(ids), tuple(first.values()), tuple(first), words)


def lost_words(sentences: Sequence[Pieces]) -> int:
    """The number of words of these sentences that have no prediction."""
    return sum(sentence.lost for sentence in sentences)


def kept_tags(sentence: Pieces, tags: Sequence[int]) -> tuple[int, ...]:
    """The tags of the words that have a first piece: the labels of a training step. ``tags`` has one for each word."""
    assert len(tags) == sentence.words, (len(tags), sentence.words)
    return tuple(tags[word] for word in sentence.kept)


def predicted_tags(sentence: Pieces, predictions: Sequence[int], tags: Sequence[str]) -> tuple[str, ...]:
    """The predicted tag of each word, by name: O for a word without a prediction. ``predictions`` has the number of a
    tag for each word that has a first piece, and ``tags`` is the tag set."""
    found = [OUTSIDE] * sentence.words
    for word, number in zip(sentence.kept, predictions, strict=True):
        found[word] = tags[number]
    return tuple(found)


# --- words of a plain text --------------------------------------------------------------------------------


def split_words(tokenizer: Tokenizer, text: str) -> tuple[str, ...]:
    """The words of an unlabelled text: what the tokenizer's own pre-tokenizer divides it into, as written in the text;
    at white space where it has none. So one list of words is the same words to the model as the text is.

    They are not the words of a treebank: BERT's divides ``U.S.`` into four."""
    backend = tokenizer.backend_tokenizer
    if backend.pre_tokenizer is None:
        return tuple(text.split())
    pieces = (text[start:end] for _, (start, end) in backend.pre_tokenizer.pre_tokenize_str(text))
    return tuple(word for piece in pieces if (word := piece.strip()))


def _pre_tokenizers(tokenizer: Tokenizer) -> list[dict[str, Any]]:
    """The steps of the tokenizer's pre-tokenizer, as its ``tokenizer.json`` describes them."""
    described = json.loads(tokenizer.backend_tokenizer.to_str())["pre_tokenizer"]
    if described is None:
        return []
    return list(described["pretokenizers"]) if described["type"] == "Sequence" else [described]

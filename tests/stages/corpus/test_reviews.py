"""The generator of the demo's reviews: what a seed means, and what the rows are like."""

import hashlib
import json
import random
import re

import pytest

from stages.corpus.demo import reviews
from stages.corpus.demo.lexicon import read_lexicon
from stages.corpus.demo.reviews import Row, generate, sentence, split_vocabulary

PINNED = "a740391d9cb9b621c52f79c4e282c4ac40e62a12d6526434edf8f27268396ac1"
LEXICON = read_lexicon()
SINGLE_WORDS = [LEXICON.words[kind] for kind in ("adjective", "thing", "deed")]
SENTIMENT = {word for by_label in SINGLE_WORDS for words in by_label.values() for word in words}


@pytest.fixture(scope="module")
def splits() -> dict[str, list[Row]]:
    return generate(100, 1600, 1000, 1000)


def tokens(rows: list[Row]) -> set[str]:
    return {word for row in rows for word in re.findall(r"[a-z-]+", str(row["sentence"]).lower())}


def test_a_seed_means_these_bytes_for_good(splits: dict[str, list[Row]]) -> None:
    assert hashlib.sha256(json.dumps(splits).encode()).hexdigest() == PINNED


def test_another_seed_gives_other_rows(splits: dict[str, list[Row]]) -> None:
    assert generate(101, 50, 10, 10)["train"] != splits["train"][:50]


def test_the_global_random_state_is_neither_used_nor_moved() -> None:
    random.seed(1)
    before = random.getstate()
    first = generate(7, 20, 5, 5)
    assert random.getstate() == before
    random.seed(2)
    assert generate(7, 20, 5, 5) == first


def test_splits_have_the_sizes_asked_for() -> None:
    assert {name: len(rows) for name, rows in generate(3, 30, 20, 0).items()} == {
        "train": 30,
        "validation": 20,
        "test": 0,
    }


def test_no_sentence_occurs_twice_in_all_splits(splits: dict[str, list[Row]]) -> None:
    sentences = [str(row["sentence"]).lower() for rows in splits.values() for row in rows]
    assert len(set(sentences)) == len(sentences) == 3600


def test_labels_are_balanced_in_every_split(splits: dict[str, list[Row]]) -> None:
    for rows in splits.values():
        assert {row["label"] for row in rows} == {0, 1}
        assert 0.45 < sum(int(row["label"]) for row in rows) / len(rows) < 0.55


def test_a_row_is_a_sentence_of_3_to_30_words_and_a_label(splits: dict[str, list[Row]]) -> None:
    for rows in splits.values():
        for row in rows:
            text = str(row["sentence"])
            assert list(row) == ["sentence", "label"]
            assert 3 <= len(text.split()) <= 30
            assert text[0].isupper() and text.endswith(".") and text.isascii()
            assert not re.search(r"[{}]|  ", text)


def test_validation_has_sentiment_words_that_train_lacks(splits: dict[str, list[Row]]) -> None:
    unseen = (tokens(splits["validation"]) & SENTIMENT) - tokens(splits["train"])
    assert len(unseen) > 200


def test_train_never_uses_a_reserved_word_and_validation_uses_most(splits: dict[str, list[Row]]) -> None:
    reserved = split_vocabulary(random.Random(100)).reserved
    words = {word for (kind, _), listed in reserved.items() for word in listed if kind != "verdict"}
    assert not words & tokens(splits["train"])
    assert len(words & tokens(splits["validation"])) > 0.8 * len(words)


def test_no_word_is_both_positive_and_negative() -> None:
    for by_label in SINGLE_WORDS:
        positive, negative = by_label[1], by_label[0]
        assert len(set(positive) | set(negative)) == len(positive) + len(negative)


@pytest.mark.parametrize("family", list(LEXICON.families))
def test_every_family_has_sentences_of_both_labels(family: str) -> None:
    rng = random.Random(5)
    vocabulary = split_vocabulary(rng)
    by_label = [{sentence(rng, vocabulary, 0.0, family, label) for _ in range(40)} for label in (0, 1)]
    assert min(len(found) for found in by_label) > 20
    assert not by_label[0] & by_label[1]


@pytest.mark.parametrize("family", list(LEXICON.families))
def test_every_pattern_has_a_word_or_phrase_with_polarity(family: str) -> None:
    for pattern in LEXICON.families[family].patterns:
        assert re.search(r"\{(same|opposite|thing|deed|verdict)", pattern)


def test_labels_of_train_alone_are_noisy(monkeypatch: pytest.MonkeyPatch, splits: dict[str, list[Row]]) -> None:
    monkeypatch.setattr(reviews, "NOISE", 0.0)
    clean = generate(100, 1600, 1000, 1000)
    flipped = [a["label"] != b["label"] for a, b in zip(clean["train"], splits["train"], strict=True)]
    assert 0.07 < sum(flipped) / len(flipped) < 0.13
    assert clean["validation"] == splits["validation"]
    assert clean["test"] == splits["test"]


def test_an_article_follows_the_sound_of_the_next_word(splits: dict[str, list[Row]]) -> None:
    text = " ".join(str(row["sentence"]) for rows in splits.values() for row in rows)
    assert not re.search(r"\b[Aa] (?!one-)[aeiou]|\b[Aa]n (?!honest)[^aeiou]|\b[Aa]n one-", text)

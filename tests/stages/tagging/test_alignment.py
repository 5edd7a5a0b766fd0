"""Words are aligned with the first of their pieces, and words without one are counted and become O."""

from pathlib import Path
from typing import Any

import pytest
from tiny import packaged_model
from tokenizers import ByteLevelBPETokenizer
from transformers import RobertaTokenizer

from stages.corpus.tokenizer import load_tokenizer
from stages.tagging.alignment import (
    align,
    check_tokenizer,
    kept_tags,
    lost_words,
    predicted_tags,
    split_words,
)

TAGS = ("O", "B-X", "I-X")
WORDS = ("Blackburn's", "unaffable", "\u200b", "EU")


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return load_tokenizer(packaged_model())


@pytest.fixture(scope="module")
def byte_level(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer on bytes, as RoBERTa's, trained on a few words."""
    folder = tmp_path_factory.mktemp("bytes")
    trained = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trained.train_from_iterator(["the cat sat on the mat"] * 9, vocab_size=300, min_frequency=2, special_tokens=special)
    trained.save_model(str(folder))
    made = RobertaTokenizer.from_pretrained(folder, vocab=str(folder / "vocab.json"), merges=str(folder / "merges.txt"))
    made.save_pretrained(folder)
    return folder


def test_a_word_stands_at_its_first_piece(tokenizer: Any) -> None:
    (found,) = align(tokenizer, [WORDS], 32)
    pieces = tokenizer.convert_ids_to_tokens(list(found.input_ids))
    assert pieces[0] == "[CLS]"
    assert pieces[-1] == "[SEP]"
    assert len(pieces) > len(WORDS) + 2
    # The third word is a space of no width, of which the tokenizer makes no piece.
    assert found.kept == (0, 1, 3)
    assert [pieces[place] for place in found.first] == ["blackburn", "una", "eu"]
    assert (found.words, found.lost) == (4, 1)


def test_the_pieces_are_those_of_each_word_alone(tokenizer: Any) -> None:
    (found,) = align(tokenizer, [WORDS], 32)
    alone = [tokenizer(word, add_special_tokens=False)["input_ids"] for word in WORDS]
    assert list(found.input_ids[1:-1]) == [piece for word in alone for piece in word]


def test_words_behind_max_length_are_lost_and_count_as_o(tokenizer: Any) -> None:
    (whole, cut) = (align(tokenizer, [WORDS], length)[0] for length in (32, 6))
    assert len(cut.input_ids) == 6
    assert cut.input_ids[:-1] == whole.input_ids[:5]
    assert cut.kept == (0, 1)
    assert lost_words([whole, cut]) == 1 + 2
    assert kept_tags(cut, (1, 2, 2, 1)) == (1, 2)
    assert predicted_tags(cut, (1, 2), TAGS) == ("B-X", "I-X", "O", "O")
    assert predicted_tags(whole, (1, 2, 1), TAGS) == ("B-X", "I-X", "O", "B-X")


def test_sentences_are_aligned_each_for_itself(tokenizer: Any) -> None:
    sentences = [("a",), WORDS, ("b", "c")]
    assert align(tokenizer, sentences, 16) == [align(tokenizer, [words], 16)[0] for words in sentences]
    assert align(tokenizer, [], 16) == []


def test_a_tokenizer_on_bytes_must_add_spaces(byte_level: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(byte_level, add_prefix_space=False)
    with pytest.raises(
        ValueError, match=r"adds no space before words; set add_prefix_space: true in its tokenizer_config"
    ):
        check_tokenizer(tokenizer)
    spaced = AutoTokenizer.from_pretrained(byte_level, add_prefix_space=True)
    check_tokenizer(spaced)
    (found,) = align(spaced, [("the", "cat", "sat")], 16)
    assert [spaced.convert_ids_to_tokens(found.input_ids[place]) for place in found.first] == ["Ġthe", "Ġcat", "Ġsat"]


def test_the_packaged_tokenizer_takes_words(tokenizer: Any) -> None:
    check_tokenizer(tokenizer)


def test_a_text_is_divided_as_the_tokenizer_does(tokenizer: Any) -> None:
    text = "  EU's U.S. call \u2014 na\u00efve\n"
    words = split_words(tokenizer, text)
    assert words == ("EU", "'", "s", "U", ".", "S", ".", "call", "\u2014", "na\u00efve")
    (found,) = align(tokenizer, [words], 32)
    assert list(found.input_ids) == tokenizer(text)["input_ids"]
    assert split_words(tokenizer, " \n") == ()


def test_words_of_a_tokenizer_on_bytes_have_no_space(byte_level: Path) -> None:
    from transformers import AutoTokenizer

    spaced = AutoTokenizer.from_pretrained(byte_level, add_prefix_space=True)
    assert split_words(spaced, "The cat, sat.") == ("The", "cat", ",", "sat", ".")

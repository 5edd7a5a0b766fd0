"""Tags are read in their scheme and refused in one line with word and remedy, and entities are those of conlleval."""

import pytest
from seqeval.metrics.sequence_labeling import get_entities

from stages.tagging.tags import (
    EntitySpan,
    TagParser,
    check_tag_set,
    may_begin,
    may_follow,
    orphans,
    spans,
    split_tag,
    tag_set,
    to_iob2,
    types_of,
)

TAGS = tag_set(["PER", "LOC"])
WORDS = ("Ann", "left", "New", "York")


def test_a_tag_set_has_o_first_and_b_and_i_of_each_type_in_alphabetical_order() -> None:
    assert TAGS == ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
    assert types_of(["I-B-x", "O", "B-a"]) == ("B-x", "a")


@pytest.mark.parametrize("tag", ["PER", "S-PER", "B-", "B", "b-PER", "", "o", "B- PER"])
def test_what_is_no_bio_tag_is_refused(tag: str) -> None:
    with pytest.raises(ValueError, match=r"is no BIO tag; use O, B-TYPE or I-TYPE"):
        split_tag(tag)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["O"], "have no type of entity"),
        (["B-X", "I-X"], "O is missing"),
        (["O", "I-X"], "B-X is missing"),
        (["O", "B-X", "O"], "O is there 2 times"),
    ],
)
def test_labels_that_are_no_tag_set_are_refused(labels: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_tag_set(labels)


def test_names_and_numbers_of_tags_are_parsed_to_the_same_numbers() -> None:
    parse = TagParser(TAGS)
    assert parse(WORDS, ["B-PER", "O", "B-LOC", "I-LOC"]) == (3, 0, 1, 2)
    assert parse(WORDS, [3, 0, 1, 2]) == (3, 0, 1, 2)


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        (["O", "O", "O"], "3 tags for 4 words; give one for each word"),
        (["O", "O", "O", "B-ORG"], r"word 4 \('York'\): 'B-ORG' is no tag of the task, which has O, B-LOC"),
        (["O", "O", "O", "b-loc"], "word 4 .*no BIO tag"),
        (["O", "O", "B-loc", "O"], "did you mean B-LOC"),
        (["O", 9, "O", "O"], r"word 2 \('left'\): 9 is the number of no tag; the task has 0 to 4"),
        (["O", None, "O", "O"], "word 2 .*None, a NoneType, is no tag"),
        (["O", True, "O", "O"], "True, a bool, is no tag"),
        (["O", "O", "O", "I-LOC"], r"word 4 \('York'\) has I-LOC, but no B-LOC or I-LOC before it.*scheme: iob1"),
        (["O", "O", "B-PER", "I-LOC"], "word 4 .*has I-LOC"),
        (["I-PER", "O", "O", "O"], "word 1 .*has I-PER"),
    ],
)
def test_wrong_tags_are_refused_with_the_word_and_the_remedy(tags: list[object], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        TagParser(TAGS)(WORDS, tags)
    assert "\n" not in str(error.value)


def test_iob1_becomes_iob2_without_a_change_of_entities() -> None:
    # Two neighbours of one type, which IOB1 tells apart by a B-, and two types side by side.
    given = ["I-LOC", "I-LOC", "B-LOC", "I-PER", "O", "I-PER"]
    assert to_iob2(given) == ["B-LOC", "I-LOC", "B-LOC", "B-PER", "O", "B-PER"]
    assert (
        spans(given)
        == spans(to_iob2(given))
        == [EntitySpan(0, 2, "LOC"), EntitySpan(2, 3, "LOC"), EntitySpan(3, 4, "PER"), EntitySpan(5, 6, "PER")]
    )
    assert TagParser(TAGS, "iob1")(list("abcdef"), given) == (1, 2, 1, 3, 0, 3)


def test_iob2_is_refused_as_iob1() -> None:
    with pytest.raises(ValueError, match=r"word 1 \('Ann'\) has B-PER after no entity of its type.*scheme: iob2"):
        TagParser(TAGS, "iob1")(WORDS, ["B-PER", "O", "O", "O"])


def test_repair_takes_an_i_without_an_entity_for_its_beginning() -> None:
    assert TagParser(TAGS, "repair")(WORDS, ["I-PER", "O", "B-PER", "I-LOC"]) == (3, 0, 3, 1)
    assert orphans(["I-PER", "I-PER", "O", "B-PER", "I-LOC"]) == [0, 4]


def test_entities_are_those_of_seqeval_for_any_sequence_of_four_words() -> None:
    """seqeval's default reading is conlleval's. All 5^4 sequences, valid or not."""
    for number in range(len(TAGS) ** 4):
        tags = [TAGS[number // len(TAGS) ** place % len(TAGS)] for place in range(4)]
        assert [(kind, start, end - 1) for start, end, kind in spans(tags)] == get_entities(tags), tags


def test_what_may_follow_is_what_has_no_orphan() -> None:
    for before in TAGS:
        assert may_begin(before) == (orphans([before]) == [])
        for tag in TAGS:
            assert may_follow(before, tag) == (1 not in orphans([before, tag]))

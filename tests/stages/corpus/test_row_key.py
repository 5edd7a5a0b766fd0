"""A row is known by its texts."""

from hashlib import blake2b

from stages.corpus.row_key import KEY_BYTES, row_key


def test_a_key_is_blake2b_over_length_and_utf8_of_each_text() -> None:
    data = (2).to_bytes(8, "little") + b"\xc3\xa9" + (3).to_bytes(8, "little") + b"abc"
    assert row_key(("\u00e9", "abc")) == blake2b(data, digest_size=16).digest()


def test_a_key_never_changes_between_versions() -> None:
    assert row_key(("a",)).hex() == "fc9c942180a48b1bfa36938828a429dc"


def test_rows_of_equal_text_share_a_key_and_it_has_16_bytes() -> None:
    assert row_key(["x", "y"]) == row_key(("x", "y"))
    assert len(row_key(("x",))) == KEY_BYTES == 16


def test_where_one_text_ends_and_the_next_begins_is_part_of_the_key() -> None:
    assert len({row_key(texts) for texts in (("ab", "c"), ("a", "bc"), ("abc", ""), ("", "abc"), ("abc",))}) == 5


def test_the_order_of_the_texts_is_part_of_the_key() -> None:
    assert row_key(("a", "b")) != row_key(("b", "a"))


def test_texts_are_not_normalised() -> None:
    variants = ("cafe\u0301", "caf\u00e9", "Caf\u00e9", "caf\u00e9 ")
    assert len({row_key((text,)) for text in variants}) == 4

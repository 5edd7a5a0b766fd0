"""Repeated rows are found by buckets; near-duplicates with the probability that banding has."""

import random
from pathlib import Path

import numpy as np
import pytest

from stages.bank.dedup import KeyRange, repeated_rows, text_keys, write_keys
from stages.bank.minhash import BANDS, ROWS, bands


@pytest.mark.parametrize("of", [1, 3, 8])
def test_rows_with_an_earlier_rows_key_are_found_whatever_the_buckets(tmp_path: Path, of: int) -> None:
    generator = np.random.default_rng(0)
    keys = [generator.integers(0, 40, (2, 25), np.uint64) * np.uint64(2**64 // 41) for _ in range(4)]
    for number, piece in enumerate(keys):
        write_keys(tmp_path, str(number), piece)
    for kind in range(2):
        flat = np.concatenate([piece[kind] for piece in keys]).tolist()
        expected = [row for row, key in enumerate(flat) if key in flat[:row]]
        found = [
            repeated_rows(tmp_path, ["0", "1", "2", "3"], [0, 25, 50, 75], KeyRange(kind, number, of))
            for number in range(of)
        ]
        assert sorted(np.concatenate(found).tolist()) == expected


def test_texts_that_differ_in_case_have_one_key_and_pairs_count_as_they_are_divided() -> None:
    keys = text_keys([("A b", "c"), ("a B", "C"), ("a", "b c"), ("c", "a b")], near=False)[0].tolist()
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3


def triples(text: str) -> set[tuple[str, ...]]:
    words = text.split()
    return {tuple(words[place : place + 3]) for place in range(len(words) - 2)}


@pytest.mark.parametrize("changed", [1, 3, 8])
def test_two_texts_share_a_band_as_often_as_their_similarity_says(changed: int) -> None:
    generator = random.Random(changed)
    trials, hits, expected = 400, 0, 0.0
    pairs = []
    for _ in range(trials):
        words = [f"w{generator.randrange(10**9)}" for _ in range(60)]
        other = list(words)
        for place in generator.sample(range(60), changed):
            other[place] = f"v{place}"
        pairs += [" ".join(words), " ".join(other)]
        one, two = triples(pairs[-2]), triples(pairs[-1])
        expected += 1 - (1 - (len(one & two) / len(one | two)) ** ROWS) ** BANDS
    found = bands(pairs)
    hits = int((found[:, 0::2] == found[:, 1::2]).any(0).sum())
    assert hits == pytest.approx(expected, abs=4 * (trials * 0.25) ** 0.5)


def test_punctuation_and_case_do_not_count_and_short_texts_have_bands_of_their_own() -> None:
    found = bands(["Well, that is it!", "well that IS it", "that is it", "it", "that", "!!", "??"])
    assert (found[:, 0] == found[:, 1]).all()
    assert len({tuple(found[:, place].tolist()) for place in range(1, 7)}) == 6

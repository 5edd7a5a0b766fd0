"""Rows whose words have labels: collated with the places of words, taken, joined, and padded without a change."""

from itertools import chain

import numpy as np
import torch

from stages.corpus.batches import Ragged
from stages.corpus.examples.token_rows import TokenRows
from stages.corpus.examples.word_rows import FIRST_PIECES, WordRows
from stages.corpus.rowset import Rowset, distinct, take_rows


def ragged(rows: list[list[int]]) -> Ragged:
    return Ragged(np.array(list(chain.from_iterable(rows)), np.int32), np.cumsum([0, *map(len, rows)]))


TOKENS = [[101, 7, 8, 9, 102], [101, 5, 102], [101, 6, 6, 102]]
FIRST = [[1, 3], [1], [1, 2, -1]]
"""The third row's last word was cut off."""
LABELS = [[1, 2], [3], [4, 5, 6]]


def rowset(numbers: list[int]) -> Rowset:
    examples = WordRows(
        TokenRows(ragged([TOKENS[row] for row in numbers]), None, 0), ragged([FIRST[row] for row in numbers])
    )
    labels = [LABELS[row] for row in numbers]
    offsets = np.cumsum([0, *map(len, labels)])
    keys = [bytes([row]) * 16 for row in numbers]
    known = np.ones(len(numbers), bool)
    return Rowset(examples, torch.tensor(list(chain.from_iterable(labels))), known, keys, np.array(numbers), offsets)


def test_a_batch_has_the_places_of_words_and_labels_of_the_same_shape() -> None:
    batch = rowset([0, 1, 2]).batch(np.array([2, 0]), "cpu")
    assert batch.inputs[FIRST_PIECES].tolist() == [[1, 2, -1], [1, 3, -1]]
    assert batch.labels.tolist() == [[4, 5, 6], [1, 2, 0]]
    assert batch.inputs["input_ids"].tolist() == [[101, 6, 6, 102, 0], [101, 7, 8, 9, 102]]


def test_rows_are_taken_with_their_labels_and_joined_once() -> None:
    taken = take_rows(rowset([0, 1, 2]), np.array([2, 1]))
    assert taken.labels.tolist() == [4, 5, 6, 3] and taken.offsets is not None and taken.offsets.tolist() == [0, 3, 4]
    whole = distinct([rowset([0, 2]), rowset([2, 1])])
    assert whole.labels.tolist() == [1, 2, 4, 5, 6, 3] and len(whole) == 3
    assert whole.batch(np.array([2]), "cpu").inputs[FIRST_PIECES].tolist() == [[1]]


def test_places_and_keys_are_those_of_labels_one_row_after_the_other() -> None:
    rows = rowset([0, 1, 2])
    assert rows.places(np.array([2, 0])).tolist() == [3, 4, 5, 0, 1]
    assert rows.entry_counts(np.array([2, 1])).tolist() == [3, 1]
    assert rows.label_keys == [bytes(16)] * 2 + [bytes([1]) * 16] + [bytes([2]) * 16] * 3
    assert rows.labelled_places.tolist() == [True] * 6


def test_a_batch_that_is_enlarged_keeps_its_words() -> None:
    batch = rowset([0, 1]).batch(np.array([0, 1]), "cpu")
    found = rowset([0, 1]).examples.fitted(batch.inputs, None)
    assert found["input_ids"].shape == (2, 8) and found["attention_mask"].sum(1).tolist() == [5, 3]
    assert torch.equal(found[FIRST_PIECES], batch.inputs[FIRST_PIECES])

"""Rows of tokens in memory: how they become batches, and how few sizes of batches there can be."""

import numpy as np
import torch

from stages.corpus.batches import Ragged
from stages.corpus.examples.token_rows import TokenRows, padded_length

PAIRS = TokenRows(
    Ragged(np.array([5, 6, 7, 8, 9], np.int32), np.array([0, 2, 5])),
    Ragged(np.array([0, 1, 0, 0, 1], np.int8), np.array([0, 2, 5])),
    pad=3,
)


def test_a_row_costs_its_tokens_and_is_padded_to_the_longest_of_its_batch() -> None:
    assert PAIRS.costs.tolist() == [2, 3]
    inputs = PAIRS.collate(np.array([1, 0]))
    assert {name: values.tolist() for name, values in inputs.items()} == {
        "input_ids": [[7, 8, 9], [5, 6, 3]],
        "attention_mask": [[1, 1, 1], [1, 1, 0]],
        "token_type_ids": [[0, 0, 1], [0, 1, 0]],
    }


def test_rows_that_are_taken_or_joined_keep_their_tokens_and_types() -> None:
    turned = PAIRS.take(np.array([1, 0]))
    both = turned.followed_by(PAIRS)
    assert both.costs.tolist() == [3, 2, 2, 3]
    for name, values in both.collate(np.array([0, 3])).items():
        assert (values[0] == values[1]).all(), name
    assert both.pad == 3


def test_inputs_are_enlarged_under_a_mask_of_0_but_not_beyond_the_longest() -> None:
    inputs = {name: torch.from_numpy(values) for name, values in PAIRS.collate(np.array([0, 1])).items()}
    found = PAIRS.fitted(inputs, None)
    assert {tuple(values.shape) for values in found.values()} == {(2, 8)}
    assert found["input_ids"][:, 3:].eq(3).all() and not found["attention_mask"][:, 3:].any()
    assert all(torch.equal(found[name][:, :3], inputs[name]) for name in inputs)
    assert all(torch.equal(PAIRS.fitted(inputs, 7)[name], inputs[name]) for name in inputs)


def test_lengths_are_padded_to_eighths_of_a_power_of_two() -> None:
    lengths = np.arange(1, 513)
    found = [padded_length(int(length)) for length in lengths]
    assert all(length <= wide < length + max(8, length / 4 + 1) for length, wide in zip(lengths, found, strict=True))
    assert sorted(set(found)) == [*range(8, 65, 8), *range(80, 129, 16), *range(160, 257, 32), *range(320, 513, 64)]

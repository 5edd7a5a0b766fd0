"""Numbers that can only be mistakes are refused by name, before they end in an overflow or a run of centuries."""

import pytest

from pipeline.recipe.errors import PlacedError
from pipeline.recipe.numbers import check_numbers
from pipeline.recipe.yaml import Tree


@pytest.mark.parametrize(
    ("tree", "line"),
    [
        ({"train": {"epochs": 10**20}}, "train.epochs: 100000000000000000000 is too large; give at most 1,000,000,000"),
        ({"train": {"weight_decay": 1e308}}, "train.weight_decay: 1e+308 is too large; give at most 1,000,000,000"),
        (
            {"method": [{"training": {"temperature": 1e-300}}]},
            "method.0.training.temperature: 1e-300 is too close to 0",
        ),
        ({"candidates": {"a": {"k": -(10**12)}}}, "candidates.a.k: -1000000000000 is too large"),
    ],
)
def test_a_number_out_of_all_bounds_is_refused_with_its_place(tree: Tree, line: str) -> None:
    with pytest.raises(PlacedError) as caught:
        check_numbers(tree)
    assert caught.value.line().startswith(line)


def test_seeds_bytes_and_labels_may_be_large_and_zero_is_a_number() -> None:
    check_numbers({"seeds": [2**32 - 1], "limits": {"store_bytes": 10**13}, "task": {"labels": [10**10, 0]}})
    check_numbers({"train": {"weight_decay": 0.0, "epochs": 10**9, "learning_rate": 1e-12}, "equal_steps": True})

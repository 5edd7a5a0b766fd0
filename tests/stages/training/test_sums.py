"""The places of the sums of an epoch."""

import pytest

from stages.training.sums import ATTENTION, LOSS, sum_layout

LAYOUT = sum_layout(("hard", "soft"), 2, {"candidates": 3})


def test_each_sum_has_a_place_of_its_own_and_all_places_fill_the_vector() -> None:
    places = [LAYOUT.place(name) for name in LAYOUT.sizes]
    assert (
        [number for place in places for number in range(place.start, place.stop)]
        == list(range(LAYOUT.size))
        == [*range(8)]
    )
    assert LAYOUT.place(LOSS) == slice(0, 1) and LAYOUT.place_of_term("soft") == 2
    assert LAYOUT.place(ATTENTION) == slice(3, 5) and LAYOUT.terms == ("hard", "soft")


def test_sums_by_name_are_put_in_order_again() -> None:
    values = [float(number) for number in range(8)]
    assert LAYOUT.in_order(LAYOUT.by_name(values)) == values
    with pytest.raises(ValueError, match="in place of"):
        LAYOUT.in_order({"loss": [1.0]})


def test_without_attention_or_participants_there_are_only_the_loss_and_its_terms() -> None:
    assert list(sum_layout(("hard",), 0, {}).sizes) == ["loss", "term/hard"]

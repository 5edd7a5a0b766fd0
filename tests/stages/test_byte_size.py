"""Sizes as people write them."""

import pytest

from stages.byte_size import parse_size


@pytest.mark.parametrize(
    ("given", "found"), [("50GB", 50 * 10**9), (1000, 1000), ("1.5 kB", 1500), ("2b", 2), ("0.5 TB", 5 * 10**11)]
)
def test_a_size_is_a_number_of_bytes(given: object, found: int) -> None:
    assert parse_size(given) == found


@pytest.mark.parametrize("given", ["50", "0GB", 0, -1, True, 1.5, "1.5B", "5 GiB", "lots", None])
def test_what_is_no_size_is_refused(given: object) -> None:
    with pytest.raises(ValueError, match="must be a size above 0, such as 50GB"):
        parse_size(given)

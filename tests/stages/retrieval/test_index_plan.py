"""Which index is chosen, and what it takes."""

from itertools import pairwise

import pytest

from stages.retrieval.index_plan import (
    EXACT_ROWS,
    FEWEST_ROWS,
    IndexPlan,
    index_bytes,
    lists_for,
    parts_of_code,
    planned,
)
from stages.specs.retrieval import IndexSpec

MILLION = 10**6


def test_auto_reads_all_vectors_as_long_as_that_is_quick() -> None:
    assert planned(IndexSpec(), EXACT_ROWS, 384).kind == "exact"
    assert planned(IndexSpec(), EXACT_ROWS + 1, 384).kind == "ivf-flat"


def test_auto_takes_the_first_kind_that_fits() -> None:
    sizes = [index_bytes(kind, MILLION, 384, 4096) for kind in ("ivf-flat", "ivf-sq8", "ivf-opq")]
    assert sizes == sorted(sizes, reverse=True)
    kinds = [planned(IndexSpec(most_bytes=size), MILLION, 384).kind for size in sizes]
    assert kinds == ["ivf-flat", "ivf-sq8", "ivf-opq"]
    assert planned(IndexSpec(most_bytes=sizes[0] - 1), MILLION, 384).kind == "ivf-sq8"


def test_what_cannot_fit_is_refused_in_one_line_that_says_how_much_would_do() -> None:
    needed = index_bytes("ivf-opq", MILLION, 384, 4096)
    with pytest.raises(ValueError, match=f"most_bytes: .*{needed:,}; give that much") as error:
        planned(IndexSpec(most_bytes=needed - 1), MILLION, 384)
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="most_bytes: 1,000, but hnsw"):
        planned(IndexSpec(kind="hnsw", most_bytes=1000), MILLION, 384)


def test_few_vectors_are_read_through_whatever_is_asked_for() -> None:
    for kind in ("hnsw", "ivf-flat", "ivf-opq"):
        assert planned(IndexSpec.model_validate({"kind": kind}), FEWEST_ROWS - 1, 16).kind == "exact"
        assert planned(IndexSpec.model_validate({"kind": kind}), FEWEST_ROWS, 16).kind == kind


def test_lists_are_no_more_than_can_be_learnt() -> None:
    assert lists_for(IndexSpec(), MILLION) == 4096
    assert lists_for(IndexSpec(lists=10_000), 8000) == 200
    assert lists_for(IndexSpec(lists=7), MILLION) == 7


def test_the_sample_that_lists_are_learnt_from_is_bounded() -> None:
    assert planned(IndexSpec(kind="ivf-flat"), MILLION, 384).train_rows == 40 * 4096
    large = planned(IndexSpec(most_bytes=10**12), 10**9, 768)
    assert large.train_rows * 768 * 4 <= 2 * 10**9
    assert large.train_rows >= large.lists


def test_shards_cover_all_rows_once() -> None:
    plan = IndexPlan("ivf-flat", 300_001, 8, 100, 4000)
    spans = [plan.span(shard) for shard in range(plan.shards)]
    assert spans[0][0] == 0
    assert spans[-1][1] == 300_001
    assert all(before[1] == after[0] for before, after in pairwise(spans))


@pytest.mark.parametrize(("width", "parts"), [(384, 48), (768, 96), (16, 2), (7, 1), (1, 1), (1024, 128)])
def test_a_vector_is_cut_into_equal_parts(width: int, parts: int) -> None:
    assert parts_of_code(width) == parts

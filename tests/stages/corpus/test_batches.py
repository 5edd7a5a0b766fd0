"""Which rows make up a batch, against plain Python lists."""

import hashlib
import itertools

import numpy as np
import pytest

from stages.corpus.batches import Ragged, Rows, epoch_batches, parts, share_of, sorted_batches
from stages.specs.seeds import seed_of

GENERATOR = np.random.Generator(np.random.PCG64(5))
LISTS = [GENERATOR.integers(1, 99, GENERATOR.integers(1, 9)).tolist() for _ in range(23)]


def ragged(rows: list[list[int]]) -> Ragged:
    values = np.array(list(itertools.chain(*rows)), np.int32)
    return Ragged(values, np.cumsum([0, *map(len, rows)]).astype(np.int64))


def lists(rows: Ragged) -> list[list[int]]:
    return [rows.values[start:end].tolist() for start, end in itertools.pairwise(rows.offsets)]


def numbers(*rows: int) -> Rows:
    return np.array(rows, np.int64)


@pytest.mark.parametrize(("rows", "size"), [(1, 4), (4, 4), (23, 4), (26, 5), (1000, 3), (301, 2)])
def test_an_epoch_has_every_row_exactly_once_and_one_short_batch_at_most(rows: int, size: int) -> None:
    lengths = np.random.Generator(np.random.PCG64(rows)).integers(1, 50, rows)
    batches = epoch_batches(lengths, size, seed=7)
    assert sorted(np.concatenate(batches)) == list(range(rows))
    assert len(batches) == -(-rows // size)
    assert sum(len(batch) != size for batch in batches) == bool(rows % size)


def test_the_batches_of_an_epoch_follow_from_the_seed() -> None:
    lengths = np.random.Generator(np.random.PCG64(0)).integers(1, 50, 60)
    again = [epoch_batches(lengths, 7, seed) for seed in (3, 3, 4)]
    assert [batch.tolist() for batch in again[0]] == [batch.tolist() for batch in again[1]]
    assert [batch.tolist() for batch in again[0]] != [batch.tolist() for batch in again[2]]


def test_the_batches_of_an_epoch_are_pinned() -> None:
    """Other batches would be other students from the same key."""
    batches = epoch_batches(np.arange(300) % 13, 8, seed=11)
    text = ";".join(",".join(map(str, batch.tolist())) for batch in batches)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    assert digest == "b82094bbcafa1e09", "raise the version of distil in stages/specs/base.py"


def test_the_rows_of_a_batch_are_of_like_length() -> None:
    lengths = np.random.Generator(np.random.PCG64(0)).integers(1, 129, 3200)
    batches = epoch_batches(lengths, 32, seed=1)
    padded = sum(int(lengths[batch].max()) * len(batch) for batch in batches)
    assert padded / lengths.sum() < 1.06


@pytest.mark.parametrize("world", [1, 2, 3, 5, 8])
def test_the_workers_shares_make_up_the_batch(world: int) -> None:
    for batch in epoch_batches(np.ones(26, np.int64), 5, seed=2):
        shares = [share_of(batch, rank, world) for rank in range(world)]
        real = [share.rows for share in shares if share.weight]
        assert sorted(np.concatenate(real)) == sorted(batch)
        assert max(map(len, real)) - min(map(len, real)) <= 1
        assert {share.weight for share in shares} <= {0.0, 1.0}


def test_a_worker_without_a_row_gets_one_that_counts_nothing() -> None:
    share = share_of(numbers(8, 9), rank=2, world_size=3)
    assert share.weight == 0.0
    assert share.rows.tolist() == [8]


def test_a_seed_depends_on_every_part_and_on_nothing_else() -> None:
    assert seed_of(1, 2, 3) == seed_of(1, 2, 3) == 1517167407554927345
    assert len({seed_of(*part) for part in itertools.product(range(4), repeat=3)}) == 64
    assert seed_of(1, 23) != seed_of(12, 3)
    assert all(0 <= seed_of(part) < 2**63 for part in range(200))


@pytest.mark.parametrize("tokens", [1, 10, 40, 10_000])
def test_sorted_batches_hold_every_row_once_within_the_budget_longest_first(tokens: int) -> None:
    lengths = np.random.Generator(np.random.PCG64(1)).integers(1, 30, 200)
    batches = sorted_batches(lengths, tokens, rows=64)
    order = np.concatenate(batches)
    assert sorted(order) == list(range(200))
    assert lengths[order].tolist() == sorted(lengths, reverse=True)
    for batch, following in itertools.pairwise([*batches, None]):
        padded = int(lengths[batch].max()) * len(batch)
        assert len(batch) <= 64 and (padded <= tokens or len(batch) == 1)
        if following is not None:
            wider = int(lengths[batch].max()) * (len(batch) + 1)
            assert len(batch) == 64 or wider > tokens, "no batch is smaller than it must be"


def test_no_rows_make_no_batches() -> None:
    assert sorted_batches(np.array([], np.int64), 100) == []


def test_padded_rows_are_the_rows_filled_up_to_the_longest() -> None:
    rows = ragged(LISTS)
    for chosen in ([0], [3, 1, 1], list(range(23))):
        longest = max(len(LISTS[row]) for row in chosen)
        expected = [LISTS[row] + [-7] * (longest - len(LISTS[row])) for row in chosen]
        assert rows.padded(numbers(*chosen), -7).tolist() == expected
        mask = [[1] * len(LISTS[row]) + [0] * (longest - len(LISTS[row])) for row in chosen]
        assert rows.mask(numbers(*chosen)).tolist() == mask


def test_the_lengths_are_those_of_the_rows() -> None:
    assert ragged(LISTS).lengths.tolist() == [len(row) for row in LISTS]


@pytest.mark.parametrize("chosen", [[], [22], [5, 0, 5, 21], list(range(22, -1, -1))])
def test_taken_rows_are_the_chosen_ones_in_the_chosen_order(chosen: list[int]) -> None:
    assert lists(ragged(LISTS).take(numbers(*chosen))) == [LISTS[row] for row in chosen]


def test_rows_followed_by_others_are_both_one_after_the_other() -> None:
    one, other, none = ragged(LISTS[:9]), ragged(LISTS[9:]), ragged(LISTS).take(numbers())
    assert lists(one.followed_by(other)) == LISTS
    assert lists(none.followed_by(one).followed_by(none)) == LISTS[:9]


@pytest.mark.parametrize(("total", "size"), [(0, 4), (1, 4), (8, 4), (9, 4)])
def test_parts_cover_the_whole_without_overlap(total: int, size: int) -> None:
    covered = [number for start, end in parts(total, size) for number in range(start, end)]
    assert covered == list(range(total))
    assert all(0 < end - start <= size for start, end in parts(total, size))

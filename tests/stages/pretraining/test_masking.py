"""Which tokens are predicted and what is read in their place: counted, and the same for any number of workers."""

import numpy as np
import pytest
import torch
from training_setups import CLASSES, WORDS, random_rows

from stages.corpus.batches import Ragged
from stages.corpus.examples.token_rows import TokenRows
from stages.corpus.rowset import Rowset
from stages.models.masked.token_ids import TokenIds
from stages.pretraining.masking import MaskedTokens, chosen_tokens, masked_batch
from stages.specs.pretraining import Masking

CLS, SEP, MASK = 1, 2, 3
TOKENS = TokenIds(MASK, np.array([0, CLS, SEP, MASK]), np.arange(4, WORDS))


def long_rows(rows: int = 64, length: int = 130) -> Rowset:
    """Rows [CLS] ... [SEP], of which each second one is half as long."""
    generator = np.random.Generator(np.random.PCG64(3))
    parts = [
        np.array([CLS, *generator.integers(4, WORDS, (length >> row % 2) - 2), SEP], np.int32) for row in range(rows)
    ]
    offsets = np.concatenate([[0], np.cumsum([len(part) for part in parts])])
    whole, keys = random_rows(CLASSES, rows), [bytes(16)] * rows
    return Rowset(
        TokenRows(Ragged(np.concatenate(parts), offsets), None, 0), whole.labels, whole.labelled, keys, whole.index
    )


def chosen(masking: Masking, seed: int = 0) -> tuple[np.ndarray, np.ndarray, MaskedTokens]:
    rows = np.arange(64)
    ids, mask = (long_rows().examples.collate(rows)[name] for name in ("input_ids", "attention_mask"))
    return ids, mask, chosen_tokens(ids, mask, masking, TOKENS, seed)


def test_of_the_tokens_that_are_not_special_the_given_share_is_predicted_to_a_token() -> None:
    ids, mask, found = chosen(Masking())
    ordinary = int(((mask == 1) & (ids > MASK)).sum())
    assert ordinary == 32 * 128 + 32 * 63
    assert len(found.targets) == round(0.15 * ordinary)
    places = set(zip(found.rows.tolist(), found.columns.tolist(), strict=True))
    assert len(places) == len(found.targets), "each place once"
    assert (ids[found.rows, found.columns] == found.targets).all()
    assert (mask[found.rows, found.columns] == 1).all() and (found.targets > MASK).all()


@pytest.mark.parametrize(
    "masking", [Masking(), Masking(share=0.5, masked=0.3, random=0.6), Masking(masked=1, random=0)]
)
def test_of_the_predicted_tokens_the_given_shares_are_masked_random_and_kept(masking: Masking) -> None:
    draws = [chosen(masking, seed)[2] for seed in range(40)]
    shown, targets = (np.concatenate([getattr(one, name) for one in draws]) for name in ("shown", "targets"))
    other, tolerance = len(TOKENS.drawn_from), 4 / np.sqrt(len(targets))
    by_chance = masking.random / other  # a random token that happens to be the right one
    assert np.mean(shown == MASK) == pytest.approx(masking.masked, abs=tolerance)
    kept = 1 - masking.masked - masking.random + by_chance
    assert np.mean(shown == targets) == pytest.approx(kept, abs=tolerance)
    assert np.isin(shown[(shown != MASK) & (shown != targets)], TOKENS.drawn_from).all()


def test_the_same_seed_chooses_the_same_tokens_and_another_seed_others() -> None:
    one, same, other = (chosen(Masking(), seed)[2] for seed in (5, 5, 6))
    assert (one.columns == same.columns).all() and (one.shown == same.shown).all()
    assert one.columns.tolist() != other.columns.tolist()


@pytest.mark.parametrize("rows", [7, 1])
def test_the_parts_of_two_workers_are_the_batch_of_one(rows: int) -> None:
    texts, numbers = long_rows(), np.arange(10, 10 + rows)
    whole = masked_batch(texts, numbers, Masking(), TOKENS, 4)
    parts = [masked_batch(texts, numbers, Masking(), TOKENS, 4, rank, 2) for rank in (0, 1)]
    assert {part.predicted for part in parts} == {whole.predicted} == {len(whole.targets)}
    predicted = []
    for rank, part in enumerate(parts):
        length = part.inputs["input_ids"].shape[1]
        if len(part.places):
            assert torch.equal(part.inputs["input_ids"], whole.inputs["input_ids"][rank::2])
        places = [(2 * (place // length) + rank, place % length) for place in part.places.tolist()]
        predicted += list(zip(places, part.targets.tolist(), strict=True))
    length = whole.inputs["input_ids"].shape[1]
    own = [(place // length, place % length) for place in whole.places.tolist()]
    assert sorted(predicted) == list(zip(own, whole.targets.tolist(), strict=True))


def test_at_least_one_token_of_a_short_batch_is_predicted_and_none_of_one_of_special_tokens() -> None:
    short, special = np.array([[CLS, 9, SEP]]), np.array([[CLS, SEP, 0]])
    assert chosen_tokens(short, np.ones_like(short), Masking(), TOKENS, 0).targets.tolist() == [9]
    assert not len(chosen_tokens(special, (special > 0).astype(np.int64), Masking(), TOKENS, 0).targets)

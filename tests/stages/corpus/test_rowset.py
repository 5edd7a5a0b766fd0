"""A split as the loop uses it."""

from pathlib import Path

import numpy as np
import pytest
import torch

from stages.corpus.reader import read_split
from stages.corpus.rowset import distinct, read_rowset


def test_a_batch_holds_the_rows_own_tokens_padded_with_the_tokenizers_pad(tiny_corpus: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_corpus / "tokenizer")
    rows, split = read_rowset(tiny_corpus, "train"), read_split(tiny_corpus, "train")
    chosen = np.array([5, 0, 17, 5])
    texts = [split.texts()[row][0] for row in chosen]
    plain = tokenizer(texts, padding=True, truncation=True, max_length=16, return_tensors="pt")
    batch = rows.batch(chosen, "cpu")
    assert batch.inputs.keys() == {"input_ids", "attention_mask"}, "single sentences need no token types"
    assert torch.equal(batch.inputs["input_ids"], plain["input_ids"])
    assert torch.equal(batch.inputs["attention_mask"], plain["attention_mask"])
    assert batch.labels.tolist() == [int(split.labels[row]) for row in chosen]
    assert batch.labels.dtype == torch.int64


def test_a_batch_of_pairs_has_token_types_and_a_regressions_labels_are_floats(pairs_corpus: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(pairs_corpus / "tokenizer")
    rows, split = read_rowset(pairs_corpus, "train"), read_split(pairs_corpus, "train")
    chosen = np.array([3, 20, 1])
    one, two = zip(*(split.texts()[row] for row in chosen), strict=True)
    plain = tokenizer(list(one), list(two), padding=True, truncation="longest_first", max_length=16)
    batch = rows.batch(chosen, "cpu")
    for name in ("input_ids", "attention_mask", "token_type_ids"):
        assert batch.inputs[name].tolist() == plain[name], name
    assert batch.labels.dtype == torch.float32


def test_a_split_without_labels_says_so_for_each_row(tiny_corpus: Path) -> None:
    rows = read_rowset(tiny_corpus, "test")
    assert len(rows) == 10 and not rows.labelled.any()
    assert read_rowset(tiny_corpus, "train").labelled.all()


@pytest.mark.parametrize("corpus", ["tiny_corpus", "pairs_corpus"])
def test_distinct_rows_are_one_a_key_the_first_that_has_it(corpus: str, request: pytest.FixtureRequest) -> None:
    directory = request.getfixturevalue(corpus)
    splits = [read_rowset(directory, name) for name in ("train", "holdout", "validation", "train")]
    together = distinct(splits)
    first: dict[bytes, list[int]] = {}
    for split in splits:
        for row, key in enumerate(split.row_keys):
            first.setdefault(key, split.examples.tokens.take(np.array([row])).values.tolist())
    tokens = together.examples.tokens
    rows = {key: tokens.take(np.array([row])).values.tolist() for row, key in enumerate(together.row_keys)}
    assert rows == first and list(rows) == list(first)
    assert len(together) == len(first) == len(together.labels) == len(together.labelled)
    assert (together.examples.types is None) == (splits[0].examples.types is None)
    if corpus == "tiny_corpus":
        assert len(together) < sum(map(len, splits[:3])), "some texts are there twice"


def test_types_stay_with_their_rows_when_rows_are_joined(pairs_corpus: Path) -> None:
    train, dev = (read_rowset(pairs_corpus, name) for name in ("train", "validation"))
    together = distinct([train, dev])
    place = list(together.row_keys).index(dev.row_keys[5])
    found, own = together.batch(np.array([place]), "cpu"), dev.batch(np.array([5]), "cpu")
    assert all(torch.equal(found.inputs[name], own.inputs[name]) for name in own.inputs)
    assert torch.equal(found.labels, own.labels)

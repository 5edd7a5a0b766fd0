"""The stage ``texts``: unlabelled texts of a bank or of a task, tokenised once for the models that are trained on them
and for the teachers that these follow.

    train/, holdout/           tokenised rows without labels, each under the row key of its texts
    tokenizer/, corpus.json    as in a corpus

This module imports no torch, so that planning and the driver do not need it.
"""

from collections.abc import Mapping
from pathlib import Path

from cluster.resources import On
from stages.corpus.token_shards import Facts, write_splits
from stages.pretraining.texts import chosen_texts
from stages.specs.pretraining import TextsSpec


def tokenised_texts(spec: TextsSpec, inputs: Mapping[str, Path], out: Path, on: On) -> Facts:
    """Write the tokenised texts to ``out``, going on from the parts that it holds. Inputs are those that ``TextsSpec``
    lists. Returns for each split: rows, truncated rows, tokens. Raises ValueError if there are fewer than two different
    texts, and for a tokenizer that cannot be used."""
    texts = chosen_texts(spec, inputs)
    out.mkdir(parents=True, exist_ok=True)
    _, facts = write_splits(texts.task, spec.max_length, inputs["tokenizer"], texts.splits, out, on)
    return facts

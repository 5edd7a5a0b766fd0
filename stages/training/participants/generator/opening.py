"""Open the generator of a training with generated rows."""

from collections.abc import Mapping
from pathlib import Path

from stages.corpus.tokenizer import load_tokenizer
from stages.models.embeddings.words import word_embeddings
from stages.models.masked.language_model import PlacePredictor, build_masked_model
from stages.models.masked.token_ids import ids_for_masking
from stages.specs.student import DistilSpec, Pretrained
from stages.training.setup import Generator


def open_generator(spec: DistilSpec, inputs: Mapping[str, Path]) -> Generator | None:
    """The generator of a method with generated rows, before its training; None for any other. Raises ValueError for a
    model without a head that predicts tokens."""
    if not spec.method.has_generated_rows:
        return None
    start = build_masked_model(Pretrained(), inputs["generator"])
    if start.new_head:
        raise ValueError(
            f"generator: {inputs['generator']} has no head that predicts masked tokens; give a masked language model"
        )
    tokenizer = load_tokenizer(inputs["corpus"] / "tokenizer")
    tokens = word_embeddings(start.model).num_embeddings
    return Generator(PlacePredictor(start.model), ids_for_masking(tokenizer, tokens))

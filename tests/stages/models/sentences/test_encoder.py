"""Sentence encoders give the embeddings that sentence-transformers gives for the same files."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tiny import write_tiny_model

from stages.models.sentences import write_modules
from stages.models.sentences.encoder import cosines, open_sentence_encoder

TEXTS = ["the film was fine", "a dull and flat story of the cast", "music", "the ending was great " * 20]


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("dense", [None, 8])
def test_embeddings_are_those_of_sentence_transformers(
    pooling: str, normalize: bool, dense: int | None, tmp_path: Path
) -> None:
    from sentence_transformers import SentenceTransformer

    folder = write_tiny_model(tmp_path / "model", layers=2, width=16, initializer_range=0.5)
    write_modules(folder, pooling, normalize, 24, 16, dense)
    if dense is not None:
        torch.manual_seed(1)
        weights = {"linear.weight": torch.randn(dense, 16), "linear.bias": torch.randn(dense)}
        save_file(weights, folder / "2_Dense" / "model.safetensors")
    peer = SentenceTransformer(str(folder), device="cpu")
    own = open_sentence_encoder(folder, "mean", 24, "cpu", 1)
    assert own.width == (dense or 16)
    assert own.parameters == sum(value.numel() for value in peer.parameters())
    np.testing.assert_allclose(own.encode([(text,) for text in TEXTS]), peer.encode(TEXTS), atol=2e-6)


def test_cosines_are_those_of_vectors_of_any_length_and_0_for_a_vector_of_zeros() -> None:
    one, other = np.array([[3.0, 0.0], [1.0, 1.0], [0.0, 0.0]]), np.array([[0.0, 2.0], [5.0, 5.0], [1.0, 0.0]])
    assert cosines(one.astype(np.float32), other.astype(np.float32)) == pytest.approx([0.0, 1.0, 0.0])

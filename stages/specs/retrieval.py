"""The specs of the stages ``embed`` and ``index``."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from stages.specs.base import Frozen, Spec

# --- its embeddings and its index ---------------------------------------------------------------------


class ModelEncoder(Frozen):
    """A sentence encoder: its last layer pooled over a text's tokens, scaled to length 1."""

    kind: Literal["model"] = "model"
    pooling: Literal["mean", "cls"] = "mean"
    max_length: int = Field(64, ge=4)


class TfIdf(Frozen):
    """Words and pairs of neighbouring words, hashed to ``features``; (1 + log count) x idf, scaled to length 1. No
    model. It is searched exactly."""

    kind: Literal["tfidf"] = "tfidf"
    features: int = Field(2**20, ge=2**8)
    words: int = Field(2, ge=1, le=3)


Encoder = Annotated[ModelEncoder | TfIdf, Field(discriminator="kind")]


class EmbedSpec(Spec):
    """A bank -> a vector a row. Inputs: ``bank``, ``encoder`` (a model directory) for a model's, any ``prior/...``."""

    stage: ClassVar[str] = "embed"
    version: ClassVar[int] = 1

    encoder: Encoder = ModelEncoder()


class IndexSpec(Spec):
    """Embeddings of a model -> a FAISS index. Inputs: ``embeddings``.

    ``auto`` chooses by rows and by ``most_bytes``, what the index may take: exact search as long as it is quick, then
    inverted lists of the vectors as they are, of one byte a dimension, or product-quantised. ``recall`` is what
    recall@8 against exact search should reach on a sample; the lists that are visited are set by it.
    """

    stage: ClassVar[str] = "index"
    version: ClassVar[int] = 2

    kind: Literal["auto", "exact", "hnsw", "ivf-flat", "ivf-sq8", "ivf-pq", "ivf-opq"] = "auto"
    most_bytes: int = Field(8 * 10**9, ge=1)
    recall: float = Field(0.95, gt=0.0, le=1.0)
    lists: int | None = Field(None, ge=1)
    seed: int = 0

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
    """Sequences of up to ``words`` neighbouring words, hashed to ``features`` dimensions; (1 + log count) x idf, scaled
    to length 1. Needs no model, and is searched exactly, without an index."""

    kind: Literal["tfidf"] = "tfidf"
    features: int = Field(2**20, ge=2**8)
    words: int = Field(2, ge=1, le=3)


Encoder = Annotated[ModelEncoder | TfIdf, Field(discriminator="kind")]


class EmbedSpec(Spec):
    """A bank -> one vector a row. Inputs: ``bank``; for an encoder model ``encoder``, its directory; and any number of
    ``prior/...``, earlier embeddings by the same encoder from which rows may be reused."""

    stage: ClassVar[str] = "embed"
    version: ClassVar[int] = 1

    encoder: Encoder = ModelEncoder()


class IndexSpec(Spec):
    """Embeddings by a model -> a FAISS index. Inputs: ``embeddings``.

    ``auto`` chooses the kind by the number of rows and by ``most_bytes``, the most that the index may take: exact
    search while that is fast, then inverted lists of whole vectors, of vectors with one byte a dimension, or of
    product-quantised ones. ``recall`` is the recall@8 against exact search to reach on a sample; the number of lists
    that a search visits is set by it.
    """

    stage: ClassVar[str] = "index"
    version: ClassVar[int] = 2

    kind: Literal["auto", "exact", "hnsw", "ivf-flat", "ivf-sq8", "ivf-pq", "ivf-opq"] = "auto"
    most_bytes: int = Field(8 * 10**9, ge=1)
    recall: float = Field(0.95, gt=0.0, le=1.0)
    lists: int | None = Field(None, ge=1)
    seed: int = 0

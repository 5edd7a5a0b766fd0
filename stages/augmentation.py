"""Specs of the stages that make candidates: texts like those of train, for the teacher to label.

    bank -> embed -> index -> neighbours        rewrite        transfer
                              \\__________________|_______________/
                                       a candidate table  ->  unlabelled -> teach -> sift

The bank, its embeddings and its index know no task. Any maker leaves a candidate table of the same form. What is in
it is tokenised as a corpus of rows without labels, which the teacher labels by the same stage as any other.
Needs the standard library and pydantic only.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from stages.frozen import Frozen
from stages.specs import Files, Spec

# --- the bank ---------------------------------------------------------------------------------------


LANGUAGE = r"^[a-z]{2,3}(-[a-z]+)*$"
"""What the code of a language looks like. sentencex has rules of many and says of none that it lacks them."""


class HubTexts(Frozen):
    """Texts of one split of a data set on the hub, at a commit."""

    kind: Literal["hub"] = "hub"
    repository: str
    config: str | None = None
    revision: str
    split: str = "train"


class GeneratedTexts(Frozen):
    """Sentences of the project's own seeded generator of reviews, without their labels."""

    kind: Literal["generated"] = "generated"
    seed: int = 0
    rows: int = Field(4000, ge=1)


class BankSpec(Spec):
    """Unlabelled texts -> cleaned, length-bounded, distinct sentences (or pairs of them). Inputs: ``files/0`` ...

    ``text`` names the column of text, or the two of a pair; a plain text file has a text a line. ``sentences`` is the
    language in which texts are split into sentences first. Bounds are in words, between spaces, of each text.
    ``near_duplicates`` also drops what shares most of its word triples with an earlier text.
    """

    stage: ClassVar[str] = "bank"
    version: ClassVar[int] = 1

    source: Annotated[Files | HubTexts | GeneratedTexts, Field(discriminator="kind")] = Files()
    text: tuple[str, ...] = Field(("text",), min_length=1, max_length=2)
    sentences: str | None = Field(None, pattern=LANGUAGE)
    min_words: int = Field(3, ge=1)
    max_words: int = Field(64, ge=1)
    near_duplicates: bool = False

    @model_validator(mode="after")
    def _bounds_leave_something(self) -> "BankSpec":
        if self.min_words > self.max_words:
            raise ValueError(f"min_words: {self.min_words}, but max_words is {self.max_words}; let it be no more")
        if self.sentences is not None and len(self.text) == 2:
            raise ValueError("sentences: a pair of texts cannot be split and stay a pair; leave it out")
        return self


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
    version: ClassVar[int] = 1

    kind: Literal["auto", "exact", "hnsw", "ivf-flat", "ivf-sq8", "ivf-pq", "ivf-opq"] = "auto"
    most_bytes: int = Field(8 * 10**9, ge=1)
    recall: float = Field(0.95, gt=0.0, le=1.0)
    lists: int | None = Field(None, ge=1)
    seed: int = 0


# --- makers of candidates -------------------------------------------------------------------------------

Sides = Literal["first", "second", "either", "both", "joined"]
"""What of a pair is searched: one text, the other kept; either by turns; both; or the pair as a whole, in a bank of
pairs. A task of single texts has ``first`` alone."""


class NeighboursSpec(Spec):
    """The ``k`` nearest of a bank for each row of train. Inputs: ``corpus``, ``bank``, ``embeddings``, and for a
    model's embeddings ``index`` and ``encoder``.

    Distances are angles as shares of pi; what is nearer than ``min_distance`` or farther than ``max_distance`` is left
    out. The row's own text, and every text that the task is evaluated on, is left out in any case.
    """

    stage: ClassVar[str] = "neighbours"
    version: ClassVar[int] = 1

    k: int = Field(8, ge=1)
    sides: Sides = "first"
    min_distance: float = Field(0.0, ge=0.0, lt=1.0)
    max_distance: float = Field(1.0, gt=0.0, le=1.0)

    @model_validator(mode="after")
    def _distances_leave_something(self) -> "NeighboursSpec":
        if self.min_distance >= self.max_distance:
            raise ValueError(
                f"min_distance: {self.min_distance}, but max_distance is {self.max_distance}; let it be less"
            )
        return self


class TransferSpec(Spec):
    """``k`` texts of a bank for each row of train, drawn at random: an unlabelled transfer set. Inputs: ``corpus``,
    ``bank``."""

    stage: ClassVar[str] = "transfer"
    version: ClassVar[int] = 1

    k: int = Field(8, ge=1)
    seed: int = 0


class Words(Frozen):
    """Each word is replaced with probability ``share``: by a synonym of the input ``synonyms`` (a line each: a word, a
    tab, its synonyms with commas between), or, without that input, by one of the ``nearest`` words in the embedding
    table of ``model``."""

    kind: Literal["words"] = "words"
    share: float = Field(0.4, gt=0.0, le=1.0)
    nearest: int = Field(15, ge=1)


class Masked(Frozen):
    """Each word is masked with probability ``share``, and a masked language model's (``model``) ``nearest`` likeliest
    other tokens are drawn from in its place."""

    kind: Literal["masked"] = "masked"
    share: float = Field(0.4, gt=0.0, le=1.0)
    nearest: int = Field(15, ge=1)


class Translated(Frozen):
    """Into another language by the model ``there`` and back by ``back``, sampled among the ``nearest`` likeliest tokens
    at ``temperature``."""

    kind: Literal["translated"] = "translated"
    nearest: int = Field(10, ge=1)
    temperature: float = Field(1.0, gt=0.0)
    max_length: int = Field(128, ge=4)


class RewriteSpec(Spec):
    """Rewritten texts of train. Inputs: ``corpus``, and what ``how`` names. ``side`` is the text of a pair that is
    rewritten; ``either`` by turns.

    At most ``k`` a row, distinct, none of them the row's own text or one that the task is evaluated on.
    """

    stage: ClassVar[str] = "rewrite"
    version: ClassVar[int] = 1

    how: Annotated[Words | Masked | Translated, Field(discriminator="kind")] = Words()
    k: int = Field(8, ge=1)
    sides: Literal["first", "second", "either", "both"] = "first"
    seed: int = 0


# --- labelled ---------------------------------------------------------------------------------------------


class UnlabelledSpec(Spec):
    """The distinct texts of a candidate table -> tokenised shards, in the form of a corpus with one split,
    ``candidates``. Inputs: ``candidates``, ``corpus`` (whose tokenizer and length it has)."""

    stage: ClassVar[str] = "unlabelled"
    version: ClassVar[int] = 1


class SiftSpec(Spec):
    """A candidate table, less what the teacher thinks little of, and in its order: at most ``k`` a row. Inputs:
    ``candidates``, ``outputs`` (the teacher on train), ``candidate_outputs`` (the teacher on the candidates).

    ``rerank`` orders a row's candidates by the angle between the teacher's last pooled states, leaving out those at 0.
    ``confidence`` bounds the teacher's highest probability. ``balance``: no class, as the teacher has it, keeps more
    than so many times the candidates of the rarest; the farthest go.
    """

    stage: ClassVar[str] = "sift"
    version: ClassVar[int] = 1

    k: int = Field(8, ge=1)
    rerank: bool = False
    pooling: Literal["mean", "cls"] = "mean"
    min_distance: float = Field(0.0, ge=0.0, lt=1.0)
    max_distance: float = Field(1.0, gt=0.0, le=1.0)
    confidence: tuple[float, float] = (0.0, 1.0)
    balance: float | None = Field(None, ge=1.0)

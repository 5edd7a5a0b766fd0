"""Specs of the stages that make candidates: texts similar to those of train, which the teacher labels.

    bank -> embed -> index -> neighbours        rewrite        transfer
                              \\__________________|_______________/
                                       a candidate table  ->  unlabelled -> teach -> rerank

The bank, its embeddings and its index do not depend on the task. Each of ``neighbours``, ``rewrite`` and ``transfer``
writes a candidate table of the same form. Its texts are tokenised as a corpus without labels, for which the stage
``teach`` computes the teacher's outputs as for any other corpus.
Needs the standard library and pydantic only.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from stages.specs.base import Frozen, Spec

# --- makers of candidates -------------------------------------------------------------------------------

Sides = Literal["first", "second", "either", "both", "joined"]
"""Which text of a pair is searched: ``first`` or ``second``, while the other is kept; ``either``, in alternation;
``both``; or ``joined``, the pair as a whole, in a bank of pairs. A task of single texts uses ``first``."""


class NeighboursSpec(Spec):
    """The ``k`` nearest texts of a bank for each row of train. Inputs: ``corpus``, ``bank``, ``embeddings``, and for
    embeddings by a model also ``index`` and ``encoder``.

    A distance is the angle between two embeddings divided by pi. Texts at less than ``min_distance`` or more than
    ``max_distance`` are left out, and always the row's own text and every text of the splits for evaluation.
    ``random`` is the share of the ``k`` candidates, rounded down, that are random texts of the bank instead, at any
    distance; for pairs they replace the texts of ``sides``. They are drawn with ``seed``.
    """

    stage: ClassVar[str] = "neighbours"
    version: ClassVar[int] = 2

    k: int = Field(8, ge=1)
    sides: Sides = "first"
    min_distance: float = Field(0.0, ge=0.0, lt=1.0)
    max_distance: float = Field(1.0, gt=0.0, le=1.0)
    random: float = Field(0.0, ge=0.0, lt=1.0)
    seed: int = 0

    @model_validator(mode="after")
    def _distances_leave_something(self) -> "NeighboursSpec":
        if self.min_distance >= self.max_distance:
            raise ValueError(
                f"min_distance: {self.min_distance}, but max_distance is {self.max_distance}; set it lower"
            )
        return self


class TransferSpec(Spec):
    """``k`` random texts of a bank for each row of train: an unlabelled transfer set. Inputs: ``corpus``, ``bank``."""

    stage: ClassVar[str] = "transfer"
    version: ClassVar[int] = 1

    k: int = Field(8, ge=1)
    seed: int = 0


class Words(Frozen):
    """Each word is replaced with probability ``share``: by a synonym from the input ``synonyms`` (one word a line: the
    word, a tab, its synonyms separated by commas), or, without that input, by one of the ``nearest`` words in the
    embedding table of the input ``model``."""

    kind: Literal["words"] = "words"
    share: float = Field(0.4, gt=0.0, le=1.0)
    nearest: int = Field(15, ge=1)


class Masked(Frozen):
    """Each word is masked with probability ``share``, and replaced by a random one of the ``nearest`` likeliest other
    tokens of a masked language model, the input ``model``."""

    kind: Literal["masked"] = "masked"
    share: float = Field(0.4, gt=0.0, le=1.0)
    nearest: int = Field(15, ge=1)


class WordByWord(Frozen):
    """TinyBERT's augmentation: each word but stop words is replaced with probability ``share`` by a random one of its
    ``nearest`` candidates. Those of a word that is one token are the likeliest other tokens of a masked language model,
    the input ``model``, that reads the text with this word alone masked, and beside it the text itself; those of any
    other word are its nearest words in the input ``vectors``, a file of word vectors, or without that input those
    nearest to the mean of its pieces' embeddings."""

    kind: Literal["tinybert"] = "tinybert"
    share: float = Field(0.4, gt=0.0, le=1.0)
    nearest: int = Field(15, ge=1)


class Translated(Frozen):
    """Back-translation: into another language by the model in the input ``there`` and back by the one in ``back``, each
    token sampled from the ``nearest`` likeliest at ``temperature``."""

    kind: Literal["translated"] = "translated"
    nearest: int = Field(10, ge=1)
    temperature: float = Field(1.0, gt=0.0)
    max_length: int = Field(128, ge=4)


class RewriteSpec(Spec):
    """Rewritten texts of train. Inputs: ``corpus``, and those of the method ``how``. ``sides`` is the text of a pair
    that is rewritten; ``either`` alternates between the two.

    A row has at most ``k`` different rewritings, none of them its own text or a text of the splits for evaluation.
    """

    stage: ClassVar[str] = "rewrite"
    version: ClassVar[int] = 1

    how: Annotated[Words | Masked | WordByWord | Translated, Field(discriminator="kind")] = Words()
    k: int = Field(8, ge=1)
    sides: Literal["first", "second", "either", "both"] = "first"
    seed: int = 0


# --- labelled ---------------------------------------------------------------------------------------------


class UnlabelledSpec(Spec):
    """The distinct texts of a candidate table -> tokenised shards, in the form of a corpus with one split,
    ``candidates``. Inputs: ``candidates``, and ``corpus``, whose tokenizer and maximum length are used."""

    stage: ClassVar[str] = "unlabelled"
    version: ClassVar[int] = 1


class RerankSpec(Spec):
    """A candidate table filtered, and optionally re-ranked, by the teacher's outputs: at most ``k`` candidates a row.
    Inputs: ``candidates``, ``outputs`` (of the teacher on train), ``candidate_outputs`` (of the teacher on the
    candidates).

    ``rerank`` orders the candidates of a row by the angle between the teacher's last pooled states of row and
    candidate, and drops those at angle 0. ``confidence`` bounds the teacher's highest class probability. ``balance``
    bounds the number of candidates in any class, by the teacher's prediction, to this multiple of the number in the
    rarest class; the most distant are dropped.
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

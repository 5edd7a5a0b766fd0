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

from stages.specs.base import Frozen, Spec

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
    version: ClassVar[int] = 2

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


class RerankSpec(Spec):
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

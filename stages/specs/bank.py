"""The spec of the stage ``bank``, and the sources of unlabelled texts."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from stages.specs.base import Frozen, Spec
from stages.specs.corpus import Files

# --- the bank ---------------------------------------------------------------------------------------


LANGUAGE = r"^[a-z]{2,3}(-[a-z]+)*$"
"""The form of a language code. The library sentencex accepts any code, and does not report one without rules."""


class HubTexts(Frozen):
    """The texts of one split of a data set on the Hugging Face hub, at a commit."""

    kind: Literal["hub"] = "hub"
    repository: str
    config: str | None = None
    revision: str
    split: str = "train"


class GeneratedTexts(Frozen):
    """Sentences from the project's seeded generator of reviews, without their labels."""

    kind: Literal["generated"] = "generated"
    seed: int = 0
    rows: int = Field(4000, ge=1)


class BankSpec(Spec):
    """Unlabelled texts -> cleaned, length-bounded, distinct sentences (or pairs of them). Inputs: ``files/0`` ...

    ``text`` names the column of text, or the two columns of a pair; a plain text file has one text a line. With
    ``sentences``, a language code, texts are first split into sentences by the rules of that language. ``min_words``
    and ``max_words`` bound the number of words of each text, divided at spaces. ``near_duplicates`` also drops texts
    that share most of their word triples with an earlier text.

    ``rows`` bounds the number of texts that are kept after all that: those whose hashes are the smallest, whatever
    their order, so that a larger sample contains a smaller one.
    """

    stage: ClassVar[str] = "bank"
    version: ClassVar[int] = 1

    source: Annotated[Files | HubTexts | GeneratedTexts, Field(discriminator="kind")] = Files()
    text: tuple[str, ...] = Field(("text",), min_length=1, max_length=2)
    sentences: str | None = Field(None, pattern=LANGUAGE)
    min_words: int = Field(3, ge=1)
    max_words: int = Field(64, ge=1)
    near_duplicates: bool = False
    rows: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _bounds_leave_something(self) -> "BankSpec":
        if self.min_words > self.max_words:
            raise ValueError(f"min_words: {self.min_words}, but max_words is {self.max_words}; let it be no more")
        if self.sentences is not None and len(self.text) == 2:
            raise ValueError("sentences: a pair of texts cannot be split and stay a pair; leave it out")
        return self

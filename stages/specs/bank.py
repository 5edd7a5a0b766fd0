"""The spec of the stage ``bank``, and where unlabelled texts come from."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from stages.specs.base import Frozen, Spec
from stages.specs.corpus import Files

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

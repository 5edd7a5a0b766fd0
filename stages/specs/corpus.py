"""The spec of the stage ``corpus``, and the sources of a task's rows."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from stages.specs.axes.augmentation import Augmentation
from stages.specs.base import Frozen, Spec
from stages.specs.tasks import Task

# --- corpus -------------------------------------------------------------------------------------


class Files(Frozen):
    """Rows come from files, which are identified by their content (the inputs ``data/<split>``)."""

    kind: Literal["files"] = "files"


class Hub(Frozen):
    """Rows come from a data set on the Hugging Face hub, at a commit."""

    kind: Literal["hub"] = "hub"
    repository: str
    config: str | None = None
    revision: str


class Generated(Frozen):
    """Rows come from the project's seeded generator of reviews (``stages/corpus/demo/reviews.py``)."""

    kind: Literal["generated"] = "generated"
    seed: int = 0
    train: int = 1600
    validation: int = 1000
    test: int = 1000


Source = Annotated[Files | Hub | Generated, Field(discriminator="kind")]


TOKENISATION = 1
"""Version of tokenisation, to be raised whenever the same text gets other tokens. Rows of teacher-output stores are not
reused across versions."""


MOST_HELD_OUT = 2000
"""The most rows of a holdout: enough to select an epoch, and more would be missing from train."""


class CorpusSpec(Spec):
    """The rows of a task -> tokenised shards, or decoded images. Inputs: ``tokenizer`` (a model directory; of images,
    only for a model that was trained with a normalisation of its own), and for rows from files one ``data/<split>`` for
    each split.

    ``augmentation`` says in how many views each image of train is read, and how they are made; None for the image as it
    is.

    Of train, the share ``holdout`` is held out, but at least ``holdout_min_rows`` rows, unless these are more than a
    quarter (``stages.corpus.splits.holdout_rows``).
    """

    stage: ClassVar[str] = "corpus"
    version: ClassVar[int] = 3

    task: Task
    source: Source
    max_length: int = Field(128, ge=4)
    train_rows: int | None = Field(None, ge=1)
    eval_rows: int | None = Field(None, ge=1)
    sample_seed: int = 0
    holdout: float = Field(0.1, ge=0.0, lt=0.5)
    holdout_min_rows: int = Field(0, ge=0, le=MOST_HELD_OUT)
    augmentation: Augmentation | None = None

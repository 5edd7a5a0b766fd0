"""The tasks: columns, label names and their order, splits and metrics. No data is read here.

GLUE is as in the official benchmark and in the data set ``nyu-mll/glue`` on the Hugging Face hub: label number i means
``labels[i]``. SST-5, SST-2 (whole sentences), CR, IMP and TREC are those of the minimax-kNN experiments.

Needs the standard library and pydantic only, so that planning can read it.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from stages.specs.axes.kinds import CLASSIFICATION, REGRESSION, TOKEN_LABELS, TaskKind

Metric = Literal[
    "accuracy",
    "f1",
    "macro_f1",
    "matthews",
    "pearson",
    "spearman",
    "entity_f1",
    "entity_precision",
    "entity_recall",
]

TOKEN_METRICS: tuple[Metric, ...] = ("entity_f1", "entity_precision", "entity_recall")
"""The metrics of a task with labels on words, where none are given."""

TRAIN = "train"
"""Name of the train split in a corpus, whatever its name in the data."""

HOLDOUT = "holdout"
"""Name of the slice of train on which the best epoch is chosen."""

CUT_DEV = "validation"
"""Name of the dev split that is split off train for a task without a dev split of its own."""

RESERVED_COLUMNS = frozenset(
    {"index", "row_key", "label", "input_ids", "token_type_ids", "first_pieces", "rank", "distance", "candidate_key"}
)
"""Columns of a corpus, or of a candidate table, that are not text."""


TagScheme = Literal["iob2", "iob1", "repair"]
"""How the tags of a file are to be read. ``iob2`` and ``iob1`` refuse sequences of another scheme; ``repair`` takes any
``I-TYPE`` that continues no entity of its type for the beginning of one, as conlleval does."""


class Task(BaseModel):
    """The definition of a task: its columns of text, or of images, its label, its metrics and its splits.

    A row has one text or two, or it is an image in the column ``image``, with 1 or 3 ``channels``.

    ``labels`` is None for a regression (the label of a row is a number). ``dev`` may be empty: a seeded tenth of train
    then becomes the split ``validation``. The first of ``metrics`` is the headline metric. ``select``, of a built-in
    task, is the one of them whose score selects the best epoch of a training; None for the headline metric. A recipe
    puts it into the specs of trainings (``Train.select_metric``): the task in a recipe, and that of a corpus, which
    does not depend on how epochs are selected, has None. ``unit`` is what a label is of: of a row, or of each word of a
    row, whose single column of text then holds lists of words, and whose column ``label`` lists of tags in ``scheme``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    text: tuple[str, ...] = Field(default=(), max_length=2)
    image: str | None = None
    channels: Literal[1, 3] = 3
    label: str = "label"
    labels: tuple[str, ...] | None = None
    metrics: tuple[Metric, ...] = Field(default=("accuracy",), min_length=1)
    select: Metric | None = None
    train: str = TRAIN
    dev: tuple[str, ...] = ("validation",)
    test: tuple[str, ...] = ()
    unit: Literal["row", "word"] = "row"
    scheme: TagScheme = "iob2"

    @property
    def kind(self) -> TaskKind:
        """What the outputs of a model of this task mean."""
        if self.unit == "word":
            return TOKEN_LABELS
        return REGRESSION if self.labels is None else CLASSIFICATION

    @property
    def regression(self) -> bool:
        """Whether the label is a number."""
        return self.kind is REGRESSION

    @property
    def outputs(self) -> int:
        """Width of the logits: the number of labels, or 1."""
        return 1 if self.labels is None else len(self.labels)

    @property
    def pair(self) -> bool:
        """Whether a row has two texts."""
        return len(self.text) == 2

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that a model reads: of texts, or of images."""
        return self.text if self.image is None else (self.image,)

    def document(self) -> dict[str, Any]:
        """The fields as JSON, as they are written beside rows and models: those of images only for a task on images,
        and ``unit`` and ``scheme`` only where labels are of words, so that files of other tasks are as they were before
        there were such tasks."""
        images = {"image", "channels"} if self.image is None else set()
        return self.model_dump(mode="json", exclude=images | ({"unit", "scheme"} if self.unit == "row" else set()))

    @property
    def primary(self) -> Metric:
        """The headline metric: the first one."""
        return self.metrics[0]

    @property
    def metric_names(self) -> str:
        """The metrics, the headline first; the one that selects the best epoch is marked where it is another."""
        return ", ".join(f"{metric} (selects epochs)" if metric == self.select else metric for metric in self.metrics)

    @property
    def dev_splits(self) -> tuple[str, ...]:
        """The dev splits that a corpus of this task has: its own, or the one split off train."""
        return self.dev or (CUT_DEV,)

    @model_validator(mode="after")
    def _metrics_fit(self) -> "Task":
        for metric in self.metrics:
            if metric not in self.kind.metrics:
                raise ValueError(f"metrics: {metric} does not fit a {self.kind.name}")
            if metric == "f1" and self.outputs != 2:
                raise ValueError(f"metrics: f1 needs 2 labels, the task has {self.outputs}; use macro_f1")
        if self.select is not None and self.select not in self.metrics:
            raise ValueError(f"select: {self.select} is not among the metrics {', '.join(self.metrics)}; add it there")
        return self

    @model_validator(mode="after")
    def _inputs_are_of_one_kind(self) -> "Task":
        if bool(self.text) == (self.image is not None):
            raise ValueError("text: a row is text, in one column or two, or an image, in one; give text or image")
        if self.image is not None and self.labels is None:
            raise ValueError("labels: missing, and needed: images are classified")
        return self

    @model_validator(mode="after")
    def _words_have_tags(self) -> "Task":
        if self.unit == "word" and self.labels is None:
            raise ValueError("labels: missing, and needed: the tags, such as O, B-PER, I-PER")
        if self.unit == "word" and len(self.text) != 1:
            raise ValueError(f"text: {', '.join(self.text)}, but labels of words need one column, of lists of words")
        return self

    @model_validator(mode="after")
    def _columns_are_distinct(self) -> "Task":
        names = (*self.columns, self.label)
        if len(set(names)) != len(names):
            what = "text" if self.image is None else "image"
            raise ValueError(f"{what}: {', '.join(self.columns)} and label: {self.label} must be different columns")
        taken = RESERVED_COLUMNS & set(self.text)
        if taken:
            raise ValueError(
                f"text: {', '.join(sorted(taken))} is a column that the corpus itself adds; rename the column"
            )
        return self

    @model_validator(mode="after")
    def _labels_are_distinct(self) -> "Task":
        if self.labels is not None and (len(self.labels) < 2 or len(set(self.labels)) != len(self.labels)):
            raise ValueError(f"labels: {list(self.labels)} must be at least 2 different names")
        return self

    @model_validator(mode="after")
    def _splits_are_distinct(self) -> "Task":
        names = (TRAIN, HOLDOUT, *self.dev_splits, *self.test)
        if len(set(names)) != len(names):
            evaluated = ", ".join((*self.dev_splits, *self.test))
            raise ValueError(f"dev and test: {evaluated} must be different, and none of them {TRAIN} or {HOLDOUT}")
        return self


class HubSet(BaseModel):
    """The data set of a built-in task on the Hugging Face hub, with the names of its columns where they differ from
    those of the task.

    ``revision`` is a branch or tag; a run resolves it to a commit.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    repository: str
    config: str | None = None
    revision: str = "main"
    text: tuple[str, ...] | None = None
    label: str | None = None


SENTENCE = ("sentence",)
SENTENCES = ("sentence1", "sentence2")
QUESTIONS = ("question1", "question2")
POLARITY = ("negative", "positive")


def _named(*tasks: Task) -> Mapping[str, Task]:
    return MappingProxyType({task.name: task for task in tasks})


# Metrics are those of the GLUE leaderboard. Headline metrics follow the dev tables of the reference slides: F1 for
# MRPC, Pearson for STS-B, Matthews for CoLA, accuracy for all other tasks (QQP among them). On MRPC the best epoch is
# selected by accuracy: F1 of its frequent class rewards predicting that class for every row.
GLUE = _named(
    Task(name="cola", text=SENTENCE, labels=("unacceptable", "acceptable"), metrics=("matthews",), test=("test",)),
    Task(name="sst2", text=SENTENCE, labels=POLARITY, test=("test",)),
    Task(
        name="mrpc",
        text=SENTENCES,
        labels=("not_equivalent", "equivalent"),
        metrics=("f1", "accuracy"),
        select="accuracy",
        test=("test",),
    ),
    Task(name="stsb", text=SENTENCES, metrics=("pearson", "spearman"), test=("test",)),
    Task(
        name="qqp",
        text=QUESTIONS,
        labels=("not_duplicate", "duplicate"),
        metrics=("accuracy", "f1"),
        test=("test",),
    ),
    Task(
        name="mnli",
        text=("premise", "hypothesis"),
        labels=("entailment", "neutral", "contradiction"),
        dev=("validation_matched", "validation_mismatched"),
        test=("test_matched", "test_mismatched"),
    ),
    Task(name="qnli", text=("question", "sentence"), labels=("entailment", "not_entailment"), test=("test",)),
    Task(name="rte", text=SENTENCES, labels=("entailment", "not_entailment"), test=("test",)),
    Task(name="wnli", text=SENTENCES, labels=("not_entailment", "entailment"), test=("test",)),
)

DIAGNOSTIC = Task(name="ax", text=GLUE["mnli"].text, labels=GLUE["mnli"].labels, train="test", dev=())
"""The diagnostic set of GLUE, which models of MNLI predict: a single split without labels. No model is trained on it:
``train`` names the split that the data must have."""

# CR, IMP and TREC have no dev split of their own.
MINIMAX = _named(
    Task(
        name="sst5",
        text=SENTENCE,
        labels=("very negative", "negative", "neutral", "positive", "very positive"),
        test=("test",),
    ),
    Task(name="sst2_sentences", text=SENTENCE, labels=POLARITY, test=("test",)),
    Task(name="cr", text=SENTENCE, labels=POLARITY, dev=(), test=("test",)),
    Task(name="imp", text=SENTENCE, labels=("neutral", "insult"), dev=(), test=("test",)),
    Task(name="trec", text=SENTENCE, labels=("ABBR", "ENTY", "DESC", "HUM", "LOC", "NUM"), dev=(), test=("test",)),
)

REVIEWS = Task(name="reviews", text=SENTENCE, labels=POLARITY, test=("test",))
"""The task of the project's generator of reviews (``stages/corpus/demo/reviews.py``)."""

# Tjong Kim Sang and De Meulder 2003, in IOB2. The order of the tags is that of most models of this data set.
CONLL = Task(
    name="conll2003",
    text=("tokens",),
    label="tags",
    labels=("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC", "B-MISC", "I-MISC"),
    metrics=TOKEN_METRICS,
    test=("test",),
    unit="word",
)

BUILT_IN: Mapping[str, Task] = MappingProxyType({**GLUE, **MINIMAX, REVIEWS.name: REVIEWS, CONLL.name: CONLL})

# The main branch of TREC holds a loading script, which is never run; its Parquet branch holds the same rows.
HUB: Mapping[str, HubSet] = MappingProxyType(
    {
        **{name: HubSet(repository="nyu-mll/glue", config=name) for name in (*GLUE, DIAGNOSTIC.name)},
        "sst5": HubSet(repository="SetFit/sst5", text=("text",)),
        "sst2_sentences": HubSet(repository="SetFit/sst2", text=("text",)),
        "cr": HubSet(repository="SetFit/SentEval-CR", text=("text",)),
        "trec": HubSet(
            repository="CogComp/trec", revision="refs/convert/parquet", text=("text",), label="coarse_label"
        ),
    }
)


def hub_set(name: str) -> HubSet:
    """The data set of a built-in task on the hub. Raises ValueError for a task that has none."""
    if name in HUB:
        return HUB[name]
    if name == REVIEWS.name:
        raise ValueError(f"source: hub has no {name}, which is generated; use source: generated")
    raise ValueError(f"source: hub has no data set for {name}; give a folder that holds {name}/{TRAIN}.parquet")

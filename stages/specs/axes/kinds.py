"""The kinds of tasks: what the outputs of a model mean, and what follows from it for losses, scores and labels.

A kind is a value without a state. Adding a kind is adding a class here: the loop and the methods use this protocol, and
name no kind. Needs the standard library and pydantic only, so that planning can read it.
"""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from stages.specs.axes.losses import cross_entropy, squared_error, word_mean
from stages.specs.axes.terms import SquaredTerm, TeacherTerm

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor


class TaskKind(ABC):
    """What the outputs of a model of a task mean. Shapes: N rows, C outputs."""

    name: ClassVar[str]
    has_classes: ClassVar[bool]
    """Whether the outputs are logits of classes, over which a softmax gives probabilities."""
    label_type: ClassVar[Literal["int64", "float32"]]
    """The number type in which labels and predictions are kept."""
    metrics: ClassVar[frozenset[str]]
    """The metrics that fit."""
    has_entries: ClassVar[bool] = False
    """Whether a row has several entries, each with a label and with outputs of its own. Logits are then [B, W, C], for
    W entries of the longest row, and labels [B, W]."""

    @abstractmethod
    def loss(self, logits_NC: "Tensor", labels_N: "Tensor") -> "Tensor":
        """[N]: the task's own loss of each row."""

    @abstractmethod
    def teacher_term(self, softened: TeacherTerm) -> TeacherTerm:
        """The term on a teacher's outputs where a method has ``softened``, a distance between probabilities."""

    @abstractmethod
    def predictions(self, logits: "npt.NDArray[np.float32]") -> "npt.NDArray[Any]":
        """[N]: the predicted label of each row, or entry, from ``logits`` [N, C]."""

    def row_values(self, values: "Tensor", _entries: "Tensor | None") -> "Tensor":
        """[B]: the values of rows, [B], as they are. A kind with entries makes of values [B, W] one for each row, from
        those that ``entries`` [B, W] marks."""
        return values


class Classification(TaskKind):
    """A row has one of C classes: cross-entropy, and the class of the largest logit."""

    name: ClassVar[str] = "classification"
    has_classes: ClassVar[bool] = True
    label_type: ClassVar[Literal["int64", "float32"]] = "int64"
    metrics: ClassVar[frozenset[str]] = frozenset({"accuracy", "f1", "macro_f1", "matthews"})

    def loss(self, logits_NC: "Tensor", labels_N: "Tensor") -> "Tensor":
        return cross_entropy(logits_NC, labels_N)

    def teacher_term(self, softened: TeacherTerm) -> TeacherTerm:
        return softened

    def predictions(self, logits: "npt.NDArray[np.float32]") -> "npt.NDArray[Any]":
        found: npt.NDArray[np.int64] = logits.argmax(-1)
        return found


class Regression(TaskKind):
    """A row has a number: squared error, also to a teacher's output, which has no softmax."""

    name: ClassVar[str] = "regression"
    has_classes: ClassVar[bool] = False
    label_type: ClassVar[Literal["int64", "float32"]] = "float32"
    metrics: ClassVar[frozenset[str]] = frozenset({"pearson", "spearman"})

    def loss(self, logits_NC: "Tensor", labels_N: "Tensor") -> "Tensor":
        return squared_error(logits_NC, labels_N[:, None])

    def teacher_term(self, softened: TeacherTerm) -> TeacherTerm:
        return SquaredTerm(softened.weight)

    def predictions(self, logits: "npt.NDArray[np.float32]") -> "npt.NDArray[Any]":
        return logits[:, 0]


class TokenLabels(Classification):
    """Each word of a row has one of C tags, such as those of entities, and is classified as a row of a classification
    is. The loss of a row is the mean over its words that the model reads."""

    name: ClassVar[str] = "tokens"
    metrics: ClassVar[frozenset[str]] = frozenset({"entity_f1", "entity_precision", "entity_recall", "accuracy"})
    has_entries: ClassVar[bool] = True

    def row_values(self, values: "Tensor", entries: "Tensor | None") -> "Tensor":
        """[B]: the mean of [B, W] over the words of each row; values of rows, [B], are left as they are."""
        if values.ndim == 1:
            return values
        assert entries is not None, "an adapter gives the words of a row with their logits"
        return word_mean(values, entries)


CLASSIFICATION, REGRESSION, TOKEN_LABELS = Classification(), Regression(), TokenLabels()

"""What a model's directory tells about its inputs and outputs. Imports neither torch nor transformers.

``stillhouse.json`` lies beside the weights of a student: its task, and the length at which the texts of its training
were cut. A directory of transformers has none; then the names of the outputs are those of ``config.json``.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from stages.corpus.reader import read_meta
from stages.models.positions import position_limit
from stages.models.sentences import is_sentence_encoder, most_tokens
from stages.models.shape import config_of
from stages.specs.tasks import Task, task_document

DESCRIPTION = "stillhouse.json"
ONNX_MODEL = "model.onnx"
EXPORT_REPORT = "export.json"

USUAL_LENGTH = 512
"""The most tokens of a row for a model whose directory names no length, or a longer one."""

ANY_NAME = "texts"
"""The name of the task of a model that names none."""

UNKNOWN_TEXT = ("text",)
"""The text column in the ``Task`` of a model whose directory names none; ``text_known`` is False then."""


EMBEDDED = Task(name=ANY_NAME, text=UNKNOWN_TEXT, metrics=("pearson", "spearman"))
"""The task of a sentence encoder, which has no outputs for labels: one text a row."""


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """What a model is given and what it returns. ``task.labels`` are the names of its outputs in their order.
    ``text_known``: whether ``task.text`` and ``task.label`` are columns on which the model was trained. Rows are cut
    at ``max_length`` tokens."""

    task: Task
    max_length: int
    text_known: bool

    def with_text(self, columns: Sequence[str]) -> "ModelDescription":
        """The description with these text columns. Raises ValueError for columns that cannot be those of a task."""
        fields = self.task.model_dump() | {"text": tuple(columns)}
        if fields["label"] in columns:
            fields["label"] = f"label of {' and '.join(columns)}"  # these rows have no column of labels
        return replace(self, task=Task.model_validate(fields), text_known=True)


def write_description(directory: Path, task: Task, max_length: int) -> None:
    """Write ``stillhouse.json`` into the directory of a model."""
    document = {"task": task_document(task), "max_length": max_length}
    (directory / DESCRIPTION).write_text(json.dumps(document, indent=1) + "\n", "utf-8")


def is_model(directory: Path) -> bool:
    """Whether a directory is that of a model: one with a configuration."""
    return (directory / "config.json").is_file()


def is_onnx(directory: Path) -> bool:
    """Whether a model's directory holds an exported ONNX model."""
    return (directory / ONNX_MODEL).is_file()


def exported_from(directory: Path) -> str | None:
    """The identity of the model that an exported directory was made of, from its ``export.json``; None where that does
    not name it."""
    try:
        found = json.loads((directory / EXPORT_REPORT).read_text("utf-8"))["model"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, str) else None


def read_description(directory: Path, corpus: Path | None = None) -> ModelDescription:
    """The description of the model in ``directory``; if the directory has no ``stillhouse.json``, the task and the
    length are those of ``corpus``, on which it was trained, where it is given. Raises ValueError for a damaged file."""
    config = config_of(directory)
    limit = position_limit(config) or USUAL_LENGTH
    if is_sentence_encoder(directory):
        length = most_tokens(directory) or _tokenizer_length(directory)
        return ModelDescription(EMBEDDED, min(length, limit, USUAL_LENGTH), False)
    path = directory / DESCRIPTION
    if path.is_file():
        try:
            document = json.loads(path.read_text("utf-8"))
            task, length = Task.model_validate(document["task"]), int(document["max_length"])
        except (ValueError, TypeError, KeyError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"{path}: damaged ({reason}); copy the model's directory again") from error
    elif corpus is not None:
        meta = read_meta(corpus)
        task, length = meta.task, meta.max_length
    else:
        return ModelDescription(_task_of(config), min(_tokenizer_length(directory), limit, USUAL_LENGTH), False)
    names = output_names(config)
    if task.labels is not None and sorted(names) == sorted(task.labels):
        task = task.model_copy(update={"labels": tuple(names)})
    return ModelDescription(task, min(length, limit), True)


def output_names(config: Mapping[str, object]) -> tuple[str, ...]:
    """The names of a model's outputs, in order, by its ``config.json``."""
    given = config.get("id2label")
    if isinstance(given, Mapping):
        return tuple(str(given[number]) for number in sorted(given, key=int))
    count = config.get("num_labels", 2)
    return tuple(f"LABEL_{number}" for number in range(count if isinstance(count, int) else 2))


def _task_of(config: Mapping[str, object]) -> Task:
    """A task with the outputs of the model. Its columns are placeholders."""
    names = output_names(config)
    if len(names) == 1 or config.get("problem_type") == "regression":
        return Task(name=ANY_NAME, text=UNKNOWN_TEXT, metrics=("pearson", "spearman"))
    return Task(name=ANY_NAME, text=UNKNOWN_TEXT, labels=names)


def _tokenizer_length(directory: Path) -> int:
    """``model_max_length`` of the tokenizer; ``USUAL_LENGTH`` if it has none."""
    try:
        found = json.loads((directory / "tokenizer_config.json").read_text("utf-8")).get("model_max_length")
    except (OSError, ValueError, AttributeError):
        return USUAL_LENGTH
    return int(found) if isinstance(found, int | float) else USUAL_LENGTH

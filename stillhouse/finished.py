"""Finished models: load, predict, export, latency."""

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.cli.models.embed import check_is_classifier
from pipeline.cli.models.export import new_folder, unfaithful, write_export
from pipeline.cli.models.find_model import FoundModel
from pipeline.cli.models.latency import BUSY, keep, lineup, measured
from pipeline.errors import RequestError, refused
from stages.deployment.description import ModelDescription
from stillhouse.sources import RecipeSource, found

if TYPE_CHECKING:
    import pandas
    from transformers import PreTrainedModel

    from stages.deployment.classifier import RowClassifier

ModelName = str | os.PathLike[str]
"""A directory, an artifact's key or name, or with a recipe ``method/student/seed@task``."""

Texts = Sequence[str] | Sequence[tuple[str, str]]
"""One text a row; for tasks of pairs, two."""


class ExportFailed(RuntimeError):
    """A float32 export does not compute what the original does. It is not kept."""


@dataclass(frozen=True, slots=True)
class LoadedStudent:
    """A finished model with its tokenizer: a student, a teacher, or one from elsewhere."""

    name: str
    directory: Path
    description: ModelDescription
    classifier: "RowClassifier"

    @property
    def model(self) -> Any:
        """The PyTorch module in evaluation mode, on a GPU where there is one; of an exported model, the session of ONNX
        Runtime."""
        own = self.classifier.classifier
        return getattr(own, "model", None) or getattr(own, "session", None)

    @property
    def tokenizer(self) -> Any:
        """The tokenizer of transformers."""
        return self.classifier.tokenizer

    @property
    def labels(self) -> tuple[str, ...] | None:
        """The names of the model's outputs in their order; None for a regression."""
        return self.description.task.labels

    @property
    def max_length(self) -> int:
        """The number of tokens at which rows are cut."""
        return self.description.max_length


def load_student(
    model: ModelName, recipe: RecipeSource | None = None, storage: str | os.PathLike[str] | None = None
) -> LoadedStudent:
    """A model of a recipe, by ``method/student/seed@task``, of which student, seed and task may be left out where that
    leaves one model (``vanilla-kd``, ``teacher``). Without ``recipe``, ``model`` is what the commands take: a
    directory, the name or key of a training in ``storage`` (by default ``runs``), or ``RECIPE:method/student/seed``.
    Raises RequestError, also for a sentence encoder, which sentence-transformers loads."""
    return _opened(found(model, recipe, storage))


def _opened(model: FoundModel) -> LoadedStudent:
    from stages.deployment.predict import open_model

    check_is_classifier(model, "stillhouse.load_student")
    description = model.description()
    with refused("model"):
        return LoadedStudent(
            model.name, model.directory, description, open_model(model.directory, description.max_length)
        )


def load_model(directory: str | os.PathLike[str]) -> "PreTrainedModel":
    """The classifier in a directory that Stillhouse or ``save_pretrained`` wrote, in float32 and in evaluation mode.

    Its call returns logits, and its ``config.id2label`` names them. The tokenizer in the same directory loads with
    ``transformers.AutoTokenizer``. Raises ValueError if there is no model, or if it lacks weights.
    """
    from stages.models.by_task import load

    if not (Path(directory) / "config.json").is_file():
        raise ValueError(f"{os.fspath(directory)}: no config.json here; give the directory of a model")
    model = load(Path(directory))
    model.eval()
    return model


def predict(model: LoadedStudent | ModelName, texts: Texts, recipe: RecipeSource | None = None) -> "pandas.DataFrame":
    """A row for each of ``texts``, in their order: ``prediction``, the name of the label, and ``probability_<label>``
    for each label; for a regression ``prediction`` alone, its value. Texts are cut at the model's ``max_length``.
    ``model`` is a loaded student, or one for ``load_student``. Raises RequestError."""
    import pandas

    student = model if isinstance(model, LoadedStudent) else load_student(model, recipe)
    rows = text_rows(texts, 2 if student.description.task.pair else 1)
    from stages.deployment.predictions import column_names, lines_of

    task = student.description.task
    lines = lines_of(task, student.classifier.logits(rows)) if rows else []
    return pandas.DataFrame(lines, columns=column_names(task))


def text_rows(texts: Texts, width: int) -> list[tuple[str, ...]]:
    """The texts as rows of ``width`` strings. Raises RequestError, which names the first row of another kind."""
    if isinstance(texts, str):
        raise RequestError(f"texts: {texts[:40]!r} is one string; give a list of texts")
    rows: list[tuple[str, ...]] = []
    for number, given in enumerate(texts):
        row = (given,) if isinstance(given, str) else tuple(given) if isinstance(given, Sequence) else (given,)
        if len(row) != width or not all(isinstance(text, str) for text in row):
            wanted = "a string" if width == 1 else "a pair of strings"
            raise RequestError(f"texts[{number}]: {given!r:.60}; the model reads {wanted} a row")
        rows.append(row)
    return rows


@dataclass(frozen=True, slots=True)
class Export:
    """An exported model: its folder, and what ``export.json`` in it says, among others the comparison with the original
    (``check``)."""

    folder: Path
    report: Mapping[str, Any]


def export(
    model: LoadedStudent | ModelName,
    to: str = "onnx",
    out: str | os.PathLike[str] | None = None,
    *,
    recipe: RecipeSource | None = None,
    rows: str | os.PathLike[str] | None = None,
    text: Sequence[str] = (),
) -> Export:
    """Export a model ``to`` onnx, onnx-int8 or safetensors into the new folder ``out``, by default one in the current
    folder that is named after the model, and compare it with the original: on dev rows of its task, or on the rows of
    the file ``rows``, whose columns ``text`` names. Raises RequestError, and ``ExportFailed`` for a float32 export that
    does not compute what the original does."""
    if to not in FORMS:
        raise RequestError(f"to: {to}; give one of {', '.join(FORMS)}")
    one = _found(model, recipe)
    target = new_folder(one, to, None if out is None else Path(out))
    done = write_export(one, to, target, None if rows is None else Path(rows), text)
    if not done.faithful:
        raise ExportFailed(unfaithful(one, to))
    return Export(target, done.report)


FORMS = ("onnx", "onnx-int8", "safetensors")


def latency(
    *models: LoadedStudent | ModelName,
    batches: Sequence[int] = (1, 32),
    threads: int = 1,
    recipe: RecipeSource | None = None,
) -> "pandas.DataFrame":
    """The size and speed of models on the CPU, measured in interleaved turns: a row for each model and batch size. The
    first is the teacher, where it is known, and before an exported model is the one of which it was made. They are kept
    in the models' storage, where ``results`` finds them.

    ``p50_ms`` and ``p95_ms`` are milliseconds for a batch; ``speedup`` is how many times faster a model is than the
    first one. Raises RequestError.
    """
    import pandas

    if not models:
        raise RequestError("models: none; give at least one")
    if not batches or not all(isinstance(size, int) and size > 0 for size in batches) or threads < 1:
        raise RequestError(f"batches: {batches}, threads: {threads}; give whole numbers from 1")
    compared = lineup([_found(model, recipe) for model in models])
    times = measured(compared, list(dict.fromkeys(batches)), threads)
    keep(compared, times)
    waited = max(one.waited for one in times)
    if waited > BUSY:
        busy = f"the machine is busy: batches took up to {waited:.1f} times their processor time"
        warnings.warn(f"{busy}; cpu_speedup does not depend on that", stacklevel=2)
    return pandas.DataFrame([asdict(one) for one in times])


def _found(model: LoadedStudent | ModelName, recipe: RecipeSource | None) -> FoundModel:
    return found(model.directory if isinstance(model, LoadedStudent) else model, recipe_for(model, recipe), None)


def recipe_for(model: LoadedStudent | ModelName, recipe: RecipeSource | None) -> RecipeSource | None:
    """The recipe in which a model's name is looked up: a loaded student is found by its directory."""
    return None if isinstance(model, LoadedStudent) else recipe

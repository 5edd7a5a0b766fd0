"""The rows on which an exported model is compared with its original: of a corpus, of a file, or generated."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stages.corpus.labels import LabelParser
from stages.corpus.reader import read_meta, read_split
from stages.corpus.sources import RowLabel, checked_rows, file_source
from stages.deployment.classifier import FloatLogits
from stages.deployment.description import ModelDescription
from stages.deployment.predict import open_model
from stages.deployment.rows import TextRow
from stages.evaluation.predictions import decide, scored
from stages.specs.tasks import Task

MOST_ROWS = 512
"""Rows that are compared, evenly spread over those that there are."""
GENERATED_ROWS = 24


@dataclass(frozen=True, slots=True)
class ReferenceRows:
    """The texts of N rows and their labels (N,), numbers of the task's labels or values; ``labelled`` (N,) is False
    where none is known. ``source`` says where they are from."""

    texts: list[TextRow]
    labels: npt.NDArray[Any]
    labelled: npt.NDArray[np.bool_]
    source: str


def corpus_rows(corpus: Path, description: ModelDescription) -> ReferenceRows:
    """Rows of the first dev split of a corpus."""
    meta = read_meta(corpus)
    name = meta.of("dev")[0]
    split = read_split(corpus, name)
    kept = _spread(len(split))
    texts = split.texts()
    order = _label_numbers(meta.task, description.task)
    labels = split.labels[kept] if order is None else order[split.labels[kept]]
    source = f"{len(kept):,} of {len(split):,} rows of {name}"
    return ReferenceRows([texts[row] for row in kept], labels, split.labelled[kept], source)


def file_rows(path: Path, description: ModelDescription) -> ReferenceRows:
    """Rows of a data file, with their labels if it has the task's column of labels. Raises ValueError for a file with
    rows that cannot be used."""
    task = description.task
    texts: list[TextRow] = []
    labels: list[RowLabel] = []
    for block in checked_rows(file_source(path, task), task, "test"):
        texts += [tuple(row) for row in block.texts]
        labels += block.labels
    kept = _spread(len(texts))
    known = np.array([labels[row] is not None for row in kept], bool)
    values = np.array([labels[row] or 0 for row in kept], task.kind.label_type)
    source = f"{len(kept):,} of {len(texts):,} rows of {path.name}"
    return ReferenceRows([texts[row] for row in kept], values, known, source)


def generated_rows(description: ModelDescription) -> ReferenceRows:
    """Rows of generated sentences of several lengths, without labels."""
    from stages.corpus.demo.reviews import generate

    count = GENERATED_ROWS * len(description.task.text)
    sentences = [str(row["sentence"]) for row in generate(seed=0, train=1, validation=1, test=count)["test"]]
    wide = [" ".join(sentences[row : row + 1 + row % 4]) for row in range(count)]
    texts = list(
        zip(*(wide[part :: len(description.task.text)] for part in range(len(description.task.text))), strict=True)
    )
    nothing = np.zeros(len(texts), description.task.kind.label_type)
    return ReferenceRows(texts, nothing, np.zeros(len(texts), bool), f"{len(texts)} generated rows")


def logits_of(directory: Path, description: ModelDescription, rows: ReferenceRows) -> FloatLogits:
    """[rows, outputs]: the logits of the model in ``directory``."""
    return open_model(directory, description.max_length).logits(rows.texts)


def comparison(task: Task, before: FloatLogits, after: FloatLogits, rows: ReferenceRows) -> dict[str, object]:
    """What changed from the logits of the original to those of the exported model: the largest difference, the labels
    that differ, and the scores x 100 of both, {} where no row has a label."""
    changed = 0 if not task.kind.has_classes else int((decide(task, before) != decide(task, after)).sum())
    return {
        "rows": len(rows.texts),
        "source": rows.source,
        "largest_difference": float(np.abs(before - after).max()),
        "labels_changed": changed,
        "scores_before": scored(task, before, rows.labels, rows.labelled),
        "scores_after": scored(task, after, rows.labels, rows.labelled),
    }


def describe_comparison(found: Mapping[str, object]) -> str:
    """A line on a ``comparison``."""
    text = (
        f"{found['source']}: logits differ by at most {found['largest_difference']:.2g}, "
        f"{found['labels_changed']} labels change"
    )
    before, after = found["scores_before"], found["scores_after"]
    assert isinstance(before, Mapping) and isinstance(after, Mapping)
    scores = [f"{name} {value:.2f} -> {after[name]:.2f}" for name, value in before.items()]
    return "; ".join([text, *scores])


def _spread(rows: int) -> npt.NDArray[np.int64]:
    """The numbers of at most ``MOST_ROWS`` rows, evenly spread."""
    return np.unique(np.linspace(0, rows - 1, min(rows, MOST_ROWS)).astype(np.int64))


def _label_numbers(corpus: Task, model: Task) -> npt.NDArray[np.int64] | None:
    """The model's number of each of the corpus's labels; None where they agree."""
    if corpus.labels == model.labels or corpus.labels is None or model.labels is None:
        return None
    parse = LabelParser(model)
    return np.array([parse(name) for name in corpus.labels], np.int64)


def latency_texts(corpus: Path | None, description: ModelDescription, rows: int) -> list[TextRow]:
    """At least ``rows`` rows of text: of a corpus's first dev split, or generated where there is no corpus; repeated
    where there are fewer."""
    found = generated_rows(description) if corpus is None else corpus_rows(corpus, description)
    return found.texts * -(-rows // len(found.texts))

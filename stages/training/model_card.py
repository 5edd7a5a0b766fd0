"""The model card of a student: what it is, how it scored, where it comes from."""

import json
from collections.abc import Mapping
from pathlib import Path

from stages.specs.base import Spec
from stages.specs.student import DistilSpec, describe_selection, describe_start
from stages.specs.tasks import Task

USE_WITH_TRANSFORMERS = """\
```python
from transformers import {auto}, AutoTokenizer

directory = "."  # where this file is
tokenizer = AutoTokenizer.from_pretrained(directory)
model = {auto}.from_pretrained(directory)
```
"""

USE_WITH_STILLHOUSE = """\
The model is of a class of Stillhouse's own, which plain transformers refuses:

```python
import stillhouse
from transformers import AutoTokenizer

directory = "."  # where this file is
tokenizer = AutoTokenizer.from_pretrained(directory)
model = stillhouse.load_model(directory)
```
"""


def model_card(
    spec: DistilSpec,
    task: Task,
    parameters: int,
    scores: Mapping[str, Mapping[str, float]],
    lineage: Mapping[str, object],
    own_class: bool,
) -> str:
    """Markdown with the front matter that model hubs read. ``scores`` maps split -> metric -> score; ``lineage`` is the
    content of ``lineage.json``, in which the runner records where the model comes from; ``own_class`` says whether the
    model is of a class of this project, which transformers does not load."""
    table = [
        f"| {split} | {metric} | {value:.2f} |" for split, values in scores.items() for metric, value in values.items()
    ]
    labels = ", ".join(f"{i} {name}" for i, name in enumerate(task.labels)) if task.labels else "a number (regression)"
    lines = [
        "---",
        f"library_name: {'stillhouse' if own_class else 'transformers'}",
        "pipeline_tag: text-classification",
        "tags: [knowledge-distillation, stillhouse]",
        "---",
        f"# {lineage.get('name', task.name)}",
        "",
        f"A student of {parameters:,} parameters for the task {task.name}, made by Stillhouse.",
        f"Input: {', '.join(task.text)}. Output: {labels}.",
        f"First weights: {describe_start(spec.start)}. Layer 1 is the first; the specification below counts from 0.",
        "",
        "## Use",
        "",
        usage(own_class),
        "## Scores",
        "",
        "| split | metric | score |",
        "| --- | --- | ---: |",
        *table,
        "",
        f"The weights are those of {describe_selection(spec.train)}.",
        "",
        *origin_lines(spec, lineage),
    ]
    return "\n".join(lines)


def usage(own_class: bool) -> str:
    """Markdown that shows how the model and its tokenizer are loaded, to be copied. ``own_class``: whether the model is
    of a class of this project (``heads.is_own_class``)."""
    return USE_WITH_STILLHOUSE if own_class else use_with_transformers("AutoModelForSequenceClassification")


def use_with_transformers(auto: str) -> str:
    """Markdown that shows how plain transformers loads a model, by its class ``auto``, and its tokenizer."""
    return USE_WITH_TRANSFORMERS.format(auto=auto)


def read_lineage(out: Path) -> Mapping[str, object]:
    """The content of ``lineage.json`` in ``out``, in which the runner records where a model comes from; {} without
    it."""
    path = out / "lineage.json"
    found: Mapping[str, object] = json.loads(path.read_text("utf-8")) if path.exists() else {}
    return found


def origin_lines(spec: Spec, lineage: Mapping[str, object]) -> list[str]:
    """The last sections of a model card, which say how the model was made: its specification and its lineage."""
    return [
        "## Recipe",
        "",
        "```json",
        json.dumps(spec.model_dump(mode="json"), indent=1),
        "```",
        "",
        "## Lineage",
        "",
        "```json",
        json.dumps(lineage, indent=1),
        "```",
        "",
    ]

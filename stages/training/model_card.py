"""The model card of a student: what it is, how it scored, where it comes from."""

import json
from collections.abc import Mapping

from stages.specs.student import DistilSpec, describe_selection, describe_start
from stages.specs.tasks import Task


def model_card(
    spec: DistilSpec,
    task: Task,
    parameters: int,
    scores: Mapping[str, Mapping[str, float]],
    lineage: Mapping[str, object],
    loader: str,
) -> str:
    """Markdown with the front matter that model hubs read. ``scores`` maps split -> metric -> score; ``lineage`` is the
    content of ``lineage.json``, in which the runner records where the model comes from; ``loader`` is the function that
    loads the model, with its module."""
    table = [
        f"| {split} | {metric} | {value:.2f} |" for split, values in scores.items() for metric, value in values.items()
    ]
    labels = ", ".join(f"{i} {name}" for i, name in enumerate(task.labels)) if task.labels else "a number (regression)"
    lines = [
        "---",
        f"library_name: {loader.split('.')[0]}",
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
        *usage(loader),
        "",
        "## Scores",
        "",
        "| split | metric | score |",
        "| --- | --- | ---: |",
        *table,
        "",
        f"The weights are those of {describe_selection(spec.train)}.",
        "",
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
    return "\n".join(lines)


def usage(loader: str) -> list[str]:
    """Markdown lines that show how the model and its tokenizer are loaded, to be copied."""
    library, _, call = loader.partition(".")
    plain = library == "transformers"
    name = call.split(".")[0] if plain else loader
    imports = [f"from transformers import {name}, AutoTokenizer"]
    if not plain:
        imports = [f"import {library}", "from transformers import AutoTokenizer"]
    return [
        *(
            []
            if plain
            else ["The classification head reads the mean over all tokens. Plain transformers refuses it:", ""]
        ),
        "```python",
        *imports,
        "",
        'directory = "."  # where this file is',
        "tokenizer = AutoTokenizer.from_pretrained(directory)",
        f"model = {call if plain else loader}(directory)",
        "```",
    ]

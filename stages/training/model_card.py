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
) -> str:
    """Markdown with the front matter that model hubs read. ``scores`` maps split -> metric -> score; ``lineage`` is the
    content of ``lineage.json``, in which the runner records where the model comes from."""
    table = [
        f"| {split} | {metric} | {value:.2f} |" for split, values in scores.items() for metric, value in values.items()
    ]
    labels = ", ".join(f"{i} {name}" for i, name in enumerate(task.labels)) if task.labels else "a number (regression)"
    lines = [
        "---",
        "library_name: transformers",
        "pipeline_tag: text-classification",
        "tags: [knowledge-distillation, stillhouse]",
        "---",
        f"# {lineage.get('name', task.name)}",
        "",
        f"A student of {parameters:,} parameters for the task {task.name}, made by Stillhouse.",
        f"Input: {', '.join(task.text)}. Output: {labels}.",
        f"First weights: {describe_start(spec.start)}. Layer 1 is the first; the specification below counts from 0.",
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

"""docs/methods.md, made from the catalogue. ``python -m docs.generate.methods``.

A test holds that the committed page is what this makes.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from docs.generate.methods_prose import (
    ATTENTION,
    ATTENTION_TEMPERATURE,
    COMBINED,
    EMBEDDINGS,
    END,
    FORMULAS,
    GRADIENTS_HEADING,
    LAYERS,
    MEASURED,
    REFUSED,
    START,
    WEIGHT,
)
from docs.generate.wrapping import wrapped
from pipeline.methods import EMBEDDING_METHODS, SECTIONS, WHERE_TO_BEGIN, EmbeddingMethod, NamedMethod
from pipeline.recipe.as_yaml import axes_yaml
from stages.specs.layer_map import even_groups, overlapping_groups
from stages.specs.method import Method


def page() -> str:
    """The page for people."""
    parts = [
        START,
        _where_to_begin(),
        FORMULAS,
        _index(),
        LAYERS,
        _groups(),
        COMBINED,
        _table(("refused", "why, and what to write instead"), REFUSED),
        WEIGHT,
        _gradients(),
        ATTENTION_TEMPERATURE,
        END,
    ]
    for title, section in SECTIONS.items():
        parts.append(f"## {title}\n")
        parts.extend(_method(named) for named in section)
    parts.append(EMBEDDINGS)
    parts.extend(_embedding_method(named) for named in EMBEDDING_METHODS)
    return "\n".join(parts)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |" for line in lines) + "\n"


def _where_to_begin() -> str:
    parts = ["## Where to begin\n"]
    for case, suggestions in WHERE_TO_BEGIN.items():
        parts.append(f"{case}:\n")
        for suggestion in suggestions:
            parts.append(wrapped(f"[`{suggestion.name}`](#{suggestion.name}): {suggestion.purpose}") + "\n")
            parts.append(f"```yaml\n{suggestion.example}\n```\n")
    return "\n".join(parts)


def _index() -> str:
    rows = [
        (f"[`{named.name}`](#{named.name})", *_kinds(named.method), _short(named))
        for section in SECTIONS.values()
        for named in section
    ]
    return _table(("name", "targets", "training", "data", "structure", "teachers"), rows)


def _kinds(method: Method) -> Iterator[str]:
    yield method.targets.kind
    yield method.training.kind
    yield method.data.kind
    yield method.structure.kind


def _short(named: NamedMethod) -> str:
    return f"`{named.taught_by}`" if named.taught_by else named.teacher_summary


def _groups() -> str:
    shapes = [(4, 12), (2, 12), (6, 12), (2, 6)]
    rows = [
        (f"{teacher} to {student}", _runs(even_groups(student, teacher)), _runs(overlapping_groups(student, teacher)))
        for student, teacher in shapes
    ]
    return _table(("layers", "`even` (NO)", "`overlapping` (PO)"), rows)


def _runs(groups: Sequence[Sequence[int]]) -> str:
    return " ".join(f"{{{group[0]}-{group[-1]}}}" for group in groups)


GRADIENTS = Path(__file__).parents[1] / "results" / "gradient_ratios.json"
"""The figures of ``python -m benchmarks ratios``."""

TASKS: Mapping[str, str] = {"sst2_sentences": "SST-2", "stsb": "STS-B"}


def _gradients() -> str:
    """The tables of gradients and of attention, with how they were measured."""
    figures = json.loads(GRADIENTS.read_text("utf-8"))
    measured = wrapped(MEASURED.format(**figures["about"]))
    head = ("method", "weight of its source", *(f"ratio on {task}" for task in TASKS.values()))
    ratios = _table((*head, *(f"`auto` on {task}" for task in TASKS.values())), _ratio_rows(figures["ratios"]))
    layers = ("student layer", *TASKS.values())
    attention = _table(("attention of `alp`", *layers), _attention_rows(figures["attention"]))
    return "\n".join((GRADIENTS_HEADING, measured, "", ratios, wrapped(ATTENTION), "", attention))


def _ratio_rows(ratios: Sequence[Mapping[str, Any]]) -> Iterator[Sequence[str]]:
    """A row for each method: at the weight of its source the median ratio of each task with its range, then the median
    weight at which the ratio is 1."""
    for name in dict.fromkeys(found["method"] for found in ratios):
        by_task = {found["task"]: found for found in ratios if found["method"] == name}
        found = [by_task[task] for task in TASKS]
        ranges = (f"{_digits(f['at_weight'])} ({_digits(f['least'])} to {_digits(f['greatest'])})" for f in found)
        automatic = (_digits(1 / f["at_one"]) for f in found)
        yield f"[`{name}`](#{name})", f"{found[0]['weight']:g}", *ranges, *automatic


def _attention_rows(attention: Sequence[Mapping[str, Any]]) -> Iterator[Sequence[str]]:
    """A row for each setting and student layer, with the mean largest weight and the layer that has it most often."""
    for setting, layer in dict.fromkeys((found["attention"], found["student_layer"]) for found in attention):
        rows = [found for found in attention if (found["attention"], found["student_layer"]) == (setting, layer)]
        by_task = {found["task"]: found for found in rows}
        cells = (
            f"{by_task[task]['largest']:.2f}; layer {by_task[task]['layer']} in {by_task[task]['rows']:.0%} of rows"
            for task in TASKS
        )
        yield f"`{setting}`" if ":" in setting else setting, str(layer), *cells


def _digits(value: float) -> str:
    """Two significant digits, and all digits before the point."""
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"


def _method(named: NamedMethod) -> str:
    facts = {
        "Outputs it needs of the teacher": named.needs,
        "Teachers": named.teacher_summary,
        "Reduction and scale": named.scale,
        "Defaults": named.defaults,
        "What differs": named.differs,
    }
    axes = "".join(f"{axis}\n" for axis in axes_yaml(named.method))
    title = f"{named.title}. {named.paper}." if named.paper != "-" else f"{named.title}."
    lines = [f"### {named.name}\n", f"{wrapped(title)}\n"]
    lines += [f"```\n{named.formula}\n```\n", f"```yaml\n{axes}```\n"]
    lines += [wrapped(f"- **{heading}**: {text}", "  ") for heading, text in facts.items() if text != "-"]
    lines += [f"\nFor example, from a recipe such as [{named.recipe}](../recipes/{named.recipe}):\n"]
    lines += [f"```yaml\n{named.example}\n```\n"]
    return "\n".join(lines)


def _embedding_method(named: EmbeddingMethod) -> str:
    lines = [f"### {named.name}\n", f"{wrapped(f'{named.title}. {named.paper}.')}\n", f"```\n{named.formula}\n```\n"]
    facts = {"Reduction and scale": named.scale, "What differs": named.differs}
    lines += [wrapped(f"- **{heading}**: {text}", "  ") for heading, text in facts.items()]
    lines += [f"\nFor example, from a recipe such as [{named.recipe}](../recipes/{named.recipe}):\n"]
    lines += [f"```yaml\n{named.example}\n```\n"]
    return "\n".join(lines)


def write(folder: Path) -> None:
    (folder / "methods.md").write_text(page(), "utf-8")


if __name__ == "__main__":
    write(Path(__file__).parent.parent)

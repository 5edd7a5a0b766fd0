"""The README of an exported folder, which is its card on a hub: its check, its scores beside the teacher's, its speed,
and then the card of the model that it was exported from."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import yaml

from stages.cards.front_matter import CARD, BaseModel, Scores, front_matter
from stages.specs.tasks import Task

NAMES = {
    "onnx": "ONNX in float32",
    "onnx-int8": "ONNX with int8 weights",
    "safetensors": "it was trained, in safetensors",
}
TABLE = re.compile(r"^\| split \| metric \|[^\n]*\n(?:\|[^\n]*\n)+", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class EvaluatedModel:
    """What the evaluation of a model came to: scores x 100 by split and metric, its parameters, the median milliseconds
    of one row, and the ``machine`` that they were measured on. ``name`` says which model it is."""

    name: str
    parameters: int
    scores: Scores = field(default_factory=dict)
    latency_ms: float | None = None
    machine: str = ""


@dataclass(frozen=True, slots=True)
class Evaluations:
    """The evaluations of a student and of its teacher on the same task; None for one that is not known."""

    student: EvaluatedModel | None = None
    teacher: EvaluatedModel | None = None


def exported_card(
    title: str,
    form: str,
    report: Mapping[str, object],
    checked: str,
    card: str,
    task: Task,
    evaluations: Evaluations | None = None,
) -> str:
    """Markdown: how an export (``form``, ``report``) is used, what its check came to (``checked``, a line), the
    ``evaluations`` of the model in PyTorch, and then the model's own ``card``, "" for none."""
    own = evaluations.student if evaluations is not None else None
    front, body = parts(card, keeps_use=form == "safetensors")
    lines = [
        _front(title, form, front, task, own),
        f"# {title}",
        "",
        f"A text classifier of {report['parameters']:,} parameters as {NAMES[form]}. `example.py` runs it; rows are "
        f"cut at {report['max_length']} tokens.",
        "",
        "Compared with PyTorch:",
        f"{checked}.",
        "",
    ]
    if evaluations is not None and own is not None:
        table = "\n".join([*score_table(own, evaluations.teacher), "", *cost_lines(own, evaluations.teacher), ""])
        body = TABLE.sub(lambda _: table, body, count=1) if TABLE.search(body) else f"## Scores\n\n{table}\n{body}"
    return "\n".join([*lines, body.strip(), ""]) if body else "\n".join(lines)


def _front(title: str, form: str, front: str, task: Task, own: EvaluatedModel | None) -> str:
    """The front matter of the model's card with the library of the export, and with the scores of its evaluation. An
    int8 model has other scores, so none stand there."""
    fields = _mapping(front)
    if form != "safetensors":
        fields["library_name"] = "onnx"
    if own is not None:
        evaluated = _mapping(front_matter(title, "", task, BaseModel(), own.scores).strip("-\n"))
        fields |= {name: evaluated[name] for name in ("metrics", "model-index") if name in evaluated}
    if form == "onnx-int8":
        fields.pop("model-index", None)
    fields = {"library_name": "transformers", "pipeline_tag": "text-classification"} | fields if not front else fields
    return f"---\n{yaml.safe_dump(fields, sort_keys=False, allow_unicode=True)}---"


def _mapping(text: str) -> dict[str, object]:
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError:
        return {}
    return found if isinstance(found, dict) else {}


def score_table(own: EvaluatedModel, teacher: EvaluatedModel | None) -> list[str]:
    """A Markdown table of the scores, with the teacher's and the student's share of it where the teacher's are
    known."""
    heads = ["split", "metric", "score x 100", *(["teacher", "of teacher"] if teacher else [])]
    lines = [_line(heads), _line(["---", "---", *("---:" for _ in heads[2:])])]
    for split, values in own.scores.items():
        for metric, value in values.items():
            cells = [split, metric, f"{value:.2f}"]
            if teacher is not None:
                other = teacher.scores.get(split, {}).get(metric)
                cells += (
                    ["", ""] if other is None else [f"{other:.2f}", f"{100 * value / other:.1f} %" if other else ""]
                )
            lines.append(_line(cells))
    return lines


def cost_lines(own: EvaluatedModel, teacher: EvaluatedModel | None) -> list[str]:
    """Sentences on the teacher, and on how long both take for a row."""
    lines = []
    if teacher is not None:
        share = 100 * own.parameters / teacher.parameters
        of_them = f"{teacher.parameters:,} parameters; this model has {share:.0f} % of them"
        lines.append(f"The teacher is {teacher.name}, with {of_them}.")
    if own.latency_ms is not None:
        beside = "" if teacher is None or teacher.latency_ms is None else f", the teacher {teacher.latency_ms:.1f} ms"
        where = f" on {own.machine}" if own.machine else ""
        lines.append(f"In PyTorch, one row took {own.latency_ms:.1f} ms{beside} (median{where}).")
    return lines


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def parts(card: str, keeps_use: bool) -> tuple[str, str]:
    """The front matter of a card, and its sections without the title; without the section on use unless
    ``keeps_use``."""
    found = CARD.fullmatch(card)
    front, body = (found["front"], found["body"]) if found else ("", card)
    body = re.sub(r"\A\s*# .*\n", "", body)
    if keeps_use:
        return front, body
    return front, re.sub(r"^## Use\n.*?(?=^## |\Z)", "", body, flags=re.DOTALL | re.MULTILINE)

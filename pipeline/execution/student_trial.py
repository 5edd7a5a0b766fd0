"""Try before any work whether the models with random weights that a plan builds can be built and run."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from pipeline.errors import RequestError
from pipeline.graph.nodes import Edge, ExternalInput, Node
from pipeline.plan.planner import Plan
from stages.specs.corpus import CorpusSpec
from stages.specs.pretraining import PretrainSpec
from stages.specs.student import DistilSpec, Fresh
from stages.specs.tasks import Task

PROBLEM, FAILURE = "problem", "failure"
"""Keys of an answer of ``stages.models.trial``."""

ANY_TASK = Task(name="texts", text=("text",), labels=("no", "yes"))
"""The task for which the encoder of a masked language model is tried: what its texts are is not known yet."""


def try_students(plan: Plan) -> str:
    """Raise RequestError for the first student whose configuration its architecture's code cannot build or run. Starts
    a process, which takes some seconds, if there is any student with random weights to build.

    Returns a warning, in one line, if the trial of some students failed: that says nothing about the students, and a
    student that cannot be built fails in its own stage. '' if all were tried."""
    found: dict[str, str] = {}
    for step in plan.builds:
        if isinstance(step.node.spec, DistilSpec | PretrainSpec) and isinstance(step.node.spec.start, Fresh):
            found.setdefault(_described(step.node, step.node.spec.start), step.node.name)
    if not found:
        return ""
    failures: list[tuple[str, str]] = []
    for name, answer in zip(found.values(), _answers(list(found)), strict=True):
        if FAILURE in answer:
            failures.append((name, str(answer[FAILURE])))
        elif answer[PROBLEM] is not None:
            raise RequestError(f"{name}: config: no model can be built from it ({answer[PROBLEM]}); change it")
    if not failures:
        return ""
    return (
        f"student: {len(failures)} of {len(found)} with random weights could not be tried before the run, the first is "
        f"{failures[0][0]} ({failures[0][1]}); if no model can be built, its own stage fails"
    )


def _described(node: Node, start: Fresh) -> str:
    """The student as ``stages.models.trial`` reads it, as JSON."""
    model, corpus = node.inputs["start"], node.inputs.get("corpus")
    assert isinstance(model, ExternalInput)
    task = ANY_TASK
    if isinstance(corpus, Edge):
        assert isinstance(corpus.source.spec, CorpusSpec)
        task = corpus.source.spec.task
    return json.dumps(
        {"start": start.model_dump(mode="json"), "directory": str(model.path), "task": task.model_dump(mode="json")}
    )


def _answers(students: list[str]) -> list[Mapping[str, str | None]]:
    """The answer of ``stages.models.trial`` for each of the students; a failure for those that it has not reached."""
    with tempfile.TemporaryDirectory(prefix="stillhouse-trial-") as folder:
        file = Path(folder) / "answers"
        result = subprocess.run(
            [sys.executable, "-m", "stages.models.trial", str(file)],
            input=f"[{', '.join(students)}]",
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path or "." for path in sys.path)},
            capture_output=True,
            encoding="utf-8",
            errors="replace",
        )
        lines = file.read_text("utf-8").split("\n")[:-1] if file.exists() else []
    answers: list[Mapping[str, str | None]] = [json.loads(line) for line in lines]
    ended = f"the trial ended with exit code {result.returncode}"
    reason = (result.stderr.strip().splitlines() or [ended])[-1] if result.returncode > 0 else ended
    return answers + [{FAILURE: reason}] * (len(students) - len(answers))

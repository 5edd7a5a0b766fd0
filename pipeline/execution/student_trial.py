"""Try before any work whether the students with random weights that a plan builds can be built and run."""

import json
import os
import subprocess
import sys

from pipeline.errors import RequestError
from pipeline.graph.nodes import Edge, ExternalInput, Node
from pipeline.plan.planner import Plan
from stages.specs.corpus import CorpusSpec
from stages.specs.student import DistilSpec, Fresh


def try_students(plan: Plan) -> None:
    """Raise RequestError for the first student whose configuration its architecture's code cannot build or run. Starts
    a process, which takes some seconds, if there is any student with random weights to build."""
    found: dict[str, str] = {}
    for step in plan.builds:
        if isinstance(step.node.spec, DistilSpec) and isinstance(step.node.spec.start, Fresh):
            found.setdefault(_described(step.node, step.node.spec.start), step.node.name)
    if not found:
        return
    for name, problem in zip(found.values(), _tried(list(found)), strict=True):
        if problem is not None:
            raise RequestError(f"{name}: config: no model can be built from it ({problem}); change it")


def _described(node: Node, start: Fresh) -> str:
    """The student as ``stages.models.trial`` reads it, as JSON."""
    model, corpus = node.inputs["start"], node.inputs["corpus"]
    assert isinstance(model, ExternalInput)
    assert isinstance(corpus, Edge) and isinstance(corpus.source.spec, CorpusSpec)
    task = corpus.source.spec.task.model_dump(mode="json")
    return json.dumps({"start": start.model_dump(mode="json"), "directory": str(model.path), "task": task})


def _tried(students: list[str]) -> list[str | None]:
    """What is wrong with each of the students, None if nothing is."""
    result = subprocess.run(
        [sys.executable, "-m", "stages.models.trial"],
        input=f"[{', '.join(students)}]",
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path or "." for path in sys.path)},
        capture_output=True,
        text=True,
    )
    if result.returncode:
        reason = (result.stderr.strip().splitlines() or [f"exit code {result.returncode}"])[-1]
        raise RequestError(f"student: the configurations of students cannot be tried ({reason})")
    tried: list[str | None] = json.loads(result.stdout)
    return tried

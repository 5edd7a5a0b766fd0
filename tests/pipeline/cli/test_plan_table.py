"""What a plan tells of each node beside what happens to it."""

from pathlib import Path

import pytest
from project import Project, write_plannable_assets, write_project

from pipeline.artifacts.provenance import hardware

METHODS = [
    "no-kd",
    "ckd",
    {"use": "vanilla-kd", "label": "rail", "structure": "random"},
    {"use": "vanilla-kd", "label": "takd", "taught_by": "one"},
]


@pytest.fixture
def paper(tmp_path: Path) -> Project:
    """A recipe that can be planned but not run: four methods, two seeds, an assistant."""
    changes: dict[str, object] = {
        "models": {"one": {"cut": {"of": "teacher", "layers": [1, 2, 3]}, "method": "vanilla-kd"}},
        "method": METHODS,
        "seeds": [0, 1],
    }
    return write_project(tmp_path / "project", write_plannable_assets(tmp_path / "assets"), **changes)


def why(result: str, name: str) -> str:
    """The last cell of a node's line."""
    (line,) = [line for line in result.splitlines() if f" {name} " in line]
    return line.split("\u2502")[-2].strip()


def test_a_plan_shows_how_many_students_a_node_serves(paper: Project) -> None:
    served = {name: step["serves"] for name, step in paper.plan().items() if step["role"] != "evaluate"}
    students = {f"distil/{label}/two/{seed}@tiny": 0 for label in ("no-kd", "ckd", "rail", "takd") for seed in (0, 1)}
    shared = {"corpus@tiny": 8, "finetune@tiny": 8, "teach@tiny": 6, "distil/one@tiny": 2, "teach/one@tiny": 2}
    assert served == {**shared, **students}
    result = paper("plan").out
    assert why(result, "finetune@tiny") == "never built; serves 8 students"
    assert why(result, "teach/one@tiny") == "never built; serves 2 students"
    assert why(result, "corpus@tiny") == why(result, "distil/no-kd/two/0@tiny") == "never built"


def test_a_plan_shows_which_teacher_layers_a_student_follows(paper: Project) -> None:
    steps, result = paper.plan(), paper("plan").out
    layers = {name: step["layers"] for name, step in steps.items()}
    assert layers["distil/ckd/two/0@tiny"] == [{"student": 1, "teacher": [1, 2]}, {"student": 2, "teacher": [3, 4]}]
    assert layers["distil/rail/two/1@tiny"] == [{"student": j, "teacher": [1, 2, 3, 4]} for j in (1, 2)]
    assert layers["distil/no-kd/two/0@tiny"] == layers["teach@tiny"] == []
    assert why(result, "distil/ckd/two/0@tiny") == "never built; layers 1<-1-2, 2<-3-4"
    assert why(result, "distil/rail/two/0@tiny") == "never built; layers drawn each epoch 1<-1-4, 2<-1-4"


def test_a_plan_says_how_many_trainings_share_a_worker(paper: Project) -> None:
    shared = ("--set", "resources.distil={trainings_per_worker: 16, gpus_per_worker: 1, cpus_per_worker: 1}")
    lines = [line for line in paper("plan", *shared).out.splitlines() if line.startswith("distil: ")]
    if hardware()["gpus"]:
        assert lines == ["distil: 9 at once in 1 worker of 1 CPU, 1 GPU"]
    else:
        assert lines == ["distil: 16 at once in a worker of 1 CPU, 1 GPU, and this machine has no room for one"]
    assert "distil: " not in paper("plan", "--inline", *shared).out
    assert "distil: " not in paper("plan").out

"""``teacher.least``: nothing is distilled from a teacher that scores lower, and everything else still runs."""

from pathlib import Path

import pytest
from project import Project, write_project

WEAK = {"epochs": 1, "learning_rate": 1e-9}


@pytest.fixture(scope="module")
def weak(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The tiny recipe with a teacher that is hardly trained, and has to score 95."""
    teacher = {"model": str(assets / "model"), "finetune": WEAK, "least": 95}
    return write_project(tmp_path_factory.mktemp("weak"), assets, teacher=teacher)


def test_a_teacher_below_the_floor_stops_its_students_alone_and_with_another_floor_the_run_goes_on(
    weak: Project,
) -> None:
    result = weak("run", "--inline")
    assert result.code == 1
    score = weak.records()["evaluate/teacher@tiny"]["facts"]["scores"]["validation"]["accuracy"]  # type: ignore[index]
    assert score < 95
    (line,) = result.err.splitlines()
    assert line.startswith(
        f"stillhouse: teach@tiny: teacher.least: 95, but the teacher model of tiny scores {score:.1f} (validation "
        "accuracy), so nothing is distilled from it; train it better (teacher.finetune), take another teacher.model, "
        "or lower teacher.least"
    )
    built = set(weak.records())
    assert {"distil/no-kd/two/0@tiny", "evaluate/no-kd/two/0@tiny"} <= built
    assert not {name for name in built if name.startswith("teach") or "vanilla" in name}
    again = weak("run", "--inline", "--set", "teacher.least=10")
    assert again.code == 0, again.err
    assert {"teach@tiny", "distil/vanilla-kd/two/0@tiny"} <= set(weak.records())
    assert {name: record["key"] for name, record in weak.records().items() if name in built} == {
        name: step["key"] for name, step in weak.plan("--set", "teacher.least=null").items() if name in built
    }, "no key depends on the floor"
    other = weak("run", "--inline", "--set", "method={use: vanilla-kd, label: more, train: {epochs: 3}}")
    assert other.code == 1 and "distil/more/two/0@tiny: teacher.least: 95" in other.err, "though the store is there"


def test_a_run_in_which_all_that_is_left_is_refused_says_so_and_starts_no_ray(weak: Project) -> None:
    """The project after the test above: the score of its teacher is known."""
    weak("run", "--inline", "--set", "teacher.least=10")
    method = "method={use: vanilla-kd, label: further, train: {epochs: 4}}"
    name = "distil/further/two/0@tiny"
    step = weak.plan("--set", method)[name]
    assert step["action"] == "skip" and str(step["why"]).startswith("teacher.least: 95, but the teacher model of tiny")
    assert step["seconds"] is None
    before = set((weak.storage / ".logs").iterdir())
    result = weak("run", "--set", method)
    assert result.code == 1
    assert result.out.startswith("tiny: nothing can be built, 2 stages are refused\n")
    (line,) = result.err.splitlines()
    assert line.startswith(f"stillhouse: {name}: teacher.least: 95, but the teacher model of tiny scores ")
    assert set((weak.storage / ".logs").iterdir()) == before, "nothing was started"
    assert {row["status"] for row in weak.rows("--set", method) if row["method"] == "further"} == {"failed"}
    table = weak("plan", "--set", method).out
    assert "0 to build" in table and "2 refused" in table


def test_the_evaluation_of_the_teacher_is_waited_for_also_where_only_the_store_is_requested(
    assets: Path, tmp_path: Path
) -> None:
    teacher = {"model": str(assets / "model"), "finetune": WEAK, "least": 95}
    project = write_project(tmp_path, assets, teacher=teacher)
    steps = project.plan("--stage", "teach")
    assert steps["evaluate/teacher@tiny"]["action"] == "build"
    steps = project.plan("--stage", "teach", "--set", "teacher.least=null")
    assert steps["evaluate/teacher@tiny"]["action"] == "skip"

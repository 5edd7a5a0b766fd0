"""A recipe whose methods compare learning rates, run in this process."""

from pathlib import Path

import pytest
from project import Project, stillhouse, write_project

RATES = [1.0e-9, 5.0e-3]


@pytest.fixture(scope="module")
def swept(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    changes = {
        "student": {"label": "two", "cut": {"of": "base", "layers": [1, 3]}},
        "method": "no-kd",
        "seeds": [0, 1],
        "train": {"epochs": 6, "max_length": 16, "batch_size": 8, "rates": RATES, "select_by": "likelihood"},
    }
    project = write_project(tmp_path_factory.mktemp("swept"), assets, **changes)
    result = project("run", "--inline")
    assert result.code == 0, result.err
    return project


def test_all_students_of_a_method_are_trained_at_the_rate_of_its_sweep_and_the_report_names_it(swept: Project) -> None:
    students = [row for row in swept.rows() if row["method"] == "no-kd"]
    found = [(row["seed"], row["status"], row["learning_rate"]) for row in students]
    assert found == [(0, "done", 5e-3), (1, "done", 5e-3)]
    (teacher,) = (row for row in swept.rows() if row["method"] == "teacher")
    assert teacher["learning_rate"] == 1.0e-2


def test_the_trainings_of_a_sweep_are_in_the_plan_and_not_in_the_report(swept: Project) -> None:
    names = {f"distil/no-kd/two/sweep-{rate}@tiny" for rate in ("1e-9", "5e-3")}
    plan = swept.plan()
    assert names <= plan.keys() and {plan[name]["action"] for name in names} == {"reuse"}
    assert {row["seed"] for row in swept.rows()} == {0, 1}


def test_a_seed_more_is_trained_at_the_same_rate_and_repeats_no_sweep(swept: Project) -> None:
    plan = swept.plan("--set", "seeds=[0, 1, 2]")
    new = [name for name, step in plan.items() if step["action"] == "build"]
    assert new == ["distil/no-kd/two/2@tiny", "evaluate/no-kd/two/2@tiny"]


def test_show_names_the_rate_that_was_chosen(swept: Project) -> None:
    result = stillhouse("show", "distil/no-kd/two/0@tiny", "--storage", str(swept.storage))
    assert result.code == 0 and '"learning_rate": 0.005' in result.out and '"sweep"' in result.out

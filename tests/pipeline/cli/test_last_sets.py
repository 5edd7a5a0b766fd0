"""What a report takes over from the last run of its recipe, and two recipes of one name on one storage."""

import csv
import io
import json
import shutil
from pathlib import Path

import pytest
import yaml
from project import CommandResult, Project, stillhouse, write_project

from pipeline.artifacts.last_run import LastRun, read_last_run, write_last_run
from pipeline.execution.job_env import environment
from pipeline.recipe import Origin
from pipeline.storage.directory import Directory

CHANGE = "method=[no-kd]"


@pytest.fixture
def changed(built: Project) -> Project:
    """A project whose last run was with ``--set``: everything was there already."""
    assert built("run", "--set", CHANGE).code == 0
    return built


def methods(project: Project, *options: str) -> list[object]:
    return list(dict.fromkeys(row["method"] for row in project.rows(*options)))


def test_a_report_takes_the_sets_of_the_last_run_and_says_so_on_stderr(changed: Project) -> None:
    for form in ("json", "csv"):
        result = changed("report", "--format", form)
        found = json.loads(result.out) if form == "json" else list(csv.DictReader(io.StringIO(result.out)))
        assert {row["method"] for row in found} == {"teacher", "no-kd"}
        assert result.err.startswith(f"stillhouse: note: with --set '{CHANGE}', as in the last run (")
        assert result.err.endswith("); give another --set, or --as-written for none\n")
        assert result.err.count("\n") == 1


def test_a_set_of_the_reports_own_and_as_written_win(changed: Project) -> None:
    assert methods(changed, "--set", "method=vanilla-kd") == ["teacher", "vanilla-kd"]
    assert methods(changed, "--as-written") == ["teacher", "no-kd", "vanilla-kd"]
    assert changed("report", "--as-written").err == ""


def test_a_later_run_without_sets_ends_it(changed: Project) -> None:
    assert changed("run").code == 0
    assert methods(changed) == ["teacher", "no-kd", "vanilla-kd"]
    assert changed("report").err == ""


def test_a_run_that_builds_notes_its_sets_too(built: Project) -> None:
    options = ("--inline", "--stage", "evaluate/teacher", "--set", "seeds=[1]")
    assert built("run", *options).code == 0
    assert {row["seed"] for row in built.rows() if row["method"] != "teacher"} == {1}


def test_curves_take_them_as_well(changed: Project, tmp_path: Path) -> None:
    out = tmp_path / "links"
    result = changed("curves", "--out", str(out))
    assert "vanilla-kd" not in result.out and "no-kd" in result.out
    assert result.err.startswith("stillhouse: note: with --set ")
    assert "vanilla-kd" in changed("curves", "--out", str(out), "--as-written").out


def test_sets_that_the_edited_recipe_no_longer_takes_are_left_out_with_a_line(built: Project) -> None:
    assert built("run", "--set", "seeds.1=1").code == 0
    recipe = yaml.safe_load(built.recipe.read_text("utf-8"))
    built.recipe.write_text(yaml.safe_dump({**recipe, "seeds": 0}), "utf-8")
    result = built("report")
    assert result.code == 0
    assert result.err.startswith(
        "stillhouse: note: the last run had --set seeds.1=1, which the recipe no longer takes ("
    )


def test_a_storage_that_cannot_be_written_keeps_no_note_and_fails_nothing(built: Project) -> None:
    named = built.storage / ".named"
    shutil.rmtree(named)
    named.write_text("a file in the place of the folder", "utf-8")
    result = built("run", "--set", CHANGE)
    assert (result.code, result.err) == (0, "")
    assert built("report").err == ""


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"file": 1}', '{"file": "a", "sha256": "", "began": "", "sets": "x"}']
)
def test_a_damaged_note_counts_as_absent(built: Project, text: str) -> None:
    (built.storage / ".named" / "tiny" / "last-run.json").write_text(text, "utf-8")
    assert read_last_run(Directory(built.storage), "tiny") is None
    assert (built("report").err, built("plan").err) == ("", "")


# --- two recipes of one name ----------------------------------------------------------------------


@pytest.fixture
def namesake(built: Project, assets: Path, tmp_path: Path) -> Project:
    """Another recipe of the same name."""
    return write_project(tmp_path / "namesake", assets, method="no-kd", seeds=[0, 1])


def on_storage_of(project: Project, recipe: Project, command: str) -> CommandResult:
    return stillhouse(command, str(recipe.recipe), "--storage", str(project.storage))


def test_another_recipe_of_the_same_name_is_warned_about_in_plan_and_run(built: Project, namesake: Project) -> None:
    before = read_last_run(Directory(built.storage), "tiny")
    assert before is not None
    for command in ("plan", "run"):
        result = on_storage_of(built, namesake, command)
        assert result.code == 0
        assert result.err == (
            f"stillhouse: warning: name: tiny is also the name of {before.file}, "
            f"which ran last on {built.storage} ({before.began}); "
            "give each recipe a name of its own, or plans compare one with the other\n"
        )
    assert on_storage_of(built, namesake, "plan").err == "", "it ran last itself now"


def test_an_edited_recipe_and_a_copy_of_it_are_no_other_recipe(built: Project, tmp_path: Path) -> None:
    """The project is a copy of the one that ran; then the copy runs, and is edited."""
    assert built("plan").err == ""
    assert built("run").err == ""
    with built.recipe.open("a", encoding="utf-8") as file:
        file.write("equal_steps: false\n")
    assert built("plan").err == ""


def test_the_sets_of_another_recipe_of_the_name_are_not_taken_over(
    changed: Project, assets: Path, tmp_path: Path
) -> None:
    other = write_project(tmp_path / "other", assets, method=["no-kd", "vanilla-kd"], seeds=[1])
    result = on_storage_of(changed, other, "report")
    assert result.err == "" and "vanilla-kd" in result.out


def test_a_submitted_run_notes_the_file_and_the_sets_that_were_submitted(
    built: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its driver reads another file, in which the changes are made."""
    origin = Origin(file=Path("/home/me/recipe.yaml"), sha256="ab" * 32, sets=("a=b",))
    for name, value in environment("", {}, origin).items():
        monkeypatch.setenv(name, value)
    assert built("run").code == 0
    found = read_last_run(Directory(built.storage), "tiny")
    assert found is not None
    assert (found.file, found.sha256, found.sets) == ("/home/me/recipe.yaml", "ab" * 32, ("a=b",))


def test_a_note_is_read_as_it_was_written(tmp_path: Path) -> None:
    note = LastRun("/r.yaml", "00", ("a='x: y'",), "2026-01-01 12:00")
    write_last_run(Directory(tmp_path), "r", note)
    assert read_last_run(Directory(tmp_path), "r") == note


# --- folders that a misspelt name would make ------------------------------------------------------


def test_the_folder_of_a_report_or_of_curves_is_never_made(built: Project, tmp_path: Path) -> None:
    missing = tmp_path / "no" / "such"
    for command, *options in (("report", "--format", "html"), ("curves",)):
        result = built(command, *options, "--out", str(missing / "x"))
        line = f"stillhouse: --out: {missing / 'x'}, but there is no folder {missing}; make it, or give another path\n"
        assert result == CommandResult(2, "", line)
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize("command", ["plan", "report", "curves", "gc", "show", "verify"])
def test_a_command_that_builds_nothing_makes_no_storage(
    built: Project, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    target = "teach@tiny" if command in ("show", "verify") else str(built.recipe)
    result = stillhouse(command, target, "--storage", str(tmp_path / "typo" / "runs"))
    assert not (tmp_path / "typo").exists()
    if command in ("report", "curves"):
        missing = tmp_path / "typo" / "runs"
        line = f"stillhouse: warning: storage: there is no {missing} yet, so nothing has been built there\n"
        assert result.err == line

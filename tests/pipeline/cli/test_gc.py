"""``stillhouse gc`` on what was really built."""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from project import Project, result_of, start, stillhouse, write_project

STUDENTS_OF_SEED_1 = {
    f"{role}/{method}/two/1@tiny" for role in ("distil", "evaluate") for method in ("no-kd", "vanilla-kd")
}


def gc(project: Project, *more: str) -> tuple[int, str, str]:
    result = stillhouse("gc", str(project.recipe), "--storage", str(project.storage), *more)
    return result.code, result.out, result.err


def edited(built: Project, assets: Path, /, **changes: object) -> Project:
    """The project after a run of its recipe, which is then edited in place."""
    assert "nothing to do" in built("run", "--inline").out
    return write_project(built.folder, assets, **changes)


def test_a_dry_run_frees_nothing_and_after_freeing_a_run_has_nothing_to_do(built: Project, assets: Path) -> None:
    """The project was built with two seeds; the recipe given to gc has one."""
    keeper = edited(built, assets, seeds=[0])
    recipe, storage = str(keeper.recipe), ("--storage", str(built.storage))
    before = sorted(built.storage.rglob("*"))
    dry = stillhouse("gc", recipe, *storage)
    assert dry.code == 0, dry.err
    assert "4 to free" in dry.out
    assert dry.out.rstrip().endswith("nothing is removed without --yes")
    assert "distil/vanilla-kd/two/1@tiny" in dry.out
    assert sorted(path for path in built.storage.rglob("*") if ".identity" not in path.parts) == [
        path for path in before if ".identity" not in path.parts
    ]
    wet = stillhouse("gc", recipe, *storage, "--yes")
    assert wet.code == 0, wet.err
    assert "freed 4 of 4" in wet.out
    assert set(built.records()) & STUDENTS_OF_SEED_1 == set()
    assert "nothing to do, all 8 artifacts exist" in stillhouse("run", recipe, *storage, "--inline").out
    assert "0 to free, 0 bytes\n" in stillhouse("gc", recipe, *storage).out


def test_what_the_last_run_made_with_set_is_kept_beside_what_the_recipe_as_written_needs(
    built: Project, assets: Path
) -> None:
    assert built("run", "--inline", "--set", "method=no-kd", "--set", "seeds=[0, 2]").code == 0
    code, out, err = gc(built)
    assert code == 0 and "needs with --set method=no-kd --set 'seeds=[0, 2]' is kept, too; --as-written frees it" in err
    assert f"{built.storage}: 0 to free" in out.replace("\n", "")
    code, out, err = gc(built, "--as-written", "--yes")
    assert (code, err) == (0, "") and "freed 2 of 2" in out
    assert {name for name in built.records() if "/2@" in name} == set()
    assert set(built.records()) > STUDENTS_OF_SEED_1


def test_a_second_recipe_of_the_same_name_frees_nothing_of_the_first_without_others(
    built: Project, assets: Path
) -> None:
    assert "nothing to do" in built("run", "--inline").out
    other = write_project(built.folder / "other", assets, train={"epochs": 1, "max_length": 8})
    result = stillhouse("gc", str(other.recipe), "--storage", str(built.storage), "--yes")
    assert (result.code, "freed" in result.out) == (0, False)
    assert f"name: tiny is also the name of {built.recipe}, which ran last on" in result.err
    assert len(built.records()) == 12
    again = stillhouse("gc", str(other.recipe), "--storage", str(built.storage), "--yes", "--others")
    assert "freed 12 of 12" in again.out


def test_if_one_recipe_is_wrong_nothing_is_freed(built: Project, assets: Path) -> None:
    wrong = write_project(
        built.folder / "wrong", assets, student={"label": "two", "cut": {"of": "teacher", "layers": [1, 10]}}
    )
    keeper = write_project(built.folder / "keeper", assets, seeds=[0])
    code, out, err = gc(keeper, str(wrong.recipe), "--yes", "--storage", str(built.storage))
    assert (code, out) == (2, "")
    assert "cut.layers" in err
    assert len(built.records()) == 12


def test_recipes_of_different_storages_are_refused_unless_one_is_given(tmp_path: Path, assets: Path) -> None:
    here, there = (write_project(tmp_path / name, assets, storage=str(tmp_path / name / "runs")) for name in ("a", "b"))
    result = stillhouse("gc", str(here.recipe), str(there.recipe))
    assert result.code == 2
    assert result.err == (
        f"stillhouse: storage: {here.storage} in {here.recipe}, {there.storage} in {there.recipe}; give --storage\n"
    )
    assert stillhouse("gc", str(here.recipe), str(there.recipe), "--storage", str(tmp_path / "none")).code == 0


def sizes(project: Project) -> tuple[int, int]:
    """The number of artifacts, and the bytes of their files."""
    records = project.records().values()
    return len(records), sum(file["size"] for record in records for file in record["files"])  # type: ignore[attr-defined]


def test_a_recipe_that_made_nothing_here_frees_nothing_and_says_whose_the_artifacts_are(
    built: Project, assets: Path
) -> None:
    other = write_project(built.folder / "other", assets, name="other", train={"epochs": 9, "max_length": 12})
    before = sizes(built)[0]
    code, out, err = gc(other, "--storage", str(built.storage), "--yes")
    assert (code, err) == (0, "")
    (kept,) = [line for line in out.splitlines() if line.startswith("kept: ")]
    assert kept.startswith(f"kept: {before} artifacts, ")
    assert kept.endswith(" bytes, that tiny, not named here, made or used; --others frees them, too")
    assert out.splitlines()[-1] == f"{built.storage}: 0 to free, 0 bytes"
    assert sizes(built)[0] == before
    assert built("run", "--inline").out.startswith("tiny: nothing to do")

    code, out, _ = gc(other, "--storage", str(built.storage), "--others")
    assert f"{before} to free" in out
    assert out.rstrip().endswith("nothing is removed without --yes")
    assert sizes(built)[0] == before
    code, out, _ = gc(other, "--storage", str(built.storage), "--others", "--yes")
    assert f"freed {before} of {before}" in out
    assert built.records() == {}


def test_what_a_second_recipe_uses_without_building_any_of_it_belongs_to_both(built: Project, assets: Path) -> None:
    """The second recipe wants one seed of two; later, the first wants neither."""
    second = write_project(built.folder / "second", assets, name="second", seeds=[0])
    storage = ("--storage", str(built.storage))
    assert "nothing to do" in stillhouse("run", str(second.recipe), *storage, "--inline").out
    moved = edited(built, assets, train={"epochs": 9, "max_length": 16})
    code, out, err = gc(moved, *storage, "--yes")
    assert (code, err) == (0, "")
    assert "freed 4 of 4" in out
    (needed, others) = [line for line in out.splitlines() if line.startswith("kept: ")]
    assert needed.startswith("kept: 4 artifacts, ") and needed.endswith(" bytes, that these recipes need")
    assert others.startswith("kept: 4 artifacts, ") and "that second, not named here, made or used" in others
    assert set(built.records()) & STUDENTS_OF_SEED_1 == set()
    assert "nothing to do" in stillhouse("run", str(second.recipe), *storage, "--inline").out
    assert "freed 4 of 4" in gc(moved, *storage, "--others", "--yes")[1]


@pytest.fixture
def run_of_another_recipe(built: Project, assets: Path) -> "Iterator[subprocess.Popen[str]]":
    """A run that trains long enough to be observed."""
    other = write_project(
        built.folder / "other",
        assets,
        name="other",
        method="no-kd",
        seeds=[5],
        train={"epochs": 4000, "max_length": 16},
    )
    process = start("run", str(other.recipe), "--inline", "--storage", str(built.storage))
    yield process
    process.kill()
    result_of(process)


def test_a_run_of_a_recipe_that_was_not_given_is_not_disturbed(
    built: Project, assets: Path, run_of_another_recipe: "subprocess.Popen[str]"
) -> None:
    """It trains a student from the shared teacher: its inputs are kept although no given recipe needs them."""
    other_task = {"name": "tiny", "text": "sentence", "labels": ["good", "bad"]}
    assert run_of_another_recipe.stdout is not None
    line = run_of_another_recipe.stdout.readline()
    assert line.startswith("start  distil/no-kd/two/5@tiny"), line
    (work,) = (built.storage / ".work").iterdir()
    while not (work / "0001" / "lineage.json").exists():
        assert run_of_another_recipe.poll() is None
        time.sleep(0.05)
    keeper = edited(built, assets, task=other_task)
    code, _, err = gc(keeper, "--yes", "--storage", str(built.storage))
    assert (code, err) == (0, "")
    assert set(built.records()) == {"corpus@tiny", "finetune@tiny", "evaluate/teacher@tiny"}
    assert work.exists()
    assert run_of_another_recipe.poll() is None

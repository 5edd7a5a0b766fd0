"""Names for the curves of a recipe's trainings."""

from pathlib import Path

import pytest
from project import Project, stillhouse


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "curves"


def test_each_training_has_a_link_by_task_method_student_and_seed(built: Project, out: Path) -> None:
    result = built("curves", "--out", str(out))
    assert result.code == 0, result.err
    links = {str(path.relative_to(out)): path for path in out.rglob("*") if path.is_symlink()}
    named = {f"tiny/{method}/two/{seed}" for method in ("no-kd", "vanilla-kd") for seed in (0, 1)}
    assert named < set(links) and len(links) == 5
    for path in links.values():
        assert min(entry.name for entry in path.iterdir()) == "events.out.tfevents.000001"
    assert all(name in result.out for name in links)
    assert f"tensorboard --logdir {out}" in result.out


def test_links_are_replaced_and_nothing_else_is_touched(built: Project, out: Path) -> None:
    (out / "tiny").mkdir(parents=True)
    (out / "tiny" / "gone").symlink_to(built.storage / "distil" / "gone" / "0001" / "tensorboard")
    (out / "tiny" / "theirs").symlink_to("/nowhere")
    (out / "notes.txt").write_text("mine", "utf-8")
    for _ in range(2):
        assert built("curves", "--out", str(out)).code == 0
    assert not (out / "tiny" / "gone").is_symlink()
    assert (out / "tiny" / "theirs").is_symlink()
    assert (out / "notes.txt").read_text("utf-8") == "mine"


def test_a_running_training_has_a_link_to_its_attempt(built: Project, out: Path) -> None:
    artifact = built.artifact("distil/no-kd/two/0@tiny")
    attempt = built.storage / ".work" / artifact.parent.name / "0002" / "tensorboard"
    attempt.parent.mkdir(parents=True)
    (artifact / "tensorboard").rename(attempt)
    (artifact.parent / "record.json").unlink()
    assert built("curves", "--out", str(out)).code == 0
    assert attempt.resolve() in {path.resolve() for path in out.rglob("*") if path.is_symlink()}


def test_a_recipe_that_has_not_run_says_so(built: Project, out: Path, tmp_path: Path) -> None:
    result = stillhouse("curves", str(built.recipe), "--storage", str(tmp_path / "none"), "--out", str(out))
    assert (result.code, result.out) == (0, "tiny: no training has curves yet\n")


def test_a_folder_that_cannot_be_written_is_one_line(built: Project, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", "utf-8")
    result = built("curves", "--out", str(tmp_path / "file" / "curves"))
    assert (result.code, len(result.err.splitlines())) == (2, 1)
    assert result.err.startswith("stillhouse: --out: ")


def test_tensorboard_finds_every_training_by_its_name(built: Project, out: Path) -> None:
    multiplexer = pytest.importorskip("tensorboard.backend.event_processing.plugin_event_multiplexer")
    assert built("curves", "--out", str(out)).code == 0
    runs = multiplexer.EventMultiplexer().AddRunsFromDirectory(str(out)).Reload().Runs()
    assert "tiny/vanilla-kd/two/1" in runs and len(runs) == 5

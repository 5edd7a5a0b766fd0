"""A house that has been built once, and copies of it."""

import shutil
from pathlib import Path

import pytest
from house import House, Said, settle
from tiny import write_tiny_model, write_tiny_task


@pytest.fixture(scope="session")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny encoder in ``model`` and the task ``tiny`` in ``data``."""
    folder = tmp_path_factory.mktemp("ground")
    write_tiny_model(folder / "model")
    write_tiny_task(folder / "data")
    return folder


@pytest.fixture(scope="session")
def first_run(ground: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[House, Said]:
    """The tiny recipe with two seeds, run in this process, and what was said of it. Not to be changed."""
    house = settle(tmp_path_factory.mktemp("built"), ground, seeds=[0, 1])
    said = house("run", "--inline")
    assert said.code == 0, said.err
    return house, said


@pytest.fixture
def built(first_run: tuple[House, Said], tmp_path: Path) -> House:
    """A copy of what was built, for this test alone."""
    house = House(tmp_path / "built")
    shutil.copytree(first_run[0].folder, house.folder)
    return house

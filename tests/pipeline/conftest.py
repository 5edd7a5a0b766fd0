"""A project that was run once per session, and copies of it."""

import shutil
from pathlib import Path

import pytest
from project import CommandResult, Project, write_project
from shipped_recipes import write_recipe_assets
from tiny import write_tiny_model, write_tiny_task


@pytest.fixture(scope="session")
def assets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny encoder in ``model`` and the task ``tiny`` in ``data``."""
    folder = tmp_path_factory.mktemp("assets")
    write_tiny_model(folder / "model")
    write_tiny_task(folder / "data")
    return folder


@pytest.fixture(scope="session")
def first_run(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, CommandResult]:
    """The tiny recipe with two seeds, run in this process, and the command's result. Not to be changed."""
    project = write_project(tmp_path_factory.mktemp("built"), assets, seeds=[0, 1])
    result = project("run", "--inline")
    assert result.code == 0, result.err
    return project, result


@pytest.fixture
def built(first_run: tuple[Project, CommandResult], tmp_path: Path) -> Project:
    """A copy of the project that was run, for this test alone."""
    project = Project(tmp_path / "built")
    shutil.copytree(first_run[0].folder, project.folder, symlinks=True)
    return project


@pytest.fixture(scope="session")
def recipe_assets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files over which the shipped recipes are planned."""
    return write_recipe_assets(tmp_path_factory.mktemp("recipes"))

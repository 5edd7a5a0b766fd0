"""A recipe, and the result of an undisturbed run of it."""

from pathlib import Path

import pytest
from machines import Machine, weights, write_recipe
from tiny import write_tiny_model, write_tiny_task

from pipeline.storage import open_storage


@pytest.fixture(scope="session")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    ground = tmp_path_factory.mktemp("ground")
    write_tiny_model(ground / "model")
    write_tiny_task(ground / "data", {"train": 600, "validation": 32})
    return write_recipe(ground)


@pytest.fixture(scope="session")
def undisturbed(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Node -> checksum of its weights, from an undisturbed run over a directory."""
    home = tmp_path_factory.mktemp("undisturbed")
    storage = str(home / "runs")
    said = Machine(home, recipe, storage).run()
    assert said.code == 0, said.err
    found = weights(open_storage(storage))
    assert len(found) == 2
    return found

"""The module that users import."""

import tomllib
from pathlib import Path

import stillhouse

ROOT = Path(__file__).parents[1]


def test_the_module_that_users_import_is_part_of_the_installation_and_says_what_it_does() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    assert Path(stillhouse.__file__) == ROOT / "stillhouse.py"
    assert project["tool"]["setuptools"]["py-modules"] == ["stillhouse"]
    assert "tokenizer" in str(stillhouse.load_model.__doc__)

"""What the whole suite shares: one local Ray, started by the first test that asks for it, and the order in which tests
are spread over processes. Stores are decoded into a folder of the suite's own, so that no test finds what an earlier
run left."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling

from cluster.session import Session

CACHE = "STILLHOUSE_CACHE"
WORKER = "PYTEST_XDIST_WORKER"
"""The variable by which one of several processes that share the tests knows its name."""


def pytest_configure(config: pytest.Config) -> None:
    """Before anything is started, so that every process of the suite inherits it."""
    if WORKER in os.environ:
        # The folder that was inherited is removed by the process that started this one.
        os.environ[CACHE] = os.path.join(os.environ[CACHE], os.environ[WORKER])
        # Several processes of several threads each would take turns at the cores, and wait for each other.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    elif CACHE not in os.environ:
        os.environ[CACHE] = tempfile.mkdtemp(prefix="stillhouse-decoded-")
        config.add_cleanup(lambda: shutil.rmtree(os.environ.pop(CACHE), ignore_errors=True))


class ByFile(LoadFileScheduling):
    """How several processes share the tests: those of a file stay together, since they share what it made once; and all
    files that use the local Ray are in one process, so that one is started."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::", 1)[0]
        return "ray" if uses_ray(Path(self.config.rootpath, file)) else file


@cache
def uses_ray(file: Path) -> bool:
    """Whether a test there asks for the fixture ``session``."""
    return "session: Session" in file.read_text("utf-8")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    return ByFile(config, log)


WHOLE_COMMANDS = ("test_readme.py", "pipeline/cli", "pipeline/execution", "cluster")
"""Where the tests that run whole commands or start a Ray lie, below ``tests``."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests that take long come first: one that is left to the end keeps one process busy while the other has none."""
    tests = config.rootpath / "tests"
    items.sort(key=lambda item: not item.path.relative_to(tests).as_posix().startswith(WHOLE_COMMANDS))


@pytest.fixture(scope="session")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """A Ray on loopback. Functions that workers run must be importable, or of the test's own module."""
    opened = Session.open(None, tmp_path_factory.mktemp("ray") / "ray.log")
    yield opened
    opened.close()

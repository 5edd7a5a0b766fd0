"""One local Ray for the whole suite, started by the first test that asks for it. Stores are decoded into a folder of
the suite's own, so that no test finds what an earlier run left."""

import os
import shutil
import tempfile
from collections.abc import Iterator

import pytest

from cluster.session import Session

CACHE = "STILLHOUSE_CACHE"


def pytest_configure(config: pytest.Config) -> None:
    """Before anything is started, so that every process of the suite inherits it."""
    if CACHE not in os.environ:
        os.environ[CACHE] = tempfile.mkdtemp(prefix="stillhouse-decoded-")
        config.add_cleanup(lambda: shutil.rmtree(os.environ.pop(CACHE), ignore_errors=True))


@pytest.fixture(scope="session")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """A Ray on loopback. Functions that workers run must be importable, or of the test's own module."""
    opened = Session.open(None, tmp_path_factory.mktemp("ray") / "ray.log")
    yield opened
    opened.close()

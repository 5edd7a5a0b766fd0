"""One local Ray for the whole suite, started by the first test that asks for it."""

from collections.abc import Iterator

import pytest

from cluster.session import Session


@pytest.fixture(scope="session")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """A Ray on loopback. Functions that workers run must be importable, or of the test's own module."""
    opened = Session.open(None, tmp_path_factory.mktemp("ray") / "ray.log")
    yield opened
    opened.close()

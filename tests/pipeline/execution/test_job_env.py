"""How a driver uses the environment variables that ``submit`` sets."""

import pytest

from pipeline.errors import RequestError
from pipeline.execution.job_env import check_relative, environment, report_begun, snapshot


@pytest.fixture
def submitted(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment("ab" * 32, {"storage": "runs", "data.source": "data"}).items():
        monkeypatch.setenv(name, value)


def test_paths_that_were_relative_are_refused_where_nodes_may_be_added(submitted: None) -> None:
    check_relative(1)
    with pytest.raises(RequestError, match=r"^storage: runs is a relative path, .* may have 8 nodes; give "):
        check_relative(8)


def test_a_run_that_was_not_submitted_has_no_such_paths_and_no_snapshot(capsys: pytest.CaptureFixture[str]) -> None:
    check_relative(8)
    report_begun(3, 4, 8)
    assert snapshot() == ""
    assert capsys.readouterr().out == ""


def test_a_driver_prints_what_it_will_build(submitted: None, capsys: pytest.CaptureFixture[str]) -> None:
    report_begun(3, 4, 1)
    assert snapshot() == "ab" * 32
    assert capsys.readouterr().out == "begun: 3 of 4 artifacts to build, 1 node\n"

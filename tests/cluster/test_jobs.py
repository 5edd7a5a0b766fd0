"""Jobs of a real cluster on loopback, whose nodes have none of this project's packages."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.jobs import Jobs, NotReady, ray_errors
from tests.rays import Rays

SENDER = Path(__file__).with_name("sender.py")


@pytest.fixture(scope="module")
def rays() -> Iterator[Rays]:
    with Rays(dashboard=True, packages=False) as started:
        yield started


@pytest.fixture(scope="module")
def seen(rays: Rays, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the sender saw. The environment names another address, which does not count."""
    folder = tmp_path_factory.mktemp("sent")
    done = rays.python(
        str(SENDER), rays.dashboard_url, str(folder), cwd=folder, RAY_API_SERVER_ADDRESS="http://127.0.0.1:1"
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_driver_and_workers_import_what_was_sent_and_have_the_environment(seen: dict[str, Any]) -> None:
    assert "driver: hello red\nworker: hello red\n" in seen["good"]["log"]


def test_a_job_that_ended_has_its_drivers_exit_code(seen: dict[str, Any]) -> None:
    assert (seen["good"]["state"], seen["good"]["code"]) == ("succeeded", 0)
    assert (seen["bad"]["state"], seen["bad"]["code"]) == ("failed", 2)
    assert seen["good"]["over"] and seen["bad"]["over"]


def test_following_a_job_gives_its_whole_log_once(seen: dict[str, Any]) -> None:
    for name in ("good", "bad"):
        assert seen[name]["told"] == seen[name]["log"]


def test_a_job_that_is_stopped_gets_sigterm_and_time_to_let_go(seen: dict[str, Any]) -> None:
    assert seen["running"]["state"] == "running" and not seen["running"]["over"]
    assert seen["stop"] == [True, "stopped", False]
    # Ray writes this line to the same log from another process, before or after the first line of the job.
    log = re.sub(r"^.*Running entrypoint for job slow: .*\n", "", seen["slow"]["log"], flags=re.MULTILINE)
    assert log.endswith("at work\nlet go\n")


def test_jobs_are_listed_with_their_labels(seen: dict[str, Any]) -> None:
    assert sorted(seen["all"]) == ["bad", "good", "slow"]
    assert [seen[name]["labels"]["name"] for name in ("bad", "good", "slow")] == ["bad", "good", "slow"]
    assert seen["nodes"] == 1


def test_an_unknown_job_is_an_error_of_its_own(seen: dict[str, Any]) -> None:
    assert seen["unknown"] == ["nobody"] * 4


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:1", "http://no-such-host.invalid:8265", "127.0.0.1:8265", "http://", "http://a:b"]
)
def test_an_address_that_is_none_or_does_not_answer_is_named(address: str) -> None:
    with pytest.raises(ConnectionError, match=f"^address: {address} "):
        Jobs.at(address)


def test_a_cluster_that_takes_no_jobs_yet_is_an_error_of_its_own() -> None:
    with (
        pytest.raises(NotReady, match=r"^address: http://head:8265 refuses the request"),
        ray_errors("http://head:8265"),
    ):
        raise RuntimeError("Request failed with status code 500: No available agent to submit job, please try again.")

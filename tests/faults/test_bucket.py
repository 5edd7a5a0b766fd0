"""Runs over a bucket on a real S3 server: machines that die, and a server that fails."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from buckets import at, make_bucket, s3_server
from machines import STUDENT, TEACHER, Machine, Said, at_moment, kill, leased_keys, records, said_by, weights

from benchmarks.proxy import proxy, tell
from pipeline.storage.bucket import Bucket
from stages.cache_folder import CacheFolder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def failing_server() -> Iterator[str]:
    """The URL of a proxy before a server, in an environment in which it is used as the server."""
    with s3_server() as server, proxy(server) as url, at(url):
        make_bucket("house")
        yield url


@pytest.fixture
def bucket(failing_server: str, tmp_path: Path) -> Iterator[Bucket]:
    """The storage, opened by the test and not by a run."""
    yield Bucket(f"s3://house/{tmp_path.name}", CacheFolder(tmp_path / "seen"))
    tell(failing_server, "well")


@pytest.fixture
def machine(bucket: Bucket, recipe: Path, tmp_path: Path) -> Callable[[str], Machine]:
    return lambda name: Machine(tmp_path / name, recipe, bucket.url)


def right(bucket: Bucket, undisturbed: dict[str, str], *runs: Said) -> None:
    """The result is that of an undisturbed run, and each artifact was built once."""
    assert weights(bucket) == undisturbed
    built: Counter[str] = sum((run.built for run in runs), Counter())
    assert set(built) <= set(records(bucket))
    assert set(built.values()) == {1}
    assert leased_keys(bucket) == []


def test_a_run_goes_on_on_another_machine_from_what_the_first_has_committed(
    bucket: Bucket, machine: Callable[[str], Machine], undisturbed: dict[str, str]
) -> None:
    first = machine("a").start()
    at_moment(first, lambda: TEACHER in records(bucket))
    cut = kill(first)
    before = records(bucket)
    assert STUDENT not in before
    second = machine("b").run()
    assert (second.code, second.err) == (0, "")
    assert before.items() <= records(bucket).items(), "what the first had committed stands"
    right(bucket, undisturbed, cut, second)


def test_a_server_that_answers_500_and_503_and_is_slow_costs_time_and_nothing_else(
    failing_server: str, bucket: Bucket, machine: Callable[[str], Machine], undisturbed: dict[str, str]
) -> None:
    process = machine("a").start()
    at_moment(process, lambda: "corpus@tiny" in records(bucket))
    tell(failing_server, "errors", 0.4)
    tired = threading.Timer(4.0, tell, (failing_server, "slow", 0.2))
    well = threading.Timer(8.0, tell, (failing_server, "well"))
    tired.start()
    well.start()
    said = said_by(process)
    tired.join()
    well.join()
    assert (said.code, said.err) == (0, "")
    right(bucket, undisturbed, said)


def test_answers_that_are_lost_after_the_server_did_its_work_do_no_harm(
    failing_server: str, bucket: Bucket, machine: Callable[[str], Machine], undisturbed: dict[str, str]
) -> None:
    tell(failing_server, "lost", 0.1)
    said = machine("a").run()
    tell(failing_server, "well")
    assert (said.code, said.err) == (0, "")
    right(bucket, undisturbed, said)


def test_two_machines_on_one_bucket_both_end_well_and_build_each_artifact_once(
    bucket: Bucket, machine: Callable[[str], Machine], undisturbed: dict[str, str]
) -> None:
    both = [said_by(process) for process in [machine("a").start(), machine("b").start()]]
    assert [(said.code, said.err) for said in both] == [(0, ""), (0, "")]
    right(bucket, undisturbed, *both)

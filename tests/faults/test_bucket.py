"""Runs over a bucket on a real S3 server: machines that die, and a server that is not well."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from buckets import at, make_bucket, s3_server
from machines import STUDENT, TEACHER, Machine, Said, at_moment, at_work, kill, records, said_by, weights

from benchmarks.proxy import proxy, tell
from pipeline.storage.bucket import Bucket
from stages.cache_folder import CacheFolder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def unwell() -> Iterator[str]:
    """A proxy before a server, and an environment in which it is the server."""
    with s3_server() as server, proxy(server) as url, at(url):
        make_bucket("house")
        yield url


@pytest.fixture
def bucket(unwell: str, tmp_path: Path) -> Iterator[Bucket]:
    """A storage, as one sees it who runs nothing."""
    yield Bucket(f"s3://house/{tmp_path.name}", CacheFolder(tmp_path / "seen"))
    tell(unwell, "well")


@pytest.fixture
def machine(bucket: Bucket, recipe: Path, tmp_path: Path) -> Callable[[str], Machine]:
    return lambda name: Machine(tmp_path / name, recipe, bucket.url)


def right(bucket: Bucket, undisturbed: dict[str, str], *runs: Said) -> None:
    """All is there, as if nothing had happened, and was built once."""
    assert weights(bucket) == undisturbed
    built: Counter[str] = sum((run.built for run in runs), Counter())
    assert set(built) <= set(records(bucket))
    assert set(built.values()) == {1}
    assert at_work(bucket) == []


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
    unwell: str, bucket: Bucket, machine: Callable[[str], Machine], undisturbed: dict[str, str]
) -> None:
    process = machine("a").start()
    at_moment(process, lambda: "corpus@tiny" in records(bucket))
    tell(unwell, "errors", 0.4)
    tired = threading.Timer(4.0, tell, (unwell, "slow", 0.2))
    well = threading.Timer(8.0, tell, (unwell, "well"))
    tired.start()
    well.start()
    said = said_by(process)
    tired.join()
    well.join()
    assert (said.code, said.err) == (0, "")
    right(bucket, undisturbed, said)


def test_answers_that_are_lost_after_the_server_did_its_work_do_no_harm(
    unwell: str, bucket: Bucket, machine: Callable[[str], Machine], undisturbed: dict[str, str]
) -> None:
    tell(unwell, "lost", 0.1)
    said = machine("a").run()
    tell(unwell, "well")
    assert (said.code, said.err) == (0, "")
    right(bucket, undisturbed, said)


def test_two_machines_on_one_bucket_both_end_well_and_build_each_artifact_once(
    bucket: Bucket, machine: Callable[[str], Machine], undisturbed: dict[str, str]
) -> None:
    both = [said_by(process) for process in [machine("a").start(), machine("b").start()]]
    assert [(said.code, said.err) for said in both] == [(0, ""), (0, "")]
    right(bucket, undisturbed, *both)

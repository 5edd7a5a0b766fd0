"""Losses of a cluster other than workers: its head, and with it the driver of a job; a node's object store."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from buckets import at, make_bucket, s3_server
from machines import LONGEST, STUDENT, TEACHER, Machine, at_moment, leased_keys, records, said_by, weights
from rays import Rays, wait_until

from pipeline.storage import open_storage
from pipeline.storage.bucket import Bucket
from stages.cache_folder import CacheFolder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

GONE = "Ray's node that this run is connected to is gone, its raylet has died; the next run resumes from here\n"


def test_a_job_whose_head_was_lost_goes_on_from_its_bucket_when_it_is_submitted_to_the_next(
    recipe: Path, undisturbed: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second head has none of the files that the first had on its disk."""
    with s3_server() as server, at(server):
        make_bucket("house")
        storage = Bucket("s3://house/runs", CacheFolder(tmp_path / "seen"))
        monkeypatch.setenv("STILLHOUSE_CACHE", str(tmp_path / "first"))
        with Rays(cpus=2, dashboard=True, packages=False) as rays:

            def stillhouse(*arguments: str) -> str:
                options = ("--address", rays.dashboard_url)
                said = rays.python("-m", "pipeline", *arguments, *options, cwd=tmp_path, timeout=LONGEST)
                assert said.returncode == 0, said.stdout + said.stderr
                return said.stdout

            stillhouse("submit", str(recipe), "--storage", storage.url)
            wait_until("the teacher stands", lambda: TEACHER in records(storage), within=LONGEST)
            monkeypatch.setenv("STILLHOUSE_CACHE", str(tmp_path / "second"))
            rays.restart_head()
            before = records(storage)
            assert STUDENT not in before
            job = stillhouse("submit", str(recipe), "--storage", storage.url).split(":")[0]
            followed = stillhouse("logs", job, "--follow")
        assert f"done   {TEACHER}" not in followed
        assert f"done   {STUDENT}" in followed
        assert before.items() <= records(storage).items(), "what was committed stands"
        assert weights(storage) == undisturbed
        assert leased_keys(storage) == []


def test_a_node_that_loses_its_object_store_loses_nothing_that_was_made(
    recipe: Path, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    """The object store is a part of the raylet. The run may end with it, or finish what was placed already."""
    storage = open_storage(str(tmp_path / "runs"))
    with Rays(cpus=2) as rays:
        assert rays.head is not None
        command = [sys.executable, "-m", "pipeline", "run", str(recipe), "--storage", storage.url]
        process = subprocess.Popen(
            [*command, "--address", rays.address],
            cwd=tmp_path,
            env=rays.environment(),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        at_moment(process, lambda: TEACHER in records(storage))
        (raylet,) = [one for one in rays.processes(rays.head) if one.name() == "raylet"]
        raylet.kill()
        first = said_by(process)
    assert "Traceback" not in first.out + first.err
    assert first.code == 0 or (first.code == 1 and first.err.endswith(GONE)), first
    before = records(storage)
    second = Machine(tmp_path / "home", recipe, storage.url).run()
    assert (second.code, second.err) == (0, "")
    assert before.items() <= records(storage).items(), "what was committed stands"
    assert set((first.built + second.built).values()) == {1}
    assert weights(storage) == undisturbed
    assert leased_keys(storage) == []


def test_sigterm_while_ray_starts_stops_the_run_as_it_does_later(recipe: Path, tmp_path: Path) -> None:
    process = Machine(tmp_path / "home", recipe, str(tmp_path / "runs"), inline=False).start()
    ray = psutil.Process(process.pid)
    at_moment(process, lambda: any(one.name() == "gcs_server" for one in ray.children(recursive=True)))
    left = ray.children(recursive=True)
    process.terminate()
    said = said_by(process)
    assert (said.code, said.err) == (130, "stillhouse: stopped; the next run resumes from here\n")
    assert psutil.wait_procs(left, timeout=60)[1] == []


def test_a_ray_that_cannot_be_started_is_one_line(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_TMPDIR", "/proc/none")
    said = Machine(tmp_path / "home", recipe, str(tmp_path / "runs"), inline=False).run()
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith("stillhouse: Ray cannot be started on this machine: ")
    assert said.err.endswith("ray.log); try again, or run with --inline\n") and said.err.count("\n") == 1

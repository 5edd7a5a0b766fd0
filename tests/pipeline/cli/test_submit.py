"""Runs as jobs of a real cluster of two nodes on loopback, which have none of the project's packages.

The client runs in processes of its own, from a copy of the packages that is damaged once it has submitted.
"""

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from project import ROOT, CommandResult, Project, stillhouse, write_project

from cluster.jobs import NotReady
from pipeline.cli import submit
from pipeline.execution.code_snapshot import PACKAGES, take_snapshot
from tests.rays import Rays, wait_until, without

pytestmark = pytest.mark.timeout(600)

DAMAGE = "raise RuntimeError('an edit that came later')\n"


@dataclass(frozen=True)
class Client:
    """The command line, run in a folder, with commands for a cluster."""

    rays: Rays
    folder: Path
    code: Path = ROOT

    def start(self, command: str, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "pipeline", command, *arguments],
            cwd=self.folder,
            env={**self.rays.environment(), "PYTHONPATH": str(self.code), **environment},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def __call__(self, command: str, *arguments: str, **environment: str) -> CommandResult:
        process = self.start(command, *arguments, **environment)
        out, err = process.communicate(timeout=240)
        return CommandResult(process.returncode, out, err)

    def on_cluster(self, command: str, *arguments: str, **environment: str) -> CommandResult:
        return self(command, *arguments, "--address", self.rays.dashboard_url, **environment)


@pytest.fixture(scope="module")
def rays() -> Iterator[Rays]:
    with Rays(cpus=1, dashboard=True, packages=False) as started:
        started.add(cpus=1)
        yield started


@dataclass(frozen=True)
class Sent:
    """A run that was submitted, and the results of the commands about it."""

    project: Project
    job: str
    snapshot: str
    submitted: CommandResult
    followed: CommandResult
    status: CommandResult
    listed: CommandResult


@pytest.fixture(scope="module")
def sent(rays: Rays, assets: Path, tmp_path_factory: pytest.TempPathFactory) -> Sent:
    """The tiny recipe, submitted from a copy of the packages. The copy is damaged while the driver works."""
    folder = tmp_path_factory.mktemp("sent")
    code = folder / "code"
    for package in PACKAGES:
        shutil.copytree(ROOT / package, code / package)
    project = write_project(folder / "project", assets, method="vanilla-kd", storage=str(folder / "project" / "runs"))
    client = Client(rays, project.folder, code)
    submitted = client.on_cluster("submit", "recipe.yaml", "--set", "train.epochs=1")
    assert submitted.code == 0, submitted.err
    for source in code.rglob("*.py"):
        source.write_text(DAMAGE, "utf-8")
    job, client = submitted.out.split(":")[0], Client(rays, project.folder)
    followed = client.on_cluster("logs", job, "--follow")
    snapshot = str(next(iter(project.records().values()))["snapshot"])
    status, listed = client.on_cluster("status", job), client.on_cluster("status")
    return Sent(project, job, snapshot, submitted, followed, status, listed)


def test_submit_prints_the_job_and_the_commands_to_follow_it_once_its_driver_has_begun(sent: Sent, rays: Rays) -> None:
    assert f"{sent.job}: begun: 6 of 6 artifacts to build, 2 nodes\n" in sent.submitted.out
    assert f"stillhouse logs {sent.job} --address {rays.dashboard_url} --follow\n" in sent.submitted.out
    assert sent.job.startswith("tiny-")
    assert sent.submitted.err == ""


def test_a_submitted_run_uses_its_snapshot_even_if_the_sources_change_afterwards(sent: Sent) -> None:
    assert sent.followed.code == 0, sent.followed.out
    assert DAMAGE not in sent.followed.out
    assert len(sent.project.records()) == 6
    assert "6 to reuse, 0 to build" in sent.project("plan", "--set", "train.epochs=1").out


def test_a_report_takes_over_the_sets_of_a_submitted_run(sent: Sent) -> None:
    result = sent.project("report")
    assert (result.code, "missing" in result.out) == (0, False)
    assert result.err.startswith("stillhouse: note: with --set train.epochs=1, as in the last run (")
    assert sent.project("plan").err == "", "the driver read a copy of the same recipe"


def test_every_record_names_the_snapshot(sent: Sent) -> None:
    assert {record["snapshot"] for record in sent.project.records().values()} == {sent.snapshot}
    assert sent.snapshot[:12] in sent.submitted.out
    recipe = yaml.safe_dump(yaml.safe_load(sent.project.recipe.read_text("utf-8")))
    assert sent.snapshot != take_snapshot({"recipe.yaml": recipe.encode()}).sha256, (
        "the recipe as it was loaded, with --set"
    )
    shown = stillhouse("show", str(sent.project.artifact("corpus@tiny")))
    assert f"snapshot   {sent.snapshot}\n" in shown.out


def test_status_lists_all_jobs_and_the_stages_of_one(sent: Sent) -> None:
    (line,) = [line for line in sent.listed.out.splitlines() if line.startswith(sent.job)]
    assert line.split()[1:3] == ["tiny", "succeeded"]
    assert sent.status.out.startswith(f"{sent.job}  succeeded\nrecipe     tiny\nsnapshot   {sent.snapshot}\n")
    assert "stages     6 done\n" in sent.status.out


def test_a_relative_storage_is_refused_if_there_are_several_nodes(sent: Sent, rays: Rays) -> None:
    result = Client(rays, sent.project.folder).on_cluster("submit", "recipe.yaml", "--storage", "here")
    assert result.code == 2
    assert result.err == (
        "stillhouse: storage: here is a relative path, and the cluster may have 2 nodes; "
        "give an absolute path on a file system that all nodes share, or s3://bucket/prefix\n"
    )


def test_a_run_on_an_existing_ray_brings_its_packages(sent: Sent, rays: Rays) -> None:
    options = ("--set", "train.epochs=1", "--stage", "evaluate", "--address", rays.address)
    result = Client(rays, sent.project.folder)("run", "recipe.yaml", *options)
    assert result.code == 0, result.err
    assert "done   evaluate/teacher@tiny" in result.out
    snapshots = {name: record["snapshot"] for name, record in sent.project.records().items()}
    assert snapshots["evaluate/teacher@tiny"] == "", "it was not submitted"
    assert snapshots["corpus@tiny"] == sent.snapshot


@pytest.mark.slow
def test_a_job_goes_on_after_ctrl_c_of_logs_and_ends_after_stop(rays: Rays, assets: Path, tmp_path: Path) -> None:
    train = {"epochs": 2000, "learning_rate": 5.0e-3, "max_length": 16}
    project = write_project(
        tmp_path / "project", assets, train=train, method="no-kd", storage=str(tmp_path / "project" / "runs")
    )
    client = Client(rays, project.folder)
    process = client.start("submit", "recipe.yaml", "--follow", "--address", rays.dashboard_url)
    assert process.stdout is not None
    line = process.stdout.readline()
    job = line.split(":")[0]
    while "start  distil" not in line:
        line = process.stdout.readline()
        assert line, process.communicate()[1]
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert (
        err.strip() == f"stillhouse: {job} keeps running; stillhouse logs {job} --address {rays.dashboard_url} --follow"
    )

    running = client.on_cluster("status", job)
    assert running.out.startswith(f"{job}  running\n")
    assert "running    distil/no-kd/two/0@tiny\n" in running.out
    wait_until("the student is at work", lambda: any((project.storage / ".work").glob("*/*/.lease.json")))

    stopped = client.on_cluster("stop", job)
    assert (stopped.code, stopped.out) == (0, f"{job}: stopped; the next run resumes from there\n")
    leases = [json.loads(path.read_text("utf-8")) for path in (project.storage / ".work").glob("*/*/.lease.json")]
    assert leases and all(lease["released"] for lease in leases)
    followed = client.on_cluster("logs", job, "--follow")
    assert followed.code == 130
    assert followed.out.endswith("stillhouse: stopped; the next run resumes from here\n")


@pytest.mark.slow
def test_a_storage_that_a_node_lacks_is_refused_by_the_driver_in_one_line(
    rays: Rays, assets: Path, tmp_path: Path
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    (node,) = rays.add(within=without(shared))
    try:
        project = write_project(tmp_path / "project", assets)
        result = Client(rays, project.folder).on_cluster("submit", "recipe.yaml", "--storage", str(shared))
    finally:
        rays.kill(node)
    assert result.code == 2
    assert result.err.startswith(f"stillhouse: storage: {shared} is not visible on node 127.0.0.1 (")
    assert result.err.endswith("; put it on a file system that all nodes share, at the same path\n")
    assert list(shared.glob(".probe*")) == []


# --- requests that are wrong ----------------------------------------------------------------------


def test_a_wrong_token_is_one_line_that_says_how_to_give_the_right_one(rays: Rays, tmp_path: Path) -> None:
    wrong = tmp_path / "token"
    wrong.write_text("0" * 64, "utf-8")
    result = Client(rays, tmp_path).on_cluster("status", RAY_AUTH_TOKEN_PATH=str(wrong))
    assert result.code == 2
    assert result.err == (
        f"stillhouse: --address: {rays.dashboard_url} refuses the connection: it requires a token; "
        "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH to the cluster's own\n"
    )


@pytest.mark.parametrize("command", [("status",), ("logs", "--follow"), ("stop",)])
def test_an_unknown_job_is_one_line(command: tuple[str, ...], rays: Rays, tmp_path: Path) -> None:
    verb, *options = command
    result = Client(rays, tmp_path).on_cluster(verb, "unknown-1", *options)
    url = rays.dashboard_url
    assert (result.code, result.out) == (2, "")
    assert result.err == f"stillhouse: JOB: unknown-1 is not known at {url}; see stillhouse status --address {url}\n"


@pytest.mark.parametrize(
    ("address", "result"),
    [
        ("http://127.0.0.1:1", "--address: http://127.0.0.1:1 cannot be reached"),
        ("ray://head:10001", "--address: ray://head:10001 is not the address of Ray's dashboard; .* http://head:8265"),
        ("head:6379", "--address: head:6379 is not the address of Ray's dashboard; .* http://head:8265"),
        ("auto", "--address: auto is not the address of Ray's dashboard; "),
        ("http://[::1", r"--address: http://\[::1 is not http://host:port of a Ray dashboard"),
        ("[::1:8265", r"--address: \[::1:8265 is not the address of Ray's dashboard; .* http://HOST:8265"),
        ("http://head..local:8265", "--address: http://head..local:8265 cannot be reached"),
    ],
)
@pytest.mark.parametrize("command", [("submit", "RECIPE"), ("status",), ("logs", "x"), ("stop", "x")])
def test_an_address_that_cannot_be_used_is_one_line(
    command: tuple[str, ...], address: str, result: str, assets: Path, tmp_path: Path
) -> None:
    project = write_project(tmp_path, assets)
    answer = stillhouse(*(str(project.recipe) if word == "RECIPE" else word for word in command), "--address", address)
    assert answer.code == 2
    assert re.match(f"stillhouse: {result}[^\n]*\n$", answer.err), answer.err


def test_no_address_at_all_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:6379")
    result = stillhouse("status")
    assert result.code == 2
    assert result.err.startswith("stillhouse: --address: is missing; ")


def test_run_with_a_dashboard_address_points_to_submit(assets: Path, tmp_path: Path) -> None:
    for address in ("ray://head:10001", "http://head:8265"):
        result = write_project(tmp_path, assets)("run", "--address", address)
        assert result.code == 2
        assert result.err == (
            f"stillhouse: --address: {address}; run takes host:port of a Ray head node, or auto; "
            "stillhouse submit takes http://HOST:8265\n"
        )


def test_submit_waits_for_a_cluster_that_takes_no_jobs_yet_and_says_so_once(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submit, "POLL_SECONDS", 0.01)
    calls: list[int] = []

    def third_time() -> None:
        calls.append(1)
        if len(calls) < 3:
            raise NotReady("address: http://head:8265 refuses the request")

    submit.when_ready(third_time, "http://head:8265", 60.0)
    assert len(calls) == 3
    assert capsys.readouterr().out == ("http://head:8265 has just started and takes no jobs yet; waiting up to 60 s\n")


def test_submit_gives_up_on_a_cluster_that_takes_no_jobs() -> None:
    def never() -> None:
        raise NotReady("address: http://head:8265 refuses the request")

    with pytest.raises(ConnectionError, match=r"^address: http://head:8265 takes no jobs yet, after 0 s"):
        submit.when_ready(never, "http://head:8265", 0.0)

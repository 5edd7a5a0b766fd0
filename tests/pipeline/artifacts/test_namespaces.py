"""Two machines that share nothing but a wire and a bucket: network namespaces with addresses of their own, the second
with empty folders where the first has recipe, data, model and cache. What loopback cannot show."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from buckets import CREDENTIALS
from project import write_project

from tests.rays import RayNode, Rays, wait_until, without

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

BUCKET = "s3://house/runs"
MAKE = "import s3fs; s3fs.S3FileSystem().mkdir('house')"
READ = f"""
import json
from pipeline.artifacts.record import record_texts
from pipeline.storage import open_storage
print(json.dumps([json.loads(text) for text in record_texts(open_storage('{BUCKET}')).values()]))
"""
WHEN = ("history.json", "tensorboard/", "lineage.json", "metrics.json")
"""Files that tell of a run, too, and not only of what it came to. Of scores, the predictions tell."""


@dataclass(frozen=True)
class Machine:
    """A machine: a network namespace. ``within`` is the command prefix that runs a command inside it."""

    ip: str
    within: tuple[str, ...]


@contextmanager
def two_machines() -> Iterator[tuple[Machine, Machine]]:
    """Two machines connected to each other only. Skips if the system does not allow network namespaces."""
    names = [f"sh{os.getpid()}{letter}" for letter in "ab"]
    ips = ["10.213.7.1", "10.213.7.2"]
    try:
        for name in names:
            ip("netns", "add", name)
        ip("-n", names[0], "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", names[1])
        for name, address in zip(names, ips, strict=True):
            ip("-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")
            ip("-n", name, "link", "set", "lo", "up")
        first, second = (Machine(at, ("ip", "netns", "exec", name)) for name, at in zip(names, ips, strict=True))
        yield first, second
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


def ip(*arguments: str) -> None:
    try:
        subprocess.run(["ip", *arguments], check=True, capture_output=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip("network namespaces need rights, or a program, that are not here")


@contextmanager
def s3_server(machine: Machine, log: Path) -> Iterator[str]:
    """The URL of an S3 server on ``machine``."""
    command = [*machine.within, sys.executable, "-m", "moto.server", "-H", machine.ip, "-p", "5000"]
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
    try:
        wait_until("the server runs", lambda: "Running on" in log.read_text("utf-8", "replace"), within=120)
        yield f"http://{machine.ip}:5000"
    finally:
        process.terminate()
        process.wait()


@dataclass(frozen=True)
class Apart:
    """A Ray over both machines, each a node with a resource that it alone has: ``first`` and ``second``."""

    first: Machine
    rays: Rays
    other: RayNode
    folder: Path

    def python(self, *arguments: str) -> str:
        """The output of a Python program on the first machine."""
        command = [*self.first.within, sys.executable, *arguments]
        done = subprocess.run(
            command, cwd=self.folder, env=self.rays.environment(), capture_output=True, text=True, timeout=400
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def seen_by_the_second(self, path: Path) -> Path:
        """That path, as the second machine has it."""
        raylet = next(one for one in self.rays.processes(self.other) if "raylet" in one.name())
        return Path(f"/proc/{raylet.pid}/root{path}")


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apart]:
    base = tmp_path_factory.getbasetemp()
    folder = tmp_path_factory.mktemp("apart")
    hidden = without(base)
    with two_machines() as (first, second), s3_server(first, folder / "s3.log") as url:
        environment = {
            **CREDENTIALS,
            "AWS_ENDPOINT_URL": url,
            "AWS_EC2_METADATA_DISABLED": "true",
            "STILLHOUSE_CACHE": str(folder / "cache"),
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1",  # each listens on its own address
            "RAY_health_check_failure_threshold": "12",
        }
        head = {"resources": {"first": 1}, "within": first.within}
        with Rays(cpus=2, packages=False, environment=environment, ip=first.ip, **head) as rays:
            within = (*second.within, *hidden)
            (other,) = rays.add(cpus=2, resources={"second": 1}, within=within, ip=second.ip)
            found = Apart(first, rays, other, folder)
            found.python("-c", MAKE)
            yield found


def compared(records: Sequence[dict[str, object]]) -> dict[str, dict[str, str]]:
    """Node -> path -> sha256 of its artifact's files."""
    return {
        str(record["name"]): {
            file["path"]: file["sha256"]
            for file in record["files"]  # type: ignore[attr-defined]
            if not file["path"].startswith(WHEN)
        }
        for record in records
    }


def pinned(**stages: str) -> dict[str, dict[str, object]]:
    return {stage: {"cpus_per_worker": 1, "custom": {name: 0.5}} for stage, name in stages.items()}


def test_a_run_on_machines_without_shared_files_gives_the_result_of_one_machine(
    apart: Apart, assets: Path, tmp_path: Path
) -> None:
    alone = write_project(tmp_path / "alone", assets, method="vanilla-kd")
    result = alone("run", "--inline")
    assert result.code == 0, result.err
    where = pinned(finetune="first", teach="second", distil="second", evaluate="first")
    project = write_project(tmp_path / "apart", assets, method="vanilla-kd", storage=BUCKET, resources=where)
    out = apart.python("-m", "pipeline", "run", str(project.recipe), "--address", apart.rays.address)
    assert "done   evaluate/vanilla-kd/two/0@tiny" in out
    records: list[dict[str, object]] = json.loads(apart.python("-c", READ))
    assert compared(records) == compared(list(alone.records().values()))
    assert not apart.seen_by_the_second(assets).exists()
    cache = apart.seen_by_the_second(apart.folder / "cache")
    models = {path.parent.parent.parent.name for path in cache.glob("storage/*/distil/*/*/model/model.safetensors")}
    assert models == {str(record["key"]) for record in records if record["name"] == "finetune@tiny"}

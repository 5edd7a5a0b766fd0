"""A batch that loses a node: nine tasks, four methods, one seed, submitted to a fresh cluster of three nodes.

When a third of the artifacts are built, all processes of the node with the most running workers are killed at once, and
no node replaces it. The batch goes on with the other two. The sha256 of each of its files is compared with that of an
undisturbed run of the same batch: all weights and tokenizers, stores, scores and predictions.

The nodes are on loopback. Each is a Ray of its own with one CPU, its own folder and none of this project's packages;
token authentication is on. Every stage gets one worker of one CPU.
"""

import argparse
import contextlib
import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.pairs import hardware
from pipeline.monitor.status import read_runs
from tests.rays import REPOSITORY, RayNode, Rays

RECIPE = REPOSITORY / "recipes" / "glue-batch-small.yaml"
NODES = 3
STAGES = ("finetune", "teach", "distil", "evaluate")
SMALL = ("task=[sst2, rte]", "data.train_rows=48", "data.eval_rows=16")
"""What ``--small`` sets: just enough to see whether the script runs."""
PATIENT = {"RAY_health_check_failure_threshold": "12"}
"""A node counts as lost after six seconds without a health check. On a busy machine one may be late by two."""
LOOK_EVERY = 0.5
IDLE = ("IDLE", "Agent")
"""Words in the titles of Ray's processes that run no work of the batch."""
COMPARED_FOLDERS = ("model", "predictions")
"""Folders of artifacts that are compared. ``history.json`` and curves are left out, since they contain times."""
METRICS, LATENCY = "metrics.json", "latency_ms"
COMPARED = (METRICS, "store.json")


@dataclass(frozen=True)
class Batch:
    """The recipe, and the settings that are changed in it."""

    data: Path
    small: bool
    model: Path | None = None
    sets: tuple[str, ...] = ()

    def options(self, storage: Path) -> list[str]:
        sets = [f"data.source={self.data.absolute()}", *(SMALL if self.small else ())]
        sets += [f"teacher.model={self.model.absolute()}"] if self.model else []
        sets += [f"resources.{stage}.{name}=1" for stage in STAGES for name in ("workers", "cpus_per_worker")]
        words = (word for one in (*sets, *self.sets) for word in ("--set", one))
        return [str(RECIPE), "--storage", str(storage), *words]


@dataclass(frozen=True)
class BatchRun:
    """A run that has ended: its exit code and seconds; after how many seconds a node was killed, how far the run was
    then (``at``), and what ran on the node."""

    code: int
    seconds: float
    at: str = ""
    after: float = 0.0
    lost: tuple[str, ...] = ()


def main(arguments: Sequence[str]) -> int:
    """0 where both runs succeeded with equal results, else 1."""
    given = parse(arguments)
    folder: Path = given.folder
    folder.mkdir(parents=True, exist_ok=True)
    model = narrow(folder / "model") if given.narrow else None
    batch = Batch(given.data, given.small, model, tuple(given.set))
    print(f"hardware: {hardware()}", flush=True)
    print(f"batch: {' '.join(batch.options(folder / 'disturbed'))}", flush=True)
    disturbed = submitted(batch, folder / "disturbed", folder / "disturbed.log", kill=True)
    print(described("a node killed", disturbed), flush=True)
    print(f"  killed {disturbed.after:.0f} s after the start, at {disturbed.at}", flush=True)
    print(f"  what ran there: {', '.join(disturbed.lost) or 'nothing'}", flush=True)
    base: Path = given.against or folder / "undisturbed"
    undisturbed = None
    if given.against is None:
        log = folder / "undisturbed.log"
        undisturbed = inline(batch, base, log) if given.inline else submitted(batch, base, log, kill=False)
        print(described("undisturbed", undisturbed), flush=True)
    found, wanted = results(folder / "disturbed"), results(base)
    print("\n".join(compared(found, wanted)))
    ended = disturbed.code == 0 and (undisturbed is None or undisturbed.code == 0)
    return 0 if ended and found == wanted else 1


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks batch_nodes", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--data", type=Path, required=True, help="a folder that holds glue/<task>/<split>.parquet")
    parser.add_argument("--folder", type=Path, required=True, help="where storages and logs go; some 10 GB")
    parser.add_argument("--small", action="store_true", help="two tasks, few rows: does it run?")
    parser.add_argument("--narrow", action="store_true", help="a random BERT of six narrow layers is the teacher")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=C", help="as of stillhouse run")
    other = parser.add_mutually_exclusive_group()
    other.add_argument("--inline", action="store_true", help="the undisturbed run in one process, without Ray")
    other.add_argument("--against", type=Path, metavar="STORAGE", help="the storage of an earlier undisturbed run")
    return parser.parse_args(arguments)


def narrow(folder: Path) -> Path:
    """A model as deep as that of the recipe, with a hundredth of its weights."""
    from tests.tiny import write_tiny_model

    return folder if folder.exists() else write_tiny_model(folder, layers=6, max_position_embeddings=512)


def submitted(batch: Batch, storage: Path, log: Path, kill: bool) -> BatchRun:
    """The batch as a job of a cluster that is started before and stopped after it."""
    with Rays(cpus=1, dashboard=True, packages=False, environment=PATIENT) as rays, log.open("wb") as out:
        rays.add(NODES - 1, cpus=1)
        began = time.monotonic()
        command = [sys.executable, "-m", "pipeline", "submit", *batch.options(storage)]
        command += ["--follow", "--address", rays.dashboard_url]
        process = subprocess.Popen(command, env=rays.environment(), stdout=out, stderr=subprocess.STDOUT)
        try:
            at, after, lost = killed(rays, storage, process) if kill else ("", 0.0, ())
            code = process.wait()
        finally:
            process.kill()
        return BatchRun(code, time.monotonic() - began, at, after - began if kill else 0.0, lost)


def killed(rays: Rays, storage: Path, process: "subprocess.Popen[bytes]") -> tuple[str, float, tuple[str, ...]]:
    """Kill a node when a third is built. Returns how far the run was, when that was, and what ran on the node."""
    while True:
        if process.poll() is not None:
            return f"no time: the run ended first, with exit code {process.returncode}", time.monotonic(), ()
        built = len(list(storage.glob("[!.]*/*/record.json")))
        for run in read_runs(storage) if built else ():
            if 3 * built >= len(run.document["nodes"]):
                nodes = {node.mark: node for node in rays.nodes if not node.head}
                work = {mark: at_work(rays, node) for mark, node in nodes.items()}
                doomed = max(nodes, key=lambda mark: len(work[mark]))
                rays.kill(nodes[doomed])
                return f"{built} of {len(run.document['nodes'])} artifacts built", time.monotonic(), work[doomed]
        time.sleep(LOOK_EVERY)


def at_work(rays: Rays, node: RayNode) -> tuple[str, ...]:
    """The titles of the node's Ray workers that are not idle."""
    titles = []
    for process in rays.processes(node):
        with contextlib.suppress(psutil.NoSuchProcess):
            titles.append(" ".join(process.cmdline()).strip())
    return tuple(title for title in titles if title.startswith("ray::") and not any(word in title for word in IDLE))


def inline(batch: Batch, storage: Path, log: Path) -> BatchRun:
    """The batch in one process."""
    began = time.monotonic()
    command = [sys.executable, "-m", "pipeline", "run", *batch.options(storage), "--inline"]
    with log.open("wb") as out:
        done = subprocess.run(command, cwd=REPOSITORY, stdout=out, stderr=subprocess.STDOUT)
    return BatchRun(done.returncode, time.monotonic() - began)


# --- the results ----------------------------------------------------------------------------------


def results(storage: Path) -> dict[str, str]:
    """``<artifact>: <file>`` -> sha256 of the stored file, for each file that is compared."""
    found = {}
    for path in sorted(storage.glob("[!.]*/*/record.json")):
        record = json.loads(path.read_text("utf-8"))
        for file in record["files"]:
            name = Path(file["path"])
            if name.parts[0] in COMPARED_FOLDERS or name.name in COMPARED or name.name.startswith("shard-"):
                content = (path.parent / record["attempt"] / name).read_bytes()
                note = "" if sha256(content) == file["sha256"] else f" but its record says {file['sha256']}"
                found[f"{record['name']}: {name}"] = sha256(timeless(name, content)) + note
    return found


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def timeless(name: Path, content: bytes) -> bytes:
    """The file's content without the latency, which an evaluation measures by the clock."""
    if name.name != METRICS:
        return content
    return json.dumps({key: value for key, value in json.loads(content).items() if key != LATENCY}).encode()


def compared(found: Mapping[str, str], wanted: Mapping[str, str]) -> list[str]:
    """Lines that say how many files of each kind are equal, and which are not."""
    kinds = {
        "weights": lambda name: name.endswith(".safetensors"),
        "scores": lambda name: name.endswith(METRICS),
        "predictions": lambda name: ": predictions/" in name,
        "shards of stores": lambda name: ": shard-" in name,
        "all files compared": lambda _: True,
    }
    names = sorted({*found, *wanted})
    lines = []
    for kind, is_one in kinds.items():
        all_of = [name for name in names if is_one(name)]
        equal = sum(found.get(name) == wanted.get(name) for name in all_of)
        lines.append(f"{kind}: {equal} of {len(all_of)} equal")
    return lines + [
        f"  differs: {name}  {found.get(name, 'absent')[:12]}  {wanted.get(name, 'absent')[:12]}"
        for name in names
        if found.get(name) != wanted.get(name)
    ]


def described(what: str, run: BatchRun) -> str:
    return f"{what}: exit code {run.code}, {run.seconds:.0f} s"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

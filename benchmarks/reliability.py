"""Faults at random moments during a small recipe: is the final result right and complete?

    python -m benchmarks reliability [--faults 100] [--through-ray 40] [--seed 0] [--at-once 2] [--log FILE]

Each fault has a storage of its own. A run is started, a fault (see ``faults``) is caused when it has used a random
share of the processor seconds that an undisturbed run uses, and then the same command runs again, to the end. The
result is right if the command exits with 0; every artifact is what its record says (``stillhouse verify``); the weights
of the teacher and the student are those of an undisturbed run, bit for bit; no attempt is leased; nothing that was
committed was built again; and no finished shard was written again. Each fault adds a line of JSON to the log; a fault
that has a line there already is not repeated.
"""

import argparse
import importlib
import io
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.driver import LEARN, Driver, import_all, start
from benchmarks.faults import AFTER, BUCKET, DIRECTORY, KINDS, LONGEST, RAY, Case, disk
from benchmarks.pairs import hardware
from benchmarks.proxy import proxy, tell

ROWS = 5000
"""Rows of train. A tenth is held out, and the rest makes two shards."""
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "tester", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
BUCKET_NAME = "house"
TRIES = 5
"""How often a fault that comes after the run's end is drawn again."""
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "passive",
    "TOKENIZERS_PARALLELISM": "false",
    "RAY_USAGE_STATS_ENABLED": "0",
    "AWS_EC2_METADATA_DISABLED": "true",
    **CREDENTIALS,
}


@dataclass(frozen=True)
class Undisturbed:
    """The result of a run without a fault: node -> sha256 of its weights, the number of nodes, and the processor
    seconds over a directory, over a bucket and through Ray."""

    weights: Mapping[str, str]
    nodes: int
    cpu: Mapping[str, float]


def main(arguments: Sequence[str]) -> int:
    """0 when the result of every fault in the log is right; else 1."""
    given = parse(arguments)
    os.environ.update(ENVIRONMENT)
    root = Path(__file__).resolve().parent.parent
    os.environ["PYTHONPATH"] = str(root)
    # No TemporaryDirectory: each forked process would remove it when it ends.
    folder = Path(tempfile.mkdtemp(prefix="sf", dir="/tmp"))
    try:
        for heavy in ("torch", "transformers.models.bert.modeling_bert", "transformers.models.auto.tokenization_auto"):
            importlib.import_module(heavy)
        ground = folder / "recipe.yaml"
        run_in_child(lambda: make_ground(folder))
        known = undisturbed(folder, ground, bool(given.through_ray))
        print(f"hardware: {hardware()}\nundisturbed: {known.cpu}", flush=True)
        todo = drawn(given.faults, given.through_ray, given.seed)
        done = {one["number"] for one in read(given.log)}
        left = [number for number in given.order(range(len(todo))) if number not in done]
        slots = []
        for slot in range(given.at_once):
            mine = [(number, todo[number]) for number in left[slot :: given.at_once]]
            slots.append(forked(partial(work, folder, ground, known, given, mine)))
        for pid in slots:
            os.waitpid(pid, 0)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return summary(read(given.log))


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks reliability", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--faults", type=int, default=100, help="how many in all (100)")
    parser.add_argument("--through-ray", type=int, default=40, help="how many of them through Ray (40)")
    parser.add_argument("--seed", type=int, default=0, help="of kinds and moments (0)")
    parser.add_argument("--at-once", type=int, default=2, help="faults that run side by side (2)")
    parser.add_argument("--ray-first", action="store_true", help="run those through Ray before the others")
    parser.add_argument(
        "--log", type=Path, default=Path("reliability.jsonl"), help="a line for each fault; earlier lines are kept"
    )
    given = parser.parse_args(arguments)
    given.order = lambda numbers: sorted(numbers, reverse=given.ray_first)
    return given


def drawn(faults: int, through_ray: int, seed: int) -> list[str]:
    """The kind of each fault: every kind equally often, in random order, those through Ray last."""
    inline = [*DIRECTORY, *BUCKET]
    chosen = [inline[n % len(inline)] for n in range(faults - through_ray)]
    random.Random(seed).shuffle(chosen)
    rays = [list(RAY)[n % len(RAY)] for n in range(through_ray)]
    random.Random(seed).shuffle(rays)
    return chosen + rays


def read(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text("utf-8").splitlines()] if log.exists() else []


def forked(do: Callable[[], object]) -> int:
    """Fork a process that calls ``do`` and ends; its id."""
    pid = os.fork()
    if not pid:
        code = 1
        try:
            do()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)
    return pid


def run_in_child(do: Callable[[], object]) -> None:
    """Call ``do`` in a forked process, which may have threads. Raises RuntimeError when it fails."""
    if os.waitstatus_to_exitcode(os.waitpid(forked(do), 0)[1]):
        raise RuntimeError("see above")


# --- the scene ------------------------------------------------------------------------------------


def make_ground(folder: Path) -> None:
    """A recipe over a tiny model and task."""
    from tests.faults.machines import write_recipe
    from tests.tiny import write_tiny_model, write_tiny_task

    write_tiny_model(folder / "model")
    write_tiny_task(folder / "data", {"train": ROWS, "validation": 64})
    write_recipe(folder, epochs=1)


def undisturbed(folder: Path, recipe: Path, through_ray: bool) -> Undisturbed:
    """Run once to learn which modules are imported, then once over each storage and through Ray. All must agree."""
    home = folder / "undisturbed"
    home.mkdir()
    listed = home / "modules"
    setup = start(
        ["run", str(recipe), "--inline", "--storage", str(home / "first")],
        home / "first.log",
        home,
        {LEARN: str(listed), "STILLHOUSE_CACHE": str(home / "cache")},
    )
    assert setup.wait(LONGEST) == 0, setup.output()
    import_all(listed)
    weights, nodes = result(str(home / "first"), home)
    used = {}
    with ExitStack() as stack:
        ways = {"directory": (str(home / "d"), ("--inline",), {})}
        url = stack.enter_context(s3_server())
        ways["bucket"] = (f"s3://{BUCKET_NAME}/undisturbed", ("--inline",), {"AWS_ENDPOINT_URL": url})
        if through_ray:
            ways["ray"] = (str(home / "r"), (), {})
        for way, (storage, options, own) in ways.items():
            arguments = ["run", str(recipe), "--storage", storage, *options]
            own = {**own, "STILLHOUSE_CACHE": str(home / f"cache-{way}")}
            driver = start(arguments, home / f"{way}.log", home, own)
            used[way] = cpu_to_the_end(driver)
            assert driver.wait() == 0, driver.output()
            os.environ.update(own)
            assert result(storage, home) == (weights, nodes), way
    return Undisturbed(weights, nodes, used)


def cpu_to_the_end(driver: Driver) -> float:
    """Wait for the driver's end; the processor seconds that it has used."""
    most = 0.0
    while driver.poll() is None:
        most = max(most, driver.cpu())
        time.sleep(0.05)
    return most


@contextmanager
def s3_server() -> Iterator[str]:
    """The URL of a server of moto, with one bucket."""
    from tests.buckets import s3_server as server

    with server() as url:
        make = "import s3fs, sys; s3fs.S3FileSystem().mkdir(sys.argv[1])"
        environment = {**os.environ, "AWS_ENDPOINT_URL": url}
        subprocess.run([sys.executable, "-c", make, BUCKET_NAME], check=True, env=environment)
        yield url


# --- a fault --------------------------------------------------------------------------------------


def work(
    folder: Path,
    recipe: Path,
    known: Undisturbed,
    given: argparse.Namespace,
    todo: Sequence[tuple[int, str]],
) -> None:
    """Run these faults one after the other, and log the results."""
    with ExitStack() as stack:
        if any(kind in BUCKET for _, kind in todo):
            server = stack.enter_context(s3_server())
            proxied = stack.enter_context(proxy(server, given.seed))
        else:
            proxied = ""
        for number, kind in todo:
            began = time.monotonic()
            entry = result_of_fault(
                folder, recipe, known, given.seed, number, kind, proxied, Path(f"{given.log}.wrong")
            )
            entry = {"number": number, "seed": given.seed, "kind": kind, **entry}
            entry["seconds"] = round(time.monotonic() - began, 1)
            with given.log.open("a", encoding="utf-8") as log:
                log.write(json.dumps(entry) + "\n")
            print(json.dumps(entry), flush=True)


def result_of_fault(
    folder: Path, recipe: Path, known: Undisturbed, seed: int, number: int, kind: str, proxied: str, kept: Path
) -> dict[str, Any]:
    """Cause a fault; its line for the log. One that comes after the run's end is tried again at another moment."""
    generator = random.Random(f"{seed} {number}")
    way = "ray" if kind in RAY else "bucket" if kind in BUCKET else "directory"
    for attempt in range(TRIES):
        home = folder / f"{number}-{attempt}"
        home.mkdir()
        with ExitStack() as stack:
            ground = stack.enter_context(disk(home / "disk")) if kind == "disk full" else home
            case = Case(
                kind=kind,
                random=generator,
                folder=home,
                recipe=recipe,
                url=f"s3://{BUCKET_NAME}/{home.name}" if way == "bucket" else str(ground / "runs"),
                options=() if way == "ray" else ("--inline",),
                environment={"AWS_ENDPOINT_URL": proxied} if way == "bucket" else {},
                total=known.cpu[way],
                share=generator.random(),
                s3=proxied,
            )
            entry = {**result_of_case(case, known), "tries": attempt + 1}
            if not entry["right"]:
                shutil.copytree(home, kept / home.name, dirs_exist_ok=True)
        shutil.rmtree(home, ignore_errors=True)
        if entry["at"] != AFTER or not entry["right"]:
            break
    return entry


def result_of_case(case: Case, known: Undisturbed) -> dict[str, Any]:
    """Cause the fault, run the command again, and check the result."""
    before_end: dict[str, Any] = {}

    def before() -> None:
        if not case.s3:
            before_end.update(finished(Path(case.url)))

    if "ray" not in case.kind and not case.url.startswith("s3:"):
        case.before = before
    wrong: list[str] = []
    try:
        KINDS[case.kind](case)
        if not case.notes.pop("right", True):
            wrong.append(f"the fault itself: {case.notes}")
        last = case.start(str(case.notes.get("machine", "a")))
        if last.wait(LONGEST):
            wrong.append(f"exit code {last.code}: {last.output()[-1500:]}")
    except Exception as error:
        wrong.append(f"{type(error).__name__}: {error}")
    finally:
        for driver in case.drivers:
            driver.end()
        if case.s3:
            tell(case.s3, "well")
    found = checked_in_child(case, before_end)
    wrong += found.get("wrong", [])
    if found.get("weights") != dict(known.weights):
        wrong.append(f"weights {found.get('weights')}")
    if found.get("nodes") != known.nodes:
        wrong.append(f"{found.get('nodes')} artifacts of {known.nodes}")
    built = Counter(
        line.split()[1] for one in case.drivers for line in one.output().splitlines() if line.startswith("done ")
    )
    wrong += [f"{name} was built {times} times" for name, times in built.items() if times > 1]
    wrong += ["a traceback" for one in case.drivers if "Traceback" in one.output()]
    return {
        "share": round(case.share, 3),
        "at": case.hit,
        "right": not wrong,
        "wrong": wrong,
        "corrupt": len(found.get("corrupt", ())),
        "artifacts": found.get("nodes", 0),
        "kept": found.get("kept", 0),
        "left": found.get("left", 0),
        "notes": case.notes,
    }


def finished(storage: Path) -> dict[str, Any]:
    """What a storage in a directory holds that must not be written again: path -> content of each record, and name ->
    inode and device of each finished shard. Also the number of checkpoints."""
    records = {str(path): path.read_text("utf-8") for path in storage.glob("[a-z]*/*/record.json")}
    shards = {}
    for path in storage.glob(".work/*/*/shard-*.parquet"):
        shards[path.name] = list(path.stat()[1:3])
    checkpoints = len(list(storage.glob(".work/*/*/scratch/checkpoint*")))
    return {"records": records, "shards": shards, "checkpoints": checkpoints}


def checked_in_child(case: Case, before_end: Mapping[str, Any]) -> dict[str, Any]:
    """The result of ``check``, called in a forked process, which may have threads."""
    answer = case.folder / "found.json"

    def do() -> None:
        os.environ.update({**case.environment, "STILLHOUSE_CACHE": str(case.folder / "cache-look")})
        answer.write_text(json.dumps(check(case.url, before_end)), "utf-8")

    try:
        run_in_child(do)
    except RuntimeError as error:
        return {"wrong": [f"it cannot be checked: {error}"]}
    return dict(json.loads(answer.read_text("utf-8")))


def check(url: str, before_end: Mapping[str, Any]) -> dict[str, Any]:
    """Verify every artifact of a storage; what it holds, and what is wrong with it."""
    from rich.console import Console

    from pipeline.artifacts.attempts import leased
    from pipeline.artifacts.record import parse_record, record_texts
    from pipeline.cli.verify import verify_artifact
    from pipeline.storage import open_storage

    storage = open_storage(url)
    records = [parse_record(text, name) for name, text in record_texts(storage).items()]
    wrong, corrupt, weights, kept = [], [], {}, 0
    for record in records:
        output = io.StringIO()
        if verify_artifact(record.key, storage, 0, False, Console(file=output, width=200)):
            corrupt.append(record.name)
            wrong.append(f"verify: {output.getvalue()[-800:]}")
        for file in record.files:
            if file.path.endswith("model.safetensors"):
                weights[record.name] = file.sha256
            path = storage.local / record.folder / file.path
            if file.path in before_end.get("shards", {}):
                if list(path.stat()[1:3]) == before_end["shards"][file.path]:
                    kept += 1
                else:
                    wrong.append(f"{file.path} was written again")
    left = storage.entries(".work")
    wrong += [f"still leased: {key}" for key in left if leased(storage, key, time.time())]
    for path, text in before_end.get("records", {}).items():
        if Path(path).read_text("utf-8") != text:
            wrong.append(f"built again: {path}")
    return {
        "nodes": len(records),
        "weights": weights,
        "wrong": wrong,
        "corrupt": corrupt,
        "kept": kept,
        "left": len(left),
    }


def result(url: str, folder: Path) -> tuple[dict[str, str], int]:
    """The weights and the number of artifacts of a run, which must be right."""
    case = Case("", random.Random(), folder, folder, url, (), {}, 0.0, 0.0)
    found = checked_in_child(case, {})
    assert not found["wrong"], found["wrong"]
    return found["weights"], found["nodes"]


# --- what it came to ------------------------------------------------------------------------------


def summary(lines: Sequence[Mapping[str, Any]]) -> int:
    kinds: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for one in lines:
        kinds[one["kind"]].append(one)
    for kind in KINDS:
        if kinds[kind]:
            right = sum(one["right"] for one in kinds[kind])
            print(
                f"{kind:24} {right:3} of {len(kinds[kind]):3} right, {sum(o['corrupt'] for o in kinds[kind])} corrupt"
            )
    right, corrupt = sum(one["right"] for one in lines), sum(one["corrupt"] for one in lines)
    checked = sum(one["artifacts"] for one in lines)
    late = sum(one["at"] == AFTER for one in lines)
    print(f"{len(lines) - late} faults, and {late} that came too late: {right} right results")
    print(f"{checked} artifacts verified, {corrupt} corrupt")
    return int(right < len(lines))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Drivers over several nodes, started by name as processes of their own: ``python nodes_work.py NAME ADDRESS FOLDER``.
The last line that each prints is what it found, as JSON."""

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from work import Heard

from cluster.resources import Resources, Worker
from cluster.session import Session

HALF = Resources(workers=4, gpus_per_worker=0.5)
THREE = Resources(workers=2, cpus_per_worker=3)
"""Two workers that no node of 4 CPUs holds both of."""


def place() -> dict[str, Any]:
    """Where this worker is: ``node`` tells nodes apart, though all have one address here."""
    import ray

    context = ray.get_runtime_context()
    return {"node": context.get_node_id(), "gpus": context.get_accelerator_ids()["GPU"], "pid": os.getpid()}


def open_place(config: None, worker: Worker) -> Callable[[object], dict[str, Any]]:
    def do(_: object) -> dict[str, Any]:
        worker.advance(1)
        return place()

    return do


def open_meeting(meeting: tuple[Path, str, int], worker: Worker) -> Callable[[object], dict[str, Any]]:
    """Items that end when they are under way at so many places, by the place's "node" or "pid"."""
    folder, by, count = meeting

    def do(_: object) -> dict[str, Any]:
        here = place()
        (folder / f"{by}-{here[by]}").touch()
        while len(list(folder.glob(f"{by}-*"))) < count:
            time.sleep(0.05)
        worker.advance(1)
        return here

    return do


def open_square(folder: Path | None, worker: Worker) -> Callable[[int], int]:
    """With a folder: items that say there who does them, and end when it is told that a node was killed."""

    def do(item: int) -> int:
        if folder is not None:
            (folder / f"item-{item}-{os.getpid()}").touch()
            while not (folder / "killed").exists():
                time.sleep(0.05)
        worker.advance(1)
        return item * item

    return do


def gathered(value: float, worker: Worker) -> list[Any]:
    """What each rank says: where it is, and the sum over ranks of value + rank."""
    import torch
    import torch.distributed as dist

    tensor = torch.tensor([value + worker.rank])
    dist.all_reduce(tensor)
    said: list[Any] = [None] * worker.world_size
    dist.all_gather_object(said, {**place(), "sum": float(tensor), "device": worker.device})
    return said


def counting(folder: Path, worker: Worker) -> tuple[float, int]:
    """A sum over 30 steps of both workers, with a checkpoint a step, and how many generations it took. The first one
    ends at the tenth step."""
    import torch
    import torch.distributed as dist

    lives, at = folder / "lives", folder / "checkpoint"
    if worker.rank == 0:
        lives.write_text(str(int(lives.read_text()) + 1 if lives.exists() else 1))
    step, total = json.loads(at.read_text()) if at.exists() else (0, 0.0)
    while step < 30:
        tensor = torch.tensor([float(step * (worker.rank + 1))])
        dist.all_reduce(tensor)
        step, total = step + 1, total + float(tensor)
        worker.advance(1)
        if worker.rank == 0:
            draft = folder / "checkpoint.tmp"
            draft.write_text(json.dumps((step, total)))
            draft.replace(at)
        while step == 10 and not (folder / "killed").exists():
            time.sleep(0.05)
    return total, int(lives.read_text())


# --- drivers --------------------------------------------------------------------------------------


def spread(address: str, folder: Path) -> dict[str, Any]:
    """What there is, where a map runs, how four workers of half a GPU sit, and where two large ones train."""
    session = Session.open(address, folder / "ray.log")
    capacity = session.capacity()
    met = session.on(Resources(workers=5), Heard()).map(open_meeting, (folder, "node", 2), range(10))
    nodes = {found["node"] for _, found in met}
    halves = dict(session.on(HALF, Heard()).map(open_meeting, (folder, "pid", 4), range(4)))
    disk = Resources(custom_per_worker=(("disk", 1.0),))
    ((_, on_disk),) = session.on(disk, Heard()).map(open_place, None, [0])
    trained = session.on(THREE, Heard()).train(gathered, 10.0)
    shared = session.on(Resources(workers=2, gpus_per_worker=0.5), Heard()).train(gathered, 0.0)
    session.close()
    return {
        "nodes": [(node.cpus, node.gpus) for node in capacity.nodes],
        "grows": capacity.growth is not None,
        "mapped": len(nodes),
        "halves": list(halves.values()),
        "disk": on_disk["node"],
        "trained": trained,
        "shared": shared,
    }


def side_by_side(address: str, folder: Path) -> dict[str, Any]:
    """Two trainings and a map at once, each of which wants most of the cluster."""
    session = Session.open(address, folder / "ray.log")
    found: dict[str, Any] = {}

    def train(name: str, value: float) -> None:
        found[name] = session.on(THREE, Heard()).train(gathered, value)[0]["sum"]

    def map_(name: str, count: int) -> None:
        found[name] = sum(dict(session.on(Resources(workers=6), Heard()).map(open_square, None, range(count))).values())

    works = [(train, "one", 1.0), (train, "two", 2.0), (map_, "three", 12)]
    threads = [threading.Thread(target=work, args=(name, value)) for work, name, value in works]  # type: ignore[misc]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    session.close()
    return found


def accident(address: str, folder: Path) -> dict[str, Any]:
    """A map and a training while a node is killed, which takes a worker of each with it."""
    session = Session.open(address, folder / "ray.log")
    found: dict[str, Any] = {}
    trains = Heard()

    def train() -> None:
        found["trained"] = session.on(THREE, trains).train(counting, folder)

    thread = threading.Thread(target=train)
    thread.start()
    while trains.done < 6:
        time.sleep(0.1)
    mapped = dict(session.on(Resources(workers=3), Heard()).map(open_square, folder, range(12)))
    thread.join()
    session.close()
    return {**found, "mapped": [mapped[index] for index in range(12)]}


def actors_elsewhere(address: str, folder: Path) -> dict[str, Any]:
    """How many of a dozen of the driver's own actors are on another node."""
    import ray

    from cluster.placement import on_driver_node
    from cluster.progress import ProgressBoard

    session = Session.open(address, folder / "ray.log")
    actor = ray.remote(ProgressBoard).options(num_cpus=0, scheduling_strategy=on_driver_node())
    boards: list[Any] = [actor.remote() for _ in range(12)]
    where = ray.get([board.__ray_call__.remote(lambda _: ray.get_runtime_context().get_node_id()) for board in boards])
    mine = ray.get_runtime_context().get_node_id()
    session.close()
    return {"elsewhere": sum(node != mine for node in where)}


def too_much(address: str, folder: Path) -> dict[str, Any]:
    """Wait for resources that the present nodes do not have."""
    session = Session.open(address, folder / "ray.log", pending=3.0)
    heard, said = Heard(), ""
    try:
        session.on(Resources(workers=2, gpus_per_worker=2.0), heard).train(gathered, 0.0)
    except TimeoutError as error:
        said = str(error)
    after = sorted(dict(session.on(Resources(), Heard()).map(open_square, None, range(3))).values())
    session.close()
    return {"said": said, "notes": heard.notes, "after": after}


if __name__ == "__main__":
    drivers = [spread, side_by_side, accident, actors_elsewhere, too_much]
    (driver,) = [one for one in drivers if one.__name__ == sys.argv[1]]
    print(json.dumps(driver(sys.argv[2], Path(sys.argv[3]))))

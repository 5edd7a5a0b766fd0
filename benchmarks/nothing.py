"""A stage that computes nothing: one item on one worker, and a file of a few bytes."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar

from cluster.resources import On, Worker
from stages.specs.base import Spec


class NothingSpec(Spec):
    """``number`` makes the specs of two nodes different."""

    stage: ClassVar[str] = "nothing"
    version: ClassVar[int] = 1
    number: int


def nothing(spec: NothingSpec, inputs: Mapping[str, Path], out: Path, on: On) -> dict[str, int]:  # noqa: ARG001
    ((_, number),) = on.map(open_echo, None, [spec.number])
    (out / "number.txt").write_text(f"{number}\n", "utf-8")
    return {"rows": 1}


def open_echo(config: None, worker: Worker) -> Callable[[int], int]:  # noqa: ARG001
    return lambda number: number

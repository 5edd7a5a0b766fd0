"""A student trained in a running Ray worker group / the same student trained in this process."""

import itertools
import shutil
import sys
import time
from collections.abc import Callable

from benchmarks.findings import Finding, Goal
from benchmarks.pairs import Cost, Turn, interleaved, ratios, summary
from benchmarks.scene import Scene, Watch
from cluster.inline import Inline
from cluster.resources import Place
from cluster.session import Session
from stages.specs.method import Method
from stages.training.distil import distil


def measure(scene: Scene) -> list[Finding]:
    """The epoch has a goal. The whole job, with loading, scoring and its transfer to the group, has none, nor has the
    time of the first job, which includes the group's start."""
    session = Session.open(None, scene.root / "ray.log")
    try:
        first = time.perf_counter()
        trained(scene, session, "first")
        first = time.perf_counter() - first
        epochs, jobs = both(scene, session)
    finally:
        session.close()
    return [
        Finding("epoch, Ray / inline", summary(ratios(epochs, "ray", "inline")), Goal(most=1.01)),
        Finding(
            "whole job, Ray / inline",
            summary(ratios(jobs, "ray", "inline")),
            note=f"the first, with the group's start: {first:.1f} s",
        ),
    ]


def both(scene: Scene, session: Session) -> tuple[list[Turn], list[Turn]]:
    """Turns with the seconds of the epoch, and turns with those of the whole job."""
    numbers = itertools.count()
    jobs: dict[str, list[Cost]] = {"ray": [], "inline": []}

    def on(name: str, place: Place) -> Callable[[], Cost]:
        def measured() -> Cost:
            start = time.perf_counter()
            epoch = trained(scene, place, f"{name}-{next(numbers)}")
            jobs[name].append(Cost(time.perf_counter() - start))
            return Cost(epoch)

        return measured

    epochs = interleaved({"ray": on("ray", session), "inline": on("inline", Inline())}, scene.scale.turns)
    counted = zip(jobs["ray"][1:], jobs["inline"][1:], strict=True)
    return epochs, [{"ray": ray, "inline": inline} for ray, inline in counted]


def trained(scene: Scene, place: Place, name: str) -> float:
    """Train a student for one epoch; the recorded seconds of that epoch."""
    out = scene.root / name
    out.mkdir()
    inputs = {"corpus": scene.corpus, "start": scene.teacher}
    facts = distil(scene.spec(Method()), inputs, out, place.on(scene.resources, Watch()))
    shutil.rmtree(out)
    seconds = facts["train_seconds"]
    assert isinstance(seconds, float)
    return seconds


if __name__ == "__main__":
    from benchmarks.__main__ import main

    sys.exit(main(["ray_vs_inline", *sys.argv[1:]]))

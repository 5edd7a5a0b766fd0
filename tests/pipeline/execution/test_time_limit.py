"""``limits.hours``: a run whose time is over stops as by Ctrl-C."""

import shutil
import signal
import threading
import time
from collections.abc import Mapping
from io import StringIO
from pathlib import Path

import pytest
from project import Project, graph_in, nodes_by_name, write_project
from rich.console import Console

from cluster.inline import Inline
from cluster.resources import On, Resources
from pipeline.artifacts.attempts import Attempt, claim
from pipeline.execution.build_node import RunContext
from pipeline.execution.runner import run
from pipeline.execution.time_limit import TimeLimitReached, interrupted_after
from pipeline.graph.nodes import Graph
from pipeline.monitor.run_view import RunView
from pipeline.plan.limits import time_warning
from pipeline.plan.planner import plan
from pipeline.recipe import load
from pipeline.storage.directory import Directory
from stages.specs.base import Spec
from stages.specs.corpus import CorpusSpec

SOON = "limits.hours=1.0e-7"
"""Less than a millisecond."""


# --- the interruption -----------------------------------------------------------------------------


def test_a_block_is_interrupted_while_it_waits() -> None:
    began = time.monotonic()
    with pytest.raises(TimeLimitReached), interrupted_after(0.05):
        time.sleep(20)
    assert time.monotonic() - began < 10


def test_a_block_that_ends_in_time_leaves_the_alarm_of_its_program_as_it_was() -> None:
    def own(_signum: int, _frame: object) -> None: ...

    before = signal.signal(signal.SIGALRM, own), signal.setitimer(signal.ITIMER_REAL, 300)
    try:
        with interrupted_after(100):
            pass
        assert signal.getsignal(signal.SIGALRM) is own
        assert 200 < signal.getitimer(signal.ITIMER_REAL)[0] <= 300
    finally:
        signal.signal(signal.SIGALRM, before[0])
        signal.setitimer(signal.ITIMER_REAL, *before[1])


# --- a run ----------------------------------------------------------------------------------------


class ThreadedPlace(Inline):
    """A place whose stages run in threads, and end when it is closed."""

    concurrent = True

    def __init__(self) -> None:
        self.closed = threading.Event()

    def close(self) -> None:
        self.closed.set()


class EndlessStage:
    """A stage that writes a file and then works until it is interrupted, or until the place is closed."""

    def __init__(self, place: Inline) -> None:
        self.place = place

    def __call__(self, spec: Spec, inputs: Mapping[str, Path], out: Path, on: On) -> dict[str, object]:
        (out / "shard.txt").write_text("finished", "utf-8")
        closed = getattr(self.place, "closed", threading.Event())
        if closed.wait(60):
            raise RuntimeError("the place is closed")
        return {"rows": 1}


@pytest.mark.parametrize("kind", [Inline, ThreadedPlace])
def test_at_the_deadline_the_running_stage_is_stopped_its_work_is_kept_and_its_lease_released(
    assets: Path, tmp_path: Path, kind: type[Inline]
) -> None:
    project, place = write_project(tmp_path, assets, method="no-kd"), kind()
    project.storage.mkdir()
    storage = Directory(project.storage)
    recipe = load(project.recipe, (), str(project.storage))
    node = nodes_by_name(graph_in(project.storage, recipe))["corpus@tiny"]
    found = plan(Graph((node,)), storage, recipe.name)
    view = RunView(Console(file=StringIO(), width=200), project.storage / ".logs", [node])
    context = RunContext(
        storage,
        recipe.name,
        place,
        lambda _: Resources(),
        view,
        deadline=time.time() + 0.5,
        stages={CorpusSpec: EndlessStage(place)},  # type: ignore[dict-item]
    )
    began = time.monotonic()
    with pytest.raises(TimeLimitReached):
        run(found, context)
    assert time.monotonic() - began < 30
    next_attempt = claim(storage, node.spec.stage, node.key, {})
    assert isinstance(next_attempt, Attempt), "the lease is released"
    assert (next_attempt.out / "shard.txt").read_text("utf-8") == "finished"


@pytest.fixture
def one_left(built: Project) -> Project:
    """A project that was run, without one of its students."""
    shutil.rmtree(built.artifact("distil/no-kd/two/0@tiny").parent)
    return built


def test_a_run_whose_time_is_over_exits_with_1_and_the_next_one_goes_on(one_left: Project) -> None:
    result = one_left("run", "--inline", "--set", SOON)
    assert result.code == 1
    assert result.err.splitlines() == [
        "stillhouse: limits.hours: 1e-07, and that time is over: 1 of 1 stages are left; finished work is kept, and "
        "the same command goes on from there"
    ]
    assert "no-kd" in result.out, "the results so far are printed"
    again = one_left("run", "--inline", "--set", "limits.hours=1")
    assert (again.code, again.err) == (0, "")
    assert {row["status"] for row in one_left.rows()} == {"done"}


def test_a_plan_warns_of_a_run_that_takes_longer_than_its_limit(one_left: Project) -> None:
    result = one_left("plan", "--set", SOON)
    assert result.code == 0
    (warning,) = result.err.splitlines()
    assert warning.startswith("stillhouse: warning: limits.hours: 1e-07, but the run takes ~")
    assert one_left("plan", "--set", "limits.hours=1").err == ""


@pytest.mark.parametrize(("seconds", "hours"), [(None, 1.0), (7200.0, None), (3600.0, 1.0)])
def test_a_run_of_unknown_length_or_within_its_limit_is_not_warned_of(
    seconds: float | None, hours: float | None
) -> None:
    assert time_warning(seconds, hours) == ""

"""Which nodes may start, told without a place to run."""

from pathlib import Path

import pytest

from cluster.amount import Amount, Demand
from cluster.resources import Resources
from pipeline.execution.scheduler import Scheduler
from pipeline.graph.nodes import Edge, ExternalInput, Node, Quantity
from pipeline.plan.planner import Step
from stages.specs.evaluation import EvaluateSpec

SMALL, LARGE = Resources(), Resources(cpus_per_worker=4)


def step(role: str, name: str, *sources: Step) -> Step:
    own = ExternalInput(name, Path(name), name)
    inputs = {f"input{at}": Edge(source.node) for at, source in enumerate(sources)}
    node = Node(name, role, "tiny", EvaluateSpec(), {"own": own, **inputs})
    return Step(node, "build", "never built", Quantity.exact(1), Quantity.exact(1))


def resources(node: Node) -> Resources:
    return LARGE if node.role == "teach" else SMALL


def everything(_: Resources) -> bool:
    return True


def offered(ready: Scheduler) -> list[str]:
    return [found.node.name for found, _ in ready.offers(everything)]


CORPUS = step("corpus", "corpus")
STORE = step("teach", "store", CORPUS)
ONE, TWO = step("distil", "one", STORE), step("distil", "two", STORE, CORPUS)
SCORE = step("evaluate", "score", ONE)
STEPS = (CORPUS, STORE, ONE, TWO, SCORE)


@pytest.fixture
def ready() -> Scheduler:
    return Scheduler(STEPS, {}, resources)


def test_a_node_is_offered_once_all_its_inputs_are_there(ready: Scheduler) -> None:
    assert offered(ready) == ["corpus"]
    assert offered(ready) == []
    ready.came(CORPUS.node.key)
    assert offered(ready) == ["store"]
    ready.came(STORE.node.key)
    assert offered(ready) == ["one", "two"]
    ready.came(ONE.node.key)
    assert offered(ready) == ["score"]
    assert not ready


def test_what_is_there_from_the_start_is_not_waited_for() -> None:
    assert offered(Scheduler((ONE, TWO), {CORPUS.node.key, STORE.node.key}, resources)) == ["one", "two"]


def test_what_comes_while_nodes_are_offered_is_offered_too(ready: Scheduler) -> None:
    names = []
    for found, _ in ready.offers(everything):
        names.append(found.node.name)
        ready.came(found.node.key)
    assert names == ["corpus", "store", "one", "two", "score"]


def test_stages_go_before_tasks_and_a_shape_that_does_not_fit_is_asked_of_once() -> None:
    stores = [step("teach", f"store{number}") for number in range(3)]
    corpora = [step("corpus", f"corpus{number}") for number in range(2)]
    request: list[Resources] = []

    def fits(wanted: Resources) -> bool:
        request.append(wanted)
        return wanted == SMALL

    ready = Scheduler((stores[0], corpora[0], stores[1], corpora[1], stores[2]), {}, resources)
    assert [found.node.name for found, _ in ready.offers(fits)] == ["corpus0", "corpus1"]
    assert request.count(LARGE) == 1
    assert ready.demands(2) == [Demand(Amount(4.0), 2)]
    assert offered(ready) == ["store0", "store1", "store2"]


def test_what_somebody_else_is_at_is_offered_again_the_next_time_alone(ready: Scheduler) -> None:
    names = []
    for found, _ in ready.offers(everything):
        names.append(found.node.name)
        ready.aside(found)
    assert names == ["corpus"]
    assert offered(ready) == ["corpus"]


def test_what_was_taken_away_is_offered_once_more(ready: Scheduler) -> None:
    ((corpus, _),) = ready.offers(everything)
    ready.again(corpus)
    assert offered(ready) == ["corpus"]


def test_all_that_needs_what_will_not_come_is_given_up_and_nothing_else(ready: Scheduler) -> None:
    offered(ready)
    ready.came(CORPUS.node.key)
    offered(ready)
    assert [found.node.name for found in ready.given_up(STORE.node.key)] == ["one", "two", "score"]
    assert not ready

"""Which nodes may start, without anything to run them."""

from pathlib import Path

import pytest

from cluster.amount import Amount, Demand
from cluster.resources import Resources
from pipeline.execution.scheduler import Scheduler, StepResources
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


def everything(_step: Step, _shape: StepResources) -> bool:
    return True


def offered(scheduler: Scheduler) -> list[str]:
    return [found.node.name for found, _ in scheduler.offers(everything)]


CORPUS = step("corpus", "corpus")
STORE = step("teach", "store", CORPUS)
ONE, TWO = step("distil", "one", STORE), step("distil", "two", STORE, CORPUS)
SCORE = step("evaluate", "score", ONE)
STEPS = (CORPUS, STORE, ONE, TWO, SCORE)


@pytest.fixture
def scheduler() -> Scheduler:
    return Scheduler(STEPS, {}, resources)


def test_a_node_is_offered_once_all_its_inputs_are_built(scheduler: Scheduler) -> None:
    assert offered(scheduler) == ["corpus"]
    assert offered(scheduler) == []
    scheduler.add_artifact(CORPUS.node.key)
    assert offered(scheduler) == ["store"]
    scheduler.add_artifact(STORE.node.key)
    assert offered(scheduler) == ["one", "two"]
    scheduler.add_artifact(ONE.node.key)
    assert offered(scheduler) == ["score"]
    assert not scheduler


def test_existing_artifacts_are_not_waited_for() -> None:
    assert offered(Scheduler((ONE, TWO), {CORPUS.node.key, STORE.node.key}, resources)) == ["one", "two"]


def test_nodes_that_become_ready_during_an_offer_are_offered_too(scheduler: Scheduler) -> None:
    names = []
    for found, _ in scheduler.offers(everything):
        names.append(found.node.name)
        scheduler.add_artifact(found.node.key)
    assert names == ["corpus", "store", "one", "score", "two"]


def test_earlier_stages_are_offered_first_and_resources_that_do_not_fit_are_tried_once() -> None:
    stores = [step("teach", f"store{number}") for number in range(3)]
    corpora = [step("corpus", f"corpus{number}") for number in range(2)]
    request: list[Resources] = []

    def fits(_: Step, shape: StepResources) -> bool:
        request.append(shape.full)
        return shape.full == SMALL

    scheduler = Scheduler((stores[0], corpora[0], stores[1], corpora[1], stores[2]), {}, resources)
    assert [found.node.name for found, _ in scheduler.offers(fits)] == ["corpus0", "corpus1"]
    assert request.count(LARGE) == 1
    assert scheduler.demands(2) == [Demand(Amount(4.0), 2)]
    assert offered(scheduler) == ["store0", "store1", "store2"]


def test_a_postponed_node_is_offered_again_once_it_is_retried(scheduler: Scheduler) -> None:
    names = []
    for found, _ in scheduler.offers(everything):
        names.append(found.node.name)
        scheduler.postpone(found)
    assert names == ["corpus"]
    assert offered(scheduler) == [] and scheduler, "it is still to be built"
    assert scheduler.demands(9) == [], "no machine is requested for what another run builds"
    assert scheduler.postponed == [CORPUS]
    scheduler.retry(CORPUS)
    assert scheduler.postponed == []
    assert offered(scheduler) == ["corpus"]


def test_a_node_that_is_postponed_or_dropped_while_it_is_offered_does_not_keep_others_from_being_offered() -> None:
    one, two, three = (step("corpus", name) for name in ("one", "two", "three"))
    scheduler = Scheduler((one, two, three), {}, resources)

    def fits(found: Step, _: StepResources) -> bool:
        if found is one:
            scheduler.postpone(found)
        elif found is two:
            scheduler.drop(found)
        return found is three

    assert [found.node.name for found, _ in scheduler.offers(fits)] == ["three"]
    assert (len(scheduler), scheduler.postponed) == (1, [one])


def test_a_retried_node_is_offered_once_more(scheduler: Scheduler) -> None:
    ((corpus, _),) = scheduler.offers(everything)
    scheduler.retry(corpus)
    assert offered(scheduler) == ["corpus"]


def test_all_dependants_of_a_failed_node_are_dropped_and_nothing_else(scheduler: Scheduler) -> None:
    offered(scheduler)
    scheduler.add_artifact(CORPUS.node.key)
    offered(scheduler)
    assert [found.node.name for found in scheduler.drop_dependants(STORE.node.key)] == ["one", "two", "score"]
    assert not scheduler

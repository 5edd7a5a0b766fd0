"""What fits on nodes. Workers are whole, and so are GPUs."""

import random

import pytest

from cluster.amount import Amount, Demand, left_over, packs, room
from cluster.resources import Capacity, Growth

THIRD = 0.3333


@pytest.mark.parametrize(
    ("node", "each", "count"),
    [
        (Amount(8), Amount(3), 2),
        (Amount(8, 2), Amount(1, 0.5), 4),
        (Amount(8, 3), Amount(1, 0.75), 3),
        (Amount(8, 1), Amount(1, THIRD), 3),
        (Amount(8, 1), Amount(1, 0.34), 2),
        (Amount(8, 0.5), Amount(1, 0.5), 1),
        (Amount(8, 0.5), Amount(1, 1), 0),
        (Amount(8, 5), Amount(1, 2), 2),
        (Amount(8, 0, 10e9), Amount(1, 0, 4e9), 2),
        (Amount(8, custom=(("disk", 3.0),)), Amount(1, custom=(("disk", 1.5),)), 2),
        (Amount(8), Amount(1, custom=(("disk", 1.0),)), 0),
        (Amount(0, 4), Amount(1, 1), 0),
    ],
)
def test_a_node_holds_so_many_workers(node: Amount, each: Amount, count: int) -> None:
    assert room(node, each) == count
    assert packs([node], [Demand(each, count)])
    assert not packs([node], [Demand(each, count + 1)])


def test_workers_fit_by_node_and_not_by_sum() -> None:
    small = Capacity.fixed(Amount(2), Amount(2), Amount(2))
    assert small.room(Amount(4)) == 0
    assert Capacity.fixed(Amount(3), Amount(3)).room(Amount(2)) == 2
    assert Capacity.fixed(Amount(3), Amount(1)).room(Amount(2)) == 1


def test_a_mixture_fits_where_each_finds_a_node() -> None:
    nodes = [Amount(4, 1), Amount(4)]
    gpu, cpus = Demand(Amount(4, 1)), Demand(Amount(4))
    assert packs(nodes, [cpus, gpu]), "what needs no GPU leaves the node that has one"
    assert not packs(nodes, [gpu, gpu])
    assert packs([Amount(4, 2)], [Demand(Amount(1, 0.5), 2), Demand(Amount(1, 1))]), "two share one GPU"
    assert not packs([Amount(4, 2)], [Demand(Amount(1, 0.75), 2), Demand(Amount(1, 0.5))])


def test_trainings_that_share_workers_take_a_worker_for_each_number_of_slots() -> None:
    one, whole = Demand(Amount(4, 1), 1, 16), Demand(Amount(4, 1))
    assert packs([Amount(8, 1)], [one] * 16)
    assert not packs([Amount(8, 1)], [one] * 17)
    assert packs([Amount(8, 2)], [*[one] * 16, whole])
    assert not packs([Amount(8, 2)], [*[one] * 17, whole])
    assert left_over([Amount(8, 1)], [Demand(Amount(4, 1), 40, 16)]) == [Demand(Amount(4, 1), 2)]


def test_trainings_of_other_resources_or_slots_share_no_worker() -> None:
    node = [Amount(8, 1)]
    assert packs(node, [Demand(Amount(2, 0.5), 1, 16), Demand(Amount(1, 0.5), 1, 16)])
    assert not packs(node, [Demand(Amount(2, 1), 1, 16), Demand(Amount(1, 1), 1, 16)])
    assert not packs(node, [Demand(Amount(2, 1), 1, 16), Demand(Amount(2, 1), 1, 8)])


def test_a_demand_is_written_as_its_workers() -> None:
    assert str(Demand(Amount(4, 0.5), 16, 16)) == "1 worker of 4 CPUs, 0.5 GPUs"
    assert str(Demand(Amount(4, 0.5), 17, 16)) == "2 workers of 4 CPUs, 0.5 GPUs each"


def test_what_packs_is_never_more_than_the_sum() -> None:
    draw = random.Random(3)
    for _ in range(300):
        nodes = [Amount(draw.randint(0, 8), draw.randint(0, 4)) for _ in range(draw.randint(1, 4))]
        demands = [Demand(Amount(draw.randint(1, 4), draw.choice([0, 0.5, 1])), draw.randint(1, 3)) for _ in range(3)]
        if packs(nodes, demands):
            assert sum(d.each.cpus * d.count for d in demands) <= sum(node.cpus for node in nodes)
            assert sum(d.each.gpus * d.count for d in demands) <= sum(node.gpus for node in nodes)


def test_growth_is_bounded_by_kind_and_in_all() -> None:
    growth = Growth(((1, Amount(2)), (10, Amount(8, 1)), (10, Amount(8, 4))), nodes=3)
    assert growth.room(Amount(1, 1)) == 12
    assert Growth(growth.kinds).room(Amount(1, 1)) == 50
    assert growth.room(Amount(16)) == 0


def test_an_amount_as_text() -> None:
    assert str(Amount(1, 0.5, 8e9, (("disk", 2.0),))) == "1 CPU, 0.5 GPUs, 8 GB, 2 disk"
    assert str(Demand(Amount(2), 3)) == "3 workers of 2 CPUs each"

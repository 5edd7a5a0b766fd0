import pytest
from work import Heard

from cluster.amount import Amount, Demand
from cluster.ledger import Ledger
from cluster.resources import Capacity
from cluster.waiting import RoomWait


class Watch:
    """A clock that the test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def waiting(demand: Demand, capacity: Capacity) -> tuple[RoomWait, Heard, Watch]:
    heard, watch = Heard(), Watch()
    return RoomWait(Ledger(lambda: capacity, watch), heard, demand, 60.0, watch), heard, watch


FOUR = Demand(Amount(1, 1), 4)
TWO_GPUS = Capacity((Amount(8, 2),), None)


def test_a_wait_for_more_nodes_is_noted_when_it_begins_and_ends_with_the_numbers() -> None:
    room_wait, heard, watch = waiting(FOUR, TWO_GPUS)
    room_wait.tick()
    assert heard.notes == [
        "waiting 60 s (limits.pending) for 4 workers of 1 CPU, 1 GPU each: the cluster has 1 node of 8 CPUs, 2 GPUs now"
    ]
    watch.now = 59.0
    room_wait.tick()
    watch.now = 60.0
    with pytest.raises(TimeoutError) as caught:
        room_wait.tick()
    assert str(caught.value) == (
        "resources: 4 workers of 1 CPU, 1 GPU each did not come within 60 s (limits.pending), the cluster has 1 node "
        "of 8 CPUs, 2 GPUs; ask for less, or add nodes"
    )


def test_a_wait_for_resources_in_use_is_logged_at_times_and_has_no_end() -> None:
    room_wait, heard, watch = waiting(Demand(Amount(1, 1), 2), TWO_GPUS)
    for second in range(1000):
        watch.now = float(second)
        room_wait.tick()
    assert heard.notes == []
    assert [line.split("since ")[1].split(" s:")[0] for line in heard.lines] == [
        "15",
        "30",
        "60",
        "120",
        "240",
        "480",
        "960",
    ]


def test_a_map_with_running_workers_goes_on_without_the_others() -> None:
    room_wait, _, watch = waiting(FOUR, TWO_GPUS)
    watch.now = 1e6
    room_wait.tick(alone=False)

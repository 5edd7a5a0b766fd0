import random
import threading
import time
from itertools import count

import pytest

from cluster.amount import Amount, Demand
from cluster.ledger import Ledger, Tenant
from cluster.resources import Capacity, Closed, Growth

CPU = Demand(Amount(cpus=1.0))


class Room:
    """A tenant's handle that remembers that it was closed."""

    def __init__(self) -> None:
        self.closed = False

    def close(self) -> None:
        self.closed = True


def ledger(*cpus: float) -> Ledger:
    """A ledger over one node for each number of CPUs."""
    return over(Capacity.fixed(*(Amount(each) for each in cpus)))


def over(capacity: Capacity) -> Ledger:
    clock = count()
    return Ledger(lambda: capacity, lambda: float(next(clock)))


def claim(book: Ledger, shape: str, demand: Demand = CPU, number: int = 1) -> list[Tenant]:
    tenants = book.claim([shape], demand, number, lambda _: False)
    for tenant in tenants:
        tenant.handle = tenant.handle or Room()
    return tenants


def test_an_idle_tenant_is_taken_again_by_a_claim_of_its_shape() -> None:
    book = ledger(2)
    (first,) = claim(book, "seat")
    book.check_in(first)
    assert claim(book, "seat") == [first]


def test_a_claim_prefers_the_tenant_it_likes() -> None:
    book = ledger(2)
    one, two = claim(book, "seat", number=2)
    book.check_in(one)
    book.check_in(two)
    assert book.claim(["seat"], CPU, 1, lambda tenant: tenant is two) == [two]


def test_a_claim_takes_any_of_its_shapes_and_starts_the_first() -> None:
    book = ledger(2)
    (group,) = claim(book, "group")
    book.check_in(group)
    taken = book.claim(["seat", "group"], CPU, 2, lambda _: False)
    assert [tenant.shape for tenant in taken] == ["group", "seat"]


def test_idle_tenants_end_oldest_first_and_no_more_than_needed() -> None:
    book = ledger(3)
    tenants = claim(book, "seat", number=3)
    handles = [tenant.handle for tenant in tenants]
    for tenant in tenants:
        book.check_in(tenant)
    claim(book, "group", Demand(CPU.each, 2))
    assert [handle.closed for handle in handles if isinstance(handle, Room)] == [True, True, False]


def test_a_claim_waits_for_busy_tenants_and_is_granted_when_they_are_done() -> None:
    book = ledger(1)
    (busy,) = claim(book, "seat")
    granted = threading.Event()
    thread = threading.Thread(target=lambda: (claim(book, "group"), granted.set()))
    thread.start()
    assert not granted.wait(0.1)
    book.check_in(busy)
    assert granted.wait(5)
    thread.join()


def shared(book: Ledger, slots: int = 2) -> Tenant:
    """A slot of a tenant whose ``slots`` claims may use at the same time."""
    (tenant,) = claim(book, "shared", Demand(CPU.each, 1, slots))
    return tenant


def test_a_tenant_with_several_slots_serves_as_many_claims_before_another_is_started() -> None:
    book = ledger(2)
    one, two, three = shared(book), shared(book), shared(book)
    assert one is two
    assert three is not one
    assert book.claim(["shared"], Demand(CPU.each, 1, 2), 1, lambda _: False) == [three]
    assert book.claim(["shared"], Demand(CPU.each, 1, 2), 1, lambda _: False, None) == [], "all four slots are in use"


def test_the_tenant_with_the_most_slots_in_use_is_filled_first() -> None:
    book = ledger(2)
    first, *_ = [shared(book, 3) for _ in range(3)]
    second, _ = [shared(book, 3) for _ in range(2)]
    assert second is not first
    for _ in range(2):
        book.check_in(first)
    assert (first.in_use, second.in_use) == (1, 2)
    assert shared(book, 3) is second
    assert shared(book, 3) is first


def test_a_tenant_is_idle_and_makes_room_when_none_of_its_slots_is_in_use() -> None:
    book = ledger(1)
    tenant = shared(book)
    assert shared(book) is tenant
    book.check_in(tenant)
    assert book.claim(["other"], CPU, 1, lambda _: False, None) == []
    book.check_in(tenant)
    assert len(claim(book, "other")) == 1
    assert tenant.handle is None


def test_a_tenant_that_one_claim_discards_is_claimed_no_more_and_ends_with_the_last_claim() -> None:
    book = ledger(2)
    tenant = shared(book)
    assert shared(book) is tenant
    handle = tenant.handle
    assert isinstance(handle, Room)
    book.discard(tenant)
    assert not handle.closed
    other = shared(book)
    assert other is not tenant
    book.check_in(tenant)
    assert handle.closed
    assert book.wanted() == [CPU]


def test_claims_that_wait_for_slots_want_no_more_workers_than_they_share() -> None:
    book = ledger(1)
    claim(book, "other")
    found: list[list[Demand]] = []

    def look() -> None:
        found.append(book.wanted())
        raise TimeoutError

    with pytest.raises(TimeoutError):
        book.claim(["shared"], Demand(CPU.each, 1, 16), 1, lambda _: False, look)
    assert found == [[CPU, Demand(CPU.each, 1, 16)]]


def test_a_claim_beyond_the_cluster_is_granted_when_no_tenant_is_in_use() -> None:
    assert len(claim(ledger(1), "group", Demand(Amount(cpus=64.0)))) == 1


def test_a_claim_that_fits_the_sum_and_no_node_waits_until_a_node_is_empty() -> None:
    book = ledger(2, 2)
    one, two, three = claim(book, "seat", number=3)
    waited: list[int] = []
    whole = Demand(Amount(cpus=2.0))

    def wait() -> None:
        waited.append(1)
        for tenant in (one, two):
            book.check_in(tenant)

    book.claim(["group"], whole, 1, lambda _: False, wait)
    assert waited
    assert [tenant.handle is None for tenant in (one, two, three)] == [True, False, False]


def test_what_waits_for_room_hears_of_each_second_and_may_give_up() -> None:
    book = ledger(1)
    claim(book, "seat")

    def give_up() -> None:
        raise TimeoutError("no room")

    with pytest.raises(TimeoutError, match="no room"):
        book.claim(["group"], CPU, 1, lambda _: False, give_up)
    assert book.wanted() == [CPU]


def test_claims_go_as_far_as_the_cluster_may_grow() -> None:
    book = over(Capacity((Amount(1.0),), Growth(((1, Amount(1.0)), (3, Amount(2.0, 1.0))))))
    for _ in range(3):
        claim(book, "gpu", Demand(Amount(1.0, 1.0)))
    assert len(book.wanted()) == 3


def test_tenants_idle_for_too_long_end() -> None:
    book = ledger(2)  # its clock goes one second a reading
    (tenant,) = claim(book, "seat")
    handle = tenant.handle
    book.check_in(tenant)
    book.expire(100.0)
    assert isinstance(handle, Room)
    assert not handle.closed
    book.expire(2.0)
    assert handle.closed


def test_idle_tenants_make_room_where_a_node_was_lost_and_no_more_than_are_too_many() -> None:
    nodes = [Amount(1.0)] * 4
    book = Ledger(lambda: Capacity.fixed(*nodes), lambda: 0.0)
    busy, *idle = claim(book, "group", number=4)
    handles = [tenant.handle for tenant in idle]
    for tenant in idle:
        book.check_in(tenant)
    book.expire(60.0)
    assert not any(handle.closed for handle in handles if isinstance(handle, Room))
    del nodes[2:]
    book.expire(60.0)
    assert [handle.closed for handle in handles if isinstance(handle, Room)] == [True, True, False]
    assert isinstance(busy.handle, Room) and not busy.handle.closed


def test_a_spare_holds_nothing_until_a_claim_that_would_start_a_process_takes_it() -> None:
    book, spare = ledger(2), Room()
    book.add_spare("seat", spare)
    assert book.wanted() == []
    (group,) = claim(book, "group", Demand(Amount(cpus=2.0)))
    assert group.handle is not spare
    book.check_in(group)
    (idle,) = claim(book, "group", Demand(Amount(cpus=2.0)))
    assert idle is group, "an idle tenant is taken before anything is started"
    book.discard(idle)
    first, second = claim(book, "seat", number=2)
    assert [first.handle is spare, second.handle is spare] == [True, False]
    assert not spare.closed


def test_spares_end_on_request_and_with_the_ledger_and_not_with_age() -> None:
    book, spares = ledger(2), [Room(), Room(), Room()]
    book.add_spare("seat", spares[0])
    book.expire(0.0)
    assert not spares[0].closed
    book.end_spares()
    assert spares[0].closed
    book.add_spare("seat", spares[1])
    assert book.close() == [spares[1]]
    with pytest.raises(Closed):
        book.add_spare("seat", spares[2])
    assert spares[2].closed


def test_closing_hands_out_all_handles_and_refuses_claims() -> None:
    book = ledger(1)
    (busy,) = claim(book, "seat")
    handle = busy.handle
    refused: list[Exception] = []

    def wait() -> None:
        try:
            claim(book, "group")
        except Closed as error:
            refused.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.05)
    assert book.close() == [handle]
    thread.join(5)
    assert len(refused) == 1
    with pytest.raises(Closed):
        claim(book, "seat")


def test_claims_of_many_threads_never_exceed_the_cluster_and_all_end() -> None:
    book = ledger(4)
    held, most, lock = 0, 0, threading.Lock()

    def work(seed: int) -> None:
        nonlocal held, most
        draw = random.Random(seed)
        for _ in range(60):
            number, shape = draw.randint(1, 4), draw.choice(["seat", "group", "other"])
            tenants = claim(book, shape, CPU, number)
            with lock:
                held += number
                most = max(most, held)
            time.sleep(draw.random() * 1e-4)
            with lock:
                held -= number
            for tenant in tenants:
                book.check_in(tenant)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert most <= 4

"""Processes that are started before their work. What processes do with work: test_item_map.py, test_train_alone.py."""

from ray import cloudpickle
from work import Heard, open_pid, open_place, open_sleeper, squares, surroundings

from cluster.resources import Resources
from cluster.session import Session
from cluster.stage_process import ItemRunner, pickled

TWO_CPUS = Resources(cpus_per_worker=2)
NO_MODULE = "a_module_that_is_not_there"


def test_a_prepared_process_gets_the_first_training_with_its_resources_and_has_the_modules(session: Session) -> None:
    session.release()
    session.prepare(TWO_CPUS, ["wave", NO_MODULE, "colorsys"])
    first = session.on(TWO_CPUS, Heard()).train(surroundings, ("wave", "colorsys", "aifc"))
    assert first["loaded"] == ["wave", "colorsys"]
    assert (first["threads"], first["OMP_NUM_THREADS"]) == (2, "2")
    assert session.on(TWO_CPUS, Heard()).train(surroundings, ())["pid"] == first["pid"]


def test_a_prepared_process_leaves_all_cpus_to_the_work_before_it(session: Session) -> None:
    session.release()
    every = Resources(cpus_per_worker=int(session.capacity().cpus))
    session.prepare(every, ["wave"])
    beside = Resources(workers=every.cpus_per_worker, cpus_per_worker=1)
    assert len(list(session.on(beside, Heard()).map(open_sleeper, 0.1, range(4)))) == 4
    assert session.on(every, Heard()).train(surroundings, ("wave",))["loaded"] == ["wave"]


def test_a_prepared_process_serves_a_map_as_well(session: Session) -> None:
    session.release()
    session.prepare(TWO_CPUS, ["wave"])
    ((_, place),) = session.on(TWO_CPUS, Heard()).map(open_place, None, [0])
    assert place == (1, 2, "cpu", "2")


def test_a_training_outlives_the_death_of_the_process_that_was_prepared_for_it(session: Session) -> None:
    session.release()
    session.prepare(TWO_CPUS, ["deadly_import"])
    heard = Heard()
    assert session.on(TWO_CPUS, heard).train(squares, 3) == [0, 1, 4]
    assert heard.done == 3


def test_work_by_several_workers_and_with_counted_resources_prepares_nothing(session: Session) -> None:
    session.release()
    counted = Resources(gpus_per_worker=1.0), Resources(memory_per_worker=1_000_000)
    for wanted in (*counted, Resources(workers=2), Resources(trainings_per_worker=2)):
        session.prepare(wanted, ["deadly_import"])
        ((_, place),) = session.on(Resources(), Heard()).map(open_place, None, [0])
        assert place == (1, 1, "cpu", "1")


def test_the_function_of_a_map_stays_open_until_another_is_opened() -> None:
    runner, worker = ItemRunner(), Heard()
    one, two = (pickled(open_pid, config, None) for config in ("one", "two"))

    def nth(key: bytes, opening: bytes) -> int:
        found: tuple[int, int] = runner.run(worker, key, opening, cloudpickle.dumps(0))  # type: ignore[arg-type]
        return found[1]

    assert [nth(b"1", one), nth(b"1", one), nth(b"2", two), nth(b"1", one)] == [0, 1, 0, 0]

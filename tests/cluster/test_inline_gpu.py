import sys
import threading

import pytest
from work import Heard, open_pid, whereabouts

from cluster.inline_gpu import InlineGpu
from cluster.resources import Closed, Resources, Worker


def test_a_training_that_takes_a_part_of_the_gpu_runs_on_it_and_any_other_on_the_cpu() -> None:
    place = InlineGpu("cuda:3")
    on_gpu = place.on(Resources(gpus_per_worker=0.25), Heard()).train(whereabouts, None)
    on_cpu = place.on(Resources(), Heard()).train(whereabouts, None)
    assert (on_gpu["rank"], on_gpu["world"], on_gpu["device"], on_cpu["device"]) == (0, 1, "cuda:3", "cpu")


def test_it_holds_one_gpu_for_as_many_stages_as_share_it() -> None:
    capacity = InlineGpu("cuda:0").capacity()
    assert (capacity.gpus, capacity.machines) == (1, 1)
    quarter = Resources(cpus_per_worker=0, gpus_per_worker=0.25).demand
    assert capacity.packs([quarter] * 4) and not capacity.packs([quarter] * 5)


def test_stages_that_run_end_when_the_place_is_closed() -> None:
    place, began, closed = InlineGpu("cuda:0"), threading.Event(), threading.Event()

    def step(_: None, worker: Worker) -> str:
        worker.advance(1)
        began.set()
        assert closed.wait(30)
        worker.advance(1)
        return "went on"

    ended: list[object] = []

    def run() -> None:
        try:
            ended.append(place.on(Resources(), Heard()).train(step, None))
        except Closed as error:
            ended.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    assert began.wait(30)
    place.close()
    closed.set()
    thread.join(30)
    (result,) = ended
    assert isinstance(result, Closed)


def test_a_map_does_no_further_item_and_no_stage_starts_once_the_place_is_closed() -> None:
    place = InlineGpu()
    results = place.on(Resources(), Heard()).map(open_pid, None, ["a", "b", "c"])
    assert next(results)[0] == 0
    place.close()
    with pytest.raises(Closed):
        next(results)
    with pytest.raises(Closed):
        place.on(Resources(), Heard()).train(whereabouts, None)


def test_modules_are_loaded_here_before_stages_would_load_them_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    InlineGpu("cuda:0").prepare(Resources(), ["no_such_module", "colorsys"])
    assert "colorsys" in sys.modules

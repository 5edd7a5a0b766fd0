import subprocess
import sys
from pathlib import Path

import pytest
from work import Broken, Heard, broken_loop, open_pid, open_scaler, squares, whereabouts

from cluster.inline import Inline
from cluster.resources import Resources

ROOT = Path(__file__).parents[2]


def test_items_are_done_in_order_by_one_worker_opened_once() -> None:
    on = Inline().on(Resources(workers=4), Heard())
    results = list(on.map(open_pid, None, ["a", "b", "c"]))
    assert [(index, nth) for index, (_, nth) in results] == [(0, 0), (1, 1), (2, 2)]


def test_a_map_of_nothing_opens_no_worker() -> None:
    heard = Heard()
    assert list(Inline().on(Resources(), heard).map(open_scaler, 3, [])) == []
    assert heard.notes == []


def test_training_is_a_world_of_one_on_the_cpu() -> None:
    place = Inline().on(Resources(workers=4, gpus_per_worker=1), Heard()).train(whereabouts, None)
    assert (place["rank"], place["world"], place["device"]) == (0, 1, "cpu")


def test_an_exception_passes_unchanged() -> None:
    with pytest.raises(Broken, match="row 7 is broken"):
        Inline().on(Resources(), Heard()).train(broken_loop, 7)


def test_progress_reaches_the_listener() -> None:
    heard = Heard()
    on = Inline().on(Resources(), heard)
    on.expect(5, "steps")
    on.log("a line")
    on.train(squares, 5)
    assert (heard.done, heard.expected, heard.notes, heard.lines) == (5, [(5, "steps")], ["squares of 5"], ["a line"])


def test_it_works_where_there_is_no_ray() -> None:
    code = (
        "import sys; sys.modules['ray'] = None\n"
        "from cluster.inline import Inline\nfrom cluster.resources import Resources\nfrom work import Heard, squares\n"
        "print(Inline().on(Resources(), Heard()).train(squares, 3), 'torch' in sys.modules)"
    )
    env = {"PYTHONPATH": f"{ROOT}:{Path(__file__).parent}"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "[0, 1, 4] False\n"

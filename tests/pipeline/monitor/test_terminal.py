from io import StringIO

import pytest
from rich.console import Console
from run_states import GLUE, ONE, START, batch, half_done, node_run, recorder

from pipeline.monitor.run_state import Recorder
from pipeline.monitor.summary import summarize
from pipeline.monitor.terminal import RESERVED_LINES, terminal_view

HOUR = START + 3600
PAGE = "runs/.runs/20260101-000000-1/index.html"


def shown(one: Recorder, width: int = 80, height: int = 24, page: str = PAGE) -> list[str]:
    out = StringIO()
    Console(file=out, width=width, height=height).print(
        terminal_view(summarize(one.run_state(), HOUR), width, height, page)
    )
    return out.getvalue().splitlines()


@pytest.mark.parametrize(("width", "height"), [(80, 24), (160, 50), (60, 15), (40, 12), (200, 100)])
def test_a_batch_fits_the_terminal_and_leaves_lines_free_for_messages(width: int, height: int) -> None:
    lines = shown(half_done(), width, height)
    assert len(lines) <= height - RESERVED_LINES
    assert max(map(len, lines)) < width


def test_80_columns_by_24_lines_show_counts_cost_stages_all_tasks_the_failure_and_some_running_nodes() -> None:
    lines = shown(half_done())
    assert lines[0].startswith("glue  1h00m  36/252 done, 8 running, 1 failed, 26 blocked")
    assert lines[1] == "3.9 GPU h, 15.6 CPU h used; at least ~30 min left (181 of unknown length)"
    assert lines[2] == "corpus 9/9  finetune 8/9  teach 7/9  distil 12/108  evaluate 0/117"
    assert [line.split()[0] for line in lines[3:12]] == list(GLUE)
    assert lines[8].endswith("1/28  1 failed, 26 blocked")
    assert lines[12].startswith("FAIL finetune@mnli (+26 blocked)  out of memory")
    assert lines[13].startswith("distil/no-kd/six/0@sst2  25%  2,500/10,000 rows")
    assert [line for line in lines if line.startswith("and ")] == ["and 4 more running"]
    assert lines[-1] == PAGE


def test_a_tall_terminal_shows_all_running_nodes() -> None:
    lines = shown(half_done(), 160, 50)
    assert sum(line.startswith("distil/") for line in lines) == 8
    assert not [line for line in lines if line.startswith("and ")]
    assert any(line.endswith("epoch 2/4  loss 0.31  accuracy 83.1") for line in lines)


def test_a_low_terminal_still_shows_the_failure_and_a_running_node() -> None:
    lines = shown(half_done(), 80, 16)
    assert any(line.startswith("FAIL") for line in lines)
    assert any(line.startswith("distil/") for line in lines)


def test_a_run_of_one_task_has_no_line_for_the_task() -> None:
    lines = shown(recorder(batch(tasks=("cola",))), page="")
    assert len(lines) == 3
    assert lines[2].startswith("corpus 0/1")


def test_text_that_looks_like_markup_is_shown_unchanged() -> None:
    assert any("<b>2 GiB</b>" in line for line in shown(half_done()))


def test_a_run_that_is_stopping_shows_that_alone() -> None:
    one = half_done()
    one.stopping()
    lines = shown(one, 80, 40)
    assert len(lines) == 2
    assert lines[1].startswith("stopping, finished work is kept; waiting for distil/")


def test_a_node_that_has_reported_nothing_is_starting_and_a_paused_one_is_paused() -> None:
    one = recorder([node_run("distil/x@a"), node_run("embed")])
    for key in ("distil/x@a", "embed"):
        one.started(key, ONE, "0001", START)
    one.report_progress("embed", 1_000, "rows", 500, "")
    one.workers_changed("embed", 0.0, HOUR)
    lines = shown(one, 120, 40)
    assert any(line.startswith("distil/x@a") and line.endswith("starting") for line in lines)
    assert any(line.startswith("embed") and line.endswith("paused, more urgent stages run") for line in lines)

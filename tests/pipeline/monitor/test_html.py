from dataclasses import replace
from html.parser import HTMLParser

import pytest
from run_states import ABOUT, GLUE, START, finish, half_done, node_run, recorder

from pipeline.monitor.html import html_page
from pipeline.monitor.run_state import NodeRun, Recorder, RunStatus
from pipeline.monitor.summary import summarize
from pipeline.report.rows import ReportRow

HOUR = START + 3600
ROW = ReportRow(
    task="cola",
    method="alp<i>",
    student="six",
    seed=0,
    split="validation",
    metric="matthews",
    primary=True,
    score=51.25,
    last_epoch_score=50.0,
    teacher_score=60.0,
    student_parameters=1_000_000,
    teacher_parameters=2_000_000,
    seconds=12.0,
    status="done",
    artifact="/data/runs/distil/x",
    best_epoch=1,
    latency_ms=None,
    key="x",
    dev=True,
)


class Elements(HTMLParser):
    """The elements of a page, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def log_of(node: NodeRun) -> str:
    return f"../../.logs/run/{node.name.replace('/', '.')}.log" if node.attempt else ""


def page_of(one: Recorder, rows: tuple[ReportRow, ...] = ()) -> str:
    return html_page(summarize(one.run_state(), HOUR), one.run_state(), log_of, rows)


def test_a_page_loads_nothing_and_links_to_logs_only() -> None:
    page = Elements(page_of(half_done()))
    assert not page.open, "every element is closed"
    places = [value for _, found in page.found for name, value in found.items() if name in ("src", "href", "action")]
    assert places
    assert all(str(place).startswith("../../.logs/") for place in places)
    assert {tag for tag, _ in page.found}.isdisjoint({"link", "img", "iframe", "object"})


def test_messages_of_stages_are_escaped() -> None:
    page = Elements(page_of(half_done(), (ROW,)))
    assert "out of memory: <b>2 GiB</b>" in page.words
    assert "alp<i>" in page.words


def test_each_task_has_its_nodes_and_a_node_that_began_links_to_its_log() -> None:
    page = Elements(page_of(half_done()))
    assert [found["id"] for tag, found in page.found if tag == "details"] == list(GLUE)
    links = {str(found["href"]) for tag, found in page.found if tag == "a"}
    assert len(links) == 36 + 8 + 1
    assert "../../.logs/run/finetune@mnli.log" in links
    assert "../../.logs/run/teach@mnli.log" not in links
    assert "teach@mnli" in page.words
    assert {"Failed", "Tasks", "Running", "Stages"} <= set(page.words)


def test_nodes_that_belong_to_no_task_are_shown_as_shared() -> None:
    page = Elements(page_of(recorder([node_run("bank"), node_run("corpus@a")])))
    assert [found["id"] for tag, found in page.found if tag == "details"] == ["shared", "a"]


@pytest.mark.parametrize("status", ["done", "failed", "stopped"])
def test_only_the_page_of_a_running_run_reloads_itself(status: RunStatus) -> None:
    one = half_done()
    assert [found for tag, found in Elements(page_of(one)).found if found.get("http-equiv") == "refresh"]
    assert 'data-state="running"' in page_of(one)
    one.close(status, HOUR)
    assert not [found for tag, found in Elements(page_of(one)).found if found.get("http-equiv") == "refresh"]
    assert f'data-state="{status}"' in page_of(one)
    assert "left" not in Elements(page_of(one)).words


def test_the_page_has_results_once_there_are_any() -> None:
    assert "Results" not in Elements(page_of(half_done())).words
    words = Elements(page_of(half_done(), (ROW,))).words
    assert "Results" in words and "51.2" in words


def test_a_dashboard_is_linked_where_there_is_one() -> None:
    one = half_done()
    for url, linked in (("http://127.0.0.1:8265", True), ("", False), ("javascript:alert(1)", False)):
        run_state = replace(one.run_state(), info=replace(ABOUT, dashboard=url))
        page = Elements(html_page(summarize(run_state, HOUR), run_state, log_of))
        assert ("Ray dashboard" in page.words) is linked


def test_the_page_has_a_bar_for_each_stage_that_ran_with_its_seconds_and_says_what_the_end_waited_for() -> None:
    names = ("corpus@cola", "finetune@cola", "distil/no-kd/six/0@cola")
    one = recorder([node_run(name, *names[:place][-1:]) for place, name in enumerate(names)])
    for name, (begin, seconds) in zip(names, ((0, 10), (10, 40), (60, 30)), strict=True):
        finish(one, name, seconds, START + begin)
    page = Elements(page_of(one))
    bars = [found for tag, found in page.found if tag == "a" and "left:" in str(found.get("style"))]
    assert len(bars) == 3
    assert any("distil/no-kd/six/0@cola: 30.0s, from 1m00s on" in str(bar["title"]) for bar in bars)
    assert any("corpus@cola 10.0s, then finetune@cola 40.0s, then distil" in words for words in page.words)

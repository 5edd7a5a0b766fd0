"""The report as an HTML page: its figures are those of the JSON report, and it loads nothing else."""

import json
import re
import shutil
import statistics
import subprocess
from collections import defaultdict
from dataclasses import asdict, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from project import Project, graph_of, record_for, write_plannable_assets

from pipeline.errors import RequestError
from pipeline.graph.nodes import Node
from pipeline.report.page import contents
from pipeline.report.page.contents import check_can_draw, report_html, report_page
from pipeline.report.page.generated_rows import GeneratedExamples, WrittenRow
from pipeline.report.page.layer_attention import EpochAttention, LayerAttention
from pipeline.report.page.lineage import ResultCommands
from pipeline.report.rows import read_results, rows_of
from pipeline.storage.directory import Directory

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
MEGABYTE = 1_000_000
Attributes = dict[str, str | None]


class Elements(HTMLParser):
    """The elements of a page with their attributes, those that were not closed, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, Attributes]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def having(self, name: str) -> list[Attributes]:
        """The attributes of all elements that have this one."""
        return [found for _, found in self.found if name in found]


@pytest.fixture(scope="module")
def compared(first_run: tuple[Project, object]) -> tuple[str, list[dict[str, object]]]:
    """The page of the tiny recipe compared with no KD, and the rows of the same report."""
    page = first_run[0]("report", "--format", "html", "--baseline", "no-kd")
    assert (page.code, page.err) == (0, "")
    return page.out, first_run[0].rows("--baseline", "no-kd")


def test_every_score_of_the_page_is_that_of_the_json_report(
    compared: tuple[str, list[dict[str, object]]],
) -> None:
    page, rows = compared
    found = {str(one["data-figure"]): one for one in Elements(page).having("data-figure")}
    expected = {
        "|".join(str(row[name]) for name in ("task", "method", "student", "seed", "split", "metric")): row
        for row in rows
    }
    assert found.keys() == expected.keys() and len(found) == 5
    for name, row in expected.items():
        assert float(str(found[name]["data-score"])) == row["score"]
        assert float(str(found[name]["data-last"])) == row["last_epoch_score"]


def test_every_cell_of_the_table_has_the_mean_the_spread_and_the_comparison_of_the_json_report(
    compared: tuple[str, list[dict[str, object]]],
) -> None:
    page, rows = compared
    groups = defaultdict(list)
    for row in rows:
        groups[tuple(row[name] for name in ("task", "method", "student", "split", "metric"))].append(row)
    cells = Elements(page).having("data-task")
    assert len(cells) == len(groups) == 3
    for cell in cells:
        group = groups[tuple(cell[f"data-{name}"] for name in ("task", "method", "student", "split", "metric"))]
        scores = [float(str(row["score"])) for row in group]
        assert float(str(cell["data-mean"])) == statistics.fmean(scores)
        if len(scores) > 1:
            assert float(str(cell["data-deviation"])) == statistics.stdev(scores)
        if group[0]["delta"] is not None:
            for name in ("delta", "low", "high"):
                assert float(str(cell[f"data-{name}"])) == group[0][name]
    assert any(row["delta"] is not None for row in rows)


def test_a_winner_is_marked_only_where_the_paired_test_finds_a_difference(
    compared: tuple[str, list[dict[str, object]]],
) -> None:
    page, rows = compared
    won = {row["method"] for row in rows if row["p"] is not None and row["p"] < 0.05 and row["low"] > 0}  # type: ignore[operator]
    marked = {one["data-method"] for one in Elements(page).having("data-task") if "winner" in str(one["class"]).split()}
    assert marked == won


def test_the_page_loads_nothing_and_every_link_leads_to_an_element_of_it(
    compared: tuple[str, list[dict[str, object]]],
) -> None:
    page = Elements(compared[0])
    assert page.open == [], "every element is closed"
    assert page.having("src") == [] and page.having("action") == []
    assert {tag for tag, _ in page.found}.isdisjoint({"link", "img", "iframe", "object", "image"})
    targets = [str(found["href"]) for found in page.having("href")]
    ids = [str(found["id"]) for found in page.having("id")]
    assert targets and {target.removeprefix("#") for target in targets} <= set(ids)
    assert len(ids) == len(set(ids)), "ids of charts are unique"
    assert not re.search(r"url\((?!#)|@import|https?://(?!www\.w3\.org/)", compared[0])


def test_every_model_has_its_key_and_a_command_that_makes_it_again(
    built: Project, compared: tuple[str, list[dict[str, object]]]
) -> None:
    page, rows = compared
    for row in rows:
        assert str(row["key"])[:12] in page
    commands = [word for word in Elements(page).words if word.startswith("stillhouse run ")]
    (again,) = [command for command in commands if command.endswith("--stage distil/vanilla-kd/two@tiny")]
    stage = again.split(" --stage ")[1]
    assert {name for name, step in built.plan("--stage", stage).items() if step["action"] == "build"} == {
        f"{role}/vanilla-kd/two/{seed}@tiny" for role in ("distil", "evaluate") for seed in (0, 1)
    }


def test_the_marks_of_charts_have_a_text_for_pointer_keyboard_and_screen_reader(
    compared: tuple[str, list[dict[str, object]]],
) -> None:
    marks = [one for one in Elements(compared[0]).having("data-series") if one.get("class") == "mark"]
    assert len(marks) >= 4
    for mark in marks:
        assert mark.get("aria-label") is None or mark["tabindex"] == "0"
    labels = [str(mark["aria-label"]) for mark in marks if "aria-label" in mark]
    assert any(label.startswith("vanilla-kd, two, ") and "over 2 seeds" in label for label in labels)
    assert any("epoch 2: " in label for label in labels)


def test_the_same_results_give_the_same_page(built: Project, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    assert built("report", "--format", "html", "--out", str(out)).out == ""
    assert out.read_text("utf-8") == built("report", "--format", "html").out


def test_without_the_plotting_library_a_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "PLOTTING", "a_library_that_is_not_installed")
    with pytest.raises(RequestError, match=r"pip install -c constraints\.txt a_library.*or use --format table"):
        check_can_draw()


# --- many results ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A page with 500 results: five tasks, eleven methods, nine seeds."""
    folder = tmp_path_factory.mktemp("large")
    tasks = [f"task{number}" for number in range(5)]
    methods = [{"use": "no-kd", "label": f"method-{number}"} for number in range(11)]
    assets = write_plannable_assets(folder / "assets", tuple(tasks))
    blocks = [{"name": name, "text": "sentence", "labels": ["bad", "good"]} for name in tasks]
    _, graph = graph_of(assets, folder / "runs", task=blocks, method=methods, seeds=list(range(9)))
    for number, node in enumerate(node for node in graph.wanted if node.role == "evaluate"):
        score = 60 + 37 * number % 23
        keep(folder / "runs", node, {"validation": {"accuracy": float(score)}})
    results = read_results(graph, Directory(folder / "runs"))
    rows = rows_of(results)
    assert len(rows) == 500
    page = report_page(results, rows, "large & <small>", ResultCommands("recipe.yaml"))
    text = "<script>alert(1)</script>"
    examples = GeneratedExamples("task0", "mate-kd", "two", 0, (WrittenRow(text, text, "good", 0.9, 0.1, 0.8, 0.2),))
    attention = LayerAttention("task0", "alp", "two", 1, (1, 2), (1, 2, 3), (EpochAttention(1, (0.6, 0.7), ()),))
    return report_html(replace(page, examples=(examples,), attentions=(attention,)), rows)


def keep(storage: Path, node: Node, scores: dict[str, dict[str, float]]) -> None:
    """Commit an evaluation with these scores, without running it."""
    out = storage / node.spec.stage / node.key / "0001"
    out.mkdir(parents=True, exist_ok=True)
    facts = {"scores": scores, "parameters": 5_000_000, "latency_ms": 1.5}
    (out.parent / "record.json").write_text(json.dumps(asdict(record_for(node, out, **facts))), "utf-8")


def test_texts_from_data_and_the_title_are_escaped(large: str) -> None:
    page = Elements(large)
    assert page.open == []
    assert "<script>alert(1)</script>" in page.words and large.count("<script>") == 1
    assert "large & <small>" in page.words


def test_a_page_with_500_results_is_below_two_megabytes(large: str) -> None:
    assert len(large.encode()) < 2 * MEGABYTE
    assert len(Elements(large).having("data-figure")) == 500


POLICY = """<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline';
script-src 'unsafe-inline'">"""
"""With this, the browser refuses every request of the page, and says so in its console."""
PROBE = """<script>
const mark = document.querySelector('.mark[tabindex]');
mark.dispatchEvent(new PointerEvent('pointerover', {bubbles: true, clientX: 5, clientY: 5}));
document.documentElement.dataset.probe = JSON.stringify({
  title: document.title, card: document.getElementById('card').textContent,
  wide: document.documentElement.scrollWidth, room: document.documentElement.clientWidth,
  asked: performance.getEntriesByType('resource').length,
});
</script>"""
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--host-resolver-rules=MAP * ~NOTFOUND",  # the browser's own requests go nowhere
    "--enable-logging=stderr",
    "--virtual-time-budget=1000",
    "--dump-dom",
)
CONSOLE = re.compile(r":CONSOLE[:(]\d+[\])]+ (.*)")


def browsed(page: str, folder: Path, width: int) -> tuple[dict[str, Any], list[str]]:
    """What ``PROBE`` finds in a page that a browser has loaded in a window of this width, and the lines of its
    console."""
    assert CHROMIUM is not None
    file = folder / "page.html"
    file.write_text(page.replace("<title>", f"{POLICY}<title>", 1).replace("</body>", f"{PROBE}</body>"), "utf-8")
    own = (f"--user-data-dir={folder / 'browser'}", f"--window-size={width},900", f"file://{file}")
    done = subprocess.run([CHROMIUM, *OPTIONS, *own], capture_output=True, text=True, check=True, timeout=240)
    (found,) = Elements(done.stdout.partition("<body")[0]).having("data-probe")
    probe: dict[str, Any] = json.loads(str(found["data-probe"]))
    return probe, CONSOLE.findall(done.stderr)


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.parametrize("width", [1280, 500])  # headless windows are no narrower
def test_a_browser_shows_500_results_without_a_word_in_its_console_a_request_or_sideways_scrolling(
    large: str, tmp_path: Path, width: int
) -> None:
    probe, console = browsed(large, tmp_path, width)
    assert probe["title"] == "large & <small>"
    assert probe["card"].startswith("method-0, ")
    assert probe["wide"] <= probe["room"]
    assert (probe["asked"], console) == (0, [])


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_the_check_in_a_browser_finds_an_error_and_a_request(large: str, tmp_path: Path) -> None:
    wrong = "<script>nowhere()</script><img src='http://127.0.0.1:9/x.png'></body>"
    _, console = browsed(large.replace("</body>", wrong), tmp_path, 1280)
    assert any("nowhere is not defined" in line for line in console)
    assert any("x.png" in line and "Content Security Policy" in line for line in console)

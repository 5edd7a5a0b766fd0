"""The summary as an HTML page: one file that loads nothing else, readable on a phone, light or dark.

While the run lasts, the page reloads itself every few seconds. It holds the time at which it was written, so a page
whose run was killed shows ``gone``.
"""

import html
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from pipeline.monitor.eta import TimeLeft
from pipeline.monitor.format import NO_TASK, duration_text, hours_number, other_counts
from pipeline.monitor.html_assets import SCRIPT, STYLE
from pipeline.monitor.run_state import NodeRun, RunState
from pipeline.monitor.status import GONE_AFTER
from pipeline.monitor.summary import Counts, FailedNode, NodeGroup, RunningNode, Summary
from pipeline.monitor.timeline import Bar, Timeline, timeline
from pipeline.plan.estimate import approximate_time
from pipeline.report.rows import ReportRow
from pipeline.report.tables import ABOUT_SCORES, html_table

REFRESH = 5
"""Seconds between two reloads of the page while the run lasts."""

TIME_KINDS = {
    "finetune": "teacher",
    "teach": "teacher",
    "calibrate": "teacher",
    "distil": "student",
    "pretrain": "student",
    "evaluate": "score",
}
"""Role of a node -> the class of its bar in the picture of the run's time."""

Link = Callable[[NodeRun], str]
"""Node -> the path of its log, relative to the page; '' for a node without one."""


def html_page(summary: Summary, run_state: RunState, link: Link, rows: Sequence[ReportRow] = ()) -> str:
    """The HTML page of a run. ``rows`` are its results, once there are any."""
    run, name = summary.info.run, html.escape(summary.info.recipe or summary.info.run)
    again = f'<meta http-equiv="refresh" content="{REFRESH}">' if summary.status == "running" else ""
    known = f'data-state="{summary.status}" data-written="{summary.now:.0f}"'
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{name} {html.escape(run)}</title><noscript>{again}</noscript>
<style>{STYLE}</style></head>
<body {known} data-patience="{GONE_AFTER:.0f}" data-refresh="{REFRESH}">
<h1>{name} <span class="state {summary.status}">{summary.status}</span></h1>
<p class="gone-note"></p>
<p>{_origin(summary)}</p>
{_cards(summary)}
{_bar(summary.counts)}
{_failures(summary.failures, run_state, link)}
{_results(rows)}
<h2>Tasks</h2>
{"".join(_task(group, run_state, summary.now, link) for group in summary.tasks)}
{_running(summary.running)}
<h2>Stages</h2>
{_stages(summary.stages)}
{_timeline(timeline(run_state, summary.now), link)}
<script>{SCRIPT}</script>
</body></html>
"""


def _origin(summary: Summary) -> str:
    run = summary.info
    parts = [f"Run {run.run}, started {_moment(run.started)}"]
    if run.owner is not None:
        parts.append(f"process {run.owner.pid} on {run.owner.host}")
    if run.storage:
        parts.append(f"storage {run.storage}")
    text = html.escape(", ".join(parts)) + f". As of {html.escape(_moment(summary.now))}."
    if run.dashboard.startswith(("http://", "https://")):
        text += f' <a href="{html.escape(run.dashboard)}" rel="noreferrer">Ray dashboard</a>'
    return text


def _moment(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _cards(summary: Summary) -> str:
    counts = summary.counts
    cards = [
        (*_time_left(summary.left), summary.status == "running"),
        (f"{counts.done}/{counts.total}", "done", True),
        (str(counts.running), "running", summary.status == "running"),
        (str(counts.failed), "failed", True),
        (str(counts.blocked), "blocked", counts.blocked > 0),
        (str(counts.held), "with another run", counts.held > 0),
        (str(summary.reused), "reused", summary.reused > 0),
        (duration_text(summary.elapsed), "since the start", True),
        (hours_number(summary.gpu_hours), "GPU hours", summary.gpu_hours > 0),
        (hours_number(summary.cpu_hours), "CPU hours", True),
    ]
    return '<div class="cards">' + "".join(_card(figure, what) for figure, what, shown in cards if shown) + "</div>"


def _time_left(left: TimeLeft) -> tuple[str, str]:
    if left.seconds is None:
        return "unknown", "time left"
    if not left.unknown:
        return approximate_time(left.seconds), "left"
    return f"at least {approximate_time(left.seconds)}", f"left; {left.unknown} stages of unknown length"


def _card(figure: str, what: str) -> str:
    wide = ' class="wider"' if len(figure) > 9 else ""
    return f"<div{wide}><b>{html.escape(figure)}</b>{html.escape(what)}</div>"


def _bar(counts: Counts) -> str:
    parts = (("done", counts.done), ("running", counts.running), ("failed", counts.failed + counts.blocked))
    shares = [(name, 100 * part / max(1, counts.total)) for name, part in (*parts, ("held", counts.held)) if part]
    return '<span class="bar">' + "".join(f'<i class="{n}" style="width:{s:.2f}%"></i>' for n, s in shares) + "</span>"


def _failures(failures: Sequence[FailedNode], run_state: RunState, link: Link) -> str:
    if not failures:
        return ""
    node_runs = {node_run.key: node_run for node_run in run_state.node_runs}
    lines = "".join(
        f"<tr><td>{html.escape(failure.task or NO_TASK)}</td>"
        f'<td class="name">{_linked(failure.name, link(node_runs[failure.key]))}</td>'
        f'<td class="why failure">{html.escape(failure.why)}</td><td>{failure.blocks or ""}</td></tr>'
        for failure in failures
    )
    return (
        '<h2>Failed</h2><div class="wide"><table><thead><tr><th>task</th><th>stage</th><th>why</th><th>blocks</th>'
        f"</tr></thead><tbody>{lines}</tbody></table></div>"
    )


def _linked(text: str, where: str) -> str:
    return f'<a href="{html.escape(where)}">{html.escape(text)}</a>' if where else html.escape(text)


def _running(running: Sequence[RunningNode]) -> str:
    if not running:
        return ""
    lines = "".join(
        f'<tr><td class="name">{html.escape(one.name)}</td>'
        f"<td>{'' if one.share is None else f'{100 * one.share:.0f}%'}</td><td>{duration_text(one.seconds)}</td>"
        f"<td>{'' if one.left is None else duration_text(one.left)}</td>"
        f"<td class='note'>{html.escape(one.note)}</td></tr>"
        for one in running
    )
    return (
        '<h2>Running</h2><div class="wide"><table><thead><tr>'
        '<th>stage</th><th></th><th>for</th><th>left</th><th class="note">at</th></tr></thead>'
        f"<tbody>{lines}</tbody></table></div>"
    )


def _task(group: NodeGroup, run_state: RunState, now: float, link: Link) -> str:
    name, counts = group.name or NO_TASK, group.counts
    lines = "".join(_node_run(node_run, now, link) for node_run in run_state.node_runs if node_run.task == group.name)
    return (
        f'<details id="{html.escape(name)}"><summary><b>{html.escape(name)}</b>{_bar(counts)}'
        f"<span>{counts.done}/{counts.total}</span><small>{', '.join(other_counts(counts))}</small></summary>"
        f'<div class="wide"><table><tbody>{lines}</tbody></table></div></details>'
    )


def _node_run(one: NodeRun, now: float, link: Link) -> str:
    message = one.why or one.note
    return (
        f'<tr><td class="name">{_linked(one.name, link(one))}</td><td class="{one.state}">{one.state}</td>'
        f"<td>{duration_text(one.seconds(now)) if one.attempt else ''}</td>"
        f'<td class="why">{html.escape(message)}</td></tr>'
    )


def _stages(stages: Sequence[NodeGroup]) -> str:
    lines = "".join(
        f'<tr><td>{html.escape(group.name)}</td><td class="bar-cell">{_bar(group.counts)}</td>'
        f"<td>{group.counts.done}/{group.counts.total}</td><td>{', '.join(other_counts(group.counts))}</td></tr>"
        for group in stages
    )
    return f"<table><tbody>{lines}</tbody></table>"


def _timeline(found: Timeline | None, link: Link) -> str:
    if found is None:
        return ""
    lanes = "".join(
        '<div class="lane">' + "".join(_time_bar(bar, found.seconds, link) for bar in lane) + "</div>"
        for lane in found.lanes
    )
    steps = [
        f"{html.escape(node.name)} {duration_text(node.seconds(node.ended))}"
        + (f" (after {duration_text(waited)} without room)" if waited >= 0.01 * found.seconds else "")
        for node, waited in found.path
        if node.ended
    ]
    about = f"The end waited for {', then '.join(steps)}." if steps else ""
    if found.left_out:
        about += f" {found.left_out} stages were too short to be shown."
    return (
        f'<h2>Time</h2><div class="time"><div class="lanes">{lanes}</div>'
        f'<div class="axis"><span>0</span><span>{duration_text(found.seconds)}</span></div></div><p>{about.strip()}</p>'
    )


def _time_bar(bar: Bar, seconds: float, link: Link) -> str:
    node, where = bar.node, link(bar.node)
    about = f"{node.name}: {duration_text(bar.end - bar.begin)}, from {duration_text(bar.begin)} on"
    about += f", {node.cpus:g} CPUs" + (f", {node.gpus:g} GPUs" if node.gpus else "")
    place = f"left:{100 * bar.begin / seconds:.3f}%;width:{100 * (bar.end - bar.begin) / seconds:.3f}%"
    tag, target = ("a", f' href="{html.escape(where)}"') if where else ("span", "")
    kind = TIME_KINDS.get(node.role, "other") + (" critical" if bar.critical else "")
    return (
        f'<{tag} class="{kind}" style="{place}" title="{html.escape(about)}"{target}>{html.escape(node.name)}</{tag}>'
    )


def _results(rows: Sequence[ReportRow]) -> str:
    if not rows:
        return ""
    return f'<h2>Results</h2><p>{ABOUT_SCORES}</p><div class="wide results">{html_table(rows)}</div>'

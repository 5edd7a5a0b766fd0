"""The summary as a page: one file, nothing from elsewhere, readable on a phone, light or dark as the reader has it.

While the run lasts the page asks for itself again every few seconds. It knows when it was written: one that has been
left behind by its run says so.
"""

import html
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from pipeline.monitor.eta import TimeLeft
from pipeline.monitor.format import SHARED, amount_text, clock_text, troubles
from pipeline.monitor.run_state import NodeRun, RunState
from pipeline.monitor.status import GONE_AFTER
from pipeline.monitor.summary import Counts, Fault, NodeGroup, Running, Summary
from pipeline.plan.estimate import about
from pipeline.report.rows import ReportRow
from pipeline.report.tables import ABOUT_SCORES, html_table

REFRESH = 5
"""Seconds after which the page of a run under way asks for itself again."""

Link = Callable[[NodeRun], str]
"""Where the log of a node lies, as the page's links have it; '' for a node without one."""

STYLE = """
:root { color-scheme: light dark; --ink: #1d232b; --soft: #56606c; --line: #d5dae0; --back: #fff; --card: #f2f4f7;
  --done: #2e8b57; --run: #2878c8; --bad: #c8382e; --held: #b8860b; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e8ee; --soft: #9aa5b1; --line: #333b45; --back: #14181d; --card: #1e242b;
    --done: #4cbb7f; --run: #5aa5f0; --bad: #ff7468; --held: #e0b040; }
}
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 70rem; padding: 1rem; color: var(--ink);
  background: var(--back); }
h1 { font-size: 1.4rem; margin: 0; }
h2 { font-size: 1.05rem; margin: 1.6rem 0 .4rem; }
p { margin: .3rem 0; color: var(--soft); overflow-wrap: anywhere; }
a { color: var(--run); }
.state { font-size: .85rem; padding: .1rem .6rem; border-radius: 1rem; color: var(--back); background: var(--run);
  vertical-align: 15%; }
.state.done { background: var(--done); }
.state.failed, .state.gone { background: var(--bad); }
.state.stopped { background: var(--held); }
.gone-note { color: var(--bad); }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(7rem, 1fr)); gap: .6rem; margin: 1rem 0; }
.cards div { background: var(--card); border-radius: .5rem; padding: .5rem .8rem; color: var(--soft);
  font-size: .85rem; }
.cards .wider { grid-column: span 2; }
.cards b { display: block; font-size: 1.15rem; color: var(--ink); font-variant-numeric: tabular-nums; }
.bar { display: flex; height: .6rem; border-radius: .3rem; overflow: hidden; background: var(--line); }
.bar .done { background: var(--done); }
.bar .running { background: var(--run); }
.bar .failed { background: var(--bad); }
.bar .held { background: var(--held); }
details { border-bottom: 1px solid var(--line); }
summary { display: grid; grid-template-columns: minmax(6rem, 11rem) minmax(5rem, 1fr) 4.5rem minmax(8rem, 16rem);
  gap: .1rem .8rem; align-items: center; padding: .4rem .2rem; cursor: pointer; font-variant-numeric: tabular-nums; }
summary b { overflow-wrap: anywhere; }
summary small { color: var(--soft); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { padding: .25rem .8rem .25rem .2rem; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top; }
th { color: var(--soft); font-weight: 600; }
td.bar-cell { width: 40%; vertical-align: middle; }
.results th, .results td { white-space: nowrap; }
td.name { overflow-wrap: anywhere; min-width: 9rem; }
td.why { overflow-wrap: anywhere; min-width: 12rem; }
td.done { color: var(--done); }
td.running { color: var(--run); }
td.failed, td.fault { color: var(--bad); }
td.held { color: var(--held); }
td.blocked, td.waiting { color: var(--soft); }
@media (max-width: 40rem) {
  summary { grid-template-columns: 1fr 4.5rem; }
  summary .bar { grid-column: 1 / -1; grid-row: 2; }
  summary small { grid-column: 1 / -1; }
  .note { display: none; }
}
"""

# Asks for the page again, keeps open what the reader has opened, and tells an old page from a fresh one.
SCRIPT = """
const all = [...document.querySelectorAll('details')], name = 'open ' + document.title;
const kept = JSON.parse(sessionStorage.getItem(name) || '{}');
for (const one of all) {
  if (one.id in kept) one.open = kept[one.id];
  one.addEventListener('toggle', () => {
    kept[one.id] = one.open;
    sessionStorage.setItem(name, JSON.stringify(kept));
  });
}
const body = document.body.dataset, age = Date.now() / 1000 - body.written;
if (body.state === 'running') {
  if (age > body.patience) {
    const told = document.querySelector('.state');
    told.textContent = 'gone'; told.className = 'state gone';
    document.querySelector('.gone-note').textContent = 'No sign of life for ' + Math.round(age / 60) + ' minutes.';
  }
  setTimeout(() => location.reload(), 1000 * body.refresh);
}
"""


def html_page(summary: Summary, run_state: RunState, link: Link, rows: Sequence[ReportRow] = ()) -> str:
    """The page of a run. ``rows`` are its results, once there are any."""
    run, name = summary.about.run, html.escape(summary.about.recipe or summary.about.run)
    again = f'<meta http-equiv="refresh" content="{REFRESH}">' if summary.end == "running" else ""
    known = f'data-state="{summary.end}" data-written="{summary.now:.0f}"'
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{name} {html.escape(run)}</title><noscript>{again}</noscript>
<style>{STYLE}</style></head>
<body {known} data-patience="{GONE_AFTER:.0f}" data-refresh="{REFRESH}">
<h1>{name} <span class="state {summary.end}">{summary.end}</span></h1>
<p class="gone-note"></p>
<p>{_origin(summary)}</p>
{_cards(summary)}
{_bar(summary.counts)}
{_faults(summary.faults, run_state, link)}
{_results(rows)}
<h2>Tasks</h2>
{"".join(_task(group, run_state, summary.now, link) for group in summary.tasks)}
{_running(summary.running)}
<h2>Stages</h2>
{_stages(summary.stages)}
<script>{SCRIPT}</script>
</body></html>
"""


def _origin(summary: Summary) -> str:
    run = summary.about
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
        (*_left(summary.left), summary.end == "running"),
        (f"{counts.done}/{counts.total}", "done", True),
        (str(counts.running), "running", summary.end == "running"),
        (str(counts.failed), "failed", True),
        (str(counts.blocked), "blocked", counts.blocked > 0),
        (str(counts.held), "with another run", counts.held > 0),
        (str(summary.reused), "were there already", summary.reused > 0),
        (clock_text(summary.elapsed), "since the start", True),
        (amount_text(summary.gpu_hours), "GPU hours", summary.gpu_hours > 0),
        (amount_text(summary.cpu_hours), "CPU hours", True),
    ]
    return '<div class="cards">' + "".join(_card(figure, what) for figure, what, shown in cards if shown) + "</div>"


def _left(left: TimeLeft) -> tuple[str, str]:
    if left.seconds is None:
        return "unknown", "time left"
    if not left.unknown:
        return about(left.seconds), "left"
    return f"at least {about(left.seconds)}", f"left; {left.unknown} stages of unknown length"


def _card(figure: str, what: str) -> str:
    wide = ' class="wider"' if len(figure) > 9 else ""
    return f"<div{wide}><b>{html.escape(figure)}</b>{html.escape(what)}</div>"


def _bar(counts: Counts) -> str:
    parts = (("done", counts.done), ("running", counts.running), ("failed", counts.failed + counts.blocked))
    shares = [(name, 100 * part / max(1, counts.total)) for name, part in (*parts, ("held", counts.held)) if part]
    return '<span class="bar">' + "".join(f'<i class="{n}" style="width:{s:.2f}%"></i>' for n, s in shares) + "</span>"


def _faults(faults: Sequence[Fault], run_state: RunState, link: Link) -> str:
    if not faults:
        return ""
    node_runs = {node_run.key: node_run for node_run in run_state.node_runs}
    lines = "".join(
        f"<tr><td>{html.escape(fault.task or SHARED)}</td>"
        f'<td class="name">{_linked(fault.name, link(node_runs[fault.key]))}</td>'
        f'<td class="why fault">{html.escape(fault.why)}</td><td>{fault.blocks or ""}</td></tr>'
        for fault in faults
    )
    return (
        '<h2>Failed</h2><div class="wide"><table><thead><tr><th>task</th><th>stage</th><th>why</th><th>blocks</th>'
        f"</tr></thead><tbody>{lines}</tbody></table></div>"
    )


def _linked(text: str, where: str) -> str:
    return f'<a href="{html.escape(where)}">{html.escape(text)}</a>' if where else html.escape(text)


def _running(running: Sequence[Running]) -> str:
    if not running:
        return ""
    lines = "".join(
        f'<tr><td class="name">{html.escape(one.name)}</td>'
        f"<td>{'' if one.share is None else f'{100 * one.share:.0f}%'}</td><td>{clock_text(one.seconds)}</td>"
        f"<td>{'' if one.left is None else clock_text(one.left)}</td><td class='note'>{html.escape(one.note)}</td></tr>"
        for one in running
    )
    return (
        '<h2>Running</h2><div class="wide"><table><thead><tr>'
        '<th>stage</th><th></th><th>for</th><th>left</th><th class="note">at</th></tr></thead>'
        f"<tbody>{lines}</tbody></table></div>"
    )


def _task(group: NodeGroup, run_state: RunState, now: float, link: Link) -> str:
    name, counts = group.name or SHARED, group.counts
    lines = "".join(_node_run(node_run, now, link) for node_run in run_state.node_runs if node_run.task == group.name)
    return (
        f'<details id="{html.escape(name)}"><summary><b>{html.escape(name)}</b>{_bar(counts)}'
        f"<span>{counts.done}/{counts.total}</span><small>{', '.join(troubles(counts))}</small></summary>"
        f'<div class="wide"><table><tbody>{lines}</tbody></table></div></details>'
    )


def _node_run(one: NodeRun, now: float, link: Link) -> str:
    told = one.why or one.note
    return (
        f'<tr><td class="name">{_linked(one.name, link(one))}</td><td class="{one.state}">{one.state}</td>'
        f"<td>{clock_text(one.seconds(now)) if one.attempt else ''}</td>"
        f'<td class="why">{html.escape(told)}</td></tr>'
    )


def _stages(stages: Sequence[NodeGroup]) -> str:
    lines = "".join(
        f'<tr><td>{html.escape(group.name)}</td><td class="bar-cell">{_bar(group.counts)}</td>'
        f"<td>{group.counts.done}/{group.counts.total}</td><td>{', '.join(troubles(group.counts))}</td></tr>"
        for group in stages
    )
    return f"<table><tbody>{lines}</tbody></table>"


def _results(rows: Sequence[ReportRow]) -> str:
    if not rows:
        return ""
    return f'<h2>Results</h2><p>{ABOUT_SCORES}</p><div class="wide results">{html_table(rows)}</div>'

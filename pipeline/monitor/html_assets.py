"""The style sheet and the script of the HTML page, which are part of the page itself."""

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
.time { overflow-x: auto; }
.lanes, .axis { min-width: 30rem; }
.lane { position: relative; height: 1.35rem; margin-bottom: 2px; background: var(--card); border-radius: .2rem; }
.lane > * { position: absolute; top: 0; bottom: 0; min-width: 2px; padding: 0 .25rem; overflow: hidden;
  white-space: nowrap; font-size: .75rem; line-height: 1.35rem; border-radius: .2rem; color: var(--back);
  text-decoration: none; background: var(--soft); }
.lane .teacher { background: var(--held); }
.lane .student { background: var(--run); }
.lane .score { background: var(--done); }
.lane .critical { box-shadow: inset 0 -3px 0 var(--bad); }
.axis { display: flex; justify-content: space-between; color: var(--soft); font-size: .8rem; }
td.name { overflow-wrap: anywhere; min-width: 9rem; }
td.why { overflow-wrap: anywhere; min-width: 12rem; }
td.done { color: var(--done); }
td.running { color: var(--run); }
td.failed, td.failure { color: var(--bad); }
td.held { color: var(--held); }
td.blocked, td.waiting { color: var(--soft); }
@media (max-width: 40rem) {
  summary { grid-template-columns: 1fr 4.5rem; }
  summary .bar { grid-column: 1 / -1; grid-row: 2; }
  summary small { grid-column: 1 / -1; }
  .note { display: none; }
}
"""

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
    const state = document.querySelector('.state');
    state.textContent = 'gone'; state.className = 'state gone';
    document.querySelector('.gone-note').textContent = 'Not updated for ' + Math.round(age / 60) + ' minutes.';
  }
  setTimeout(() => location.reload(), 1000 * body.refresh);
}
"""
"""Reloads the page while the run lasts, keeps the tasks open that the reader has opened, and marks a page that has not
been updated for ``data-patience`` seconds as gone."""

"""Run states made by hand, to test what is computed from them: a batch of tasks x methods x seeds, own clock."""

from collections.abc import Sequence

from cluster.resources import Resources
from pipeline.monitor.run_state import NodeRun, Recorder, RunCapacity, RunInfo, RunState
from pipeline.plan.urgency import CANDIDATE_ROLES, EVALUATIONS, WITH_CANDIDATES, WITHOUT_CANDIDATES, Urgency
from pipeline.recipe import STAGES

START = 1_000_000.0
"""When these runs began, in seconds."""
GLUE = ("cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli")
METHODS = ("no-kd", "vanilla-kd", "annealing-kd", "alp")
ONE = Resources(cpus_per_worker=4, gpus_per_worker=1.0)
CLUSTER = RunCapacity(64.0, 8.0, concurrent=True)
ABOUT = RunInfo("20260101-000000-1", "glue", START, storage="/data/runs")


def node_run(name: str, *needs: str, cpus: float = 4.0, gpus: float = 0.0) -> NodeRun:
    """A node whose key is its name: ``role/...@task``, with the rank of its role."""
    path, _, task = name.partition("@")
    role = path.partition("/")[0]
    group = EVALUATIONS if role == "evaluate" else WITH_CANDIDATES if role in CANDIDATE_ROLES else WITHOUT_CANDIDATES
    return NodeRun(name, name, role, task, needs, cpus, gpus, urgency=Urgency(group, STAGES.index(role), 0, 0))


def batch(tasks: Sequence[str] = GLUE, methods: Sequence[str] = METHODS, seeds: int = 3) -> tuple[NodeRun, ...]:
    """The nodes of such a recipe: for each task a corpus, a teacher and its store, then students and evaluations."""
    found = []
    for task in tasks:
        rows, teacher, store = (f"{role}@{task}" for role in ("corpus", "finetune", "teach"))
        found += [
            node_run(rows, cpus=1.0),
            node_run(teacher, rows, gpus=1.0),
            node_run(store, teacher, rows, gpus=1.0),
            node_run(f"evaluate/teacher@{task}", teacher, rows, gpus=1.0),
        ]
        for name in (f"{method}/six/{seed}@{task}" for method in methods for seed in range(seeds)):
            found += [
                node_run(f"distil/{name}", store, rows, gpus=1.0),
                node_run(f"evaluate/{name}", f"distil/{name}", rows, gpus=1.0),
            ]
    return tuple(found)


def recorder(node_runs: Sequence[NodeRun], capacity: RunCapacity = CLUSTER, **expected: float) -> Recorder:
    return Recorder(RunState(ABOUT, tuple(node_runs), capacity, expected=expected))


def finish(one: Recorder, key: str, seconds: float, start: float = START) -> None:
    """Record that the node ran for ``seconds`` and is done."""
    one.started(key, ONE, "0001", start)
    one.ended(key, "done", start + seconds)


def half_done() -> Recorder:
    """The batch of nine tasks, an hour after its start: one task failed at its teacher, another waits for another run,
    eight students train."""
    one, left = recorder(batch()), 8
    for node in one.run_state().node_runs:
        if node.task == "mnli" and node.role != "corpus":
            if node.role == "finetune":
                one.started(node.key, ONE, "0001", START)
                one.ended(node.key, "failed", START + 600, "out of memory: <b>2 GiB</b>")
            else:
                one.ended(node.key, "blocked", START + 600, "not run: finetune@mnli failed")
        elif node.role in ("corpus", "finetune") or (node.role == "teach" and node.task != "qqp"):
            finish(one, node.key, 300)
        elif node.role == "teach":
            one.held(node.key, "process 7 on elsewhere is building it", START + 400)
        elif node.role == "distil" and node.task == "cola":
            finish(one, node.key, 120)
        elif node.role == "distil" and node.task != "qqp" and left:
            left -= 1
            one.started(node.key, ONE, "0001", START + 3000)
            one.report_progress(node.key, 10_000, "rows", 2_500, "epoch 2/4  loss 0.31  accuracy 83.1")
    return one

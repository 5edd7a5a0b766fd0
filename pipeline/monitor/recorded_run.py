"""The state of the last run of a recipe as its records have it, for the picture of its time."""

from collections.abc import Collection, Mapping
from datetime import datetime

from pipeline.artifacts.record import Record
from pipeline.graph.nodes import Graph, Node
from pipeline.monitor.run_state import NodeRun, RunInfo, RunState


def recorded_run(graph: Graph, records: Mapping[str, Record | None]) -> RunState | None:
    """The run that committed the latest artifact of a graph, with the artifacts of the graph that it built; ``records``
    are by key. None where no record names a run. A stage began as many seconds before its commit as it took, so the
    time in which it was paused is left out."""
    built = [(node, record) for node in graph.nodes if (record := records[node.key]) is not None and record.run]
    if not built:
        return None
    run = max((record.committed, record.run) for _, record in built)[1]
    own = [(node, record) for node, record in built if record.run == run]
    keys = {node.key for node, _ in own}
    node_runs = tuple(_node_run(node, record, keys) for node, record in own)
    started = min(node_run.began for node_run in node_runs)
    ended = max(node_run.ended for node_run in node_runs)
    return RunState(RunInfo(run, started=started), node_runs, status="done", ended=ended)


def _node_run(node: Node, record: Record, keys: Collection[str]) -> NodeRun:
    """A stage that the run has done; ``keys`` are those of all its stages."""
    ended = datetime.fromisoformat(record.committed).timestamp()
    return NodeRun(
        node.key,
        node.name,
        node.role,
        node.task,
        needs=tuple(source.key for source in node.sources if source.key in keys),
        state="done",
        attempt=record.attempt,
        began=ended - record.seconds,
        ended=ended,
    )

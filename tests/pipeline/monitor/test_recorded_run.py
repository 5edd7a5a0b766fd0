"""The last run of a recipe, from the records of what it built."""

from dataclasses import replace
from pathlib import Path

from project import graph_of, nodes_by_name, record_for, write_plannable_assets

from pipeline.monitor.recorded_run import recorded_run
from pipeline.monitor.time_picture import time_picture


def test_the_last_run_has_the_stages_that_it_built_at_their_times_and_what_its_end_waited_for(tmp_path: Path) -> None:
    _, graph = graph_of(write_plannable_assets(tmp_path / "assets"), tmp_path / "runs", method="no-kd")
    nodes = nodes_by_name(graph)
    built = {
        "corpus@tiny": ("first", 5.0, "2026-01-01T09:00:00+00:00"),
        "finetune@tiny": ("second", 60.0, "2026-01-02T10:01:00+00:00"),
        "evaluate/teacher@tiny": ("second", 30.0, "2026-01-02T10:01:30+00:00"),
    }
    records = {node.key: None for node in graph.nodes} | {
        nodes[name].key: replace(record_for(nodes[name], tmp_path), run=run, seconds=seconds, committed=committed)
        for name, (run, seconds, committed) in built.items()
    }
    found = recorded_run(graph, records)
    assert found is not None and found.info.run == "second"
    assert [(one.name, one.ended - one.began) for one in found.node_runs] == [
        ("finetune@tiny", 60.0),
        ("evaluate/teacher@tiny", 30.0),
    ]
    picture = time_picture(found, found.ended, title="the last run")
    assert picture is not None and picture.length == "1m30s"
    assert picture.about == "The end waited for finetune@tiny 1m00s, then evaluate/teacher@tiny 30.0s."
    assert [(bar.name, round(bar.left), round(bar.width)) for lane in picture.lanes for bar in lane] == [
        ("finetune@tiny", 0, 67),
        ("evaluate/teacher@tiny", 67, 33),
    ]
    assert recorded_run(graph, {node.key: None for node in graph.nodes}) is None

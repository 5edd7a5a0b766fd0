from collections import Counter
from pathlib import Path

from project import result_of, start, write_project


def test_two_concurrent_runs_of_one_recipe_succeed_and_build_each_artifact_once(assets: Path, tmp_path: Path) -> None:
    project = write_project(tmp_path, assets)
    processes = [start("run", str(project.recipe), "--storage", str(project.storage), "--inline") for _ in range(2)]
    result = [result_of(process) for process in processes]
    assert [(one.code, one.err) for one in result] == [(0, ""), (0, "")]

    nodes = project.plan()
    records = project.records()
    assert set(records) == set(nodes)
    assert {step["action"] for step in nodes.values()} == {"reuse"}
    for record in records.values():
        home = project.storage / str(record["stage"]) / str(record["key"])
        assert sorted(path.name for path in home.iterdir()) == [record["attempt"], "record.json"]
    assert project.unfinished() == []

    lines = [line.split()[:2] for one in result for line in one.out.splitlines() if line.startswith("done ")]
    assert Counter(name for _, name in lines) == dict.fromkeys(nodes, 1)

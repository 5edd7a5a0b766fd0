from collections import Counter
from pathlib import Path

from house import said_by, settle, start


def test_two_runs_of_one_recipe_at_once_both_end_well_and_build_each_artifact_once(
    ground: Path, tmp_path: Path
) -> None:
    house = settle(tmp_path, ground)
    processes = [start("run", str(house.recipe), "--storage", str(house.storage), "--inline") for _ in range(2)]
    said = [said_by(process) for process in processes]
    assert [(one.code, one.err) for one in said] == [(0, ""), (0, "")]

    nodes = house.plan()
    records = house.records()
    assert set(records) == set(nodes)
    assert {step["action"] for step in nodes.values()} == {"reuse"}
    for record in records.values():
        home = house.storage / str(record["stage"]) / str(record["key"])
        assert sorted(path.name for path in home.iterdir()) == [record["attempt"], "record.json"]
    assert house.left() == []

    lines = [line.split()[:2] for one in said for line in one.out.splitlines() if line.startswith("done ")]
    assert Counter(name for _, name in lines) == dict.fromkeys(nodes, 1)

"""What a run reads is looked for on all nodes, and what one of them lacks is named as the recipe names it."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from project import graph_of, write_plannable_assets

from cluster.inline import Inline
from cluster.resources import Capacity
from pipeline.errors import RequestError
from pipeline.execution.visibility import check_visible
from pipeline.plan.planner import Plan, plan
from pipeline.storage.bucket import Bucket
from pipeline.storage.directory import Directory
from stages.cache_folder import CacheFolder


class Nodes(Inline):
    """A place of several nodes, the last of which lacks the files below a folder."""

    def __init__(self, count: int, lacking: Path) -> None:
        self.count = count
        self.lacking = lacking
        self.request: list[str] = []

    def capacity(self) -> Capacity:
        return Capacity.fixed(*super().capacity().nodes * self.count)

    def unseen(self, paths: Sequence[str]) -> list[tuple[str, str]]:
        assert all(Path(path).exists() for path in paths)
        self.request += paths
        return [("10.0.0.2", path) for path in paths if Path(path).is_relative_to(self.lacking)]


@pytest.fixture
def planned(tmp_path: Path) -> Plan:
    (tmp_path / "runs").mkdir()
    _, graph = graph_of(write_plannable_assets(tmp_path / "assets"), tmp_path / "runs")
    return plan(graph, Directory(tmp_path / "runs"), "tiny", None)


@pytest.mark.parametrize(
    ("lacking", "result"),
    [
        (
            "assets/data",
            r"^data\.source \(task tiny\): \S*/data/tiny/train\.parquet is not visible on node 10.0.0.2; put ",
        ),
        ("runs", r"^storage: \S*/runs is not visible on node 10.0.0.2; put it on a file system that all nodes share"),
    ],
)
def test_a_path_that_a_node_lacks_is_named(lacking: str, result: str, planned: Plan, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=result):
        check_visible(planned, Directory(tmp_path / "runs"), Nodes(2, tmp_path / lacking))
    assert list((tmp_path / "runs").iterdir()) == [], "the probe is gone"


def test_a_cluster_of_one_node_is_not_checked(planned: Plan, tmp_path: Path) -> None:
    place = Nodes(1, tmp_path)
    check_visible(planned, Directory(tmp_path / "runs"), place)
    assert place.request == []


def test_a_model_is_uploaded_and_not_checked(planned: Plan, tmp_path: Path) -> None:
    place = Nodes(2, tmp_path / "assets" / "model")
    check_visible(planned, Directory(tmp_path / "runs"), place)
    assert place.request and not any(path.endswith("/assets/model") for path in place.request)


def test_with_a_bucket_nothing_is_checked(planned: Plan, tmp_path: Path) -> None:
    """Data files are uploaded to the bucket too."""
    place = Nodes(2, tmp_path)
    check_visible(planned, Bucket("s3://house/runs", CacheFolder(tmp_path / "runs")), place)
    assert place.request == []

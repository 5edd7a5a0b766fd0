"""How far a cluster may grow, from its autoscaler's configuration."""

import json
from pathlib import Path

import pytest

from cluster.amount import Amount
from cluster.growth import amount_of, autoscalers, growth_from, growth_of

CONFIG = {
    "max_workers": 6,
    "head_node_type": "head",
    "available_node_types": {
        "head": {"resources": {"CPU": 4, "memory": 8e9}, "max_workers": 0},
        "gpu": {"resources": {"CPU": 8, "GPU": 2, "memory": 32e9}, "max_workers": 4},
        "more": {"resources": {"CPU": 16}},
    },
}


def test_a_file_of_the_autoscaler_says_how_far_the_cluster_may_grow() -> None:
    growth = growth_of(CONFIG)
    assert growth is not None
    assert growth.nodes == 7, "the head is none of the workers"
    assert growth.room(Amount(1, 1)) == 8
    assert growth.room(Amount(16)) == 6
    assert growth.room(Amount(1, 1, 20e9)) == 4
    assert growth.room(Amount(16, 0, 1e15)) == 6, "memory that is not told may be any"


def test_what_a_node_has_is_unknown_where_the_file_leaves_it_to_the_cloud() -> None:
    types = {"gpu": {"node_config": {"InstanceType": "p3"}, "max_workers": 2}}
    assert growth_of({"max_workers": 2, "available_node_types": types}) is None
    assert growth_of({}) is None
    assert growth_of(None) is None
    assert growth_from([]) is None


def test_the_model_of_a_gpu_that_is_yet_to_come_is_not_held_against_a_request() -> None:
    growth = growth_of(CONFIG)
    assert growth is not None
    assert growth.room(Amount(1, 1, custom=(("accelerator_type:A100", 0.001),))) == 8
    assert growth.room(Amount(1, 1, custom=(("disk", 1.0),))) == 0


def test_what_a_node_calls_its_own_is_custom() -> None:
    there = {"CPU": 2.0, "GPU": 1.0, "memory": 5.0, "object_store_memory": 3.0, "node:10.0.0.1": 1.0, "disk": 2.0}
    assert amount_of(there) == Amount(2.0, 1.0, 5.0, (("disk", 2.0),))


@pytest.mark.parametrize(("address", "found"), [("10.0.0.1:6379", 1), ("10.0.0.2:6379", 0)])
def test_the_autoscaler_of_this_cluster_alone_is_asked(tmp_path: Path, address: str, found: int) -> None:
    path = tmp_path / "bootstrap.yaml"
    path.write_text(json.dumps(CONFIG), "utf-8")
    words = ("python", "-u", "/x/ray/autoscaler/_private/monitor.py", "--gcs-address=10.0.0.1:6379")
    for number, line in enumerate([(*words, f"--autoscaling-config={path}"), words, ("python", "-m", "ray")]):
        (tmp_path / "proc" / str(10 + number)).mkdir(parents=True)
        (tmp_path / "proc" / str(10 + number) / "cmdline").write_bytes("\0".join(line).encode() + b"\0")
    assert list(autoscalers(tmp_path / "proc", address)) == [path] * found

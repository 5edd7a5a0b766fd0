"""The outputs of classifiers on a teacher's layers are shown and verified as a teacher's store is; so is its
temperature."""

import json
from pathlib import Path

import pytest
from project import Project, stillhouse, write_project


@pytest.fixture(scope="module")
def project(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    method = {"use": "vanilla-kd", "structure": {"kind": "outputs"}, "targets": {"calibrated": True}}
    project = write_project(tmp_path_factory.mktemp("probes"), assets, method=method)
    result = project("run", "--inline")
    assert result.code == 0, result.err
    return project


def probes(project: Project) -> str:
    (name,) = (name for name in project.records() if name.startswith("probe"))
    return str(project.artifact(name))


def test_show_prints_the_accuracy_and_the_variance_of_each_layer(project: Project) -> None:
    result = stillhouse("show", probes(project), "--storage", str(project.storage))
    assert result.code == 0
    for expected in (
        '"measure": "accuracy"',
        '"out_of_fold": {',
        '"hidden_01": ',
        "pooled: layers 1, ",
        "between-row variance",
    ):
        assert expected in result.out


def test_the_calibration_of_a_run_is_shown_verified_and_used_again(project: Project) -> None:
    result = stillhouse("show", "calibrate@tiny", "--storage", str(project.storage))
    found = json.loads((project.artifact("calibrate@tiny") / "calibration.json").read_text("utf-8"))
    assert result.code == 0
    assert f"\ntemperature {found['temperature']:.4g} on {found['rows']} held-out rows: mean negative " in result.out
    assert stillhouse("verify", "calibrate@tiny", "--storage", str(project.storage)).code == 0
    assert project.plan()["calibrate@tiny"]["action"] == "reuse"


def test_verify_checks_every_row_and_finds_a_damaged_shard(project: Project) -> None:
    target = probes(project)
    result = stillhouse("verify", target, "--storage", str(project.storage))
    assert (result.code, result.err) == (0, "")
    assert "holds every row of the corpus once, and no other row" in result.out
    shard = Path(target) / "shard-00000.parquet"
    data = bytearray(shard.read_bytes())
    data[len(data) // 3] ^= 1
    shard.unlink()
    shard.write_bytes(data)
    damaged = stillhouse("verify", target, "--storage", str(project.storage))
    assert damaged.code == 1 and "the checksum of shard-00000.parquet is not that of store.json" in damaged.out
    mended = stillhouse("verify", target, "--storage", str(project.storage), "--repair")
    assert mended.code == 0 and "withdrawn; the next run of its recipe builds it again" in mended.out
    assert not [name for name in project.records() if name.startswith("probe")]

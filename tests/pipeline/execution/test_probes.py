"""What classifiers on a teacher's layers say is shown and verified as a teacher's store is."""

from pathlib import Path

import pytest
from house import House, settle, stillhouse


@pytest.fixture(scope="module")
def house(ground: Path, tmp_path_factory: pytest.TempPathFactory) -> House:
    method = {"use": "vanilla-kd", "structure": {"kind": "outputs"}}
    house = settle(tmp_path_factory.mktemp("probes"), ground, method=method)
    said = house("run", "--inline")
    assert said.code == 0, said.err
    return house


def probes(house: House) -> str:
    (name,) = (name for name in house.records() if name.startswith("probe"))
    return str(house.artifact(name))


def test_show_tells_how_well_each_layer_says_the_label_and_how_far_rows_differ(house: House) -> None:
    said = stillhouse("show", probes(house), "--storage", str(house.storage))
    assert said.code == 0
    for told in (
        '"measure": "accuracy"',
        '"out_of_fold": {',
        '"hidden_01": ',
        "pooled: layers 1, ",
        "between-row variance",
    ):
        assert told in said.out


def test_verify_checks_every_row_and_finds_a_damaged_shard(house: House) -> None:
    target = probes(house)
    said = stillhouse("verify", target, "--storage", str(house.storage))
    assert (said.code, said.err) == (0, "")
    assert "every row of the corpus stands once, and no other" in said.out
    shard = Path(target) / "shard-00000.parquet"
    data = bytearray(shard.read_bytes())
    data[len(data) // 3] ^= 1
    shard.unlink()
    shard.write_bytes(data)
    damaged = stillhouse("verify", target, "--storage", str(house.storage))
    assert damaged.code == 1 and "the checksum of shard-00000.parquet is not that of store.json" in damaged.out
    mended = stillhouse("verify", target, "--storage", str(house.storage), "--repair")
    assert mended.code == 0 and "withdrawn; the next run of its recipe builds it again" in mended.out
    assert not [name for name in house.records() if name.startswith("probe")]

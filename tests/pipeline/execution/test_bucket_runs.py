"""Whole runs with their storage in a bucket on a real S3 server, seen from one machine and from another."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from buckets import at, make_bucket, s3_server
from house import House, Said, settle, stillhouse

from pipeline.artifacts.record import Record, find, parsed, recorded
from pipeline.artifacts.retention import find_unused
from pipeline.storage import open_storage
from pipeline.storage.bucket import Bucket


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_server() as url, at(url):
        yield make_bucket("house")


@pytest.fixture(scope="module")
def url(server: str, ground: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A storage in which the tiny recipe has been run, on a machine of its own. Not to be changed."""
    storage, machine = f"{server}/built", tmp_path_factory.mktemp("machine")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STILLHOUSE_CACHE", str(machine / "cache"))
        said = on(settle(machine / "house", ground, seeds=[0, 1]), storage, "run", "--inline")
    assert said.code == 0, said.err
    return storage


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Another machine, which has nothing of the bucket."""
    monkeypatch.setenv("STILLHOUSE_CACHE", str(tmp_path / "cache"))
    return tmp_path


def on(house: House, storage: str, command: str, *options: str) -> Said:
    return stillhouse(command, str(house.recipe), "--storage", storage, *options)


def records(storage: str) -> dict[str, Record]:
    there = open_storage(storage)
    found = [parsed(text, there.where(name)) for name, text in recorded(there).items()]
    return {record.name: record for record in found}


def weights(record: Record) -> list[str]:
    return [file.sha256 for file in record.files if file.path.endswith(".safetensors")]


def test_a_run_into_a_bucket_trains_what_a_run_into_a_directory_does(url: str, first_run: tuple[House, Said]) -> None:
    house, _ = first_run
    made = {name: document["files"] for name, document in house.records().items()}
    found = records(url)
    assert set(found) == set(made)
    trained = {name: weights(record) for name, record in found.items() if weights(record)}
    assert len(trained) == 5
    for name, digests in trained.items():
        files: list[dict[str, str]] = made[name]  # type: ignore[assignment]
        assert digests == [file["sha256"] for file in files if file["path"].endswith(".safetensors")], name


def test_another_machine_finds_nothing_to_do(url: str, ground: Path, elsewhere: Path) -> None:
    said = on(settle(elsewhere / "house", ground, seeds=[0, 1]), url, "run", "--inline")
    assert said.code == 0, said.err
    assert "nothing to do, all 12 artifacts are there" in said.out
    assert not list((elsewhere / "cache").glob("storage/*/*/*/*/model")), "and fetches no model"


def test_another_machine_verifies_and_shows_an_artifact(url: str, elsewhere: Path) -> None:
    key = records(url)["teach@tiny"].key
    said = stillhouse("verify", key[:12], "--storage", url, "--sample", "5")
    assert said.code == 0, said.out + said.err
    assert f"{url}/teach/{key}/0001" in said.out
    said = stillhouse("show", key[:12], "--storage", url)
    assert said.code == 0, said.err
    assert "hidden_04" in said.out


def test_a_report_names_models_by_url(url: str, ground: Path, elsewhere: Path) -> None:
    said = on(settle(elsewhere / "house", ground, seeds=[0, 1]), url, "report", "--format", "json")
    key = records(url)["distil/vanilla-kd/two/1@tiny"].key
    assert f'"{url}/distil/{key}/0001/model"' in said.out


def test_nothing_but_artifacts_and_what_tells_of_them_is_left(url: str) -> None:
    storage = open_storage(url)
    tops = {name.split("/")[0] for name in storage.walk()}
    assert {top for top in tops if top.startswith(".")} == {".named", ".runs", ".logs"}
    assert not any("scratch" in name for name in storage.walk())


def test_gc_frees_what_a_recipe_does_not_need(server: str, ground: Path, elsewhere: Path) -> None:
    storage = f"{server}/freed"
    house = settle(elsewhere / "house", ground, method="no-kd", seeds=[0, 1])
    assert on(house, storage, "run", "--inline").code == 0
    only = settle(elsewhere / "one", ground, method="no-kd", seeds=[0])
    assert "2 to free" in on(only, storage, "gc").out
    assert on(only, storage, "gc", "--yes").code == 0
    left = records(storage)
    assert "distil/no-kd/two/0@tiny" in left
    assert "distil/no-kd/two/1@tiny" not in left
    there = open_storage(storage)
    assert isinstance(there, Bucket)
    assert not there.walk(".work")
    assert find(there, "finetune", left["finetune@tiny"].key) or left["finetune@tiny"].stage != "finetune"
    assert find_unused(there, [], 4e9)


def test_a_damaged_store_is_mended_from_what_is_sound(server: str, ground: Path, elsewhere: Path) -> None:
    storage = f"{server}/damaged"
    house = settle(elsewhere / "house", ground, method="vanilla-kd")
    assert on(house, storage, "run", "--inline").code == 0
    before = records(storage)["teach@tiny"]
    open_storage(storage).write(f"{before.folder}/shard-00000.parquet", "nonsense")
    assert stillhouse("verify", before.key[:12], "--storage", storage).code == 1
    said = stillhouse("verify", before.key[:12], "--storage", storage, "--repair")
    assert said.code == 0, said.out + said.err
    after = records(storage)["teach@tiny"]
    assert after.attempt != before.attempt
    assert after.below("shard-00000.parquet") == before.below("shard-00000.parquet")

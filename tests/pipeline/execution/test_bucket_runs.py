"""Whole runs with their storage in a bucket on a real S3 server, seen from one machine and from another."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from buckets import at, make_bucket, s3_server
from project import CommandResult, Project, stillhouse, write_project

from pipeline.artifacts.record import Record, find, parse_record, record_texts
from pipeline.artifacts.retention import find_unused
from pipeline.storage import open_storage
from pipeline.storage.bucket import Bucket


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_server() as url, at(url):
        yield make_bucket("project")


@pytest.fixture(scope="module")
def url(server: str, assets: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A bucket into which the tiny recipe was run, from another machine's folder. Not to be changed."""
    storage, machine = f"{server}/built", tmp_path_factory.mktemp("machine")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STILLHOUSE_CACHE", str(machine / "cache"))
        result = on(write_project(machine / "project", assets, seeds=[0, 1]), storage, "run", "--inline")
    assert result.code == 0, result.err
    return storage


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of another machine, without a local copy of the bucket."""
    monkeypatch.setenv("STILLHOUSE_CACHE", str(tmp_path / "cache"))
    return tmp_path


def on(project: Project, storage: str, command: str, *options: str) -> CommandResult:
    return stillhouse(command, str(project.recipe), "--storage", storage, *options)


def records(storage: str) -> dict[str, Record]:
    there = open_storage(storage)
    found = [parse_record(text, there.where(name)) for name, text in record_texts(there).items()]
    return {record.name: record for record in found}


def weights(record: Record) -> list[str]:
    return [file.sha256 for file in record.files if file.path.endswith(".safetensors")]


def test_a_run_into_a_bucket_trains_what_a_run_into_a_directory_does(
    url: str, first_run: tuple[Project, CommandResult]
) -> None:
    project, _ = first_run
    made = {name: document["files"] for name, document in project.records().items()}
    found = records(url)
    assert set(found) == set(made)
    trained = {name: weights(record) for name, record in found.items() if weights(record)}
    assert len(trained) == 5
    for name, digests in trained.items():
        files: list[dict[str, str]] = made[name]  # type: ignore[assignment]
        assert digests == [file["sha256"] for file in files if file["path"].endswith(".safetensors")], name


def test_another_machine_finds_nothing_to_do(url: str, assets: Path, elsewhere: Path) -> None:
    result = on(write_project(elsewhere / "project", assets, seeds=[0, 1]), url, "run", "--inline")
    assert result.code == 0, result.err
    assert "nothing to do, all 12 artifacts exist" in result.out
    assert not list((elsewhere / "cache").glob("storage/*/*/*/*/model")), "and fetches no model"


def test_another_machine_verifies_and_shows_an_artifact(url: str, elsewhere: Path) -> None:
    key = records(url)["teach@tiny"].key
    result = stillhouse("verify", key[:12], "--storage", url, "--sample", "5")
    assert result.code == 0, result.out + result.err
    assert f"{url}/teach/{key}/0001" in result.out
    result = stillhouse("show", key[:12], "--storage", url)
    assert result.code == 0, result.err
    assert "hidden_04" in result.out


def test_a_report_names_models_by_url(url: str, assets: Path, elsewhere: Path) -> None:
    result = on(write_project(elsewhere / "project", assets, seeds=[0, 1]), url, "report", "--format", "json")
    key = records(url)["distil/vanilla-kd/two/1@tiny"].key
    assert f'"{url}/distil/{key}/0001/model"' in result.out


def test_a_report_with_a_baseline_fetches_predictions_alone(url: str, assets: Path, elsewhere: Path) -> None:
    project = write_project(elsewhere / "project", assets, seeds=[0, 1])
    result = on(project, url, "report", "--format", "json", "--baseline", "no-kd")
    compared = [row for row in json.loads(result.out) if row["method"] == "vanilla-kd"]
    assert [(row["seed"], row["seeds_compared"]) for row in compared] == [(0, 2), (1, 2)]
    fetched = [path for path in (elsewhere / "cache").glob("storage/*/*/*/*/**/*") if path.suffix]
    assert {path.parent.name for path in fetched if path.suffix == ".parquet"} == {"predictions"}
    assert not [path for path in fetched if path.suffix == ".safetensors"]


def test_only_artifacts_and_their_records_are_left(url: str) -> None:
    storage = open_storage(url)
    tops = {name.split("/")[0] for name in storage.walk()}
    assert {top for top in tops if top.startswith(".")} == {".named", ".runs", ".logs"}
    assert not any("scratch" in name for name in storage.walk())


def test_gc_frees_what_a_recipe_does_not_need(server: str, assets: Path, elsewhere: Path) -> None:
    storage = f"{server}/freed"
    project = write_project(elsewhere / "project", assets, method="no-kd", seeds=[0, 1])
    assert on(project, storage, "run", "--inline").code == 0
    only = write_project(elsewhere / "project", assets, method="no-kd", seeds=[0])
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


def test_a_damaged_store_is_repaired_from_its_sound_shards(server: str, assets: Path, elsewhere: Path) -> None:
    storage = f"{server}/damaged"
    project = write_project(elsewhere / "project", assets, method="vanilla-kd")
    assert on(project, storage, "run", "--inline").code == 0
    before = records(storage)["teach@tiny"]
    open_storage(storage).write(f"{before.folder}/shard-00000.parquet", "nonsense")
    assert stillhouse("verify", before.key[:12], "--storage", storage).code == 1
    result = stillhouse("verify", before.key[:12], "--storage", storage, "--repair")
    assert result.code == 0, result.out + result.err
    after = records(storage)["teach@tiny"]
    assert after.attempt != before.attempt
    assert after.files_below("shard-00000.parquet") == before.files_below("shard-00000.parquet")

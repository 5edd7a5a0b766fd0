"""verify says what is wrong and with which shard; --repair computes that one again; --sample asks the teacher."""

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
from project import CommandResult, Project, stillhouse, write_project
from safetensors.numpy import load_file, save_file

import stages.teaching.teach
from pipeline.artifacts.record import describe
from stages.outputs.layout import read_store, write_store
from stages.outputs.parquet import read_keys, write_shard
from stages.outputs.reuse import read_rows


@pytest.fixture(scope="module")
def first(
    assets: Path, first_run: tuple[Project, CommandResult], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Project]:
    """A store of several shards, of a teacher that was fine-tuned elsewhere. Not to be changed."""
    folder = tmp_path_factory.mktemp("verified")
    shutil.copytree(first_run[0].artifact("finetune@tiny") / "model", folder / "teacher")
    project = write_project(folder / "project", assets, teacher={"model": str(folder / "teacher")}, method="vanilla-kd")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages.teaching.teach, "SHARD_ROWS", 20)
        assert project("run", "--inline").code == 0
    yield project


@pytest.fixture
def project(first: Project, tmp_path: Path) -> Project:
    shutil.copytree(first.folder, tmp_path / "project")
    return Project(tmp_path / "project")


def verify(project: Project, *options: str) -> CommandResult:
    return stillhouse("verify", str(project.artifact("teach@tiny")), "--storage", str(project.storage), *options)


def shards(project: Project) -> list[Path]:
    return sorted(project.artifact("teach@tiny").glob("shard-*.parquet"))


def spoil(path: Path) -> None:
    """Flip one bit of the file's data."""
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.unlink()
    path.write_bytes(data)


def test_a_sound_store_passes_and_every_shard_is_printed(project: Project) -> None:
    result = verify(project)
    assert result.code == 0
    assert len(shards(project)) > 2
    assert len(re.findall(r"shard-0000\d\.parquet: [\d,]+ rows, [\d,]+ bytes: sound", result.out)) == len(
        shards(project)
    )
    assert "holds every row of the corpus once, and no other row" in result.out


def test_a_flipped_bit_is_found_in_its_shard_only(project: Project) -> None:
    spoil(shards(project)[1])
    result = verify(project)
    assert result.code == 1
    assert "shard-00001.parquet: the checksum of shard-00001.parquet is not that of store.json" in result.out
    assert "shard-00000.parquet: 20 rows" in result.out
    assert "20 rows no sound shard holds" in result.out
    assert "--repair repairs what can be repaired" in result.out


def test_repair_keeps_the_good_shards_computes_the_bad_one_and_commits_a_new_record(project: Project) -> None:
    before = {path.name: (path.stat().st_ino, path.read_bytes()) for path in shards(project)}
    old = project.records()["teach@tiny"]
    spoil(shards(project)[1])
    result = verify(project, "--repair")
    assert result.code == 0, result
    record = project.records()["teach@tiny"]
    assert record["key"] == old["key"] and str(record["attempt"]) > str(old["attempt"])
    rows = int(str(record["facts"]["rows"]))  # type: ignore[index]
    assert record["facts"] == {**old["facts"], "computed": 20, "carried": 0}  # type: ignore[dict-item]
    assert rows > 40
    after = {path.name: (path.stat().st_ino, path.read_bytes()) for path in shards(project)}
    assert {name: data for name, (_, data) in after.items()} == {name: data for name, (_, data) in before.items()}
    assert [name for name in before if before[name][0] != after[name][0]] == ["shard-00001.parquet"]
    assert verify(project).code == 0
    assert "nothing to do" in project("run", "--inline").out


def test_a_missing_shard_is_repaired_too(project: Project) -> None:
    shards(project)[0].unlink()
    assert verify(project).code == 1
    assert verify(project, "--repair").code == 0
    assert verify(project).code == 0


def test_a_missing_store_json_is_rebuilt_from_the_shards(project: Project) -> None:
    (project.artifact("teach@tiny") / "store.json").unlink()
    before = [path.stat().st_ino for path in shards(project)]
    result = verify(project)
    assert result.code == 1 and "store.json" in result.out
    assert verify(project, "--repair").code == 0
    assert project.records()["teach@tiny"]["facts"]["computed"] == 0  # type: ignore[index]
    assert [path.stat().st_ino for path in shards(project)] == before


def test_a_corpus_that_cannot_be_read_is_named_and_repair_removes_nothing(project: Project) -> None:
    part = next((project.artifact("corpus@tiny") / "train").glob("*.parquet"))
    size = part.stat().st_size
    part.unlink()
    part.write_bytes(bytes(size))
    result = verify(project, "--repair")
    assert result.code == 2 and "teach@tiny: its corpus: " in result.err and result.err.count("\n") == 1
    assert "teach@tiny" in project.records() and shards(project)


def test_sampled_rows_agree_with_the_live_teacher(project: Project) -> None:
    result = verify(project, "--sample", "7")
    assert result.code == 0, result
    assert "7 rows computed again by the teacher: all within" in result.out
    assert all(column in result.out for column in ("logits", "hidden_00", "hidden_04"))


def test_a_sound_store_of_another_teacher_fails_the_sample(project: Project) -> None:
    """Checksums agree with the record, so only the teacher's outputs reveal it."""
    directory = project.artifact("teach@tiny")
    store = read_store(directory)
    files = []
    for shard in store.shards:
        keys = [key.tobytes() for key in read_keys(directory / shard.name)]
        logits, states, _ = read_rows(directory, shard.number, store.layout, store.layout, keys)
        files.append(write_shard(directory, shard.number, store.layout, keys, logits + 0.5, states))
    write_store(directory, store.layout, store.tokenisation, files)
    path = directory.parent / "record.json"
    document = json.loads(path.read_text())
    document["files"] = [asdict(file) for file in describe(directory)]
    path.write_text(json.dumps(document))
    assert verify(project).code == 0
    result = verify(project, "--sample", "5")
    assert result.code == 1
    assert "logits: differ by more than" in result.out and "not the outputs of this teacher" in result.out


def test_a_teacher_that_has_changed_is_refused(project: Project, first: Project) -> None:
    place = Path(str(project.records()["teach@tiny"]["places"]["model"]))  # type: ignore[index]
    weights = place / "model.safetensors"
    kept = weights.read_bytes()
    try:
        changed = load_file(weights)
        changed["classifier.bias"] = changed["classifier.bias"] + 1
        save_file(changed, weights, {"format": "pt"})
        result = verify(project, "--sample", "3")
        assert result.code == 2
        assert result.err.endswith(f"the model at {place} has changed since; put the teacher back\n")
    finally:
        weights.write_bytes(kept)


def test_repair_withdraws_other_damaged_artifacts_and_the_next_run_builds_them(project: Project) -> None:
    directory = project.artifact("distil/vanilla-kd/two/0@tiny")
    spoil(directory / "model" / "model.safetensors")
    result = stillhouse("verify", str(directory), "--storage", str(project.storage))
    assert result.code == 1 and "model/model.safetensors: its checksum differs from the record" in result.out
    assert stillhouse("verify", str(directory), "--repair").code == 0
    assert "distil/vanilla-kd/two/0@tiny" not in project.records()
    assert project("run", "--inline").code == 0
    assert "distil/vanilla-kd/two/0@tiny" in project.records()


def test_a_sample_of_an_artifact_that_is_not_a_store_is_refused(project: Project) -> None:
    result = stillhouse("verify", str(project.artifact("corpus@tiny")), "--sample", "3")
    assert (result.code, result.err) == (
        2,
        "stillhouse: --sample: 3, but corpus@tiny is not a teacher-output store; leave it out\n",
    )


def test_a_store_of_a_newer_format_is_refused_and_not_repaired(project: Project) -> None:
    """Computed again, it would be replaced by a store of the older format."""
    path = project.artifact("teach@tiny") / "store.json"
    text = path.read_text("utf-8").replace('"format": 1', '"format": 2')
    path.unlink()
    path.write_text(text, "utf-8")
    before = project.records()
    result = verify(project, "--repair")
    assert result.code == 2
    assert result.err == (f"stillhouse: teach@tiny: {path}: store format 2 is newer than 1; upgrade Stillhouse\n")
    assert project.records() == before

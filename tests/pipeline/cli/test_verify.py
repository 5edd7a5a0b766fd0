"""verify says what is wrong and with which shard; --repair computes that one again; --sample asks the teacher."""

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
from house import House, Said, settle, stillhouse
from safetensors.numpy import load_file, save_file

import stages.teaching.teach
from pipeline.artifacts.record import describe
from stages.outputs.layout import read_store, write_store
from stages.outputs.parquet import read_keys, write_shard
from stages.outputs.reuse import read_rows


@pytest.fixture(scope="module")
def first(ground: Path, first_run: tuple[House, Said], tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A store of several shards, of a teacher that was fine-tuned elsewhere. Not to be changed."""
    folder = tmp_path_factory.mktemp("verified")
    shutil.copytree(first_run[0].artifact("finetune@tiny") / "model", folder / "teacher")
    house = settle(folder / "house", ground, teacher={"model": str(folder / "teacher")}, method="vanilla-kd")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages.teaching.teach, "SHARD_ROWS", 20)
        assert house("run", "--inline").code == 0
    yield house


@pytest.fixture
def house(first: House, tmp_path: Path) -> House:
    shutil.copytree(first.folder, tmp_path / "house")
    return House(tmp_path / "house")


def verify(house: House, *options: str) -> Said:
    return stillhouse("verify", str(house.artifact("teach@tiny")), "--storage", str(house.storage), *options)


def shards(house: House) -> list[Path]:
    return sorted(house.artifact("teach@tiny").glob("shard-*.parquet"))


def spoil(path: Path) -> None:
    """One bit of the file's data."""
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.unlink()
    path.write_bytes(data)


def test_a_sound_store_passes_and_every_shard_is_told(house: House) -> None:
    said = verify(house)
    assert said.code == 0
    assert len(shards(house)) > 2
    assert len(re.findall(r"shard-0000\d\.parquet: [\d,]+ rows, [\d,]+ bytes: sound", said.out)) == len(shards(house))
    assert "every row of the corpus stands once, and no other" in said.out


def test_a_bit_that_flipped_is_found_in_the_shard_that_it_is_in_and_nowhere_else(house: House) -> None:
    spoil(shards(house)[1])
    said = verify(house)
    assert said.code == 1
    assert "shard-00001.parquet: the checksum of shard-00001.parquet is not that of store.json" in said.out
    assert "shard-00000.parquet: 20 rows" in said.out
    assert "20 rows no sound shard holds" in said.out
    assert "--repair mends what can be mended" in said.out


def test_repair_keeps_the_good_shards_computes_the_bad_one_and_commits_a_new_record(house: House) -> None:
    before = {path.name: (path.stat().st_ino, path.read_bytes()) for path in shards(house)}
    old = house.records()["teach@tiny"]
    spoil(shards(house)[1])
    said = verify(house, "--repair")
    assert said.code == 0, said
    record = house.records()["teach@tiny"]
    assert record["key"] == old["key"] and str(record["attempt"]) > str(old["attempt"])
    rows = int(str(record["facts"]["rows"]))  # type: ignore[index]
    assert record["facts"] == {**old["facts"], "computed": 20, "carried": 0}  # type: ignore[dict-item]
    assert rows > 40
    after = {path.name: (path.stat().st_ino, path.read_bytes()) for path in shards(house)}
    assert {name: data for name, (_, data) in after.items()} == {name: data for name, (_, data) in before.items()}
    assert [name for name in before if before[name][0] != after[name][0]] == ["shard-00001.parquet"]
    assert verify(house).code == 0
    assert "nothing to do" in house("run", "--inline").out


def test_a_shard_that_is_gone_is_repaired_too(house: House) -> None:
    shards(house)[0].unlink()
    assert verify(house).code == 1
    assert verify(house, "--repair").code == 0
    assert verify(house).code == 0


def test_a_store_json_that_is_gone_is_written_anew_from_the_shards(house: House) -> None:
    (house.artifact("teach@tiny") / "store.json").unlink()
    before = [path.stat().st_ino for path in shards(house)]
    said = verify(house)
    assert said.code == 1 and "store.json" in said.out
    assert verify(house, "--repair").code == 0
    assert house.records()["teach@tiny"]["facts"]["computed"] == 0  # type: ignore[index]
    assert [path.stat().st_ino for path in shards(house)] == before


def test_a_corpus_that_cannot_be_read_is_named_and_repair_takes_nothing_away(house: House) -> None:
    part = next((house.artifact("corpus@tiny") / "train").glob("*.parquet"))
    size = part.stat().st_size
    part.unlink()
    part.write_bytes(bytes(size))
    said = verify(house, "--repair")
    assert said.code == 2 and "teach@tiny: its corpus: " in said.err and said.err.count("\n") == 1
    assert "teach@tiny" in house.records() and shards(house)


def test_sampled_rows_agree_with_the_live_teacher(house: House) -> None:
    said = verify(house, "--sample", "7")
    assert said.code == 0, said
    assert "7 rows computed again by the teacher: all within" in said.out
    assert all(column in said.out for column in ("logits", "hidden_00", "hidden_04"))


def test_a_store_that_is_sound_but_not_what_the_teacher_says_fails_the_sample(house: House) -> None:
    """Checksums agree with the record: only the teacher can tell."""
    directory = house.artifact("teach@tiny")
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
    assert verify(house).code == 0
    said = verify(house, "--sample", "5")
    assert said.code == 1
    assert "logits: further off than" in said.out and "not what this teacher says" in said.out


def test_a_teacher_that_is_another_by_now_is_not_asked(house: House, first: House) -> None:
    place = Path(str(house.records()["teach@tiny"]["places"]["model"]))  # type: ignore[index]
    weights = place / "model.safetensors"
    kept = weights.read_bytes()
    try:
        changed = load_file(weights)
        changed["classifier.bias"] = changed["classifier.bias"] + 1
        save_file(changed, weights, {"format": "pt"})
        said = verify(house, "--sample", "3")
        assert said.code == 2
        assert said.err.endswith(f"the model at {place} is another by now; put the teacher back\n")
    finally:
        weights.write_bytes(kept)


def test_whatever_else_is_damaged_is_withdrawn_by_repair_and_built_by_the_next_run(house: House) -> None:
    directory = house.artifact("distil/vanilla-kd/two/0@tiny")
    spoil(directory / "model" / "model.safetensors")
    said = stillhouse("verify", str(directory), "--storage", str(house.storage))
    assert said.code == 1 and "model/model.safetensors: its checksum is not that of the record" in said.out
    assert stillhouse("verify", str(directory), "--repair").code == 0
    assert "distil/vanilla-kd/two/0@tiny" not in house.records()
    assert house("run", "--inline").code == 0
    assert "distil/vanilla-kd/two/0@tiny" in house.records()


def test_a_sample_of_what_is_no_store_is_refused(house: House) -> None:
    said = stillhouse("verify", str(house.artifact("corpus@tiny")), "--sample", "3")
    assert (said.code, said.err) == (
        2,
        "stillhouse: --sample: 3, but corpus@tiny is no teacher-output store; leave it out\n",
    )

"""What bad input gets: one line that names it, before any work where that can be, and nothing lost."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from buckets import at, s3_server
from disk import mounted
from house import House, settle, stillhouse, write_paper_ground

TASK = "{name: stsb, text: [sentence], regression: true, metric: pearson}"


@pytest.fixture
def ground_of_paper(tmp_path: Path) -> Path:
    return write_paper_ground(tmp_path / "ground")


@pytest.fixture
def paper(tmp_path: Path, ground_of_paper: Path) -> House:
    return settle(tmp_path / "house", ground_of_paper)


def refused(house: House, *options: str, command: str = "plan") -> str:
    """The one line with which a command is refused: code 2, nothing on stdout, nothing in the storage."""
    before = contents(house)
    said = house(command, *options)
    assert (said.code, said.out) == (2, ""), said
    assert said.err.startswith("stillhouse: ")
    assert said.err.endswith("\n")
    assert said.err.count("\n") == 1
    assert contents(house) == before
    return said.err.removeprefix("stillhouse: ").rstrip("\n")


def contents(house: House) -> list[Path]:
    """All that lies there, but for the digests of outside files."""
    return sorted(path for path in house.folder.rglob("*") if ".identity" not in path.parts)


def failed(house: House, *options: str) -> str:
    """The one line with which a stage fails: code 1."""
    said = house("run", "--inline", *options)
    assert said.code == 1, said
    (line,) = said.err.splitlines()
    return line.removeprefix("stillhouse: ").rpartition(" (log: ")[0]


# --- the recipe -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sets", "line"),
    [
        (["train.epoch=3"], "train.epoch: unknown key; did you mean epochs?"),
        (["method=vanila-kd"], "method: vanila-kd is no method; did you mean vanilla-kd?"),
        (
            ["method=annealing-kd", "train.epochs=1"],
            "method.0: annealing has two phases and needs at least 2 epochs; it has 1",
        ),
        (
            [f"task={TASK}", "method=label-smoothing"],
            "method: label smoothing cannot be defined for stsb, a regression; give stsb its own list of methods: "
            "overrides: {stsb: {method: [...]}}",
        ),
        (["task.labels=[good]"], 'task.labels: ["good"], needs at least 2'),
    ],
)
def test_a_recipe_that_cannot_be_meant_is_refused_with_the_place(paper: House, sets: list[str], line: str) -> None:
    said = refused(paper, *(word for one in sets for word in ("--set", one)))
    assert said.startswith(f"{paper.recipe}: ")
    assert said.removeprefix(f"{paper.recipe}: ").replace("method.0", "method") == line.replace("method.0", "method")


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ("student.from_teacher=[0, 9]", "student.from_teacher: [0, 9], the teacher has no layer 9; it has 0 to 3"),
        ("store.layers=[7]", "task tiny: store.layers: the teacher has no layer 7; it has 0 (embeddings) to 4"),
    ],
)
def test_a_layer_that_the_teacher_lacks_is_refused(paper: House, change: str, line: str) -> None:
    assert refused(paper, "--set", change) == line


# --- models ---------------------------------------------------------------------------------------


def test_a_teacher_that_is_not_fine_tuned_needs_finetune(paper: House) -> None:
    assert refused(paper, "--set", "teacher.finetune=null") == (
        "task tiny: teacher.model: it has no classification head (BertModel); add teacher.finetune"
    )


def test_a_model_without_safetensors_is_refused(paper: House, ground_of_paper: Path) -> None:
    model = ground_of_paper / "model"
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    assert refused(paper) == (
        f"{model}: no *.safetensors here; models load from safetensors only, convert it with save_pretrained"
    )


def test_a_hub_name_without_network_is_refused(paper: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert re.fullmatch(
        r"teacher\.model: roberta-large cannot be had from the hub \(.*\); name a directory",
        refused(paper, "--set", "teacher.model=roberta-large"),
    )
    assert re.fullmatch(
        r"data\.source: nyu-mll/glue cannot be had from the hub \(.*\); set data\.source to a folder of files",
        refused(paper, "--set", "data.source=hub", "--set", "task=rte"),
    )


def test_a_teacher_whose_outputs_are_not_finite_stops_and_the_row_is_named(ground: Path, tmp_path: Path) -> None:
    import torch
    from transformers import AutoConfig, BertForSequenceClassification

    tuned = tmp_path / "tuned"
    shutil.copytree(ground / "model", tuned)
    config = AutoConfig.from_pretrained(tuned, id2label={0: "bad", 1: "good"})
    model = BertForSequenceClassification(config)
    with torch.no_grad():
        model.classifier.bias.fill_(float("nan"))
    model.save_pretrained(tuned)
    house = settle(tmp_path / "house", ground, teacher={"model": str(tuned)})
    line = failed(house, "--stage", "teach")
    assert re.match(r"teach@tiny: .* rows are not finite, the first is row_key [0-9a-f]{32}; ", line), line
    assert set(house.records()) == {"corpus@tiny"}


# --- data -----------------------------------------------------------------------------------------


def train_file(ground: Path) -> Path:
    return ground / "data" / "tiny" / "train.parquet"


def as_csv(ground: Path, content: bytes) -> Path:
    """The train split as a CSV file with this content."""
    train_file(ground).unlink()
    path = train_file(ground).with_suffix(".csv")
    path.write_bytes(content)
    return path


def test_a_truncated_parquet_file_is_refused_by_the_plan(paper: House, ground_of_paper: Path) -> None:
    path = train_file(ground_of_paper)
    path.write_bytes(path.read_bytes()[:-20])
    line = refused(paper)
    assert line.startswith(f"task tiny: {path}: not a whole Parquet file (")
    assert line.endswith("); copy or write it again")


def test_an_empty_parquet_split_is_refused_by_the_plan(paper: House, ground_of_paper: Path) -> None:
    path = train_file(ground_of_paper)
    pq.write_table(pq.read_table(path).slice(0, 0), path)
    assert refused(paper) == f"task tiny: {path}: no rows; each split needs at least 1"


def test_a_folder_without_the_task_is_refused_by_the_plan(paper: House, ground_of_paper: Path) -> None:
    data = ground_of_paper / "data"
    (data / "tiny").rename(data / "tinny")
    assert refused(paper) == f"data: source: neither {data / 'tiny'} nor {data / '*' / 'tiny'} is a folder"


def test_a_split_without_a_file_is_refused_by_the_plan(paper: House, ground_of_paper: Path) -> None:
    train_file(ground_of_paper).unlink()
    line = refused(paper)
    assert line.startswith(f"data: source: {ground_of_paper / 'data' / 'tiny'} has no train.")


def bad_label(ground: Path) -> str:
    table = pa.table({"sentence": ["a", "b", "c"], "label": [0, 1, 2]})
    pq.write_table(table, train_file(ground))
    return f"{train_file(ground)}: row 3, column label: 2"


def empty_csv(ground: Path) -> str:
    path = as_csv(ground, b"sentence,label\n")
    return f"{path}: no rows; a train split needs at least 1"


def latin_csv(ground: Path) -> str:
    path = as_csv(ground, b"sentence,label\nfine,1\ncaf\xe9,0\n")
    return f"{path}: line 3, byte 0xe9 is not UTF-8; save the file as UTF-8"


def ragged_csv(ground: Path) -> str:
    path = as_csv(ground, b"sentence,label\nfine,1\nfine,1,2\n")
    return f"{path}: row 2: 3 fields; the header has 2"


def other_column(ground: Path) -> str:
    pq.write_table(pa.table({"text": ["a"], "label": [0]}), train_file(ground))
    return f"{train_file(ground)}: no column sentence; it has text, label"


@pytest.mark.parametrize("harm", [bad_label, empty_csv, latin_csv, ragged_csv, other_column])
def test_rows_that_cannot_be_used_fail_the_corpus_before_any_other_work(
    paper: House, ground_of_paper: Path, harm: Callable[[Path], str]
) -> None:
    expected = harm(ground_of_paper)
    assert failed(paper).startswith(f"corpus@tiny: {expected}")
    assert paper.records() == {}


# --- the storage ----------------------------------------------------------------------------------


def test_a_storage_that_is_a_file_is_refused(paper: House, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("", "utf-8")
    for command in ("plan", "run", "report"):
        line = refused(paper, "--storage", str(file), command=command)
        assert line == f"storage: {file}, but {file} is a file; give a directory"
        line = refused(paper, "--storage", str(file / "runs"), command=command)
        assert line == f"storage: {file / 'runs'}, but {file} is a file; give a directory"


def test_a_storage_that_cannot_be_written_is_refused_before_any_work(paper: House) -> None:
    line = refused(paper, "--storage", "/proc/stillhouse", "--inline", command="run")
    assert re.fullmatch(
        r"storage: /proc/stillhouse cannot be written \(.+\); give a directory that you may write", line
    )


def test_a_storage_of_another_kind_is_refused(paper: House) -> None:
    line = refused(paper, "--storage", "ftp://host/prefix")
    assert line == "storage: ftp://host/prefix; give a directory, s3://bucket/prefix or gs://bucket/prefix"


@pytest.mark.parametrize("command", ["plan", "run", "report"])
def test_a_bucket_that_cannot_be_reached_is_refused(paper: House, command: str) -> None:
    with at("http://127.0.0.1:9"):
        line = refused(paper, "--storage", "s3://bucket/prefix", command=command)
    assert line.startswith("storage: s3://bucket/prefix cannot be read (")
    assert line.endswith("; see its credentials and endpoint in the environment")


def test_a_bucket_that_is_not_there_or_not_ours_is_refused(paper: House) -> None:
    with s3_server() as url, at(url):
        line = refused(paper, "--storage", "s3://bucket/prefix")
    assert line == "storage: s3://bucket/prefix: there is no such bucket; make it first"


def test_a_record_from_a_newer_version_is_refused(built: House) -> None:
    path = built.artifact("teach@tiny").parent / "record.json"
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), "format": 7}), "utf-8")
    for command in ("plan", "run", "report"):
        assert refused(built, command=command) == (
            f"{path}: record format 7 is newer than 1, the newest that this version reads; upgrade Stillhouse"
        )


def test_a_store_that_lost_a_part_of_a_shard_is_built_again_by_a_later_run(built: House) -> None:
    shard = built.artifact("teach@tiny") / "shard-00000.parquet"
    shard.write_bytes(shard.read_bytes()[:-100])
    options = ("--set", "method=[no-kd, vanilla-kd, annealing-kd]", "--set", "seeds=[0]")
    step = built.plan(*options)["teach@tiny"]
    assert (step["action"], step["why"]) == ("build", "shard-00000.parquet is missing or cut short")
    assert built("run", "--inline", *options).code == 0
    assert built.plan(*options)["teach@tiny"]["action"] == "reuse"


def test_a_shard_that_is_spoilt_is_named_with_the_remedy_and_the_remedy_works(
    built: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STILLHOUSE_CACHE", str(tmp_path / "nothing-decoded-yet"))
    shard = built.artifact("teach@tiny") / "shard-00000.parquet"
    shard.write_bytes(shard.read_bytes()[:-8] + b"spoilt!!")
    options = ("--set", "method=annealing-kd", "--set", "seeds=[0]")
    line = failed(built, *options)
    assert line.startswith(f"distil/annealing-kd/two/0@tiny: {shard}: this shard cannot be read (")
    assert line.endswith(f"); stillhouse verify {shard.parent} --repair computes it anew")
    assert stillhouse("verify", str(shard.parent), "--repair", "--storage", str(built.storage)).code == 0
    assert built("run", "--inline", *options).code == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a megabyte."""
    with mounted(tmp_path / "disk", "1m") as folder:
        yield folder


def test_a_full_disk_fails_the_stage_and_the_next_run_goes_on(ground: Path, tmp_path: Path, small_disk: Path) -> None:
    house = settle(tmp_path / "house", ground, method="no-kd")
    storage = ("--storage", str(small_disk / "runs"))
    line = failed(house, *storage)
    assert re.match("finetune@tiny: .*No space left on device", line), line
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    again = house("run", "--inline", *storage)
    assert again.code == 0, again.err
    assert "corpus@tiny" not in again.out, "what was there before the disk was full is still there"


# --- the cluster ----------------------------------------------------------------------------------


def test_a_cluster_that_cannot_be_reached_is_refused(paper: House) -> None:
    said = paper("run", "--address", "127.0.0.1:1")
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith("stillhouse: address: 127.0.0.1:1 cannot be reached")
    assert said.err.count("\n") == 1
    assert paper.records() == {}


def test_what_this_machine_can_never_give_is_refused(paper: House) -> None:
    cores = os.cpu_count()
    said = paper("run", "--inline", "--set", "resources.distil.workers=1000")
    line = (
        f"stillhouse: resources.distil: 1000 workers of 1 CPU each, but the cluster can hold {cores} at most (1 node of"
    )
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith(line)
    assert said.err.count("\n") == 1
    said = paper("run", "--inline", "--set", "resources.distil.gpus_per_worker=1")
    line = "stillhouse: resources.distil: 1 worker of "
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith(line)
    assert ", 1 GPU, but the cluster can hold 0 at most (" in said.err
    assert paper.records() == {}

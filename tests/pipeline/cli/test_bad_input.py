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
from project import Project, stillhouse, write_plannable_assets, write_project

TASK = "{name: stsb, text: [sentence], regression: true, metric: pearson}"


@pytest.fixture
def plannable_assets(tmp_path: Path) -> Path:
    return write_plannable_assets(tmp_path / "assets")


@pytest.fixture
def paper(tmp_path: Path, plannable_assets: Path) -> Project:
    return write_project(tmp_path / "project", plannable_assets)


def refused(project: Project, *options: str, command: str = "plan") -> str:
    """The one line with which a command is refused: code 2, nothing else on stdout but the steps of a run that takes
    seconds to begin, nothing in the storage."""
    before = contents(project)
    result = project(command, *options)
    steps = [
        line for line in result.out.splitlines() if not re.fullmatch(r"\s+(reading|looking|checking) .*, \d+ s", line)
    ]
    assert (result.code, steps) == (2, []), result
    assert result.err.startswith("stillhouse: ")
    assert result.err.endswith("\n")
    assert result.err.count("\n") == 1
    assert contents(project) == before
    return result.err.removeprefix("stillhouse: ").rstrip("\n")


def contents(project: Project) -> list[Path]:
    """All files of the project, except the cache of digests."""
    return sorted(path for path in project.folder.rglob("*") if ".identity" not in path.parts)


def failed(project: Project, *options: str) -> str:
    """The one line with which a stage fails: code 1. Warnings of the plan are left out."""
    result = project("run", "--inline", *options)
    assert result.code == 1, result
    (line,) = (line for line in result.err.splitlines() if not line.startswith("stillhouse: warning: "))
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
def test_a_contradictory_recipe_is_refused_with_the_field(paper: Project, sets: list[str], line: str) -> None:
    result = refused(paper, *(word for one in sets for word in ("--set", one)))
    assert result.startswith(f"{paper.recipe}: ")
    assert result.removeprefix(f"{paper.recipe}: ").replace("method.0", "method") == line.replace("method.0", "method")


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (
            "student.cut.layers=[1, 10]",
            "student two: cut.layers: [1, 10], but the teacher has no layer 10; its layers are 1 to 4",
        ),
        ("store.layers=[7]", "task tiny: store.layers: the teacher has no layer 7; it has 0 (embeddings) to 4"),
    ],
)
def test_a_layer_that_the_teacher_does_not_have_is_refused(paper: Project, change: str, line: str) -> None:
    assert refused(paper, "--set", change) == line


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (
            "num_hidden_layers: two",
            "student a: config.num_hidden_layers: two, must be a whole number",
        ),
        (
            "num_hiden_layers: 2",
            "student a: config.num_hiden_layers: unknown field of bert; did you mean num_hidden_layers?",
        ),
    ],
)
def test_a_fresh_student_that_cannot_be_built_is_refused(
    paper: Project, plannable_assets: Path, change: str, line: str
) -> None:
    config = f"{{model: {plannable_assets / 'model'}, {change}}}"
    assert refused(paper, "--set", f"student={{label: a, config: {config}}}") == line


def test_rows_longer_than_the_models_positions_are_refused(paper: Project, plannable_assets: Path) -> None:
    model = plannable_assets / "model"
    assert refused(paper, "--set", "train.max_length=1000") == (
        f"task tiny: train.max_length: 1000, but the teacher {model} reads at most 512 tokens; give 512 or less"
    )


# --- models ---------------------------------------------------------------------------------------


def test_a_teacher_that_is_not_fine_tuned_needs_finetune(paper: Project) -> None:
    assert refused(paper, "--set", "teacher.finetune=null") == (
        "task tiny: teacher.model: it has no classification head (BertModel); add teacher.finetune"
    )


def test_a_model_without_safetensors_is_refused(paper: Project, plannable_assets: Path) -> None:
    model = plannable_assets / "model"
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    assert refused(paper) == (
        f"{model}: no *.safetensors here; models load from safetensors only, convert it with save_pretrained"
    )


def test_a_hub_name_without_network_is_refused(paper: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert re.fullmatch(
        r"teacher\.model: roberta-large cannot be found on the hub \(.*\); name a directory",
        refused(paper, "--set", "teacher.model=roberta-large"),
    )
    assert re.fullmatch(
        r"data\.source: nyu-mll/glue cannot be found on the hub \(.*\); set data\.source to a folder of files",
        refused(paper, "--set", "data.source=hub", "--set", "task=rte"),
    )


def test_a_teacher_whose_outputs_are_not_finite_stops_and_the_row_is_named(assets: Path, tmp_path: Path) -> None:
    import torch
    from transformers import AutoConfig, BertForSequenceClassification

    tuned = tmp_path / "tuned"
    shutil.copytree(assets / "model", tuned)
    config = AutoConfig.from_pretrained(tuned, id2label={0: "bad", 1: "good"})
    model = BertForSequenceClassification(config)
    with torch.no_grad():
        model.classifier.bias.fill_(float("nan"))
    model.save_pretrained(tuned)
    project = write_project(tmp_path / "project", assets, teacher={"model": str(tuned)})
    line = failed(project, "--stage", "teach")
    assert re.match(r"teach@tiny: .* rows are not finite, the first is row_key [0-9a-f]{32}; ", line), line
    assert set(project.records()) == {"corpus@tiny"}


# --- data -----------------------------------------------------------------------------------------


def train_file(assets: Path) -> Path:
    return assets / "data" / "tiny" / "train.parquet"


def as_csv(assets: Path, content: bytes) -> Path:
    """The train split as a CSV file with this content."""
    train_file(assets).unlink()
    path = train_file(assets).with_suffix(".csv")
    path.write_bytes(content)
    return path


def test_a_truncated_parquet_file_is_refused_by_the_plan(paper: Project, plannable_assets: Path) -> None:
    path = train_file(plannable_assets)
    path.write_bytes(path.read_bytes()[:-20])
    line = refused(paper)
    assert line.startswith(f"data.source: {path}: not a whole Parquet file (")
    assert line.endswith("); copy or write it again")


def test_an_empty_parquet_split_is_refused_by_the_plan(paper: Project, plannable_assets: Path) -> None:
    path = train_file(plannable_assets)
    pq.write_table(pq.read_table(path).slice(0, 0), path)
    assert refused(paper) == f"data.source: {path}: no rows; a train split needs at least 1"


def test_a_folder_without_the_task_is_refused_by_the_plan(paper: Project, plannable_assets: Path) -> None:
    data = plannable_assets / "data"
    (data / "tiny").rename(data / "tinny")
    assert refused(paper) == f"data: source: neither {data / 'tiny'} nor {data / '*' / 'tiny'} is a folder"


def test_a_split_without_a_file_is_refused_by_the_plan(paper: Project, plannable_assets: Path) -> None:
    train_file(plannable_assets).unlink()
    line = refused(paper)
    assert line.startswith(f"data: source: {plannable_assets / 'data' / 'tiny'} has no train.")


def bad_label(assets: Path) -> str:
    table = pa.table({"sentence": ["a", "b", "c"], "label": [0, 1, 2]})
    pq.write_table(table, train_file(assets))
    return f"{train_file(assets)}: row 3, column label: 2"


def empty_csv(assets: Path) -> str:
    path = as_csv(assets, b"sentence,label\n")
    return f"{path}: no rows; a train split needs at least 1"


def latin_csv(assets: Path) -> str:
    path = as_csv(assets, b"sentence,label\nfine,1\ncaf\xe9,0\n")
    return f"{path}: row 2 (line 3), column sentence: byte 0xe9 is not UTF-8; save the file as UTF-8"


def ragged_csv(assets: Path) -> str:
    path = as_csv(assets, b"sentence,label\nfine,1\nfine,1,2\n")
    return f"{path}: row 2 (line 3): 3 fields; the header has 2"


def other_column(assets: Path) -> str:
    pq.write_table(pa.table({"text": ["a"], "label": [0]}), train_file(assets))
    return f"{train_file(assets)}: no column sentence; it has text, label"


@pytest.mark.parametrize("harm", [bad_label, empty_csv, latin_csv, ragged_csv, other_column])
@pytest.mark.parametrize("command", ["plan", "run"])
def test_rows_that_cannot_be_used_are_refused_before_any_work(
    paper: Project, plannable_assets: Path, harm: Callable[[Path], str], command: str
) -> None:
    expected = harm(plannable_assets)
    assert refused(paper, command=command).startswith(f"data.source: {expected}")


# --- the storage ----------------------------------------------------------------------------------


def test_a_storage_that_is_a_file_is_refused(paper: Project, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("", "utf-8")
    for command in ("plan", "run", "report"):
        line = refused(paper, "--storage", str(file), command=command)
        assert line == f"storage: {file}, but {file} is a file; give a directory"
        line = refused(paper, "--storage", str(file / "runs"), command=command)
        assert line == f"storage: {file / 'runs'}, but {file} is a file; give a directory"


def test_a_storage_that_cannot_be_written_is_refused_before_any_work(paper: Project) -> None:
    line = refused(paper, "--storage", "/proc/stillhouse", "--inline", command="run")
    assert re.fullmatch(
        r"storage: /proc/stillhouse cannot be written \(.+\); give a directory that you may write", line
    )


def test_a_storage_of_another_kind_is_refused(paper: Project) -> None:
    line = refused(paper, "--storage", "ftp://host/prefix")
    assert line == "storage: ftp://host/prefix; give a directory, s3://bucket/prefix or gs://bucket/prefix"


@pytest.mark.parametrize("command", ["plan", "run", "report"])
def test_a_bucket_that_cannot_be_reached_is_refused(paper: Project, command: str) -> None:
    with at("http://127.0.0.1:9"):
        line = refused(paper, "--storage", "s3://bucket/prefix", command=command)
    assert line.startswith("storage: s3://bucket/prefix cannot be read (")
    assert line.endswith("; see its credentials and endpoint in the environment")


def test_a_bucket_that_does_not_exist_or_denies_access_is_refused(paper: Project) -> None:
    with s3_server() as url, at(url):
        line = refused(paper, "--storage", "s3://bucket/prefix")
    assert line == "storage: s3://bucket/prefix: there is no such bucket; make it first"


def test_a_record_from_a_newer_version_is_refused(built: Project) -> None:
    path = built.artifact("teach@tiny").parent / "record.json"
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), "format": 7}), "utf-8")
    for command in ("plan", "run", "report"):
        assert refused(built, command=command) == (
            f"{path}: record format 7 is newer than 1, the newest that this version reads; upgrade Stillhouse"
        )


def test_a_truncated_store_is_rebuilt_by_a_later_run(built: Project) -> None:
    shard = built.artifact("teach@tiny") / "shard-00000.parquet"
    shard.write_bytes(shard.read_bytes()[:-100])
    options = ("--set", "method=[no-kd, vanilla-kd, annealing-kd]", "--set", "seeds=[0]")
    step = built.plan(*options)["teach@tiny"]
    assert (step["action"], step["why"]) == ("build", "shard-00000.parquet is missing or cut short")
    assert built("run", "--inline", *options).code == 0
    assert built.plan(*options)["teach@tiny"]["action"] == "reuse"


def test_a_damaged_shard_is_named_with_a_remedy_that_works(
    built: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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


def test_a_full_disk_fails_the_stage_and_the_next_run_goes_on(assets: Path, tmp_path: Path, small_disk: Path) -> None:
    project = write_project(tmp_path / "project", assets, method="no-kd")
    storage = ("--storage", str(small_disk / "runs"))
    line = failed(project, *storage)
    assert re.match("finetune@tiny: .*No space left on device", line), line
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    again = project("run", "--inline", *storage)
    assert again.code == 0, again.err
    assert "corpus@tiny" not in again.out, "what was there before the disk was full is still there"


# --- the cluster ----------------------------------------------------------------------------------


def test_a_cluster_that_cannot_be_reached_is_refused(paper: Project) -> None:
    result = paper("run", "--address", "127.0.0.1:1")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("stillhouse: address: 127.0.0.1:1 cannot be reached")
    assert result.err.count("\n") == 1
    assert paper.records() == {}


def test_resources_that_this_machine_does_not_have_are_refused(paper: Project) -> None:
    cores = os.cpu_count()
    result = paper("run", "--inline", "--set", "resources.distil.workers=1000")
    line = (
        f"stillhouse: resources.distil: 1000 workers of 1 CPU each, but the cluster can hold {cores} at most (1 node of"
    )
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(line)
    assert result.err.count("\n") == 1
    result = paper("run", "--inline", "--set", "resources.distil.gpus_per_worker=1")
    line = "stillhouse: resources.distil: 1 worker of "
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(line)
    assert ", 1 GPU, but the cluster can hold 0 at most (" in result.err
    assert paper.records() == {}


def test_a_disk_that_may_be_too_small_is_warned_of_while_planning(paper: Project, tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "100k") as folder:
        result = paper("plan", "--storage", str(folder / "runs"))
        assert result.code == 0
        assert re.search(r"warning: storage: \S+ has 1..,... bytes left on its disk, but the plan may need", result.err)

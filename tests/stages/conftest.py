"""A tiny encoder, two corpora, teachers and a store, made once for the tests of all stages."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from tiny import write_tiny_model, write_tiny_task
from tiny_tasks import PAIRS, TINY, write_teacher
from training_setups import inline, write_corpus

from stages.specs.teacher import TeachSpec
from stages.teaching.teach import teach


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Use one thread, because their number changes the bits of a sum. A stage that runs inline sets one, too."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of three layers of width 16, without a head."""
    return write_tiny_model(tmp_path_factory.mktemp("encoder"), layers=3, width=16, initializer_range=0.3)


@pytest.fixture(scope="session")
def tiny_corpus(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> Path:
    """A corpus of sentences. Some texts of train occur twice, and one of them is in dev too; test has no labels."""
    home = tmp_path_factory.mktemp("tiny")
    folder = write_tiny_task(home, {"train": 60, "validation": 24, "test": 10}) / "tiny"
    train, dev = (pq.read_table(folder / f"{split}.parquet") for split in ("train", "validation"))
    pq.write_table(pa.concat_tables([train, train.slice(0, 6)]), folder / "train.parquet")
    pq.write_table(pa.concat_tables([dev, train.slice(40, 1)]), folder / "validation.parquet")
    pq.write_table(pq.read_table(folder / "test.parquet").drop_columns("label"), folder / "test.parquet")
    return write_corpus(TINY, folder, encoder, home / "corpus")


@pytest.fixture(scope="session")
def pairs_corpus(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> Path:
    """Pairs of texts with a number each: a regression with token types."""
    home = tmp_path_factory.mktemp("pairs")
    for split, rows in (("train", 40), ("validation", 16)):
        words = [f"{['good', 'fine', 'great'][row % 3]} {row * 7919 % 101}" for row in range(rows)]
        others = [f"the {['bad', 'dull'][row % 2]} one of {row}" for row in range(rows)]
        labels = pa.array([(row % 3) + 0.5 * (row % 2) for row in range(rows)], pa.float64())
        pq.write_table(pa.table({"one": words, "two": others, "label": labels}), home / f"{split}.parquet")
    return write_corpus(PAIRS, home, encoder, home / "corpus")


@pytest.fixture(scope="session")
def teacher(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> Path:
    return write_teacher(encoder, TINY, tmp_path_factory.mktemp("teacher"))


@pytest.fixture(scope="session")
def pairs_teacher(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> Path:
    return write_teacher(encoder, PAIRS, tmp_path_factory.mktemp("pairs-teacher"))


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory, tiny_corpus: Path, teacher: Path) -> Path:
    """The teacher's outputs for train: logits and the mean-pooled states of all layers."""
    out = tmp_path_factory.mktemp("store")
    teach(TeachSpec(), {"corpus": tiny_corpus, "model": teacher}, out, inline())
    return out


@pytest.fixture(scope="session")
def pairs_store(tmp_path_factory: pytest.TempPathFactory, pairs_corpus: Path, pairs_teacher: Path) -> Path:
    out = tmp_path_factory.mktemp("pairs-store")
    teach(TeachSpec(layers=(0,)), {"corpus": pairs_corpus, "model": pairs_teacher}, out, inline())
    return out

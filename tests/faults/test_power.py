"""A power failure at any moment: a record names whole files, what counts as finished is whole, what was committed
stays."""

import itertools
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from power import Check, Power, watched
from project import record_for
from stores import KEYS, LAYOUT, LOGITS, RULE, STATES, kept
from tiny import packaged_model
from transformers import BertConfig, BertModel

from cluster.inline import Inline, InlineWorker
from cluster.resources import Resources, SilentListener
from pipeline.artifacts.attempts import Attempt, Watch, claim
from pipeline.artifacts.ownership import Uses, note_use, read_uses
from pipeline.artifacts.record import Record, commit, find, parsed_records, sweep, withdraw
from pipeline.cli.verify import broken_files
from pipeline.graph.external import hub
from pipeline.graph.external.hub import Pins
from pipeline.graph.nodes import ExternalInput, Graph, Node
from pipeline.storage.directory import Directory
from stages.atomic import replacing
from stages.bank.ingest import IngestJob, TextStream, finished_raw_part, open_ingest
from stages.corpus.corpus import corpus
from stages.corpus.tokenizer import Tokenize, WritePart, finished_part, open_tokenizer, write_rows_file
from stages.outputs.layout import Layout, ShardFile, read_store, shard_numbers, write_store
from stages.outputs.parquet import write_shard
from stages.outputs.verify import check_store
from stages.retrieval.embed import finished as embedded
from stages.retrieval.embeddings import keys_path, vectors_path
from stages.retrieval.embeddings_writer import save_array, write_meta
from stages.saved_rows import SavedRows
from stages.specs.axes.training import Position
from stages.specs.bank import BankSpec, GeneratedTexts
from stages.specs.corpus import CorpusSpec, Generated
from stages.specs.student import DistilSpec, Pretrained, Train
from stages.specs.tasks import REVIEWS
from stages.specs.teacher import TeachSpec
from stages.teaching.finished import finished_shards
from stages.training.checkpoint import Progress, load, save
from stages.training.job import StudentJob
from stages.training.sums import sum_layout
from stages.training.worker import epoch_saver

NODE = Node("teach@tiny", "teach", "tiny", TeachSpec(), {"model": ExternalInput("m", Path("m"), "a model")})
DAYS = itertools.count(4e9, 86_400.0)
"""Times far ahead, in seconds since 1970, a day apart."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "disk").mkdir()
    return tmp_path / "disk"


def survives(power: Power, tmp_path: Path, check: Check, besides: str = "") -> int:
    """Have ``check`` and the promises read every state that a power failure may leave. Returns how many there are."""
    count = 0
    for operation, home, promises in power.states(tmp_path / "after", besides):
        try:
            for one in (check, *promises):
                one(home)
        except Exception as error:
            raise AssertionError(f"power failure before operation {operation}: {error!r}") from error
        shutil.rmtree(home)
        count += 1
    return count


def text_of(home: Path, name: str) -> str | None:
    return (home / name).read_bytes().decode("latin-1") if (home / name).exists() else None


# --- one file -------------------------------------------------------------------------------------


def test_the_model_finds_a_file_that_was_renamed_before_its_content_was_written(root: Path, tmp_path: Path) -> None:
    """So the other tests can fail."""
    with watched(root) as power:
        (root / "draft").write_text("content")
        (root / "draft").rename(root / "file")
    with pytest.raises(AssertionError, match="power failure before operation"):
        survives(power, tmp_path, lambda home: one_of(text_of(home, "file"), None, "content"))


def one_of(found: object, *allowed: object) -> None:
    assert found in allowed, found


@pytest.mark.parametrize("durable", [False, True])
def test_a_file_is_the_former_or_the_new_one_whole(root: Path, tmp_path: Path, durable: bool) -> None:
    (root / "file").write_text("former")
    with watched(root) as power:
        for text in ("second", "third"):
            with replacing(root / "file", durable=durable) as draft:
                draft.write_text(text)
            if durable:
                lasting = ("second", "third") if text == "second" else ("third",)
                power.promises[:] = [lambda home, lasting=lasting: one_of(text_of(home, "file"), *lasting)]
    assert survives(power, tmp_path, lambda home: one_of(text_of(home, "file"), "former", "second", "third")) > 3


# --- artifacts ------------------------------------------------------------------------------------


def records_are_whole(home: Path) -> None:
    """No record is damaged, and each names files that are there with their checksums."""
    storage = Directory(home)
    for record in parsed_records(storage).values():
        assert isinstance(record, Record), record
        assert broken_files(home / record.folder, record) == []


def written(attempt: Attempt, text: str) -> Record:
    """A stage's work: files that are replaced, files that are just written, in folders of their own."""
    (attempt.out / "model").mkdir(exist_ok=True)
    (attempt.out / "train").mkdir(exist_ok=True)
    (attempt.out / "model" / "weights").write_text(text * 50)
    (attempt.out / "history.json").write_text(text)
    with replacing(attempt.out / "train" / "part") as draft:
        draft.write_text(text * 10)
    return record_for(NODE, attempt.out)


def claimed(storage: Directory) -> Attempt:
    """The next attempt. Each call is so much later that every former lease has expired; an attempt that has no file yet
    is watched for a while."""
    watch: Watch = {}
    for now in (next(DAYS), next(DAYS)):
        found = claim(storage, "teach", NODE.key, watch, lambda now=now: now)  # type: ignore[misc]
        if isinstance(found, Attempt):
            return found
    raise AssertionError(found)


def test_a_record_names_whole_files_and_what_was_committed_stays(root: Path, tmp_path: Path) -> None:
    """Built, swept, withdrawn and built again, withdrawn and removed."""
    with watched(root) as power:
        storage = Directory(root / "new" / "runs")
        attempt = claimed(storage)
        first = commit(storage, attempt.out, written(attempt, "one"))
        power.promises[:] = [lambda home: one_of(find(Directory(home / "new" / "runs"), "teach", NODE.key), first)]
        sweep(storage, first)
        power.promises.clear()
        withdraw(storage, "teach", NODE.key)
        power.promises[:] = [lambda home: one_of(find(Directory(home / "new" / "runs"), "teach", NODE.key), None)]
        attempt = claimed(storage)
        draft = written(attempt, "two")
        power.promises.clear()
        second = commit(storage, attempt.out, draft)
        power.promises[:] = [lambda home: one_of(find(Directory(home / "new" / "runs"), "teach", NODE.key), second)]
        sweep(storage, second)
        power.promises.clear()
        withdraw(storage, "teach", NODE.key)
        storage.drop(second.folder)
    assert survives(power, tmp_path, lambda home: records_are_whole(home / "new" / "runs"), ".work") > 50


def test_what_a_recipe_uses_stays_recorded(root: Path, tmp_path: Path) -> None:
    storage = Directory(root)
    with watched(root) as power:
        note_use(storage, "tiny", Graph((NODE,)))
        power.promises.append(lambda home: one_of(dict(uses(home).by_key), {NODE.key: {"tiny"}}))
    survives(power, tmp_path, lambda home: one_of(uses(home).uncertain, frozenset()))


def uses(home: Path) -> Uses:
    return read_uses(Directory(home), Directory(home).walk())


def test_pins_stay_and_are_never_damaged(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub names a commit for every model."""
    monkeypatch.setattr(hub, "_latest_commit", lambda repository, *_: f"commit of {repository}")
    with watched(root) as power:
        pins = Pins.load(Directory(root), refresh=False)
        for name in ("org/one", "org/two"):
            pins.commit(name, "model", "teacher.model")
            known = dict(pins.known)
            power.promises.append(lambda home, known=known: holds(known, Pins.load(Directory(home), False).known))
    assert survives(power, tmp_path, lambda home: holds({}, Pins.load(Directory(home), False).known)) > 3


def holds(expected: Mapping[Any, Any], found: Mapping[Any, Any]) -> None:
    assert expected.items() <= found.items()


# --- work that is not committed -------------------------------------------------------------------


def test_a_shard_that_counts_as_finished_is_whole_and_is_taken_over(root: Path, tmp_path: Path) -> None:
    layout = replace(LAYOUT, precision="int8")  # its scales are files of their own
    storage, shards = Directory(root), {}
    with watched(root) as power:
        attempt = claimed(storage)
        for number, start in enumerate((0, 15)):
            rows = slice(start, start + 15)
            states = {name: values[rows] for name, values in kept(layout, STATES).items()}
            shards[number] = write_shard(attempt.out, number, layout, KEYS[rows], LOGITS[rows], states)
            known = dict(shards)
            power.promises[:] = [lambda home, known=known: holds(known, taken_over(home, layout))]
        write_store(attempt.out, layout, RULE, list(shards.values()))
        promised = power.promises[:]
        power.promises.clear()
        # The next run takes them over, and is cut, too.
        assert finished_shards(claimed(storage).out, layout, [0, 1])
        power.promises[:] = promised

    def counted_shards_are_whole(home: Path) -> None:
        holds(taken_over(home, layout), shards)

    survives(power, tmp_path, counted_shards_are_whole)


def taken_over(home: Path, layout: Layout) -> dict[int, ShardFile]:
    """The shards that the next run finds in its attempt, by number."""
    attempt = claimed(Directory(home))
    if (attempt.out / "store.json").exists():
        store = read_store(attempt.out)
        assert check_store(attempt.out, KEYS, lambda _: None).passed
        assert store.rows == 30
    return {file.number: file for file, _ in finished_shards(attempt.out, layout, shard_numbers(attempt.out))}


def test_a_checkpoint_is_the_last_one_that_was_saved_or_the_one_under_way(root: Path, tmp_path: Path) -> None:
    parts, layout = ("student",), sum_layout(("hard",), 0, {})
    with watched(root) as power:
        for step in (1, 2, 3):
            progress = Progress(layout, position=Position(0, 0, step), learning_rate=1e-4)
            save(root / "scratch" / "checkpoint.pt", progress, {"student": {"weight": torch.full((9, 9), float(step))}})
            power.promises[:] = [lambda home, step=step: one_of(step_of(home), step, step + 1)]

    def step_of(home: Path) -> int | None:
        found = load(home / "scratch" / "checkpoint.pt", parts, layout)
        if found is None:
            return None
        assert torch.equal(found[1]["student"]["weight"], torch.full((9, 9), float(found[0].position.step)))
        return found[0].position.step

    survives(power, tmp_path, lambda home: one_of(step_of(home), None, 1, 2, 3))


def test_a_kept_epoch_is_whole(root: Path, tmp_path: Path) -> None:
    (root / "out" / "scratch").mkdir(parents=True)
    rows = CorpusSpec(task=REVIEWS, source=Generated(train=8, validation=4, test=4), holdout=0.0)
    (tmp_path / "corpus").mkdir()
    corpus(rows, {"tokenizer": packaged_model()}, tmp_path / "corpus", Inline().on(Resources(), SilentListener()))
    tiny = BertConfig(vocab_size=8, hidden_size=4, num_hidden_layers=1, num_attention_heads=1, intermediate_size=4)
    spec = DistilSpec(start=Pretrained(), train=Train(keep="epochs"))
    job = StudentJob(spec, {"corpus": tmp_path / "corpus"}, root / "out")
    with watched(root) as power:
        epoch_saver(job)(BertModel(tiny), 1)
        power.promises.append(lambda home: one_of((home / "out" / "epochs" / "01").is_dir(), True))
    whole = {path.name: path.read_bytes() for path in (root / "out" / "epochs" / "01").iterdir()}
    assert "model.safetensors" in whole

    def epoch_is_whole(home: Path) -> None:
        folder = home / "out" / "epochs" / "01"
        if folder.is_dir():
            assert {path.name: path.read_bytes() for path in folder.iterdir()} == whole

    survives(power, tmp_path, epoch_is_whole)


def test_embeddings_that_count_as_finished_are_whole(root: Path, tmp_path: Path) -> None:
    """A shard is two files, and either name may be lost."""
    keys = np.frombuffer(b"".join(KEYS), np.uint8).reshape(-1, 16)
    shards = {number: np.full((len(keys), 4), number + 1, np.float16) for number in range(2)}
    with watched(root) as power:
        for number, vectors in shards.items():
            save_array(keys_path(root, number), keys)
            save_array(vectors_path(root, number), vectors)
        write_meta(root, {"shards": [len(keys)] * 2})

    def counted_shards_are_whole(home: Path) -> None:
        for number, vectors in shards.items():
            if embedded(home, number, len(keys), 4):
                assert np.array_equal(np.load(vectors_path(home, number)), vectors)
                assert np.array_equal(np.load(keys_path(home, number)), keys)

    assert survives(power, tmp_path, counted_shards_are_whole) > 5


def test_rows_that_were_saved_within_a_shard_are_whole_or_are_computed_again(root: Path, tmp_path: Path) -> None:
    values = {key: np.full(3, number, np.float16) for number, key in enumerate(KEYS[:6])}
    with watched(root) as power:
        saved = SavedRows(root / "scratch", "shard-00000")
        for keys in (KEYS[:3], KEYS[3:6]):
            saved.save(keys, {"vector": [values[key] for key in keys]})
        saved.remove()

    def restored_rows_are_those_that_were_saved(home: Path) -> None:
        for key, columns in SavedRows(home / "scratch", "shard-00000").found.items():
            assert np.array_equal(columns["vector"], values[key])

    assert survives(power, tmp_path, restored_rows_are_those_that_were_saved) > 3


def test_a_part_of_a_corpus_that_counts_as_finished_is_whole(root: Path, tmp_path: Path) -> None:
    rows = write_rows_file(pa.table({"text": ["a film", "a story"]}), tmp_path)
    write = open_tokenizer(Tokenize(packaged_model(), ("text",), 8, tmp_path), InlineWorker(1, SilentListener()))
    with watched(root) as power:
        facts = write(WritePart(root / "train" / "part-00000.parquet", rows))
    whole = pq.read_table(root / "train" / "part-00000.parquet")

    def counted_part_is_whole(home: Path) -> None:
        path = home / "train" / "part-00000.parquet"
        if finished_part(path, 2) is not None:
            assert finished_part(path, 2) == facts
            assert pq.read_table(path).equals(whole)

    assert survives(power, tmp_path, counted_part_is_whole) > 1


def test_a_raw_part_of_a_bank_that_counts_as_finished_is_whole_with_its_keys(root: Path, tmp_path: Path) -> None:
    """The search for duplicates reads the keys, which are files beside it."""
    spec = BankSpec(source=GeneratedTexts(rows=20))
    with watched(root) as power:
        (part,) = open_ingest(IngestJob(spec, root), InlineWorker(1, SilentListener()))(TextStream(0, 1))
    whole = {path.name: path.read_bytes() for path in root.iterdir()}
    assert len(whole) == 3

    def counted_part_is_whole(home: Path) -> None:
        if finished_raw_part(home, part.name) is not None:
            assert {path.name: path.read_bytes() for path in home.iterdir() if path.suffix != ".tmp"} == whole

    assert survives(power, tmp_path, counted_part_is_whole) > 5

"""The teacher over a corpus: what it says is what the plain model says, once for each text."""

import hashlib
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from disk import mounted
from safetensors.torch import load_file, save_file
from torch import nn
from training_setups import Interrupted, RecordingListener, inline

import stages.teaching.teach
import stages.teaching.worker
from cluster.inline import InlineWorker
from pipeline.artifacts.record import describe
from stages.checksum import file_sha256, kept_checksums
from stages.corpus.reader import read_split
from stages.outputs.layout import Layout, ShardFile, read_store, scales_name, shard_name, write_store
from stages.outputs.parquet import footer_sha256
from stages.outputs.reader import read_columns
from stages.specs.teacher import TeachSpec
from stages.teaching.job import Shard, TeachJob
from stages.teaching.teach import teach
from stages.teaching.worker import TeacherWorker


def directly(model: Path, corpus: Path, split: str, pooling: str) -> tuple[np.ndarray, np.ndarray]:
    """Logits [N, C] and pooled states [N, layers + 1, H] of plain transformers, one text at a time, in float32."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(corpus / "tokenizer")
    plain = AutoModelForSequenceClassification.from_pretrained(model).eval()
    logits, states = [], []
    for texts in read_split(corpus, split).texts():
        given = tokenizer(*texts, truncation=True, max_length=16, return_tensors="pt")
        with torch.no_grad():
            said = plain(**given, output_hidden_states=True)
        logits.append(said.logits[0].numpy())
        pooled = [state[0].mean(0) if pooling == "mean" else state[0, 0] for state in said.hidden_states]
        states.append(torch.stack(pooled).numpy())
    return np.array(logits), np.array(states)


def taught(
    spec: TeachSpec, corpus: Path, model: Path, out: Path, listener: RecordingListener | None = None, threads: int = 1
) -> dict[str, object]:
    out.mkdir(exist_ok=True)
    return teach(spec, {"corpus": corpus, "model": model}, out, inline(listener, threads))


LAYOUT = Layout("pooled", (0, 1, 2, 3), 16, 2, 2, "mean", "float16")


def keys(corpus: Path, split: str = "train") -> list[bytes]:
    return read_split(corpus, split).keys


# --- what is said -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["tiny", "pairs"])
def test_stored_logits_and_means_are_those_of_the_plain_model_text_by_text(
    task: str, tiny_corpus: Path, pairs_corpus: Path, teacher: Path, pairs_teacher: Path, tmp_path: Path
) -> None:
    """Batches and padding change nothing but float32's last bits; float16 keeps three digits of a state."""
    corpus, model = (tiny_corpus, teacher) if task == "tiny" else (pairs_corpus, pairs_teacher)
    taught(TeachSpec(), corpus, model, tmp_path / "out")
    logits, states = directly(model, corpus, "train", "mean")
    names = [f"hidden_0{layer}" for layer in range(4)]
    found = read_columns(tmp_path / "out", ["logits", *names], keys(corpus))
    np.testing.assert_allclose(found["logits"], logits, atol=1e-5)
    for layer, name in enumerate(names):
        assert found[name].dtype == np.float16
        np.testing.assert_allclose(found[name].astype(np.float32), states[:, layer], rtol=1e-3, atol=1e-3)
        assert states[:, layer].std(0).max() > 0.05, "rows differ, or this proves nothing"


def test_a_store_may_hold_chosen_layers_of_the_first_token_in_float32(
    tiny_corpus: Path, teacher: Path, tmp_path: Path
) -> None:
    spec = TeachSpec(pooling="cls", layers=(3, 1), precision="float32")
    facts = taught(spec, tiny_corpus, teacher, tmp_path / "out")
    _, states = directly(teacher, tiny_corpus, "train", "cls")
    found = read_columns(tmp_path / "out", ["hidden_03", "hidden_01"], keys(tiny_corpus))
    for layer in (3, 1):
        np.testing.assert_allclose(found[f"hidden_0{layer}"], states[:, layer], atol=1e-5)
    table = pq.read_table(tmp_path / "out" / shard_name(0))
    assert table.column_names == ["row_key", "logits", "hidden_03", "hidden_01"]
    assert facts["layers"] == 2
    layout = read_store(tmp_path / "out").layout
    assert (layout.pooling, layout.precision, layout.layers) == ("cls", "float32", (3, 1))


def test_a_store_may_hold_logits_alone(tiny_corpus: Path, teacher: Path, store: Path, tmp_path: Path) -> None:
    taught(TeachSpec(layers=()), tiny_corpus, teacher, tmp_path / "out")
    assert pq.read_table(tmp_path / "out" / shard_name(0)).column_names == ["row_key", "logits"]
    asked = keys(tiny_corpus)
    alone, beside = (read_columns(path, ["logits"], asked)["logits"] for path in (tmp_path / "out", store))
    assert np.array_equal(alone, beside)


def test_logits_are_stored_in_the_tasks_label_order(
    tiny_corpus: Path, teacher: Path, store: Path, tmp_path: Path
) -> None:
    taught(TeachSpec(label_order=(1, 0)), tiny_corpus, teacher, tmp_path / "out")
    asked = keys(tiny_corpus)
    plain = read_columns(store, ["logits", "hidden_03"], asked)
    turned = read_columns(tmp_path / "out", ["logits", "hidden_03"], asked)
    assert np.array_equal(turned["logits"], plain["logits"][:, [1, 0]])
    assert np.array_equal(turned["hidden_03"], plain["hidden_03"])


def test_each_text_is_computed_once_however_often_it_occurs(
    tiny_corpus: Path, teacher: Path, store: Path, tmp_path: Path
) -> None:
    listener = RecordingListener()
    facts = taught(TeachSpec(splits=("train", "validation")), tiny_corpus, teacher, tmp_path / "out", listener)
    both = keys(tiny_corpus) + keys(tiny_corpus, "validation")
    stored = pq.read_table(tmp_path / "out" / shard_name(0))["row_key"].to_pylist()
    assert len(stored) == len(set(stored)) == len(set(both)) == facts["rows"] == listener.done == listener.expected[0]
    assert set(stored) == set(both)
    assert len(set(keys(tiny_corpus))) < len(keys(tiny_corpus)), "a text of train is there twice"
    assert len(stored) < len(set(keys(tiny_corpus))) + len(set(keys(tiny_corpus, "validation"))), "and one in dev too"
    asked = keys(tiny_corpus)
    small, large = (read_columns(path, ["logits"], asked)["logits"] for path in (store, tmp_path / "out"))
    np.testing.assert_allclose(small, large, atol=1e-5)


def test_the_facts_count_what_was_written(tiny_corpus: Path, teacher: Path, tmp_path: Path) -> None:
    facts = taught(TeachSpec(), tiny_corpus, teacher, tmp_path / "out")
    rows = len(set(keys(tiny_corpus)))
    counted = {"rows": rows, "computed": rows, "carried": 0}
    assert facts == {**counted, "layers": 4, "width": 16, "shards": 1, "oom_halvings": 0}
    store = read_store(tmp_path / "out")
    assert store.layout == Layout("pooled", (0, 1, 2, 3), 16, 2, 2, "mean", "float16")
    path = tmp_path / "out" / shard_name(0)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert store.shards == (ShardFile(0, rows, path.stat().st_size, digest, footer_sha256(path)),)


def test_a_layer_that_the_teacher_lacks_stops_the_stage(tiny_corpus: Path, teacher: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^store\.layers: the teacher has no layer 4; it has 0 \(embeddings\) to 3$"):
        taught(TeachSpec(layers=(0, 4)), tiny_corpus, teacher, tmp_path / "out")


# --- cut and taken up ---------------------------------------------------------------------------------------


def test_a_stage_that_was_cut_keeps_its_finished_shards_and_ends_with_the_same_bytes(
    tiny_corpus: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages.teaching.teach, "SHARD_ROWS", 10)

    def cut(done: float) -> None:
        if done > 25:
            raise Interrupted

    with pytest.raises(Interrupted):
        taught(TeachSpec(), tiny_corpus, teacher, tmp_path / "cut", RecordingListener(cut))
    kept = {path.name: path.stat() for path in (tmp_path / "cut").glob("*.parquet")}
    assert sorted(kept) == [shard_name(0), shard_name(1)]
    assert not (tmp_path / "cut" / "store.json").exists(), "a store that is not whole has no layout"
    listener = RecordingListener()
    facts = taught(TeachSpec(), tiny_corpus, teacher, tmp_path / "cut", listener)
    for name, before in kept.items():
        after = (tmp_path / "cut" / name).stat()
        assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    rows = len(set(keys(tiny_corpus)))
    assert listener.done == listener.expected[0] == rows - 20, "only what is left is announced and done"
    whole_facts = taught(TeachSpec(), tiny_corpus, teacher, tmp_path / "whole")
    assert facts == {**whole_facts, "computed": rows - 20}
    whole, resumed = (
        {path.name: path.read_bytes() for path in (tmp_path / name).glob("*.*")} for name in ("whole", "cut")
    )
    assert whole == resumed and len(whole) == -(-rows // 10) + 1


SAVED = (
    TeachSpec(),
    TeachSpec(precision="int8", pooling="both"),
    TeachSpec(part="tokens", layers=(0, 3)),
    TeachSpec(part="scores", layers=(1, 2)),
)


@pytest.mark.parametrize("spec", SAVED, ids=lambda spec: f"{spec.part}-{spec.precision}")
def test_a_shard_that_was_interrupted_goes_on_from_the_outputs_that_were_saved(
    spec: TeachSpec, tiny_corpus: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stages.teaching.worker.pass_cost", lambda *_: 64)
    taught(spec, tiny_corpus, teacher, tmp_path / "whole")
    monkeypatch.setattr("stages.saved_rows.SAVE_SECONDS", 0.0)

    def interrupt(done: float) -> None:
        if done >= 30:
            raise Interrupted

    with pytest.raises(Interrupted):
        taught(spec, tiny_corpus, teacher, tmp_path / "cut", RecordingListener(interrupt))
    assert not list((tmp_path / "cut").glob("*.parquet")), "the only shard is not finished"
    monkeypatch.setattr("stages.saved_rows.SAVE_SECONDS", 1e9)
    passes: list[int] = []
    run = TeacherWorker._run
    monkeypatch.setattr(TeacherWorker, "_run", lambda self, batch: passes.append(len(batch.rows)) or run(self, batch))
    listener = RecordingListener()
    taught(spec, tiny_corpus, teacher, tmp_path / "cut", listener)
    rows = len(set(keys(tiny_corpus)))
    assert 0 < sum(passes) <= rows - 20 and listener.done + listener.restored == rows
    assert listener.restored >= 20, "rows that were restored are no work of this run"
    whole, resumed = (
        {path.name: path.read_bytes() for path in (tmp_path / name).glob("*.*")} for name in ("whole", "cut")
    )
    assert whole == resumed
    assert [path.name for path in (tmp_path / "cut" / "scratch").iterdir()] == ["checksums.json"]


def test_checksums_of_shards_are_kept_for_the_record_until_a_file_is_written_again(
    tiny_corpus: Path, teacher: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    taught(TeachSpec(precision="int8"), tiny_corpus, teacher, out)
    kept = kept_checksums(out)
    assert kept == {name: file_sha256(out / name) for name in (shard_name(0), scales_name(0))}
    assert {file.path: file.sha256 for file in describe(out)} == {
        path.name: file_sha256(path) for path in out.glob("*.*")
    }
    (out / shard_name(0)).write_bytes(b"another")
    assert list(kept_checksums(out)) == [scales_name(0)]
    (file,) = [file for file in describe(out) if file.path == shard_name(0)]
    assert file.sha256 == file_sha256(out / shard_name(0))


def test_several_shards_are_written_while_the_next_is_computed_and_all_are_those_of_one_at_a_time(
    tiny_corpus: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With runs of four shards and two threads that write, against one shard at a time. The first shard is held
    back until the second one is being written, too."""
    monkeypatch.setattr(stages.teaching.teach, "SHARD_ROWS", 10)
    write, second = stages.teaching.worker.write_shard, threading.Event()

    def noting(out: Path, number: int, *others: Any, **more: Any) -> ShardFile:
        if number == 1:
            second.set()
        assert number != 0 or second.wait(60), "the second shard is not begun before the first is written"
        return write(out, number, *others, **more)

    monkeypatch.setattr(stages.teaching.worker, "write_shard", noting)
    taught(TeachSpec(), tiny_corpus, teacher, tmp_path / "several", threads=2)
    monkeypatch.setattr(stages.teaching.worker, "write_shard", write)
    monkeypatch.setattr(stages.teaching.teach, "RUN_ON_CPU", 1)
    taught(TeachSpec(), tiny_corpus, teacher, tmp_path / "single", threads=2)
    several, single = (
        {path.name: path.read_bytes() for path in (tmp_path / name).glob("*.*")} for name in ("several", "single")
    )
    assert several == single and len(several) > 4


def test_shards_that_a_worker_finished_before_it_died_are_not_computed_again(
    tiny_corpus: Path, teacher: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    job = TeachJob(TeachSpec(), teacher, tiny_corpus, tmp_path / "out", LAYOUT)
    rows = len(set(keys(tiny_corpus)))
    shards = [Shard(0, np.arange(20)), Shard(1, np.arange(20, rows))]
    (first,) = TeacherWorker(job, InlineWorker(1, RecordingListener())).write(shards[:1])
    listener = RecordingListener()
    found = TeacherWorker(job, InlineWorker(1, listener)).write(shards)
    assert (found[0].file, listener.restored, listener.done) == (first.file, 20, rows - 20)


# --- what goes wrong ------------------------------------------------------------------------------------------


def spoilt(teacher: Path, directory: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> Path:
    shutil.copytree(teacher, directory)
    weights = load_file(directory / "model.safetensors")
    change(weights)
    save_file(weights, directory / "model.safetensors", {"format": "pt"})
    return directory


def test_weights_that_are_not_numbers_stop_the_stage_naming_a_row(
    tiny_corpus: Path, teacher: Path, tmp_path: Path
) -> None:
    broken = spoilt(teacher, tmp_path / "model", lambda weights: weights["classifier.bias"].fill_(float("nan")))
    with pytest.raises(ValueError) as caught:
        taught(TeachSpec(), tiny_corpus, broken, tmp_path / "out")
    assert str(caught.value) == (
        f"the teacher's logits: {len(set(keys(tiny_corpus)))} rows are not finite, the first is row_key "
        f"{keys(tiny_corpus)[0].hex()}; check the model's weights, or set store.on_bad_rows: quarantine to leave such "
        "rows out"
    )
    assert not list((tmp_path / "out").iterdir())


def test_one_row_of_many_that_is_not_finite_is_the_one_that_is_named(
    tiny_corpus: Path, teacher: Path, tmp_path: Path
) -> None:
    split = read_split(tiny_corpus, "train")
    rows = [split.tokens[start:end].tolist() for start, end in zip(split.offsets, split.offsets[1:], strict=False)]
    token = next(token for token in rows[20] if sum(token in row for row in rows) == 1)
    name = "bert.embeddings.word_embeddings.weight"
    broken = spoilt(teacher, tmp_path / "model", lambda weights: weights[name][token].fill_(float("inf")))
    with pytest.raises(ValueError, match=f"1 rows are not finite, the first is row_key {split.keys[20].hex()}"):
        taught(TeachSpec(), tiny_corpus, broken, tmp_path / "out")


def test_a_state_too_large_for_float16_is_refused_and_fits_float32(
    tiny_corpus: Path, teacher: Path, tmp_path: Path
) -> None:
    name = "bert.encoder.layer.0.output.LayerNorm.bias"
    large = spoilt(teacher, tmp_path / "model", lambda weights: weights[name].fill_(1e5))
    with pytest.raises(ValueError, match=r"the teacher's hidden_01 in float16 \(store\.precision\): .* not finite"):
        taught(TeachSpec(), tiny_corpus, large, tmp_path / "half")
    taught(TeachSpec(precision="float32"), tiny_corpus, large, tmp_path / "single")


class Cramped(nn.Module):
    """A model with memory for so many padded tokens at once."""

    def __init__(self, model: nn.Module, tokens: int) -> None:
        super().__init__()
        self.model, self.tokens = model, tokens
        self.sizes: list[int] = []

    def forward(self, input_ids: torch.Tensor, **others: Any) -> Any:
        self.sizes.append(input_ids.numel())
        if input_ids.numel() > self.tokens:
            raise torch.OutOfMemoryError(f"{input_ids.numel()} tokens do not fit")
        return self.model(input_ids=input_ids, **others)


def cramped_teacher(corpus: Path, model: Path, out: Path, tokens: int) -> tuple[TeacherWorker, Cramped, Shard]:
    out.mkdir()
    rows = len(set(keys(corpus)))
    dump = TeachJob(TeachSpec(), model, corpus, out, LAYOUT)
    teacher = TeacherWorker(dump, InlineWorker(1, RecordingListener()))
    cramped = Cramped(teacher.model, tokens)
    teacher.model = cramped
    return teacher, cramped, Shard(0, np.arange(rows))


def test_where_memory_runs_out_the_batches_are_halved_and_nothing_is_lost(
    tiny_corpus: Path, teacher: Path, store: Path, tmp_path: Path
) -> None:
    opened, cramped, shard = cramped_teacher(tiny_corpus, teacher, tmp_path / "out", tokens=100)
    (written,) = opened.write([shard])
    halvings = written.halvings
    assert halvings > 0 and opened.pass_cost * 2**halvings <= 1024
    fitting = [size for size in cramped.sizes if size <= 100]
    assert len(cramped.sizes) == len(fitting) + halvings, "no batch that does not fit is tried twice"
    assert max(fitting) > 50, "the budget is not cut further than it must be"
    columns = ["logits", *(f"hidden_0{layer}" for layer in range(4))]
    write_store(tmp_path / "out", opened.job.layout, "rule", [written.file])
    asked = keys(tiny_corpus)
    found, undisturbed = (read_columns(path, columns, asked) for path in (tmp_path / "out", store))
    for name in columns:
        given = found[name].astype(np.float32), undisturbed[name].astype(np.float32)
        np.testing.assert_allclose(*given, rtol=1e-3, atol=1e-3 if name != "logits" else 1e-5)
    (again,) = opened.write([Shard(1, shard.rows)])
    assert again.halvings == 0, "the next shard starts with the budget that fitted"


def test_a_single_row_that_does_not_fit_raises_what_torch_raised(
    tiny_corpus: Path, teacher: Path, tmp_path: Path
) -> None:
    opened, _, shard = cramped_teacher(tiny_corpus, teacher, tmp_path / "out", tokens=3)
    with pytest.raises(torch.OutOfMemoryError, match="tokens do not fit"):
        opened.write([shard])
    assert not list((tmp_path / "out").iterdir())


def test_an_error_that_is_not_about_memory_is_not_taken_for_one(
    tiny_corpus: Path, teacher: Path, tmp_path: Path
) -> None:
    class Broken(nn.Module):
        def forward(self, **inputs: torch.Tensor) -> None:
            raise RuntimeError("shapes do not match")

    opened, _, shard = cramped_teacher(tiny_corpus, teacher, tmp_path / "out", tokens=100)
    opened.model = Broken()
    with pytest.raises(RuntimeError, match="shapes do not match"):
        opened.write([shard])
    assert opened.halvings == 0


# --- parts, poolings, number types --------------------------------------------------------------------------------


def test_a_store_of_both_poolings_holds_what_one_of_each_holds(
    tiny_corpus: Path, teacher: Path, store: Path, tmp_path: Path
) -> None:
    taught(TeachSpec(pooling="both"), tiny_corpus, teacher, tmp_path / "both")
    taught(TeachSpec(pooling="cls"), tiny_corpus, teacher, tmp_path / "cls")
    asked = keys(tiny_corpus)
    both = read_columns(tmp_path / "both", ["logits", "hidden_02", "cls_02"], asked)
    assert np.array_equal(both["hidden_02"], read_columns(store, ["hidden_02"], asked)["hidden_02"])
    assert np.array_equal(both["cls_02"], read_columns(tmp_path / "cls", ["hidden_02"], asked)["hidden_02"])


def test_codes_stand_for_the_states_to_half_a_step(tiny_corpus: Path, teacher: Path, tmp_path: Path) -> None:
    taught(TeachSpec(precision="float32"), tiny_corpus, teacher, tmp_path / "single")
    taught(TeachSpec(precision="int8"), tiny_corpus, teacher, tmp_path / "bytes")
    asked = keys(tiny_corpus)
    for column in ("hidden_00", "hidden_03"):
        single, codes = (read_columns(tmp_path / name, [column], asked)[column] for name in ("single", "bytes"))
        steps = (single.max(0) - single.min(0)) / 254
        assert (np.abs(codes.astype(np.float32) - single) <= 0.51 * steps + 1e-3 * np.abs(single)).all()
    both = (read_columns(tmp_path / name, ["logits"], asked)["logits"] for name in ("single", "bytes"))
    assert np.array_equal(*both), "logits are float32 in every tier"


def positions(directory: Path, column: str) -> dict[bytes, np.ndarray]:
    table = pq.read_table(directory / shard_name(0))
    return dict(zip(table["row_key"].to_pylist(), map(np.array, table[column].to_pylist()), strict=True))


def test_every_position_of_a_row_is_the_output_of_the_plain_model(
    pairs_corpus: Path, pairs_teacher: Path, tmp_path: Path
) -> None:
    spec = TeachSpec(part="tokens", layers=(0, 3), precision="float32")
    facts = taught(spec, pairs_corpus, pairs_teacher, tmp_path / "out")
    assert facts["layers"] == 2
    found = positions(tmp_path / "out", "tokens_03")
    _, pooled = directly(pairs_teacher, pairs_corpus, "train", "mean")
    split = read_split(pairs_corpus, "train")
    for key, length, mean in zip(split.keys, split.lengths, pooled[:, 3], strict=True):
        assert found[key].shape == (length, 16)
        np.testing.assert_allclose(found[key].mean(0), mean, atol=1e-5)


def test_the_softmax_of_stored_scores_is_the_plain_models_attention_map_of_the_row_alone(
    tiny_corpus: Path, teacher: Path, tmp_path: Path
) -> None:
    spec = TeachSpec(part="scores", layers=(2,), precision="float32")
    taught(spec, tiny_corpus, teacher, tmp_path / "out")
    taught(spec.model_copy(update={"part": "attention"}), tiny_corpus, teacher, tmp_path / "earlier")
    found, earlier = positions(tmp_path / "out", "scores_02"), positions(tmp_path / "earlier", "attention_02")
    split, plain = read_split(tiny_corpus, "train"), eager_classifier(teacher)
    assert len(set(split.lengths.tolist())) > 1, "rows are of several lengths, or padding proves nothing"
    for key, start, end in zip(split.keys, split.offsets[:-1], split.offsets[1:], strict=True):
        with torch.no_grad():
            maps = plain(torch.from_numpy(split.tokens[start:end].astype(np.int64))[None], output_attentions=True)
        scores = torch.from_numpy(found[key]).float().view(2, end - start, end - start)
        torch.testing.assert_close(scores.softmax(-1), maps.attentions[1][0], atol=1e-5, rtol=0)
        np.testing.assert_allclose(earlier[key], maps.attentions[1].flatten().numpy(), atol=1e-5)


def eager_classifier(directory: Path) -> Any:
    from transformers import AutoModelForSequenceClassification

    return AutoModelForSequenceClassification.from_pretrained(directory, attn_implementation="eager").eval()


@pytest.mark.parametrize("part", ["scores", "attention"])
def test_attention_in_bytes_is_refused(part: str) -> None:
    with pytest.raises(ValueError, match="int8 has a scale for each dimension, and attention has none; use float16"):
        TeachSpec.model_validate({"part": part, "precision": "int8"})


def test_a_teacher_that_runs_in_bfloat16_has_nearly_the_same_outputs(
    tiny_corpus: Path, teacher: Path, store: Path, tmp_path: Path
) -> None:
    taught(TeachSpec(compute="bfloat16"), tiny_corpus, teacher, tmp_path / "out")
    asked = keys(tiny_corpus)
    half, single = (read_columns(path, ["logits"], asked)["logits"] for path in (tmp_path / "out", store))
    assert not np.array_equal(half, single)
    np.testing.assert_allclose(half, single, atol=0.05)


def test_a_finished_shard_that_was_damaged_since_is_made_anew(
    tiny_corpus: Path, teacher: Path, store: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / shard_name(0)).write_bytes((store / shard_name(0)).read_bytes()[:-20])
    facts = taught(TeachSpec(), tiny_corpus, teacher, tmp_path / "out")
    assert facts["computed"] == facts["rows"]
    assert (tmp_path / "out" / shard_name(0)).read_bytes() == (store / shard_name(0)).read_bytes()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    with mounted(tmp_path / "disk", "64k") as folder:
        yield folder


def test_a_disk_that_cannot_hold_the_store_is_refused_before_the_teacher_runs(
    tiny_corpus: Path, teacher: Path, small_disk: Path
) -> None:
    (small_disk / "ballast").write_bytes(bytes(60_000))
    listener = RecordingListener()
    with pytest.raises(ValueError, match=r"[\d,]+ bytes are free, the rest of the store takes about [\d,]+; free some"):
        taught(TeachSpec(precision="float32"), tiny_corpus, teacher, small_disk / "out", listener)
    assert listener.done == 0


def test_a_disk_that_fills_up_stops_the_stage_with_the_space_needed_and_the_next_run_goes_on(
    tiny_corpus: Path, teacher: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages.teaching.teach, "SHARD_ROWS", 10)
    out = small_disk / "out"

    def fill(done: float) -> None:
        if done == 20:
            while not list(out.glob("*.parquet")):  # a thread is writing the first shard
                time.sleep(0.01)
            free = shutil.disk_usage(small_disk).free
            (small_disk / "ballast").write_bytes(bytes(free))

    with pytest.raises(
        OSError, match=r"No space left on device; this shard of \d+ rows takes about [\d,]+ bytes; free"
    ):
        taught(TeachSpec(), tiny_corpus, teacher, out, RecordingListener(fill))
    kept = sorted(path.name for path in out.glob("*.parquet"))
    assert kept and not list(out.glob("*.tmp")), "finished shards stay, a half-written one does not"
    (small_disk / "ballast").unlink()
    facts = taught(TeachSpec(), tiny_corpus, teacher, out)
    assert facts["computed"] == int(str(facts["rows"])) - 10 * len(kept)


def test_a_shard_of_positions_is_cut_by_what_its_rows_really_take() -> None:
    sizes = np.array([10, 10, 50 << 20, 20 << 20, 100 << 20, 10])
    assert list(stages.teaching.teach.shard_parts(sizes)) == [(0, 3), (3, 4), (4, 5), (5, 6)]
    assert list(stages.teaching.teach.shard_parts(np.ones(10_000, np.int64))) == [
        (0, 4096),
        (4096, 8192),
        (8192, 10_000),
    ]

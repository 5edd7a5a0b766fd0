"""``on_bad_rows: quarantine``: rows whose outputs are not finite are set aside, listed and counted, and no other."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import write_tiny_task
from tiny_tasks import TINY, write_teacher
from training_setups import Interrupted, RecordingListener, inline, write_corpus
from transformers import AutoTokenizer

import stages.teaching.teach
from stages.corpus.reader import SCRATCH, read_split
from stages.outputs.layout import read_store, shard_numbers
from stages.outputs.parquet import read_row_keys
from stages.outputs.quarantine import read_quarantined
from stages.outputs.reader import read_columns
from stages.outputs.verify import check_store
from stages.specs.axes.targets import TeacherTargets
from stages.specs.layers import Outputs
from stages.specs.method import Method
from stages.specs.student import Cut, DistilSpec, Train
from stages.specs.teacher import QUARANTINED, ProbeSpec, TeachSpec
from stages.teaching.job import TeachJob
from stages.teaching.probe import probe
from stages.teaching.recheck import differences
from stages.teaching.teach import distinct_keys, teach
from stages.training.distil import distil

LARGE, NAN = "zebra", "tiger"
BAD = [f"{LARGE} {LARGE} {LARGE} {LARGE} {LARGE} {LARGE}", f"the {NAN} was great", f"the {NAN} was great"]
"""A text whose state does not fit float16, and one, which occurs twice, with outputs that are no numbers."""
QUARANTINE = TeachSpec(on_bad_rows="quarantine")


@pytest.fixture(scope="module")
def large_corpus(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> Path:
    """A corpus of a few hundred rows, with the bad ones among train."""
    home = tmp_path_factory.mktemp("large")
    folder = write_tiny_task(home, {"train": 300, "validation": 24, "test": 10}) / "tiny"
    train = pq.read_table(folder / "train.parquet")
    bad = pa.table({"sentence": BAD, "label": pa.array([0, 1, 1], pa.int64())})
    pq.write_table(pa.concat_tables([train.slice(0, 150), bad, train.slice(150)]), folder / "train.parquet")
    found = write_corpus(TINY, folder, encoder, home / "corpus")
    assert [text for (text,) in read_split(found, "train").texts() if LARGE in text or NAN in text] == BAD
    return found


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> Path:
    """A teacher that computes no numbers for one word, and states beyond float16 for another."""
    out = write_teacher(encoder, TINY, tmp_path_factory.mktemp("spoilt"))
    tokenizer, weights = AutoTokenizer.from_pretrained(encoder), load_file(out / "model.safetensors")
    words, norm = weights["bert.embeddings.word_embeddings.weight"], "bert.embeddings.LayerNorm.weight"
    words[tokenizer.convert_tokens_to_ids(NAN)] = float("inf")
    words[tokenizer.convert_tokens_to_ids(LARGE)] = 1000 * torch.eye(16)[3]
    weights[norm][3] = 30_000
    save_file(weights, out / "model.safetensors", {"format": "pt"})
    return out


def taught(
    spec: TeachSpec, corpus: Path, model: Path, out: Path, listener: RecordingListener | None = None, **more: Path
) -> dict[str, object]:
    out.mkdir(exist_ok=True)
    return teach(spec, {"corpus": corpus, "model": model, **more}, out, inline(listener))


@pytest.fixture(scope="module")
def quarantined(tmp_path_factory: pytest.TempPathFactory, large_corpus: Path, spoilt: Path) -> Path:
    out = tmp_path_factory.mktemp("quarantined")
    taught(QUARANTINE, large_corpus, spoilt, out)
    return out


def bad_keys(corpus: Path) -> dict[str, bytes]:
    """Word -> the key of the bad row that has it."""
    split = read_split(corpus, "train")
    texts = dict(zip((text for (text,) in split.texts()), split.keys, strict=True))
    return {LARGE: texts[BAD[0]], NAN: texts[BAD[1]]}


def stored_keys(store: Path) -> list[bytes]:
    return [key for shard in read_store(store).shards for key in read_row_keys(store / shard.name)]


def test_bad_rows_are_left_out_listed_and_counted_and_all_other_rows_are_stored(
    large_corpus: Path, spoilt: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"not finite.*or set store\.on_bad_rows: quarantine to leave such rows out"):
        taught(TeachSpec(), large_corpus, spoilt, tmp_path / "out")
    listener = RecordingListener()
    facts = taught(QUARANTINE, large_corpus, spoilt, tmp_path / "out", listener)
    keys, bad = distinct_keys(large_corpus, ("train",)), bad_keys(large_corpus)
    assert facts["quarantined"] == len(bad) == 2 and facts["rows"] == len(keys) - 2
    assert set(stored_keys(tmp_path / "out")) == set(keys) - set(bad.values())
    assert listener.lines == ["2 rows are set aside so far: the teacher's outputs for them are not finite"]
    split = read_split(large_corpus, "train")
    expected = [
        (key, int(index), "train", "hidden_00: inf" if key == bad[LARGE] else _everything("nan"))
        for key, index in zip(split.keys, split.index, strict=True)
        if key in bad.values()
    ]
    table = pq.read_table(tmp_path / "out" / QUARANTINED)
    assert table.column_names == ["row_key", "index", "split", "not_finite"]
    assert [tuple(row.values()) for row in table.to_pylist()] == expected and len(expected) == 3
    single = TeachSpec(on_bad_rows="quarantine", precision="float32")
    assert taught(single, large_corpus, spoilt, tmp_path / "single")["quarantined"] == 1, "a large state fits float32"
    sound = [key for key in keys if key not in bad.values()]
    one, other = (read_columns(tmp_path / name, ["logits"], sound)["logits"] for name in ("out", "single"))
    assert np.isfinite(one).all() and np.array_equal(one, other)


def _everything(kind: str) -> str:
    return "; ".join(f"{column}: {kind}" for column in ("logits", "hidden_00", "hidden_01", "hidden_02", "hidden_03"))


@pytest.mark.parametrize(("part", "precision"), [("tokens", "float16"), ("scores", "float32")])
def test_rows_of_positions_and_of_scores_are_set_aside_as_well(
    part: str, precision: str, large_corpus: Path, spoilt: Path, tmp_path: Path
) -> None:
    fields = {"part": part, "layers": (1,), "precision": precision, "on_bad_rows": "quarantine"}
    spec = TeachSpec.model_validate(fields)
    assert taught(spec, large_corpus, spoilt, tmp_path / "out")["quarantined"] == 1
    assert read_quarantined(tmp_path / "out") == {bad_keys(large_corpus)[NAN]: f"{part}_01: nan"}


def test_verify_and_sample_take_quarantined_rows_for_what_they_are(
    large_corpus: Path, spoilt: Path, quarantined: Path, tmp_path: Path
) -> None:
    keys = distinct_keys(large_corpus, ("train",))
    found = check_store(quarantined, keys, lambda _: None)
    assert found.passed and found.quarantined == 2
    job = TeachJob(QUARANTINE, spoilt, large_corpus, quarantined, read_store(quarantined).layout)
    assert all(difference.within(job) for difference in differences(job, 10_000, inline()))
    copy = shutil.copytree(quarantined, tmp_path / "copy")
    (copy / QUARANTINED).unlink()
    assert check_store(copy, keys, lambda _: None).problem.startswith("2 rows no sound shard holds")
    pq.write_table(
        pa.table({"row_key": pa.array(stored_keys(copy)[:1], pa.binary(16)), "not_finite": [""]}), copy / QUARANTINED
    )
    assert check_store(copy, keys, lambda _: None).problem == f"1 rows are stored, but {QUARANTINED} lists them, too"


def test_an_interrupted_stage_knows_which_rows_it_has_set_aside(
    large_corpus: Path, spoilt: Path, quarantined: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages.teaching.teach, "SHARD_ROWS", 20)

    def interrupt(done: float) -> None:
        if done > 180:
            raise Interrupted

    with pytest.raises(Interrupted):
        taught(QUARANTINE, large_corpus, spoilt, tmp_path / "out", RecordingListener(interrupt))
    kept = len(shard_numbers(tmp_path / "out"))
    assert kept and len(list((tmp_path / "out" / SCRATCH).iterdir())) in (1, 2)
    listener = RecordingListener()
    facts = taught(QUARANTINE, large_corpus, spoilt, tmp_path / "out", listener)
    keys = distinct_keys(large_corpus, ("train",))
    assert facts["quarantined"] == 2 and set(stored_keys(tmp_path / "out")) == set(stored_keys(quarantined))
    assert listener.done == len(keys) - 20 * kept, "rows of finished shards are not computed again, nor the bad ones"
    assert read_quarantined(tmp_path / "out") == read_quarantined(quarantined)


def test_a_quarantined_row_is_not_carried_over_but_computed_again(
    large_corpus: Path, spoilt: Path, quarantined: Path, tmp_path: Path
) -> None:
    facts = taught(QUARANTINE, large_corpus, spoilt, tmp_path / "out", None, **{"prior/0": quarantined})
    assert (facts["computed"], facts["carried"]) == (2, facts["rows"])
    assert read_quarantined(tmp_path / "out") == read_quarantined(quarantined)


def test_with_stop_what_was_set_aside_before_is_forgotten(
    large_corpus: Path, spoilt: Path, quarantined: Path, tmp_path: Path
) -> None:
    shutil.copytree(quarantined, tmp_path / "out")
    with pytest.raises(ValueError, match="not finite"):
        taught(TeachSpec(), large_corpus, spoilt, tmp_path / "out")
    assert not (tmp_path / "out" / QUARANTINED).exists()


def test_a_broken_teacher_stops_the_stage_all_the_same(
    tiny_corpus: Path, large_corpus: Path, teacher: Path, tmp_path: Path
) -> None:
    broken = shutil.copytree(teacher, tmp_path / "model")
    weights = load_file(broken / "model.safetensors")
    weights["classifier.bias"].fill_(float("nan"))
    save_file(weights, broken / "model.safetensors", {"format": "pt"})
    with pytest.raises(
        ValueError, match=r"the teacher's outputs: none of the \d+ rows of a shard is finite, the first"
    ):
        taught(QUARANTINE, large_corpus, broken, tmp_path / "out")
    rows = len(distinct_keys(tiny_corpus, ("train",)))
    assert rows < 64
    with pytest.raises(ValueError) as caught:
        taught(QUARANTINE, tiny_corpus, broken, tmp_path / "small")
    assert str(caught.value).startswith(
        f"the teacher's outputs: {rows} of {rows} rows are not finite, more than the 1% that store.on_bad_rows: "
        "quarantine sets aside, among them row_key "
    )


def test_a_store_without_bad_rows_is_recorded_as_one_that_serves_both_settings() -> None:
    assert QUARANTINE.as_built({"quarantined": 0}) == TeachSpec()
    assert QUARANTINE.as_built({"quarantined": 3}) == QUARANTINE
    assert TeachSpec().as_built({}) == TeachSpec()


def test_students_and_probes_of_a_store_leave_its_quarantined_rows_out(
    large_corpus: Path, spoilt: Path, quarantined: Path, teacher: Path, tmp_path: Path
) -> None:
    rows = len(read_split(large_corpus, "train"))
    for name in ("probe", "student", "of probes", "alone"):
        (tmp_path / name).mkdir()
    probe(ProbeSpec(layers=(1,)), {"corpus": large_corpus, "outputs": quarantined}, tmp_path / "probe", inline())
    assert read_quarantined(tmp_path / "probe") == read_quarantined(quarantined)
    train, start = Train(epochs=1, batch_size=32), Cut(layers=(0, 2))
    inputs = {"corpus": large_corpus, "start": teacher, "outputs": quarantined}
    kd = DistilSpec(start=start, method=Method(targets=TeacherTargets()), train=train)
    facts = distil(kd, inputs, tmp_path / "student", inline())
    assert (facts["rows"], facts["quarantined"]) == (rows - 3, 3)
    structure = Outputs(groups=((1,), (1,)))
    method = Method(targets=TeacherTargets(), structure=structure)
    spec = DistilSpec(start=start, method=method, train=train)
    facts = distil(spec, {**inputs, "probes": tmp_path / "probe"}, tmp_path / "of probes", inline())
    assert (facts["rows"], facts["quarantined"]) == (rows - 3, 3)
    alone = distil(DistilSpec(start=start, train=train), inputs, tmp_path / "alone", inline())
    assert alone["rows"] == rows and "quarantined" not in alone

"""A store of pooled states alone: of a model that is read as a plain encoder, whether or not it has a head."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from training_setups import Interrupted, RecordingListener, inline

from cluster.inline import InlineWorker
from stages.cache_folder import CacheFolder
from stages.corpus.reader import read_meta, read_split
from stages.models.loading import load
from stages.outputs.layout import read_store, shard_name
from stages.outputs.node_cache import decode
from stages.outputs.reader import read_columns
from stages.outputs.sizes import row_bytes
from stages.outputs.verify import check_store
from stages.specs.teacher import TeachSpec
from stages.teaching.job import TeachJob
from stages.teaching.recheck import differences
from stages.teaching.teach import teach
from stages.teaching.worker import TeacherWorker

ENCODER = TeachSpec(logits=False)
NAMES = [f"hidden_0{layer}" for layer in range(4)]


def taught(spec: TeachSpec, corpus: Path, model: Path, out: Path, **prior: Path) -> dict[str, object]:
    out.mkdir(exist_ok=True)
    priors = {f"prior/{name}": path for name, path in prior.items()}
    return dict(teach(spec, {"corpus": corpus, "model": model, **priors}, out, inline()))


def keys(corpus: Path) -> list[bytes]:
    return list(dict.fromkeys(read_split(corpus, "train").keys))


@pytest.fixture(scope="module")
def states_alone(tmp_path_factory: pytest.TempPathFactory, tiny_corpus: Path, teacher: Path) -> Path:
    out = tmp_path_factory.mktemp("states")
    taught(ENCODER, tiny_corpus, teacher, out)
    return out


def test_it_has_no_column_of_logits_and_the_states_of_the_store_that_has_one(
    states_alone: Path, store: Path, tiny_corpus: Path
) -> None:
    assert pq.read_table(states_alone / shard_name(0)).column_names == ["row_key", *NAMES]
    assert read_store(states_alone).layout.outputs == 0
    alone, beside = (read_columns(path, NAMES, keys(tiny_corpus)) for path in (states_alone, store))
    assert all(np.array_equal(alone[name], beside[name]) for name in NAMES)
    with pytest.raises(ValueError, match="the store has no column logits; it has hidden_00"):
        read_columns(states_alone, ["logits"], keys(tiny_corpus))


def test_a_model_without_a_head_has_one(encoder: Path, tiny_corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"lack classifier\.bias"):
        taught(TeachSpec(), tiny_corpus, encoder, tmp_path / "with")
    facts = taught(ENCODER, tiny_corpus, encoder, tmp_path / "without")
    assert (facts["rows"], facts["layers"]) == (len(keys(tiny_corpus)), 4)


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_it_is_verified_and_compared_with_what_its_model_computes_again(
    precision: str, teacher: Path, tiny_corpus: Path, tmp_path: Path
) -> None:
    spec = ENCODER.model_copy(update={"precision": precision, "pooling": "both"})
    taught(spec, tiny_corpus, teacher, tmp_path)
    assert check_store(tmp_path, keys(tiny_corpus), lambda _: None).passed
    job = TeachJob(spec, teacher, tiny_corpus, tmp_path, read_store(tmp_path).layout)
    found = differences(job, 20, inline())
    assert len(found) == 8 and all(difference.within(job) for difference in found)


def test_training_maps_its_columns(states_alone: Path, tiny_corpus: Path, tmp_path: Path) -> None:
    decoded = decode(states_alone, ["hidden_03"], keys(tiny_corpus), CacheFolder(tmp_path, None), lambda _: None)
    rows = np.array([5, 1], np.int64)
    expected = read_columns(states_alone, ["hidden_03"], [keys(tiny_corpus)[row] for row in rows])
    assert np.array_equal(decoded.gather("hidden_03", rows), expected["hidden_03"])


def test_rows_are_copied_from_a_store_with_logits_and_never_the_other_way(
    states_alone: Path, store: Path, teacher: Path, tiny_corpus: Path, tmp_path: Path
) -> None:
    facts = taught(ENCODER, tiny_corpus, teacher, tmp_path / "copied", store=store)
    assert (facts["computed"], facts["carried"]) == (0, len(keys(tiny_corpus)))
    assert (tmp_path / "copied" / shard_name(0)).read_bytes() == (states_alone / shard_name(0)).read_bytes()
    facts = taught(TeachSpec(), tiny_corpus, teacher, tmp_path / "computed", store=states_alone)
    assert facts["carried"] == 0
    facts = taught(ENCODER, tiny_corpus, teacher, tmp_path / "alike", store=states_alone)
    assert facts["carried"] == len(keys(tiny_corpus))


def test_a_shard_that_was_interrupted_goes_on_from_the_states_that_were_saved(
    states_alone: Path, tiny_corpus: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stages.teaching.worker.pass_cost", lambda *_: 64)
    monkeypatch.setattr("stages.saved_rows.SAVE_SECONDS", 0.0)

    def interrupt(done: float) -> None:
        if done >= 30:
            raise Interrupted

    inputs = {"corpus": tiny_corpus, "model": teacher}
    with pytest.raises(Interrupted):
        teach(ENCODER, inputs, tmp_path, inline(RecordingListener(interrupt)))
    listener = RecordingListener()
    teach(ENCODER, inputs, tmp_path, inline(listener))
    assert listener.restored >= 20
    found, whole = (read_columns(path, NAMES, keys(tiny_corpus)) for path in (tmp_path, states_alone))
    for name in NAMES:
        np.testing.assert_allclose(found[name].astype(np.float32), whole[name].astype(np.float32), atol=2e-3)


def test_the_states_of_a_model_with_a_mean_head_are_those_of_its_encoder(
    teacher: Path, tiny_corpus: Path, tmp_path: Path
) -> None:
    task = read_meta(tiny_corpus).task
    load(teacher, task, "mean").save_pretrained(tmp_path / "model")
    shutil.copytree(tiny_corpus / "tokenizer", tmp_path / "model", dirs_exist_ok=True)
    taught(ENCODER, tiny_corpus, tmp_path / "model", tmp_path / "out")
    taught(ENCODER, tiny_corpus, teacher, tmp_path / "plain")
    one, other = (read_columns(tmp_path / name, NAMES, keys(tiny_corpus)) for name in ("out", "plain"))
    assert all(np.array_equal(one[name], other[name]) for name in NAMES)


def test_the_head_is_not_loaded(states_alone: Path, teacher: Path, tiny_corpus: Path) -> None:
    job = TeachJob(ENCODER, teacher, tiny_corpus, states_alone, read_store(states_alone).layout)
    model = TeacherWorker(job, InlineWorker(1, RecordingListener())).model
    assert not [name for name, _ in model.named_parameters() if "classifier" in name]


def test_a_row_takes_its_key_and_its_states() -> None:
    assert row_bytes(4, 16, 0, "float16") == 16 + 4 * 16 * 2


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"layers": ()}, "logits: false, but nothing else is stored"),
        ({"part": "tokens"}, "logits: false, but nothing else is stored"),
        ({"label_order": (1, 0)}, "label_order: orders logits, and logits is false"),
    ],
)
def test_settings_that_store_nothing_or_order_what_is_not_stored_are_refused(
    fields: dict[str, object], problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        TeachSpec(logits=False, **fields)

"""The stage ``embed`` with a model: vectors as others make them, each embedded once, carried over bit by bit."""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from banks import make_bank, sentences, write_parquet
from safetensors.torch import load_file, save_file
from tiny import packaged_model
from training_setups import Interrupted, RecordingListener, inline

import stages.models.text_encoder
import stages.retrieval.embed
import stages.retrieval.embeddings_writer
import stages.saved_rows
from cluster.inline import InlineOn
from stages.bank.reader import read_bank_rows
from stages.corpus.row_key import row_key
from stages.models.text_encoder import TextEncoder, open_encoder
from stages.retrieval.embed import embed
from stages.retrieval.embeddings import keys_path, read_embeddings, vectors_path
from stages.specs.retrieval import EmbedSpec, ModelEncoder


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards of 16 rows, embedded 5 at a time."""
    for module in (stages.retrieval.embed, stages.retrieval.embeddings_writer):
        monkeypatch.setattr(module, "SHARD_ROWS", 16)
    monkeypatch.setattr(stages.retrieval.embed, "ROWS_AT_ONCE", 5)


@pytest.fixture
def embedded_texts(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The texts that go through a model from here on."""
    seen: list[tuple[str, ...]] = []
    batches = TextEncoder.batches

    def watched(
        self: TextEncoder, texts: list[tuple[str, ...]], known: np.ndarray | None = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for places, vectors in batches(self, texts, known):
            seen.extend(texts[place] for place in places)
            yield places, vectors

    monkeypatch.setattr(TextEncoder, "batches", watched)
    return seen


def bank_of(directory: Path, texts: list[str]) -> Path:
    directory.mkdir()
    make_bank(directory / "bank", write_parquet(directory / "texts.parquet", texts))
    return directory / "bank"


def run(bank: Path, encoder: Path, out: Path, heard: RecordingListener | None = None, **prior: Path) -> dict[str, int]:
    out.mkdir(exist_ok=True)
    priors = {f"prior/{name}": path for name, path in prior.items()}
    return embed(EmbedSpec(), {"bank": bank, "encoder": encoder, **priors}, out, inline(heard))


def vectors_of(out: Path) -> np.ndarray:
    embeddings = read_embeddings(out)
    return np.concatenate([np.array(embeddings.shard(number)) for number in range(len(embeddings.shards))])


def keys_of(out: Path) -> list[bytes]:
    return [
        row.tobytes() for number in range(len(read_embeddings(out).shards)) for row in np.load(keys_path(out, number))
    ]


def test_vectors_are_those_of_sentence_transformers(tmp_path: Path) -> None:
    library = pytest.importorskip("sentence_transformers")
    texts = [*sentences(12), "Ünïcode — words, here", "a much longer text " * 30]
    reference = library.SentenceTransformer(str(packaged_model()), device="cpu")
    reference.max_seq_length = 64
    expected = reference.encode(texts, normalize_embeddings=True)
    found = open_encoder(ModelEncoder(), packaged_model(), "cpu", 1).encode([(text,) for text in texts])
    assert found.dtype == np.float32 and found.shape == (len(texts), 384)
    assert (found * expected).sum(1).min() > 0.9999


def test_a_pair_is_encoded_as_one_sequence_of_the_model(encoder: Path) -> None:
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(encoder), AutoModel.from_pretrained(encoder).eval()
    pair = ("the river rose", "a lamp was lit over the bridge")
    with torch.no_grad():
        inputs = tokenizer(*pair, return_tensors="pt")
        states = model(**inputs).last_hidden_state[0]
    assert inputs["token_type_ids"].sum() > 0
    for pooling, expected in (("mean", states.mean(0)), ("cls", states[0])):
        found = open_encoder(ModelEncoder(pooling=pooling), encoder, "cpu", 1).encode([pair])
        assert found[0] == pytest.approx((expected / expected.norm()).numpy(), abs=1e-5)


def test_a_vector_does_not_depend_on_the_others_of_its_batch(encoder: Path) -> None:
    opened = open_encoder(ModelEncoder(), encoder, "cpu", 1)
    texts = [(text,) for text in sentences(30)]
    alone = np.concatenate([opened.encode([text]) for text in texts])
    assert opened.encode(texts) == pytest.approx(alone, abs=1e-5)
    assert np.linalg.norm(alone, axis=1) == pytest.approx(np.ones(30), abs=1e-5)


def test_when_memory_runs_out_batches_are_halved_until_they_fit(encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [(text,) for text in sentences(30)]
    expected = open_encoder(ModelEncoder(), encoder, "cpu", 1).encode(texts)
    opened = open_encoder(ModelEncoder(), encoder, "cpu", 1)
    forward = opened.model.forward

    def cramped(**inputs: torch.Tensor) -> object:
        if inputs["input_ids"].numel() > 100:
            raise torch.OutOfMemoryError("out of memory")
        return forward(**inputs)

    monkeypatch.setattr(opened.model, "forward", cramped)
    assert opened.encode(texts) == pytest.approx(expected, abs=1e-5)
    assert opened.halvings >= 2


def test_vectors_and_keys_are_in_the_order_of_the_bank(tmp_path: Path, encoder: Path, small_shards: None) -> None:
    bank = bank_of(tmp_path / "b", sentences(40))
    facts = run(bank, encoder, tmp_path / "out")
    embeddings = read_embeddings(tmp_path / "out")
    assert embeddings.shards == (16, 16, 8) and embeddings.shard(0).dtype == np.float16
    texts = read_bank_rows(bank, np.arange(40))
    assert keys_of(tmp_path / "out") == [row_key(text) for text in texts]
    expected = open_encoder(ModelEncoder(), encoder, "cpu", 1).encode(texts)
    assert vectors_of(tmp_path / "out") == pytest.approx(expected, abs=2e-3)
    size = sum(path.stat().st_size for path in (tmp_path / "out").glob("*.npy"))
    assert facts == {"rows": 40, "embedded": 40, "carried": 0, "width": 16, "bytes": size}


def test_of_a_grown_bank_only_the_new_rows_are_embedded(
    tmp_path: Path, encoder: Path, small_shards: None, embedded_texts: list[tuple[str, ...]]
) -> None:
    old, new = sentences(40), sentences(25, start=100)
    run(bank_of(tmp_path / "a", old), encoder, tmp_path / "old")
    grown = bank_of(tmp_path / "b", [*new[:5], *reversed(old), *new[5:]])
    embedded_texts.clear()
    facts = run(grown, encoder, tmp_path / "new", earlier=tmp_path / "old")
    assert (facts["embedded"], facts["carried"]) == (25, 40)
    assert sorted(embedded_texts) == sorted((text,) for text in new)
    held = dict(zip(keys_of(tmp_path / "old"), vectors_of(tmp_path / "old"), strict=True))
    copied = dict(zip(keys_of(tmp_path / "new"), vectors_of(tmp_path / "new"), strict=True))
    assert all(np.array_equal(copied[key], vector) for key, vector in held.items())


def test_two_priors_serve_and_a_broken_one_or_one_of_other_settings_does_not(
    tmp_path: Path, encoder: Path, small_shards: None
) -> None:
    texts = sentences(30)
    for name, part in (("a", texts[:12]), ("b", texts[8:20])):
        run(bank_of(tmp_path / f"bank-{name}", part), encoder, tmp_path / name)
    whole = bank_of(tmp_path / "whole", texts)
    (tmp_path / "other").mkdir()
    inputs = {"bank": whole, "encoder": encoder}
    embed(EmbedSpec(encoder=ModelEncoder(pooling="cls")), inputs, tmp_path / "other", inline())
    shutil.copytree(tmp_path / "a", tmp_path / "broken")
    keys_path(tmp_path / "broken", 0).unlink()
    unfit = {"cls": tmp_path / "other", "missing": tmp_path / "nowhere", "broken": tmp_path / "broken"}
    assert run(whole, encoder, tmp_path / "none", **unfit)["carried"] == 0
    assert run(whole, encoder, tmp_path / "both", a=tmp_path / "a", b=tmp_path / "b", **unfit)["carried"] == 20


def test_a_prior_of_other_weights_is_not_taken(tmp_path: Path, encoder: Path) -> None:
    bank = bank_of(tmp_path / "b", sentences(10))
    run(bank, encoder, tmp_path / "old")
    other = shutil.copytree(encoder, tmp_path / "other")
    weights = load_file(other / "model.safetensors")
    save_file({name: value * 1.01 for name, value in weights.items()}, other / "model.safetensors", {"format": "pt"})
    assert run(bank, other, tmp_path / "new", old=tmp_path / "old")["carried"] == 0


def test_a_worker_embeds_few_rows_at_a_time_and_finished_shards_leave_no_pieces(
    tmp_path: Path, encoder: Path, small_shards: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker is given up between two items of the map, so an item must not be a whole shard."""
    bank = bank_of(tmp_path / "b", sentences(40))
    items: list[object] = []
    map_items = InlineOn.map

    def watched(self: InlineOn, open_worker: Any, config: Any, given: Sequence[object]) -> Iterator[tuple[int, Any]]:
        items.extend(given)
        return map_items(self, open_worker, config, given)

    monkeypatch.setattr(InlineOn, "map", watched)
    pieces: set[int] = set()
    out = tmp_path / "out"

    def count_pieces(_: float) -> None:
        pieces.add(len(list((out / "scratch").glob("piece-*"))))

    run(bank, encoder, out, RecordingListener(count_pieces))
    assert len(items) == 4 + 4 + 2, "of five rows each, in shards of 16"
    assert max(pieces) == 3, "those of one shard, as one worker embeds"
    assert not list((out / "scratch").iterdir())


def test_rows_of_earlier_embeddings_that_disappear_meanwhile_are_embedded(
    tmp_path: Path, encoder: Path, small_shards: None
) -> None:
    run(bank_of(tmp_path / "a", sentences(20)), encoder, tmp_path / "old")
    grown = bank_of(tmp_path / "b", sentences(40))
    run(grown, encoder, tmp_path / "whole")

    def remove(_: float) -> None:
        shutil.rmtree(tmp_path / "old", ignore_errors=True)

    facts = run(grown, encoder, tmp_path / "out", RecordingListener(remove), old=tmp_path / "old")
    assert facts["carried"] < 20 and facts["embedded"] + facts["carried"] == 40
    assert vectors_of(tmp_path / "out") == pytest.approx(vectors_of(tmp_path / "whole"), abs=1e-3)


def test_a_cut_run_loses_no_finished_shard(
    tmp_path: Path, encoder: Path, small_shards: None, embedded_texts: list[tuple[str, ...]]
) -> None:
    bank = bank_of(tmp_path / "b", sentences(60))
    run(bank, encoder, tmp_path / "whole")

    def cut(done: float) -> None:
        if done > 40:
            raise Interrupted

    with pytest.raises(Interrupted):
        run(bank, encoder, tmp_path / "out", RecordingListener(before_advance=cut))
    assert not (tmp_path / "out" / "embeddings.json").exists()
    embedded_texts.clear()
    assert run(bank, encoder, tmp_path / "out")["embedded"] == 60 - 32
    assert len(embedded_texts) == 60 - 37, "one piece of the third shard was finished, too"
    assert np.array_equal(vectors_of(tmp_path / "out"), vectors_of(tmp_path / "whole"))


def test_a_shard_that_was_damaged_is_made_anew(tmp_path: Path, encoder: Path, small_shards: None) -> None:
    bank = bank_of(tmp_path / "b", sentences(40))
    run(bank, encoder, tmp_path / "out")
    whole = vectors_of(tmp_path / "out")
    path = vectors_path(tmp_path / "out", 1)
    path.write_bytes(path.read_bytes()[:-9])
    assert run(bank, encoder, tmp_path / "out")["embedded"] == 16
    assert np.array_equal(vectors_of(tmp_path / "out"), whole)


def test_a_vector_that_is_not_finite_stops_the_stage_and_names_its_row(tmp_path: Path, encoder: Path) -> None:
    broken = shutil.copytree(encoder, tmp_path / "broken")
    weights = load_file(broken / "model.safetensors")
    weights = {name: torch.full_like(value, float("nan")) for name, value in weights.items()}
    save_file(weights, broken / "model.safetensors", {"format": "pt"})
    bank = bank_of(tmp_path / "b", sentences(3))
    with pytest.raises(ValueError, match=row_key((sentences(1)[0],)).hex()):
        run(bank, broken, tmp_path / "out")


def test_an_encoder_that_lacks_weights_or_takes_fewer_tokens_is_refused(tmp_path: Path, encoder: Path) -> None:
    with pytest.raises(ValueError, match=r"max_length: 100, but the encoder in .* accepts at most 64 tokens"):
        open_encoder(ModelEncoder(max_length=100), encoder, "cpu", 1)
    broken = shutil.copytree(encoder, tmp_path / "broken")
    weights = load_file(broken / "model.safetensors")
    lacking = {name: value for name, value in weights.items() if not name.endswith("layer.1.output.dense.weight")}
    save_file(lacking, broken / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"lack encoder\.layer\.1\..*output\.dense\.weight"):
        open_encoder(ModelEncoder(), broken, "cpu", 1)
    (broken / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="holds no model that loads"):
        open_encoder(ModelEncoder(), broken, "cpu", 1)


PINNED = {
    "mean": [0.0408, 0.067, -0.0161, -0.0115, -0.0359, 0.0059, 0.0601, 0.0373, 0.0282, 0.0424],
    "cls": [0.0357, 0.0734, 0.0024, -0.0098, -0.009, 0.0059, 0.0169, 0.0337, 0.0196, 0.0179],
}


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_the_output_of_embed_is_pinned_to_its_version(tmp_path: Path, pooling: str) -> None:
    bank = bank_of(tmp_path / "b", sentences(3))
    spec = EmbedSpec(encoder=ModelEncoder(pooling=pooling))
    embed(spec, {"bank": bank, "encoder": packaged_model()}, tmp_path, inline())
    assert EmbedSpec.version == 1
    assert vectors_of(tmp_path)[:2, :5].ravel() == pytest.approx(PINNED[pooling], abs=1e-3)


def test_a_shard_that_was_interrupted_goes_on_from_the_vectors_that_were_saved(
    tmp_path: Path,
    encoder: Path,
    small_shards: None,
    embedded_texts: list[tuple[str, ...]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Vectors are saved while a shard is embedded, as a shard may take minutes; the vectors have the same bits."""
    monkeypatch.setattr(stages.retrieval.embed, "ROWS_AT_ONCE", 6)
    monkeypatch.setattr(stages.models.text_encoder, "tokens_per_pass", lambda *_: 40)  # two texts or so in a batch
    bank = bank_of(tmp_path / "home", sentences(30))
    run(bank, encoder, tmp_path / "whole")
    monkeypatch.setattr(stages.saved_rows, "SAVE_SECONDS", 0.0)

    def interrupt(done: float) -> None:
        if done >= 10:
            raise Interrupted

    with pytest.raises(Interrupted):
        run(bank, encoder, tmp_path / "out", RecordingListener(interrupt))
    assert not vectors_path(tmp_path / "out", 0).exists(), "no shard is finished"
    embedded_texts.clear()
    listener = RecordingListener()
    facts = run(bank, encoder, tmp_path / "out", listener)
    assert len(embedded_texts) <= 30 - 8 and listener.done + listener.restored == listener.expected[0] == 30
    assert listener.restored >= 8, "rows that were restored are no work of this run"
    assert np.array_equal(vectors_of(tmp_path / "out"), vectors_of(tmp_path / "whole"))
    assert facts["embedded"] == 30 and not list((tmp_path / "out" / "scratch").iterdir())

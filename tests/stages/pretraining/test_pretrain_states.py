"""The stages ``texts`` and ``pretrain`` with ``states``: from texts and a start to an encoder that plain transformers
loads."""

import json
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from banks import NOUNS, VERBS, make_bank, write_parquet
from safetensors.torch import load_file, save_file
from tiny import packaged_model, write_tiny_model
from training_setups import Interrupted, RecordingListener, inline
from transformers import AutoModel

from stages.corpus.reader import read_meta, read_split
from stages.corpus.row_key import row_key
from stages.outputs.quarantine import read_quarantined
from stages.pretraining.job import PretrainJob
from stages.pretraining.pretrain import pretrain, train_on_states
from stages.pretraining.tokenised_texts import tokenised_texts
from stages.specs.layers import Pick, Relational
from stages.specs.pretraining import PretrainSpec, TextsSpec
from stages.specs.student import Cut, Fresh
from stages.specs.tasks import HOLDOUT, TRAIN
from stages.specs.teacher import TeachSpec
from stages.teaching.teach import teach

TEXTS = TextsSpec(holdout=0.2, max_length=16)
PAIRS = ((0, 0), (1, 2), (2, 3))
SPEC = PretrainSpec(
    start=Fresh(changes=(("hidden_size", 16), ("num_hidden_layers", 2))),
    states=Pick(pairs=PAIRS),
    holdout=0.2,
    max_length=16,
    epochs=3,
    batch_size=8,
    learning_rate=5e-3,
)


def sentences() -> list[str]:
    return [
        f"the {NOUNS[n % 8]} {VERBS[n % 3]} every {NOUNS[(n // 8) % 8]} and the {NOUNS[n % 8]} sleeps today {n % 12}"
        for n in range(96)
    ]


@dataclass(frozen=True)
class Given:
    """The inputs of trainings: the texts as tokens, a model with three layers, and the store of its states for them."""

    bank: Path
    texts: Path
    base: Path
    store: Path

    def inputs(self) -> dict[str, Path]:
        return {"start": self.base, "texts": self.texts, "outputs": self.store}


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Given:
    home = tmp_path_factory.mktemp("states")
    make_bank(home / "bank", write_parquet(home / "texts.parquet", sentences()))
    base = write_tiny_model(home / "model", layers=3, width=32)
    tokenised_texts(TEXTS, {"tokenizer": packaged_model(), "bank": home / "bank"}, home / "texts", inline())
    (home / "store").mkdir()
    spec = TeachSpec(splits=(TRAIN, HOLDOUT), logits=False)
    teach(spec, {"corpus": home / "texts", "model": base}, home / "store", inline())
    return Given(home / "bank", home / "texts", base, home / "store")


@pytest.fixture(scope="module")
def trained(given: Given, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, object]]:
    out, heard = tmp_path_factory.mktemp("trained"), RecordingListener()
    facts = dict(pretrain(SPEC, given.inputs(), out, inline(heard)))
    assert heard.expected[-1] == heard.done == 3 * 77, "the texts are tokenised already"
    return out, facts


# --- the texts --------------------------------------------------------------------------------------


def test_the_texts_are_a_corpus_without_labels_under_the_keys_of_the_texts(given: Given) -> None:
    meta = read_meta(given.texts)
    assert {name: split.rows for name, split in meta.splits.items()} == {TRAIN: 77, HOLDOUT: 19}
    keys = []
    for name in (TRAIN, HOLDOUT):
        split = read_split(given.texts, name)
        assert not split.labelled.any()
        assert [row_key(texts) for texts in split.texts()] == split.keys
        keys += split.keys
    assert set(keys) == {row_key((text,)) for text in sentences()} and len(keys) == 96


def test_texts_of_a_corpus_are_its_rows_of_train_under_their_own_keys(tiny_corpus: Path, tmp_path: Path) -> None:
    inputs = {"tokenizer": tiny_corpus / "tokenizer", "corpus": tiny_corpus}
    facts = tokenised_texts(TEXTS, inputs, tmp_path, inline())
    keys = [key for name in (TRAIN, HOLDOUT) for key in read_split(tmp_path, name).keys]
    assert set(keys) == set(read_split(tiny_corpus, TRAIN).keys) and len(keys) == sum(facts["rows"].values())


# --- a training -------------------------------------------------------------------------------------


def test_the_held_out_loss_falls_and_the_history_has_it_before_and_after_each_epoch(
    trained: tuple[Path, dict[str, object]],
) -> None:
    out, facts = trained
    history = json.loads((out / "history.json").read_text("utf-8"))
    losses = [history["before"]["loss"], *(epoch["held_out"]["loss"] for epoch in history["epochs"])]
    assert len(losses) == 4 and losses == sorted(losses, reverse=True)
    assert all(epoch["loss"] > 0 for epoch in history["epochs"])
    assert (facts["rows"], facts["held_out_rows"], facts["steps"]) == (77, 19, 30)
    assert (facts["before"], facts["after"]) == (history["before"], history["epochs"][-1]["held_out"])
    assert "warnings" not in facts and "quarantined" not in facts
    assert len(list((out / "tensorboard").glob("events.*"))) == 3


def test_projections_are_not_saved_and_the_encoder_loads_whole(trained: tuple[Path, dict[str, object]]) -> None:
    model, info = AutoModel.from_pretrained(trained[0] / "model", output_loading_info=True)
    assert (model.config.hidden_size, model.config.num_hidden_layers) == (16, 2)
    assert all("pooler" in name for name in info["missing_keys"]) and not info["unexpected_keys"]
    assert trained[1]["parameters"] == sum(weights.numel() for weights in model.parameters())


def test_a_stage_that_is_interrupted_goes_on_and_ends_with_the_same_model(
    trained: tuple[Path, dict[str, object]], given: Given, tmp_path: Path
) -> None:
    def stop(done: float) -> None:
        if done >= 77 + 30:
            raise Interrupted

    job = PretrainJob(SPEC, given.inputs(), tmp_path, checkpoint_seconds=0.0)
    with pytest.raises(Interrupted):
        inline(RecordingListener(stop)).train(train_on_states, job)
    heard = RecordingListener()
    facts = inline(heard).train(train_on_states, job)
    assert heard.restored > 77
    weights = [(folder / "model" / "model.safetensors").read_bytes() for folder in (tmp_path, trained[0])]
    assert weights[0] == weights[1] and facts["after"] == trained[1]["after"]


def test_a_pooler_that_the_start_lacks_is_not_saved_and_one_that_it_has_is_kept(
    trained: tuple[Path, dict[str, object]], given: Given, tmp_path: Path
) -> None:
    assert not [name for name in load_file(trained[0] / "model" / "model.safetensors") if "pooler" in name]
    spec = SPEC.model_copy(update={"start": Cut(layers=(0, 2)), "steps": 2})
    (tmp_path / "out").mkdir()
    pretrain(spec, given.inputs(), tmp_path / "out", inline())
    own = load_file(given.base / "model.safetensors")
    saved = load_file(tmp_path / "out" / "model" / "model.safetensors")
    poolers = [name for name in saved if "pooler" in name]
    assert len(poolers) == 2 and all(torch.equal(saved[name], own[name]) for name in poolers)


def test_rows_that_the_store_has_set_aside_are_not_trained_on(given: Given, tmp_path: Path) -> None:
    """The embedding of a token that is in one text alone is not finite."""
    split = read_split(given.texts, TRAIN)
    rows = [split.tokens[start:end].tolist() for start, end in zip(split.offsets, split.offsets[1:], strict=False)]
    token = next(token for row in rows for token in row if sum(token in other for other in rows) <= 8)
    weights = load_file(given.base / "model.safetensors")
    (name,) = (name for name in weights if name.endswith("word_embeddings.weight"))
    broken = write_tiny_model(tmp_path / "model", layers=3, width=32)
    weights[name][token] = float("inf")
    save_file(weights, broken / "model.safetensors", {"format": "pt"})
    (tmp_path / "store").mkdir()
    spec = TeachSpec(splits=(TRAIN, HOLDOUT), logits=False, on_bad_rows="quarantine")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stages.outputs.quarantine.MOST_BAD", 0.5)
        teach(spec, {"corpus": given.texts, "model": broken}, tmp_path / "store", inline())
    bad = read_quarantined(tmp_path / "store")
    lost = sum(key in bad for key in split.keys)
    assert 0 < lost < 77
    inputs = {**given.inputs(), "outputs": tmp_path / "store"}
    (tmp_path / "out").mkdir()
    heard = RecordingListener()
    facts = pretrain(SPEC.model_copy(update={"epochs": 1}), inputs, tmp_path / "out", inline(heard))
    assert (facts["rows"], facts["quarantined"]) == (77 - lost, lost)
    assert heard.done == heard.expected[-1] == 77 - lost


def test_a_loss_that_does_not_fall_and_layers_without_variance_are_warnings(given: Given, tmp_path: Path) -> None:
    """The first token's embedding is the same for every row, and this random model hardly changes it."""
    (tmp_path / "store").mkdir()
    spec = TeachSpec(splits=(TRAIN, HOLDOUT), logits=False, pooling="cls")
    teach(spec, {"corpus": given.texts, "model": given.base}, tmp_path / "store", inline())
    states = Pick(pairs=((0, 0), (2, 3)), pooling="cls")
    changes = {"states": states, "learning_rate": 1e-12, "epochs": 1}
    inputs = {**given.inputs(), "outputs": tmp_path / "store"}
    (tmp_path / "out").mkdir()
    facts = pretrain(SPEC.model_copy(update=changes), inputs, tmp_path / "out", inline())
    fall, alike = facts["warnings"]
    assert "the held-out loss did not fall" in fall
    assert alike.startswith("states: the rows look alike in layers 0, 3 of the teacher")


def test_a_store_without_the_layers_that_are_followed_is_refused(given: Given, tmp_path: Path) -> None:
    spec = SPEC.model_copy(update={"states": Relational(pair=(2, 3), pooling="cls")})
    with pytest.raises(ValueError, match=r"structure\.pooling: cls, but store\.pooling is mean"):
        pretrain(spec, given.inputs(), tmp_path, inline())


def test_a_model_that_follows_itself_has_no_loss_but_the_rounding_of_the_store(given: Given, tmp_path: Path) -> None:
    layers = tuple((layer, layer) for layer in range(4))
    changes = {"start": Cut(layers=(0, 1, 2)), "states": Pick(pairs=layers), "steps": 1}
    facts = pretrain(SPEC.model_copy(update=changes), given.inputs(), tmp_path, inline())
    assert facts["before"]["loss"] < 1e-6
    assert pq.read_schema(next(given.store.glob("shard-*.parquet"))).names[1] == "hidden_00"

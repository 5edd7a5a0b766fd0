"""The stage ``pretrain``: from a start and texts to a directory that plain transformers loads."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from banks import NOUNS, VERBS, make_bank, write_parquet
from masked_trainings import held_out_score
from tiny import packaged_model, write_tiny_model
from training_setups import Interrupted, RecordingListener, inline
from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer

from stages.corpus.reader import read_split
from stages.corpus.row_key import row_key
from stages.pretraining.job import PretrainJob
from stages.pretraining.pretrain import pretrain, train_masked_model
from stages.pretraining.texts import chosen_texts
from stages.specs.pretraining import MaskedDistillation, PretrainSpec
from stages.specs.student import Cut
from stages.specs.tasks import HOLDOUT, TRAIN

SPEC = PretrainSpec(start=Cut(layers=(0, 2)), holdout=0.2, epochs=4, batch_size=8, learning_rate=1e-2, max_length=16)


def sentences() -> list[str]:
    """96 sentences whose verb follows from their two nouns."""
    return [
        f"the {NOUNS[n % 8]} {VERBS[n % 3]} every {NOUNS[(n // 8) % 8]} and the {NOUNS[n % 8]} sleeps today {n % 12}"
        for n in range(96)
    ]


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("bank")
    make_bank(home / "bank", write_parquet(home / "texts.parquet", sentences()))
    return home / "bank"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model"), layers=3, width=32)


@dataclass(frozen=True)
class Trained:
    """A finished artifact and the facts of its record."""

    out: Path
    facts: dict[str, object]


def run(
    out: Path, inputs: dict[str, Path], heard: RecordingListener | None = None, spec: PretrainSpec = SPEC
) -> Trained:
    out.mkdir(exist_ok=True)
    return Trained(out, dict(pretrain(spec, {"tokenizer": packaged_model(), **inputs}, out, inline(heard))))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, bank: Path, base: Path) -> Trained:
    out = tmp_path_factory.mktemp("trained")
    (out / "lineage.json").write_text(json.dumps({"name": "pretrain/adapted"}), "utf-8")
    heard = RecordingListener()
    found = run(out, {"bank": bank, "start": base}, heard)
    assert heard.expected[-1] == heard.done == 96 + 4 * 77, "the texts are tokenised first"
    return found


def test_the_held_out_loss_falls_and_the_history_has_it_before_and_after_each_epoch(trained: Trained) -> None:
    history = json.loads((trained.out / "history.json").read_text("utf-8"))
    losses = [history["before"]["loss"], *(epoch["held_out"]["loss"] for epoch in history["epochs"])]
    assert len(losses) == 5 and losses == sorted(losses, reverse=True)
    assert losses[0] > 9 and losses[-1] < 4, "where a guess among all tokens has 10.3"
    assert history["epochs"][-1]["held_out"]["accuracy"] > 20 > history["before"]["accuracy"]
    assert [epoch["steps"] for epoch in history["epochs"]] == [10, 20, 30, 40]
    facts = trained.facts
    assert (facts["rows"], facts["held_out_rows"], facts["steps"], facts["new_head"]) == (77, 19, 40, True)
    assert (facts["before"], facts["after"]) == (history["before"], history["epochs"][-1]["held_out"])
    assert "warnings" not in facts
    assert len(list((trained.out / "tensorboard").glob("events.*"))) == 4


def test_transformers_loads_the_model_with_the_logits_that_it_had(trained: Trained, bank: Path, base: Path) -> None:
    directory = trained.out / "model"
    model = AutoModelForMaskedLM.from_pretrained(directory).eval()
    tokenizer = AutoTokenizer.from_pretrained(directory)
    inputs = tokenizer(["the river carries every lamp today"], return_tensors="pt")
    with torch.no_grad():
        logits = model(**inputs).logits
        states = AutoModel.from_pretrained(directory).eval()(**inputs).last_hidden_state
        torch.testing.assert_close(model.cls(states), logits)
    # The history has the loss of the model in memory: that of the loaded one is equal.
    again = held_out_score(model, tokenizer, SPEC, trained.out / "scratch" / "texts")
    assert again.loss == pytest.approx(trained.facts["after"]["loss"], rel=1e-6)
    assert again.accuracy == trained.facts["after"]["accuracy"]


def test_the_model_card_says_how_to_load_it_and_how_well_it_predicts(trained: Trained) -> None:
    card = (trained.out / "model" / "README.md").read_text("utf-8")
    assert "# pretrain/adapted" in card and "AutoModelForMaskedLM.from_pretrained(directory)" in card
    assert "First weights: layers 1, 3 of the model in the input start" in card
    assert f"| after epoch 4 | {trained.facts['after']['loss']:.4f} |" in card


def test_a_stage_that_is_interrupted_goes_on_and_ends_with_the_same_model(
    trained: Trained, bank: Path, base: Path, tmp_path: Path
) -> None:
    inputs = {"tokenizer": packaged_model(), "bank": bank, "start": base}

    def stop(done: float) -> None:
        if done >= 96 + 77 + 30:
            raise Interrupted

    with pytest.raises(Interrupted):
        run(tmp_path, inputs, RecordingListener(stop))
    job, cut = PretrainJob(SPEC, inputs, tmp_path, checkpoint_seconds=0.0), RecordingListener(stop)
    cut.done = 96
    with pytest.raises(Interrupted):
        inline(cut).train(train_masked_model, job)
    heard = RecordingListener()
    facts = inline(heard).train(train_masked_model, job)
    assert heard.restored == 77 + 24 and heard.done == 3 * 77 - 24
    same = [(tmp_path / "model" / name, trained.out / "model" / name) for name in ("model.safetensors", "config.json")]
    assert all(one.read_bytes() == other.read_bytes() for one, other in same)
    assert facts["after"] == trained.facts["after"]


def test_another_seed_has_other_weights_but_the_same_held_out_texts(
    trained: Trained, bank: Path, base: Path, tmp_path: Path
) -> None:
    other = run(tmp_path, {"bank": bank, "start": base}, spec=SPEC.model_copy(update={"seed": 1, "steps": 1}))
    first, second = (read_split(one.out / "scratch" / "texts", HOLDOUT) for one in (trained, other))
    assert first.tokens.tolist() == second.tokens.tolist()
    names = [one.out / "model" / "model.safetensors" for one in (trained, other)]
    assert names[0].read_bytes() != names[1].read_bytes()


# --- a teacher --------------------------------------------------------------------------------------


def test_a_student_comes_nearer_to_its_teacher_whose_files_stay_as_they_are(
    trained: Trained, bank: Path, base: Path, tmp_path: Path
) -> None:
    teacher = trained.out / "model"
    before = (teacher / "model.safetensors").read_bytes()
    spec = SPEC.model_copy(update={"start": Cut(layers=(0,)), "distillation": MaskedDistillation()})
    found = run(tmp_path, {"bank": bank, "start": base, "teacher": teacher}, spec=spec)
    history = json.loads((tmp_path / "history.json").read_text("utf-8"))
    distances = [epoch["teacher"] for epoch in history["epochs"]]
    for name in ("soft", "cosine"):
        assert distances[-1][name] < 0.7 * distances[0][name]
    assert found.facts["new_head"], "the teacher's head is not taken for the student's"
    assert (teacher / "model.safetensors").read_bytes() == before


def test_a_teacher_without_a_head_that_predicts_tokens_is_refused(bank: Path, base: Path, tmp_path: Path) -> None:
    spec = SPEC.model_copy(update={"distillation": MaskedDistillation()})
    with pytest.raises(ValueError, match="has no head that predicts tokens, and cannot teach a masked language model"):
        run(tmp_path, {"bank": bank, "start": base, "teacher": base}, spec=spec)


# --- the texts --------------------------------------------------------------------------------------


def texts_of(spec: PretrainSpec, inputs: dict[str, Path]) -> dict[str, list[tuple[str, ...]]]:
    """Split -> its texts."""
    found = chosen_texts(spec.texts, inputs)
    columns = found.task.text
    return {
        name: list(zip(*(split.rows[column].to_pylist() for column in columns), strict=True))
        for name, split in found.splits.items()
    }


def test_the_held_out_texts_are_those_of_smallest_hash_and_a_smaller_sample_is_part_of_a_larger(bank: Path) -> None:
    whole, half = texts_of(SPEC, {"bank": bank}), texts_of(SPEC.model_copy(update={"rows": 40}), {"bank": bank})
    ranked = sorted(((text,) for text in sentences()), key=row_key)
    assert set(whole[HOLDOUT]) == set(ranked[:19]) and set(whole[TRAIN]) == set(ranked[19:])
    assert set(half[HOLDOUT]) == set(ranked[:8]) and set(half[TRAIN]) == set(ranked[8:40])
    kept = set(half[TRAIN])
    assert half[TRAIN] == [(text,) for text in sentences() if (text,) in kept], "in the order of the bank"


def test_of_a_corpus_the_rows_of_train_are_taken_each_text_once(tiny_corpus: Path) -> None:
    found = texts_of(SPEC, {"corpus": tiny_corpus})
    train = read_split(tiny_corpus, TRAIN).texts()
    assert len(set(train)) < len(train), "texts are repeated there"
    assert sorted(found[TRAIN] + found[HOLDOUT]) == sorted(set(train))


def test_pairs_are_read_as_one_sequence_with_types(pairs_corpus: Path, base: Path, tmp_path: Path) -> None:
    run(tmp_path, {"corpus": pairs_corpus, "start": base}, spec=SPEC.model_copy(update={"steps": 1}))
    split = read_split(tmp_path / "scratch" / "texts", TRAIN)
    assert split.type_ids is not None and set(split.type_ids.tolist()) == {0, 1}
    assert split.columns == ("text", "text2")


def test_a_single_text_is_refused(tmp_path: Path, base: Path) -> None:
    bank = tmp_path / "bank"
    make_bank(bank, write_parquet(tmp_path / "texts.parquet", ["one and the same text"] * 3))
    with pytest.raises(ValueError, match="has 1 different texts, and pretraining needs 2 or more"):
        run(tmp_path / "out", {"bank": bank, "start": base})


def test_a_held_out_loss_that_does_not_fall_is_a_warning(bank: Path, base: Path, tmp_path: Path) -> None:
    found = run(tmp_path, {"bank": bank, "start": base}, spec=SPEC.model_copy(update={"learning_rate": 1e-12}))
    (line,) = found.facts["warnings"]
    assert "the held-out loss did not fall" in line and "learning_rate" in line

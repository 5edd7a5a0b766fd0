"""The stage ``distil``: from the start of a student to a directory that plain transformers loads."""

import ast
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from tiny import write_tiny_task
from tiny_tasks import TINY
from torch import nn
from training_setups import Interrupted, RecordingListener, inline, write_corpus
from transformers import PreTrainedModel

from cluster.inline import InlineWorker
from stages.corpus.reader import META, read_meta, read_split
from stages.corpus.rowset import read_rowset
from stages.deployment.description import read_description
from stages.evaluation.evaluate import evaluate
from stages.evaluation.predictions import last_predictions_path
from stages.models.loading import load
from stages.models.predict import predict
from stages.outputs.layout import read_store, shard_name, write_store
from stages.outputs.parquet import read_keys, write_shard
from stages.outputs.reader import read_columns
from stages.outputs.reuse import read_rows
from stages.specs.axes.targets import TeacherTargets
from stages.specs.axes.training import Annealing
from stages.specs.evaluation import EvaluateSpec
from stages.specs.layers import Pick
from stages.specs.method import Method
from stages.specs.schedule import OutputRequest
from stages.specs.student import Cut, DistilSpec, Fresh, Pretrained, Train
from stages.specs.teacher import TeachSpec
from stages.teaching.teach import teach
from stages.training.checkpoint import Epoch, Progress
from stages.training.distil import distil
from stages.training.job import StudentJob
from stages.training.signal import NoTeacher, StoredSignal
from stages.training.sums import sum_layout
from stages.training.teachers import signal_of
from stages.training.tensorboard import event_file_name
from stages.training.worker import kept_every_epoch, selection_split, train

TRAIN = Train(epochs=2, batch_size=16, learning_rate=5e-3, seed=1)
VANILLA = DistilSpec(start=Cut(layers=(0, 2)), method=Method(targets=TeacherTargets()), train=TRAIN)
REGRESSION = DistilSpec(
    start=Pretrained(), method=Method(targets=TeacherTargets(), training=Annealing(max_temperature=2)), train=TRAIN
)

LOADED = """
import json, sys
from transformers import AutoModelForSequenceClassification, AutoTokenizer
answers = []
for directory, texts in json.load(open(sys.argv[1])):
    model = AutoModelForSequenceClassification.from_pretrained(directory).eval()
    tokenizer = AutoTokenizer.from_pretrained(directory)
    given = [tokenizer(*text, truncation=True, max_length=16, return_tensors="pt") for text in texts]
    names = [model.config.id2label[place] for place in range(model.config.num_labels)]
    answers.append({"logits": [model(**one).logits[0].tolist() for one in given], "names": names})
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def students(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_corpus: Path,
    teacher: Path,
    store: Path,
    pairs_corpus: Path,
    pairs_teacher: Path,
    pairs_store: Path,
) -> dict[str, Path]:
    """Two finished students and their evaluations: of labels by vanilla KD, of numbers by annealing."""
    home = tmp_path_factory.mktemp("students")
    lineage = {"name": "distil/vanilla@tiny", "key": "ab" * 32}
    for name, spec, corpus, start, outputs in (
        ("labels", VANILLA, tiny_corpus, teacher, store),
        ("numbers", REGRESSION, pairs_corpus, pairs_teacher, pairs_store),
    ):
        (home / name / "exam").mkdir(parents=True)
        (home / name / "lineage.json").write_text(json.dumps(lineage), "utf-8")
        distil(spec, {"corpus": corpus, "start": start, "outputs": outputs}, home / name, inline())
        given = {"corpus": corpus, "model": home / name / "model"}
        evaluate(EvaluateSpec(), given, home / name / "exam", inline())
    return {"labels": home / "labels", "numbers": home / "numbers"}


# --- what is left -------------------------------------------------------------------------------------------


def test_plain_transformers_in_another_process_gives_the_evaluated_logits(
    students: dict[str, Path], tiny_corpus: Path, pairs_corpus: Path, tmp_path: Path
) -> None:
    """From the directory and the texts alone, and without a network."""
    corpora = {"labels": tiny_corpus, "numbers": pairs_corpus}
    request = [
        (str(students[name] / "model"), read_split(corpus, "validation").texts()) for name, corpus in corpora.items()
    ]
    (tmp_path / "asked.json").write_text(json.dumps(request), "utf-8")
    run = subprocess.run(
        [sys.executable, "-c", LOADED, str(tmp_path / "asked.json")],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "none"), "OMP_NUM_THREADS": "1"},
    )
    labels, numbers = json.loads(run.stdout)
    for name, answers in (("labels", labels), ("numbers", numbers)):
        evaluated = pq.read_table(students[name] / "exam" / "predictions" / "validation.parquet")
        np.testing.assert_allclose(answers["logits"], np.array(evaluated["logits"].to_pylist()), atol=1e-5)
        scores = json.loads((students[name] / "exam" / "metrics.json").read_text("utf-8"))["scores"]["validation"]
        outputs = np.array(answers["logits"])
        truth = np.array(evaluated["label"].to_pylist())
        if name == "labels":
            assert outputs.argmax(-1).tolist() == evaluated["prediction"].to_pylist()
            assert scores["accuracy"] == pytest.approx(100 * (outputs.argmax(-1) == truth).mean())
        else:
            assert scores["pearson"] == pytest.approx(100 * np.corrcoef(outputs[:, 0], truth)[0, 1], abs=1e-4)
    assert labels["names"] == ["bad", "good"]
    assert numbers["names"] == ["score"]


def test_keep_epochs_saves_the_model_of_every_epoch_and_the_best_is_one_of_them(
    tiny_corpus: Path, teacher: Path, tmp_path: Path
) -> None:
    spec = DistilSpec(start=Cut(layers=(0, 2)), train=TRAIN.model_copy(update={"epochs": 3, "keep": "epochs"}))
    outs = {keep: tmp_path / keep for keep in ("epochs", "best")}
    for keep, out in outs.items():
        out.mkdir()
        train = spec.train.model_copy(update={"keep": keep})
        inputs = {"corpus": tiny_corpus, "start": teacher}
        facts = distil(spec.model_copy(update={"train": train}), inputs, out, inline())
    kept = sorted(path.name for path in (outs["epochs"] / "epochs").iterdir())
    assert kept == ["01", "02", "03"] and not (outs["best"] / "epochs").exists()
    models = {name: load(outs["epochs"] / "epochs" / name).state_dict() for name in kept}
    best = models[f"{facts['best_epoch']:02d}"]
    for keep in outs.values():
        assert all(torch.equal(best[name], value) for name, value in load(keep / "model").state_dict().items())
    assert not all(torch.equal(models["01"][name], value) for name, value in models["03"].items())
    assert (outs["epochs"] / "epochs" / "02" / "tokenizer.json").exists()


def test_the_tensorboard_folder_has_a_file_for_each_epoch_and_one_for_the_dev_scores(students: dict[str, Path]) -> None:
    """Curves lie outside of ``model/``, so that the model that other stages read has the same bytes whenever it was
    trained."""
    drawn = students["labels"] / "tensorboard"
    assert sorted(path.name for path in drawn.iterdir()) == [event_file_name(epoch) for epoch in (1, 2, 3)]
    assert b"loss/soft" in (drawn / event_file_name(1)).read_bytes()
    assert b"dev/validation_accuracy" in (drawn / event_file_name(3)).read_bytes()


def test_the_directory_holds_weights_tokenizer_and_label_names(students: dict[str, Path]) -> None:
    found = {path.name for path in (students["labels"] / "model").iterdir()}
    assert found >= {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "README.md"}
    config = json.loads((students["labels"] / "model" / "config.json").read_text("utf-8"))
    assert config["id2label"] == {"0": "bad", "1": "good"} and config["label2id"] == {"bad": 0, "good": 1}
    assert config["num_hidden_layers"] == 2
    assert config["architectures"] == ["BertForSequenceClassification"]
    for name in ("config.json", "tokenizer_config.json"):
        assert str(students["labels"].parent) not in (students["labels"] / "model" / name).read_text("utf-8")


def test_the_card_states_scores_recipe_and_lineage_behind_the_front_matter(students: dict[str, Path]) -> None:
    card = (students["labels"] / "model" / "README.md").read_text("utf-8")
    history = json.loads((students["labels"] / "history.json").read_text("utf-8"))
    _, front, body = card.split("---\n", 2)
    assert "library_name: transformers\n" in front and "pipeline_tag: text-classification\n" in front
    assert body.startswith("# distil/vanilla@tiny\n")
    assert f"| validation | accuracy | {history['scores']['validation']['accuracy']:.2f} |" in body
    blocks = [json.loads(block.split("```")[0]) for block in body.split("```json\n")[1:]]
    assert blocks == [VANILLA.model_dump(mode="json"), {"name": "distil/vanilla@tiny", "key": "ab" * 32}]
    assert "0 bad, 1 good" in body
    length = read_description(students["labels"] / "model").max_length
    assert f"truncation=True, max_length={length}" in body and f"cut at {length} tokens" in body
    (measured,) = yaml.safe_load(front)["model-index"][0]["results"]
    score = round(history["scores"]["validation"]["accuracy"], 2)
    assert measured["metrics"] == [{"type": "accuracy", "value": score, "name": "validation accuracy x 100"}]
    assert "The weights are those of the epoch with the highest score on the held-out slice of train." in body
    assert "First weights: layers 1, 3 of the model in the input start. Layer 1 is the first; " in body
    assert "a number (regression)" in (students["numbers"] / "model" / "README.md").read_text("utf-8")


def test_the_snippet_of_the_card_labels_a_text_that_is_longer_than_the_model_reads(
    students: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    model = students["labels"] / "model"
    code = (model / "README.md").read_text("utf-8").split("```python\n")[1].split("```")[0]
    code = code.replace('"."', repr(str(model))).replace("A film", "A film" + " film" * 1000)
    exec(code, {})
    assert set(ast.literal_eval(capsys.readouterr().out)) <= {"bad", "good"}


def test_a_measured_weight_of_layers_stands_in_the_history_and_the_figures(
    tiny_corpus: Path, teacher: Path, store: Path, tmp_path: Path
) -> None:
    method = Method(targets=TeacherTargets(), structure=Pick(pairs=((1, 2),), weight="auto"))
    spec = VANILLA.model_copy(update={"method": method, "train": TRAIN.model_copy(update={"epochs": 1})})
    facts = distil(spec, {"corpus": tiny_corpus, "start": teacher, "outputs": store}, tmp_path, inline())
    found = json.loads((tmp_path / "history.json").read_text("utf-8"))["layer_weight"]
    assert found == facts["layer_weight"]
    assert found.keys() == {"weight", "labels_gradient", "layers_gradient", "ratio", "batches"}
    assert found["weight"] * found["layers_gradient"] == pytest.approx(found["labels_gradient"])


def test_the_history_has_each_epoch_and_the_scores_of_the_best_and_the_last(students: dict[str, Path]) -> None:
    history = json.loads((students["numbers"] / "history.json").read_text("utf-8"))
    assert [(epoch["phase"], epoch["epoch"]) for epoch in history["epochs"]] == [("anneal", 1), ("labels", 1)]
    assert all(np.isfinite(epoch["loss"]) and epoch["seconds"] > 0 for epoch in history["epochs"])
    best = max(enumerate(history["epochs"]), key=lambda entry: (entry[1]["score"], entry[0]))[0]
    assert history["best_epoch"] == best + 1
    exam = json.loads((students["numbers"] / "exam" / "metrics.json").read_text("utf-8"))
    for metric, value in history["scores"]["validation"].items():
        assert value == pytest.approx(exam["scores"]["validation"][metric], abs=1e-4)
    assert history["last_epoch_scores"].keys() == {"validation"}


def test_the_last_epoch_is_scored_on_labelled_test_splits_too_and_its_predictions_are_those_of_an_evaluation(
    encoder: Path, tmp_path: Path
) -> None:
    """Where the last epoch is the one that is kept, its scores and predictions are those of the stage ``evaluate``."""
    folder = write_tiny_task(tmp_path, {"train": 60, "validation": 24, "test": 10}) / "tiny"
    data = write_corpus(TINY, folder, encoder, tmp_path / "corpus")
    spec, out = DistilSpec(start=Pretrained(), train=TRAIN.model_copy(update={"select": "last"})), tmp_path / "out"
    out.mkdir()
    facts = distil(spec, {"corpus": data, "start": encoder}, out, inline())
    evaluated = evaluate(EvaluateSpec(), {"corpus": data, "model": out / "model"}, out, inline())
    assert facts["last_epoch_scores"] == evaluated["scores"]
    assert facts["scores"] == {"validation": evaluated["scores"]["validation"]}
    for split in ("validation", "test"):
        table = pq.read_table(last_predictions_path(out, split))
        beside = pq.read_table(out / "predictions" / f"{split}.parquet")
        names = ["index", "row_key", "label", "prediction"]
        assert table.select(names).equals(beside.select(names)) and table.schema == beside.schema
        for one, other in zip(table["logits"].to_pylist(), beside["logits"].to_pylist(), strict=True):
            assert one == pytest.approx(other, abs=1e-5)


def test_no_predictions_are_kept_of_a_test_split_without_labels(students: dict[str, Path]) -> None:
    kept = students["labels"] / "predictions" / "last"
    assert [path.name for path in kept.iterdir()] == ["validation.parquet"]


def test_the_model_is_that_of_the_best_epoch_and_the_scores_of_the_last_are_reported_too(
    tiny_corpus: Path, teacher: Path, tmp_path: Path
) -> None:
    """At so high a rate scores go up and down; of a few seeds one at least has its best epoch before its last."""
    for seed in range(6):
        restless = TRAIN.model_copy(update={"epochs": 6, "learning_rate": 5e-2, "seed": seed})
        spec, out = DistilSpec(start=Cut(layers=(1,)), train=restless), tmp_path / str(seed)
        out.mkdir()
        facts = distil(spec, {"corpus": tiny_corpus, "start": teacher}, out, inline())
        history = json.loads((out / "history.json").read_text("utf-8"))
        scores = [epoch["score"] for epoch in history["epochs"]]
        best = max(range(6), key=lambda epoch: (scores[epoch], epoch))
        if scores[best] > scores[-1] and history["last_epoch_scores"] != history["scores"]:
            break
    assert facts["best_epoch"] == best + 1 < 6, "or this proves nothing"
    found = {}
    for split in ("holdout", "validation"):
        rows, model = read_rowset(tiny_corpus, split), load(out / "model").eval()
        found[split] = 100 * (predict(model, rows, 2, "cpu").argmax(-1) == rows.labels.numpy()).mean()
    assert found["holdout"] == pytest.approx(scores[best])
    assert found["validation"] == pytest.approx(history["scores"]["validation"]["accuracy"])
    assert found["validation"] != pytest.approx(history["last_epoch_scores"]["validation"]["accuracy"])


# --- how it is trained -----------------------------------------------------------------------------------------


def given(tiny_corpus: Path, start: Path, store: Path) -> dict[str, Path]:
    return {"corpus": tiny_corpus, "start": start, "outputs": store}


def weights_of(job: StudentJob, worker: InlineWorker | None = None) -> bytes:
    job.out.mkdir(exist_ok=True)
    train(job, worker or InlineWorker(1, RecordingListener()))
    return (job.out / "model" / "model.safetensors").read_bytes()


def test_a_student_trained_after_another_has_the_bytes_of_one_trained_alone(
    tiny_corpus: Path, encoder: Path, store: Path, tmp_path: Path
) -> None:
    """Its head is random, too: all of its randomness comes from its own seed."""
    spec = DistilSpec(start=Pretrained(), method=Method(targets=TeacherTargets()), train=TRAIN)
    job = StudentJob(spec, given(tiny_corpus, encoder, store), tmp_path / "alone")
    other = spec.model_copy(update={"train": TRAIN.model_copy(update={"seed": 2})})
    alone = weights_of(job)
    assert weights_of(replace(job, spec=other, out=tmp_path / "other")) != alone
    assert weights_of(replace(job, out=tmp_path / "second")) == alone


@pytest.mark.parametrize("keep", ["best", "epochs"])
def test_an_interrupted_student_ends_with_the_bytes_of_an_uninterrupted_one(
    keep: str, tiny_corpus: Path, teacher: Path, store: Path, tmp_path: Path
) -> None:
    spec = VANILLA.model_copy(update={"train": VANILLA.train.model_copy(update={"keep": keep})})
    whole = weights_of(StudentJob(spec, given(tiny_corpus, teacher, store), tmp_path / "whole"))

    def cut(done: float) -> None:
        if done > 75:
            raise Interrupted

    job = StudentJob(spec, given(tiny_corpus, teacher, store), tmp_path / "cut", checkpoint_seconds=0.0)
    with pytest.raises(Interrupted):
        weights_of(job, InlineWorker(1, RecordingListener(cut)))
    assert not (tmp_path / "cut" / "model").exists()
    assert weights_of(job) == whole
    histories = [json.loads((tmp_path / name / "history.json").read_text("utf-8")) for name in ("whole", "cut")]
    for history in histories:
        for epoch in history["epochs"]:
            del epoch["seconds"]
    assert histories[0] == histories[1]
    kept = [
        {str(path.relative_to(home)): path.read_bytes() for path in (home / "epochs").rglob("*.safetensors")}
        for home in (tmp_path / "whole", tmp_path / "cut")
    ]
    assert kept[0] == kept[1] and len(kept[0]) == (0 if keep == "best" else 2)


def test_training_from_a_store_runs_only_the_student(tiny_corpus: Path, store: Path, tmp_path: Path) -> None:
    """The start is a configuration without weights, so that no other model could run."""
    (tmp_path / "start").mkdir()
    config = {
        "model_type": "bert",
        "vocab_size": 30522,
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 8,
    }
    (tmp_path / "start" / "config.json").write_text(json.dumps(config), "utf-8")
    ran: list[nn.Module] = []
    hook = nn.modules.module.register_module_forward_hook(
        lambda module, *_: ran.append(module) if isinstance(module, PreTrainedModel) else None
    )
    spec = DistilSpec(start=Fresh(), method=Method(targets=TeacherTargets()), train=TRAIN)
    job = StudentJob(spec, given(tiny_corpus, tmp_path / "start", store), tmp_path / "out")
    weights_of(job)
    hook.remove()
    classifiers = [module for module in ran if module.base_model is not module]
    assert len({id(module) for module in classifiers}) == 1
    steps = -(-len(read_split(tiny_corpus, "train")) // 16)
    best = json.loads((job.out / "history.json").read_text("utf-8"))["best_epoch"]
    scored = 1 if best == 2 else 2
    assert len(classifiers) == 2 * (steps + 1) + scored, (
        "each epoch its steps and a score; at last dev, the last and best"
    )


def test_the_stage_reports_the_number_of_rows_to_train_on(tiny_corpus: Path, teacher: Path, tmp_path: Path) -> None:
    listener, rows = RecordingListener(), len(read_split(tiny_corpus, "train"))
    spec = DistilSpec(start=Cut(layers=(1,)), train=TRAIN)
    facts = distil(spec, {"corpus": tiny_corpus, "start": teacher}, tmp_path, inline(listener))
    assert listener.expected == [2 * rows] and listener.done == 2 * rows
    assert facts["rows"] == rows
    assert facts["scores"] == json.loads((tmp_path / "history.json").read_text("utf-8"))["scores"]
    assert facts.keys() == {"rows", "train_seconds", "parameters", "best_epoch", "scores", "last_epoch_scores"}


# --- what it learns from -----------------------------------------------------------------------------------------


def test_the_teachers_outputs_are_paired_with_their_own_rows(tiny_corpus: Path, store: Path) -> None:
    rows = read_rowset(tiny_corpus, "train")
    signal = signal_of(VANILLA, {"outputs": store}, rows)
    assert isinstance(signal, StoredSignal)
    table = pq.read_table(store / shard_name(0))
    outputs = dict(zip(table["row_key"].to_pylist(), table["logits"].to_pylist(), strict=True))
    assert signal.read(np.arange(len(rows)), OutputRequest(((0, 1.0),)))["logits"].tolist() == [
        outputs[key] for key in rows.row_keys
    ]
    assert isinstance(signal_of(DistilSpec(start=Fresh()), {}, rows), NoTeacher)


@pytest.mark.parametrize(("pooling", "teacher_pooling"), [("mean", None), ("mean", "cls"), ("cls", "mean")])
def test_states_of_either_pooling_are_followed_by_states_of_either(
    pooling: str, teacher_pooling: str | None, tiny_corpus: Path, teacher: Path, tmp_path: Path
) -> None:
    corpus = {"corpus": tiny_corpus, "model": teacher}
    (tmp_path / "store").mkdir()
    teach(TeachSpec(pooling="both", precision="float32"), corpus, tmp_path / "store", inline())
    pick = Pick(pairs=((3, 2),), pooling=pooling, teacher_pooling=teacher_pooling)
    rows = read_rowset(tiny_corpus, "train")
    spec = DistilSpec(start=Pretrained(), method=VANILLA.method.model_copy(update={"structure": pick}))
    signal = signal_of(spec, {"outputs": tmp_path / "store"}, rows)
    read = signal.read(np.arange(len(rows)), OutputRequest(((0, 1.0),), layers=(2,)))
    column = {"mean": "hidden_02", "cls": "cls_02"}[teacher_pooling or pooling]
    np.testing.assert_array_equal(read["hidden_02"], read_columns(tmp_path / "store", [column], rows.row_keys)[column])


def test_a_layer_in_which_all_rows_are_nearly_equal_is_reported(
    tiny_corpus: Path, teacher: Path, tmp_path: Path
) -> None:
    """The first token's embedding is the same for every row, and its mean over tokens is not."""
    told = {}
    for pooling in ("cls", "mean"):
        store, out = tmp_path / f"store-{pooling}", tmp_path / pooling
        store.mkdir()
        out.mkdir()
        teach(TeachSpec(pooling=pooling), {"corpus": tiny_corpus, "model": teacher}, store, inline())
        structure = Pick(pairs=((1, 0), (2, 3)), pooling=pooling)
        spec = DistilSpec(start=Cut(layers=(0, 2)), method=Method(structure=structure), train=TRAIN)
        inputs = {"corpus": tiny_corpus, "start": teacher, "outputs": store}
        told[pooling] = distil(spec, inputs, out, inline()).get("warnings")
    assert told["mean"] is None
    (line,) = told["cls"]
    assert line.startswith("structure: the rows look alike in layers 0 of the teacher (variance below 0.001 of")


def test_a_store_that_lacks_a_row_of_train_is_refused_with_its_key(
    tiny_corpus: Path, teacher: Path, store: Path, tmp_path: Path
) -> None:
    whole = read_store(store)
    keys = [key.tobytes() for key in read_keys(store / shard_name(0))]
    kept = keys[:7] + keys[8:]
    logits, states, _ = read_rows(store, 0, whole.layout, whole.layout, kept)
    (tmp_path / "store").mkdir()
    file = write_shard(tmp_path / "store", 0, whole.layout, kept, logits, states)
    write_store(tmp_path / "store", whole.layout, whole.tokenisation, [file])
    lost = keys[7].hex()
    with pytest.raises(ValueError, match=rf"the store lacks 1 of \d+ rows, the first is row 7 \({lost}\)"):
        weights_of(StudentJob(VANILLA, given(tiny_corpus, teacher, tmp_path / "store"), tmp_path / "out"))


def test_the_best_epoch_is_selected_on_the_split_that_the_recipe_names(tiny_corpus: Path, tmp_path: Path) -> None:
    meta = read_meta(tiny_corpus)
    on_dev = VANILLA.model_copy(update={"train": TRAIN.model_copy(update={"select": "dev"})})
    assert selection_split(VANILLA, meta) == "holdout"
    assert selection_split(on_dev, meta) == "validation"
    document = json.loads((tiny_corpus / META).read_text("utf-8"))
    del document["splits"]["holdout"]
    (tmp_path / META).write_text(json.dumps(document), "utf-8")
    without = read_meta(tmp_path)
    assert selection_split(on_dev, without) == "validation"
    last = VANILLA.model_copy(update={"train": TRAIN.model_copy(update={"select": "last"})})
    assert [selection_split(last, found) for found in (meta, without)] == ["holdout", "validation"]
    with pytest.raises(ValueError, match=r"^train\.select: holdout, but data\.holdout is 0; set data\.holdout above 0"):
        selection_split(VANILLA, without)


def test_a_student_in_bfloat16_trains_much_as_one_in_float32(
    tiny_corpus: Path, teacher: Path, store: Path, tmp_path: Path
) -> None:
    losses = []
    for precision in ("float32", "bfloat16"):
        spec = VANILLA.model_copy(update={"train": TRAIN.model_copy(update={"precision": precision})})
        weights_of(StudentJob(spec, given(tiny_corpus, teacher, store), tmp_path / precision))
        history = json.loads((tmp_path / precision / "history.json").read_text("utf-8"))
        losses.append([epoch["loss"] for epoch in history["epochs"]])
    assert losses[0] != losses[1]
    np.testing.assert_allclose(losses[1], losses[0], rtol=0.05)
    from safetensors.torch import load_file

    saved = load_file(tmp_path / "bfloat16" / "model" / "model.safetensors")
    assert {value.dtype for value in saved.values()} == {torch.float32}


def test_a_checkpoint_is_resumable_only_if_the_epochs_to_keep_were_saved(tmp_path: Path) -> None:
    progress = Progress(sum_layout((), 0, {}), history=[Epoch("train", 1, 0.5, 50.0, 0.7, 1.0)], learning_rate=1e-4)
    every = StudentJob(DistilSpec(start=Pretrained(), train=Train(keep="epochs")), {}, tmp_path)
    assert kept_every_epoch(replace(every, spec=DistilSpec(start=Pretrained())), progress)
    assert not kept_every_epoch(every, progress)
    (tmp_path / "epochs" / "01").mkdir(parents=True)
    assert kept_every_epoch(every, progress)

"""Students with a mean head: what they leave, what loads it, and that they train, resume and work in two processes as
others do."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from tiny import write_tiny_model
from tiny_tasks import TINY
from training_setups import (
    CLASSES,
    VANILLA,
    Interrupted,
    LocalWorker,
    RecordingListener,
    assert_two_workers_train_as_one_does,
    inline,
    setup_of,
    signal_for,
    small_bert,
    spec_of,
)
from transformers import AutoTokenizer

import stillhouse
from cluster.inline import InlineWorker
from stages.corpus.reader import read_split
from stages.corpus.rowset import read_rowset
from stages.evaluation.evaluate import evaluate
from stages.models.heads.mean_head import MeanForSequenceClassification, mean_head_class
from stages.models.heads.states import last_state_variances
from stages.models.loading import build
from stages.specs.axes.targets import TeacherTargets
from stages.specs.evaluation import EvaluateSpec
from stages.specs.method import Method
from stages.specs.student import Cut, DistilSpec, Fresh, Head, Pretrained, Train
from stages.training.checkpoint import Progress
from stages.training.distil import distil
from stages.training.job import StudentJob
from stages.training.loop import fit
from stages.training.worker import train

ROOT = Path(__file__).parents[3]
TRAIN = Train(epochs=2, batch_size=16, learning_rate=5e-3, seed=1)
MEAN = DistilSpec(start=Cut(layers=(0, 2), head="mean"), method=Method(targets=TeacherTargets()), train=TRAIN)

USED = """
import json, sys
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, AutoTokenizer
from transformers import BertForSequenceClassification, BertModel
directory, texts, root = json.load(open(sys.argv[1]))
refusals = []
for auto in (AutoConfig, AutoModel, AutoModelForSequenceClassification):
    try:
        auto.from_pretrained(directory)
        refusals.append("")
    except ValueError as error:
        refusals.append(str(error))
lacking = []
for concrete in (BertModel, BertForSequenceClassification):
    try:
        concrete.from_pretrained(directory)
        lacking.append("")
    except OSError as error:
        lacking.append(str(error))
tokenizer = AutoTokenizer.from_pretrained(directory)
ids = [tokenizer(*text, truncation=True, max_length=16)["input_ids"] for text in texts]
own = sorted({"stages", "stillhouse"} & set(sys.modules))
sys.path.insert(0, root)
import stillhouse
from transformers import pipeline
classify = pipeline("text-classification", stillhouse.load_model(directory), tokenizer=tokenizer)
labels = [answer["label"] for answer in classify([text[0] for text in texts], truncation=True, max_length=16)]
print(json.dumps({"refusals": refusals, "lacking": lacking, "ids": ids, "own": own, "labels": labels}))
"""


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory, tiny_corpus: Path, teacher: Path, store: Path) -> Path:
    """A finished student with a mean head, cut out of a teacher with another head, and its evaluation."""
    home = tmp_path_factory.mktemp("mean")
    (home / "exam").mkdir()
    distil(MEAN, {"corpus": tiny_corpus, "start": teacher, "outputs": store}, home, inline())
    evaluate(EvaluateSpec(), {"corpus": tiny_corpus, "model": home / "model"}, home / "exam", inline())
    return home


def evaluated(student: Path) -> np.ndarray:
    table = pq.read_table(student / "exam" / "predictions" / "validation.parquet")
    return np.array(table["logits"].to_pylist())


# --- what is left -------------------------------------------------------------------------------------------


def test_every_class_of_plain_transformers_refuses_a_mean_head_and_load_model_classifies_with_it(
    student: Path, tiny_corpus: Path, tmp_path: Path
) -> None:
    """In another process, which has none of this project's modules until it imports ``stillhouse``. The tokenizer
    loads in plain transformers."""
    texts = read_split(tiny_corpus, "validation").texts()
    (tmp_path / "request.json").write_text(json.dumps([str(student / "model"), texts, str(ROOT)]), "utf-8")
    run = subprocess.run(
        [sys.executable, "-c", USED, str(tmp_path / "request.json")],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "none"), "OMP_NUM_THREADS": "1"},
    )
    answers = json.loads(run.stdout.splitlines()[-1])
    assert all("stillhouse-mean-head" in line for line in answers["refusals"]), answers["refusals"]
    assert all("no file named model.safetensors" in line for line in answers["lacking"]), answers["lacking"]
    assert answers["own"] == []
    tokenizer = AutoTokenizer.from_pretrained(tiny_corpus / "tokenizer")
    assert answers["ids"] == [tokenizer(*text, truncation=True, max_length=16)["input_ids"] for text in texts]
    assert answers["labels"] == [["bad", "good"][place] for place in evaluated(student).argmax(-1)]


def test_load_model_gives_the_evaluated_logits_whatever_the_head(
    student: Path, teacher: Path, tiny_corpus: Path
) -> None:
    model = stillhouse.load_model(student / "model")
    assert isinstance(model, MeanForSequenceClassification)
    assert not model.training and model.config.id2label == {0: "bad", 1: "good"}
    tokenizer = AutoTokenizer.from_pretrained(student / "model")
    texts = read_split(tiny_corpus, "validation").texts()
    with torch.inference_mode():
        rows = [model(**tokenizer(*text, truncation=True, max_length=16, return_tensors="pt")).logits for text in texts]
    np.testing.assert_allclose(torch.cat(rows).numpy(), evaluated(student), atol=1e-5)
    assert type(stillhouse.load_model(str(teacher))).__name__ == "BertForSequenceClassification"
    with pytest.raises(ValueError, match=r"^/nowhere: no config\.json here; give the directory of a model"):
        stillhouse.load_model("/nowhere")


def test_the_model_card_shows_the_call_that_loads_the_model(student: Path, teacher: Path, tiny_corpus: Path) -> None:
    card = (student / "model" / "README.md").read_text("utf-8")
    assert "library_name: stillhouse\n" in card
    code = card.split("```python\n")[1].split("```")[0].replace('"."', repr(str(student / "model")))
    names: dict[str, object] = {}
    exec(code, names)
    assert isinstance(names["model"], MeanForSequenceClassification)


# --- how it is trained --------------------------------------------------------------------------------------


def test_an_interrupted_student_with_a_mean_head_ends_with_the_bytes_of_an_uninterrupted_one(
    student: Path, tiny_corpus: Path, teacher: Path, store: Path, tmp_path: Path
) -> None:
    def cut(done: float) -> None:
        if done > 75:
            raise Interrupted

    job = StudentJob(
        MEAN, {"corpus": tiny_corpus, "start": teacher, "outputs": store}, tmp_path, checkpoint_seconds=0.0
    )
    with pytest.raises(Interrupted):
        train(job, InlineWorker(1, RecordingListener(cut)))
    assert not (tmp_path / "model").exists()
    train(job, InlineWorker(1, RecordingListener()))
    name = "model/model.mean_head.safetensors"
    assert (tmp_path / name).read_bytes() == (student / name).read_bytes()


def small_mean_bert() -> MeanForSequenceClassification:
    """The encoder of ``small_bert`` with a mean head."""
    torch.manual_seed(0)
    return mean_head_class("bert")(small_bert(CLASSES).config)


def trained(checkpoint: Path, worker: LocalWorker) -> tuple[MeanForSequenceClassification, Progress]:
    model = small_mean_bert()
    setup = setup_of(spec_of(VANILLA, batch_size=5, epochs=2), CLASSES, checkpoint, signal_for(VANILLA, CLASSES))
    return model, fit(model, setup, worker)


def test_two_workers_train_a_mean_head_as_one_does(tmp_path: Path) -> None:
    assert_two_workers_train_as_one_does(trained, tmp_path)


# --- warnings -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def alike(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder whose first token hardly attends to the others, so that its states are alike for all rows."""
    return write_tiny_model(tmp_path_factory.mktemp("alike"), layers=1, width=16, initializer_range=1e-3)


def test_a_cut_students_head_that_reads_states_that_hardly_vary_is_warned_of_with_the_remedy(
    alike: Path, tiny_corpus: Path, tmp_path: Path
) -> None:
    spec = DistilSpec(start=Pretrained(), train=TRAIN.model_copy(update={"epochs": 1}))
    first = Cut(layers=(0,))
    starts = {"first": first, "mean": first.model_copy(update={"head": "mean"}), "whole": Pretrained(), "new": Fresh()}
    warned = {}
    for name, start in starts.items():
        out = tmp_path / name
        out.mkdir()
        inputs = {"corpus": tiny_corpus, "start": alike}
        warned[name] = distil(spec.model_copy(update={"start": start}), inputs, out, inline()).get("warnings")
    (line,) = warned.pop("first")  # type: ignore[misc]
    assert line.startswith("head: cls reads states of the last layer that hardly vary between rows")
    assert line.endswith("give head: mean") and "\n" not in line
    assert warned == {"mean": None, "whole": None, "new": None}


@pytest.mark.parametrize("head", ["cls", "mean"])
def test_the_variances_are_those_of_an_independent_computation_and_change_nothing(
    head: Head, encoder: Path, tiny_corpus: Path
) -> None:
    torch.manual_seed(0)
    model, rows = build(Pretrained(head=head), encoder, TINY), read_rowset(tiny_corpus, "validation")
    model.train()
    state = torch.get_rng_state()
    found = last_state_variances(model, rows, "cpu")
    assert torch.equal(torch.get_rng_state(), state) and model.training
    model.eval()
    states: dict[Head, list[np.ndarray]] = {"cls": [], "mean": []}
    for row in range(len(rows)):
        inputs = rows.batch(np.array([row]), "cpu").inputs
        with torch.no_grad():
            last = model.base_model(**inputs).last_hidden_state[0].double().numpy()
        states["cls"].append(last[0])
        states["mean"].append(last.mean(0))
    for kind, values in states.items():
        array = np.stack(values)
        expected = array.var(0).sum() / np.square(array).sum(1).mean()
        assert found[kind] == pytest.approx(expected, rel=1e-4)

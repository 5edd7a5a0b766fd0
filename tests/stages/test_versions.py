"""Each stage's output on a fixed input, pinned to the stage's version.

The key of an artifact does not depend on the code. A change to the output of a stage for the same spec and inputs must
raise the stage's version, or old artifacts would be reused. A pin that fails here shows that this was forgotten.
"""

import csv
import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from tiny import packaged_model
from training_setups import inline, write_corpus
from transformers import BertConfig, BertForMaskedLM, BertForSequenceClassification, PreTrainedModel

from stages.corpus.reader import read_split
from stages.evaluation.ensemble import ensemble
from stages.evaluation.evaluate import evaluate
from stages.outputs.layout import shard_name
from stages.pretraining.pretrain import pretrain
from stages.specs.axes.targets import Smoothed, TeacherTargets, Virtual
from stages.specs.axes.training import Annealing, Continuation, OnePhase, Progressive
from stages.specs.base import Spec
from stages.specs.corpus import CorpusSpec
from stages.specs.evaluation import EnsembleSpec, EvaluateSpec
from stages.specs.layers import Attend, Concatenate, Outputs, Pick, Random, Relational
from stages.specs.method import Method
from stages.specs.pretraining import PretrainSpec
from stages.specs.student import Cut, DistilSpec, Train
from stages.specs.tasks import Task
from stages.specs.teacher import CalibrateSpec, ProbeSpec, TeachSpec
from stages.teaching.calibrate import calibrate
from stages.teaching.probe import probe
from stages.teaching.teach import teach
from stages.training.distil import distil

TASK = Task(name="pinned", text=("text",), labels=("no", "yes"), metrics=("accuracy", "matthews"), test=("test",))
WORDS = ["old", "new", "red", "green", "cold", "warm", "slow", "quick", "dark", "light", "small", "large"]

CORPUS = "0aa77fa503802e08"
LOGITS = [2.171, 3.507, 3.278, -0.1453, 3.289, 5.092]
STATES = {
    "mean": [-1.906, 2.055, 0.5625, -0.9375, -1.907, -1.704, -0.8213, 0.8018, -0.3943],
    "cls": [-1.896, 0.5513, 0.896, -0.5908, -2.213, -1.639, -1.007, 0.3992, -0.7397],
}
LOSSES = {
    "hard": [0.5843, 0.5809, 0.5648],
    "smoothed": [0.6355, 0.607, 0.5892],
    "vanilla": [0.4247, 0.4078, 0.4003],
    "annealing": [2.793, 3.246, 0.5798],
    "pick": [0.5922, 0.5632, 0.549],
    "concatenate": [1.603, 1.193, 1.028],
    "virtual": [0.5481, 0.5202, 0.5037],
    "divided": [0.1796, 0.1633, 0.1619],
    "continuation": [2.57, 1.65, 0.679],
    "attend": [0.6248, 0.6092, 0.5871],
    "random": [2.632, 1.025, 1.124],
    "relational": [1.22, 1.202, 1.2],
    "outputs": [1.159, 0.93, 0.8291],
    "in turn": [2.388, 4.632, 0.5654],
    "by shares": [0.4173, 0.3444, 0.3325],
}
METRICS = {"accuracy": 66.66666666666666, "matthews": 15.811388300841896}


def check(spec: type[Spec], version: int, found: object, agrees: bool) -> None:
    changed = f"output of {spec.stage} changed: raise its version in stages/specs/ and update this pin to {found}"
    assert agrees, changed
    assert spec.version == version, f"this pin of {spec.stage} is of version {version}; update it to {found}"


def check_numbers(spec: type[Spec], version: int, found: np.ndarray, pinned: list[float]) -> None:
    """Compare with a tolerance: machines differ in the last bits, and a float16 has little more than three digits."""
    flat = [float(f"{value:.4g}") for value in found.reshape(-1)]
    check(spec, version, flat, flat == pytest.approx(pinned, rel=2e-3, abs=1e-4))


@pytest.fixture(scope="module")
def pinned_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("pinned")
    for split, rows in (("train", 40), ("validation", 12), ("test", 4)):
        with (home / f"{split}.csv").open("w", encoding="utf-8", newline="") as file:
            lines = [
                (f"the {WORDS[row * row % 12]} and {WORDS[(row * 5 + len(split)) % 12]} one {row}", row * row % 3 % 2)
                for row in range(rows)
            ]
            csv.writer(file).writerows([("text", "label"), *lines])
    return write_corpus(TASK, home, packaged_model(), home / "corpus", "csv")


def with_numpy_weights(model: PreTrainedModel) -> PreTrainedModel:
    """``model`` with weights from NumPy: torch's random numbers differ between machines."""
    generator = np.random.Generator(np.random.PCG64(19))
    weights = {
        name: torch.from_numpy(generator.normal(0, 0.8, tuple(value.shape)).astype(np.float32))
        + float("LayerNorm.weight" in name)
        for name, value in sorted(model.state_dict().items())
    }
    model.load_state_dict(weights)
    return model


def pinned_config() -> BertConfig:
    """The configuration of a BERT without dropout."""
    sizes = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    no_dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return BertConfig(**sizes, **no_dropout, max_position_embeddings=32)


@pytest.fixture(scope="module")
def pinned_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("model")
    with_numpy_weights(BertForSequenceClassification(pinned_config())).save_pretrained(out)
    return out


def test_the_output_of_corpus_is_pinned_to_its_version(pinned_corpus: Path) -> None:
    digest = hashlib.sha256()
    for name in ("train", "holdout", "validation", "test"):
        split = read_split(pinned_corpus, name)
        for values in (split.row_keys, split.index, split.labels, split.labelled, split.tokens, split.offsets):
            digest.update(np.ascontiguousarray(values).tobytes())
    check(CorpusSpec, 3, digest.hexdigest()[:16], digest.hexdigest()[:16] == CORPUS)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_the_output_of_teach_is_pinned_to_its_version(
    pooling: str, pinned_corpus: Path, pinned_model: Path, tmp_path: Path
) -> None:
    spec = TeachSpec.model_validate({"pooling": pooling})
    teach(spec, {"corpus": pinned_corpus, "model": pinned_model}, tmp_path, inline())
    table = pq.read_table(tmp_path / shard_name(0)).slice(2, 3)
    logits = np.array(table["logits"].to_pylist())
    states = np.array([table[f"hidden_0{layer}"].to_pylist() for layer in range(3)], np.float32)[:, 0, :3]
    check_numbers(TeachSpec, 2, logits, LOGITS)
    check_numbers(TeachSpec, 2, states, STATES[pooling])


def teacher_inputs(name: str, corpus: Path, model: Path, home: Path) -> dict[str, Path]:
    """The inputs of a student from its teachers. The second of two teachers is the same model with its outputs
    exchanged."""
    stores = {"outputs": None, "other": (1, 0)}
    for folder, order in stores.items():
        (home / folder).mkdir()
        spec = TeachSpec(layers=(1, 2), label_order=order)
        teach(spec, {"corpus": corpus, "model": model}, home / folder, inline())
    if name in ("in turn", "by shares"):
        return {"outputs/0": home / "outputs", "outputs/1": home / "other"}
    inputs = {"outputs": home / "outputs"}
    if name == "outputs":
        (home / "probes").mkdir()
        probe(ProbeSpec(layers=(1, 2)), {"corpus": corpus, **inputs}, home / "probes", inline())
        inputs["probes"] = home / "probes"
    return inputs


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("hard", Method()),
        ("smoothed", Method(targets=Smoothed())),
        ("vanilla", Method(targets=TeacherTargets(), training=OnePhase())),
        ("annealing", Method(targets=TeacherTargets(), training=Annealing(max_temperature=3, first_phase=0.67))),
        ("pick", Method(targets=TeacherTargets(), structure=Pick(pairs=((1, 2), (0, 1)), normalised=True))),
        ("concatenate", Method(structure=Concatenate(groups=((2, 1),), weight=0.5))),
        ("virtual", Method(targets=Virtual(correct=0.9), training=OnePhase(temperature=4.0))),
        ("divided", Method(targets=TeacherTargets(), training=OnePhase(reduction="mean", teacher_weight=0.9))),
        ("continuation", Method(targets=TeacherTargets(), training=Continuation(max_temperature=3, margin=0.5))),
        ("attend", Method(structure=Attend(groups=((1, 2),), scaled=True, normalised=True))),
        ("random", Method(structure=Random(layers=(1, 2), student_layers=(1,), width=4))),
        ("relational", Method(structure=Relational(pair=(1, 2)))),
        ("outputs", Method(structure=Outputs(groups=((1, 2),)))),
        ("in turn", Method(targets=TeacherTargets(), training=Progressive(first_phase=0.67))),
        ("by shares", Method(targets=TeacherTargets(shares=(0.8, 0.2)))),
    ],
)
def test_the_output_of_distil_is_pinned_to_its_version(
    name: str, method: Method, pinned_corpus: Path, pinned_model: Path, tmp_path: Path
) -> None:
    train = Train(epochs=3, batch_size=8, learning_rate=1e-2)
    spec = DistilSpec(start=Cut(layers=(1,)), method=method, train=train)
    inputs = {
        "corpus": pinned_corpus,
        "start": pinned_model,
        **teacher_inputs(name, pinned_corpus, pinned_model, tmp_path),
    }
    distil(spec, inputs, tmp_path, inline())
    history = json.loads((tmp_path / "history.json").read_text("utf-8"))["epochs"]
    check_numbers(DistilSpec, 2, np.array([epoch["loss"] for epoch in history]), LOSSES[name])


def test_the_output_of_evaluate_is_pinned_to_its_version(
    pinned_corpus: Path, pinned_model: Path, tmp_path: Path
) -> None:
    facts = evaluate(EvaluateSpec(), {"corpus": pinned_corpus, "model": pinned_model}, tmp_path, inline())
    assert isinstance(facts["scores"], dict)
    found = facts["scores"]["validation"]
    check(EvaluateSpec, 1, found, found == pytest.approx(METRICS, rel=1e-9))
    table = pq.read_table(tmp_path / "predictions" / "test.parquet")
    assert table.column_names == ["index", "row_key", "label", "prediction", "logits"]


AVERAGED = [2.419, 2.893, 3.75, 4.652, 2.996, 4.113]
PROBED = [-0.4433, 0.4433, -1.043, 1.043, -0.63, 0.63, -0.6435, 0.6435, -0.5283, 0.5283, -0.2236, 0.2236]


CALIBRATED = [2.433, 0.6692, 0.604, 0.2121, 0.2012]


def test_the_output_of_calibrate_is_pinned_to_its_version(
    pinned_corpus: Path, pinned_model: Path, tmp_path: Path
) -> None:
    """The pinned model labels the held-out rows worse than chance; with another bias they determine a temperature."""
    model = BertForSequenceClassification.from_pretrained(pinned_model)
    with torch.no_grad():
        model.classifier.bias[0] += 2.5
    model.save_pretrained(tmp_path / "model")
    facts = calibrate(CalibrateSpec(), {"corpus": pinned_corpus, "model": tmp_path / "model"}, tmp_path, inline())
    numbers = [value for name, value in facts.items() if name not in ("rows", "warnings")]
    check_numbers(CalibrateSpec, 1, np.array(numbers, np.float64), CALIBRATED)
    assert json.loads((tmp_path / "calibration.json").read_text("utf-8"))["temperature"] == facts["temperature"]


def test_the_output_of_ensemble_is_pinned_to_its_version(
    pinned_corpus: Path, pinned_model: Path, tmp_path: Path
) -> None:
    inputs = {"corpus": pinned_corpus, "members/0": tmp_path / "0", "members/1": tmp_path / "1"}
    for number, order in enumerate((None, (1, 0))):
        (tmp_path / str(number)).mkdir()
        spec = EvaluateSpec(label_order=order)
        evaluate(spec, {"corpus": pinned_corpus, "model": pinned_model}, tmp_path / str(number), inline())
    ensemble(EnsembleSpec(shares=(0.75, 0.25)), inputs, tmp_path, inline())
    table = pq.read_table(tmp_path / "predictions" / "test.parquet")
    check_numbers(EnsembleSpec, 1, np.array(table["logits"].to_pylist())[:3], AVERAGED)
    assert table.column_names == ["index", "row_key", "label", "prediction", "logits"]


def test_the_output_of_probe_is_pinned_to_its_version(pinned_corpus: Path, pinned_model: Path, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    teach(TeachSpec(), {"corpus": pinned_corpus, "model": pinned_model}, tmp_path / "store", inline())
    spec = ProbeSpec(layers=(0, 2), penalty=10.0)
    probe(spec, {"corpus": pinned_corpus, "outputs": tmp_path / "store"}, tmp_path, inline())
    table = pq.read_table(tmp_path / shard_name(0)).slice(2, 3)
    assert table.column_names == ["row_key", "logits", "hidden_00", "hidden_02"]
    check_numbers(TeachSpec, 2, np.array(table["logits"].to_pylist()), LOGITS)
    logits = np.array([table[f"hidden_0{layer}"].to_pylist() for layer in (0, 2)])
    check_numbers(ProbeSpec, 2, logits, PROBED)


MASKED = [13.09, 14.86, 13.08, 13.41, 13.08]


def test_the_output_of_pretrain_is_pinned_to_its_version(pinned_corpus: Path, tmp_path: Path) -> None:
    with_numpy_weights(BertForMaskedLM(pinned_config())).save_pretrained(tmp_path / "model")
    spec = PretrainSpec(start=Cut(layers=(1,)), rows=24, holdout=0.25, epochs=2, batch_size=6, max_length=12)
    inputs = {"corpus": pinned_corpus, "start": tmp_path / "model", "tokenizer": packaged_model()}
    pretrain(spec, inputs, tmp_path, inline())
    history = json.loads((tmp_path / "history.json").read_text("utf-8"))
    losses = [history["before"]["loss"]]
    losses += [loss for epoch in history["epochs"] for loss in (epoch["loss"], epoch["held_out"]["loss"])]
    check_numbers(PretrainSpec, 1, np.array(losses), MASKED)

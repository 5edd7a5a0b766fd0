"""A recipe with BiLSTM students, run in this process by methods that match no layers, and what it leaves."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from project import Project, stillhouse, write_project
from tiny import BAD, GOOD, THINGS

from stages.corpus.reader import read_split
from stages.models.bilstm.model import BilstmForSequenceClassification
from stages.models.forward import count_parameters
from stages.models.loading import load, word_embeddings
from stages.outputs.layout import read_store
from stillhouse import load_model

STAGES = ("corpus", "bank", "embed", "index", "candidates", "finetune", "teach", "distil", "evaluate")
METHODS: list[object] = [
    "no-kd",
    "label-smoothing",
    "vanilla-kd",
    "annealing-kd",
    "self-kd",
    {"use": "takd", "taught_by": "assistant"},
    "transfer",
    {"use": "minimax-knn", "data": {"k": 4, "keep": 1, "every": 1}},
]
"""One for each of the ways in which methods that match no layers differ: what they read, and what they run."""


@pytest.fixture(scope="module")
def ran(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The project after its run. Not to be changed."""
    folder = tmp_path_factory.mktemp("bilstm")
    texts = [f"the {THINGS[n % 6]} was {(*GOOD, *BAD)[n % 10]} item {n}" for n in range(60)]
    pq.write_table(pa.table({"text": texts}), folder / "bank.parquet")
    project = write_project(
        folder / "project",
        assets,
        student={"label": "lstm", "bilstm": {"hidden": 16, "fc": 16}},
        models={"assistant": {"bilstm": {"hidden": 12, "fc": 8, "layers": 2, "width": 8}, "method": "vanilla-kd"}},
        bank={"files": [str(folder / "bank.parquet")], "encoder": str(assets / "model")},
        method=METHODS,
        train={"epochs": 6, "learning_rate": 1.0e-2, "batch_size": 8, "max_length": 16},
        resources={stage: {"cpus_per_worker": 1} for stage in STAGES},
    )
    result = project("run", "--inline")
    assert result.code == 0, result.err
    return project


def model_of(project: Project, method: str) -> Path:
    return project.artifact(f"distil/{method}/lstm/0@tiny") / "model"


def test_methods_that_match_no_layers_train_a_bilstm_that_learns(ran: Project) -> None:
    scores = {str(row["method"]): row["score"] for row in ran.rows() if row["student"] == "lstm"}
    assert all(isinstance(score, float) for score in scores.values())
    assert {"no-kd", "annealing-kd", "takd", "transfer", "minimax-knn"} <= set(scores)
    assert scores["vanilla-kd"] > 80, "where a guess gives 50"


def test_the_report_names_the_call_that_loads_a_bilstm_and_its_parameters(ran: Project) -> None:
    rows = [row for row in ran.rows() if row["student"] in ("lstm", "assistant")]
    assert {row["loads_with"] for row in rows} == {"stillhouse.load_model"}
    for row in rows[:2]:
        model = load_model(str(row["artifact"]))
        assert isinstance(model, BilstmForSequenceClassification)
        assert not model.training and model.config.id2label == {0: "bad", 1: "good"}
        assert row["student_parameters"] == count_parameters(model)


def test_load_model_and_the_tokenizer_give_the_evaluated_logits(ran: Project) -> None:
    from transformers import AutoTokenizer

    directory = model_of(ran, "vanilla-kd")
    model, tokenizer = load_model(directory), AutoTokenizer.from_pretrained(directory)
    texts = read_split(ran.artifact("corpus@tiny"), "validation").texts()
    with torch.inference_mode():
        rows = [model(**tokenizer(*text, truncation=True, max_length=16, return_tensors="pt")).logits for text in texts]
    table = pq.read_table(ran.artifact("evaluate/vanilla-kd/lstm/0@tiny") / "predictions" / "validation.parquet")
    np.testing.assert_allclose(torch.cat(rows).numpy(), np.array(table["logits"].to_pylist()), atol=1e-5)


def test_a_bilstm_starts_with_the_fine_tuned_teachers_word_embeddings_and_trains_them(ran: Project) -> None:
    taught = word_embeddings(load(ran.artifact("finetune@tiny") / "model"))
    own = word_embeddings(load_model(model_of(ran, "no-kd")))
    tokens = read_split(ran.artifact("corpus@tiny"), "train").tokens
    used = np.isin(np.arange(len(taught)), tokens)
    moved = (own - taught).abs().amax(1).detach().numpy()
    # Weight decay alone moves the embeddings of words that do not occur.
    assert moved[used].min() > 10 * moved[~used].max()


def test_the_store_of_a_bilstm_that_teaches_has_logits_alone(ran: Project) -> None:
    for name in ("teach/assistant@tiny", "teach/no-kd/lstm/0@tiny"):
        store = read_store(ran.artifact(name))
        assert store.layout.layers == () and store.layout.outputs == 2
        assert store.rows == read_store(ran.artifact("teach@tiny")).rows


def test_the_model_card_and_show_describe_a_bilstm(ran: Project) -> None:
    card = (model_of(ran, "no-kd") / "README.md").read_text("utf-8")
    assert "library_name: stillhouse\n" in card and "random, a BiLSTM with the word embeddings" in card
    names: dict[str, object] = {}
    code = card.split("```python\n")[1].split("```")[0].replace('"."', repr(str(model_of(ran, "no-kd"))))
    exec(code, names)
    assert isinstance(names["model"], BilstmForSequenceClassification)
    printed = stillhouse("show", "distil/no-kd/lstm/0@tiny", "--storage", str(ran.storage))
    assert printed.code == 0 and "a BiLSTM with the word embeddings of the model" in printed.out

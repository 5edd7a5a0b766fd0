"""A recipe with sentence embeddings, run in this process: one store for all students, what they are saved as, their
scores, and the commands on them."""

import json
import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from project import ONE_THREAD, Project, stillhouse, write_project
from scipy.stats import pearsonr
from tiny import BAD, GOOD, THINGS, write_tiny_model

from stages.models.sentences import write_modules

METHODS = [
    "embedding-cosine",
    {"use": "embedding-squared", "label": "kept", "embedding": {"projection": "kept"}},
    {"use": "embedding-cosine", "label": "dropped", "embedding": {"projection": "dropped"}},
    "embedding-similarities",
]
NAMES = ("embedding-cosine", "kept", "dropped", "embedding-similarities")


def sentence(generator: random.Random) -> str:
    return f"the {generator.choice(THINGS)} was {generator.choice((*GOOD, *BAD))} and {generator.choice(GOOD)}"


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project after its run. Not to be changed."""
    folder, generator = tmp_path_factory.mktemp("embedding"), random.Random(4)
    model = write_tiny_model(folder / "model", layers=3, width=16, initializer_range=0.3)
    write_modules(model, "mean", True, 64, 16, None)
    for split, rows in (("train", 12), ("validation", 24), ("test", 10)):
        pairs = [(sentence(generator), sentence(generator)) for _ in range(rows)]
        first, second = (list(side) for side in zip(*pairs, strict=True))
        scores = [float(len(set(a.split()) & set(b.split()))) for a, b in pairs]
        (folder / "data" / "pairs").mkdir(parents=True, exist_ok=True)
        table = pa.table({"a": first, "b": second, "score": scores})
        pq.write_table(table, folder / "data" / "pairs" / f"{split}.parquet")
    texts = list(dict.fromkeys(sentence(generator) for _ in range(120)))
    pq.write_table(pa.table({"text": texts}), folder / "bank.parquet")
    project = write_project(
        folder / "project",
        folder,
        data={"source": str(folder / "data")},
        task={"name": "pairs", "kind": "embedding", "text": ["a", "b"], "label": "score"},
        teacher={"model": str(model)},
        student={"label": "one", "cut": {"of": "teacher", "layers": [1]}},
        method=METHODS,
        train={"epochs": 6, "batch_size": 16, "learning_rate": 5.0e-3, "max_length": 16},
        bank={"files": [str(folder / "bank.parquet")], "encoder": "tfidf"},
        resources={**ONE_THREAD, "pretrain": {"cpus_per_worker": 1}},
    )
    result = project("run", "--inline")
    assert result.code == 0, result.err
    return project


def model_of(ran: Project, name: str) -> Path:
    return ran.artifact(f"pretrain/{name}/one/0@pairs") / "model"


def test_one_store_serves_all_students_and_no_training_reads_a_label(ran: Project) -> None:
    plan, records = ran.plan(), ran.records()
    assert {step["action"] for step in plan.values()} == {"reuse"}
    assert plan["teach/teacher:bank"]["serves"] == len(NAMES)
    for name in NAMES:
        assert set(records[f"pretrain/{name}/one/0@pairs"]["inputs"]) == {"start", "texts", "outputs"}
    shown = ran("plan")
    assert "are trained on" not in shown.out + shown.err, "no row of the pairs is"


def test_held_out_losses_fall(ran: Project) -> None:
    """The similarities of a random encoder are all near 1 from the start, so there is nothing to learn in them."""
    for name in ("embedding-cosine", "kept", "dropped"):
        facts = ran.records()[f"pretrain/{name}/one/0@pairs"]["facts"]
        assert facts["after"]["loss"] < facts["before"]["loss"], name


@pytest.mark.parametrize("name", NAMES)
def test_sentence_transformers_loads_each_student_and_its_cosines_have_the_scores_of_the_report(
    name: str, ran: Project
) -> None:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(model_of(ran, name)), device="cpu")
    pairs = pq.read_table(ran.folder.parent / "data" / "pairs" / "test.parquet").to_pylist()
    one, other = (model.encode([row[side] for row in pairs]) for side in ("a", "b"))
    assert np.linalg.norm(one, axis=1) == pytest.approx(np.ones(len(one)), abs=1e-5)
    cosines = (one * other).sum(1)
    stored = pq.read_table(ran.artifact(f"evaluate/{name}/one/0@pairs") / "predictions" / "test.parquet")
    assert stored["prediction"].to_pylist() == pytest.approx(cosines.tolist(), abs=1e-5)
    (row,) = [row for row in ran.rows() if (row["method"], row["split"], row["metric"]) == (name, "test", "pearson")]
    assert row["score"] == pytest.approx(100 * pearsonr(cosines, [row["score"] for row in pairs]).statistic, abs=0.05)
    assert row["loads_with"] == "sentence_transformers.SentenceTransformer"
    modules = [one["type"].rpartition(".")[2] for one in json.loads((model_of(ran, name) / "modules.json").read_text())]
    assert modules == ["Transformer", "Pooling", *(["Dense"] if name == "kept" else []), "Normalize"]


def test_the_report_has_teacher_and_students_with_both_correlations_and_the_share_of_the_teachers(ran: Project) -> None:
    rows = ran.rows()
    assert {(row["split"], row["metric"]) for row in rows} == {
        (split, metric) for split in ("validation", "test") for metric in ("pearson", "spearman")
    }
    assert {row["method"] for row in rows} == {"teacher", *NAMES}
    for row in rows:
        assert row["teacher_score"] is not None and row["trained_rows"] is None
    table = ran("report")
    assert table.code == 0 and "of teacher" in table.out and "are trained on" not in table.out
    page = ran.folder / "page.html"
    assert ran("report", "--format", "html", "--out", str(page)).code == 0 and "embedding-cosine" in page.read_text()
    compared = ran("report", "--baseline", "embedding-cosine")
    assert compared.code == 0, compared.err


def test_the_card_shows_the_call_of_sentence_transformers_and_the_loss(ran: Project) -> None:
    card = (model_of(ran, "kept") / "README.md").read_text("utf-8")
    after = ran.records()["pretrain/kept/one/0@pairs"]["facts"]["after"]["loss"]
    assert "library_name: sentence-transformers" in card and 'SentenceTransformer(".")' in card
    assert f"| after epoch 6 | {after:.4f} |" in card and "is a part of the model" in card


# --- commands on models -----------------------------------------------------------------------------


def test_predict_writes_embeddings_in_the_order_of_the_rows(ran: Project, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    texts = ["the film was fine", "music", "the story was dull and flat and long"]
    (tmp_path / "texts.txt").write_text("".join(f"{text}\n" for text in texts), "utf-8")
    out = tmp_path / "out.parquet"
    result = stillhouse("predict", str(model_of(ran, "kept")), str(tmp_path / "texts.txt"), "--out", str(out))
    assert result.code == 0 and "3 embeddings of 16 dimensions" in result.err
    found = np.array(pq.read_table(out)["embedding"].to_pylist(), np.float32)
    peer = SentenceTransformer(str(model_of(ran, "kept")), device="cpu")
    np.testing.assert_allclose(found, peer.encode(texts), atol=2e-6)


def test_commands_that_have_no_meaning_for_embeddings_are_refused_in_one_line(ran: Project, tmp_path: Path) -> None:
    model, texts = str(model_of(ran, "kept")), tmp_path / "texts.csv"
    texts.write_text("a,b\nx,y\n", "utf-8")
    pairs = ("--text", "a", "--text", "b", "--out", str(tmp_path / "o.parquet"))
    for arguments, line in (
        (
            ("predict", model, str(texts), "--text", "a"),
            "--out: missing, and needed: embeddings are written as Parquet",
        ),
        (("predict", model, str(texts), "--out", str(tmp_path / "o.csv")), "but embeddings are written as Parquet"),
        (("predict", model, str(texts), *pairs), "--text: a, b, but a sentence encoder reads one text a row"),
        (
            ("export", model, "--to", "onnx", "--out", str(tmp_path / "x")),
            "is a sentence encoder, for which there is no",
        ),
    ):
        result = stillhouse(*arguments)
        assert result.code == 2 and line in result.err and result.err.count("\n") == 1, result.err


def test_latency_measures_a_student_beside_its_teacher(ran: Project) -> None:
    result = stillhouse("latency", str(model_of(ran, "embedding-cosine")), "--batch", "2", "--format", "json")
    assert result.code == 0, result.err
    teacher, student = json.loads(result.out)
    assert teacher["model"] == "teacher" and student["parameters"] < teacher["parameters"]


def test_show_and_verify_read_what_was_made(ran: Project, tmp_path: Path) -> None:
    storage = ("--storage", str(ran.storage))
    shown = stillhouse("show", "pretrain/kept/one/0@pairs", *storage)
    after = ran.records()["pretrain/kept/one/0@pairs"]["facts"]["after"]["loss"]
    assert shown.code == 0 and f"{after:.4f}" in shown.out
    assert stillhouse("show", "evaluate/kept/one/0@pairs", *storage).code == 0
    checked = stillhouse("verify", "teach/teacher:bank", *storage, "--sample", "10")
    assert checked.code == 0, checked.out + checked.err
    curves = ran("curves", "--out", str(tmp_path / "curves"))
    assert curves.code == 0 and "embedding-cosine" in curves.out

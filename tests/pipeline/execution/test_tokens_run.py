"""A recipe with labels on words, run in this process: logits of words in the store, students by several methods, with
and without a CRF, and the commands on them."""

import json
import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from project import ONE_THREAD, Project, stillhouse, write_project
from tiny import BAD, GOOD, THINGS, write_tiny_model
from transformers import AutoModelForTokenClassification, AutoTokenizer

from stages.models.by_task import load
from stages.tagging.crf import viterbi
from stages.tagging.entity_scores import entity_report

TAGS = ["O", "B-GOOD", "I-GOOD", "B-THING"]
METHODS = [
    "no-kd",
    "vanilla-kd",
    "annealing-kd",
    "label-smoothing",
    {"use": "pkd", "structure": {"weight": 1.0}},
    {"use": "vanilla-kd", "label": "freelb", "data": {"kind": "freelb"}},
    {"use": "transfer", "data": {"k": 2}},
    {"use": "minimax-knn", "data": {"k": 3, "keep": 1}},
]
WORDS = {"O": ("the", "was", "and", *BAD), "B-GOOD": ("very",), "I-GOOD": GOOD, "B-THING": THINGS}


def sentence(generator: random.Random) -> tuple[list[str], list[str]]:
    """Words and tags: things, and what is very good of them. A good word that follows no ``very`` is O."""
    end = [("very", "B-GOOD"), (generator.choice(GOOD), "I-GOOD")]
    if generator.random() < 0.5:
        end = [(generator.choice((*GOOD, *BAD)), "O")]
    more = [("and", "O"), (generator.choice(BAD), "O")] * generator.randrange(3)
    pairs = [("the", "O"), (generator.choice(THINGS), "B-THING"), ("was", "O"), *end, *more]
    return [word for word, _ in pairs], [tag for _, tag in pairs]


def write_split(path: Path, rows: list[tuple[list[str], list[str]]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"words": [row[0] for row in rows], "tags": [row[1] for row in rows]}), path)
    return path


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project after its run. Not to be changed."""
    folder, generator = tmp_path_factory.mktemp("tokens"), random.Random(4)
    model = write_tiny_model(folder / "model", layers=3, width=32, initializer_range=0.2)
    for split, rows in (("train", 160), ("validation", 40), ("test", 30)):
        write_split(folder / "data" / "praise" / f"{split}.parquet", [sentence(generator) for _ in range(rows)])
    texts = list(dict.fromkeys(" ".join(sentence(generator)[0]) for _ in range(200)))
    pq.write_table(pa.table({"text": texts}), folder / "bank.parquet")
    project = write_project(
        folder / "project",
        folder,
        data={"source": str(folder / "data")},
        task={"name": "praise", "kind": "tokens", "text": "words", "label": "tags", "labels": TAGS},
        teacher={"model": str(model), "finetune": {"epochs": 4, "batch_size": 8, "learning_rate": 3.0e-3}},
        student=[
            {"label": "two", "cut": {"of": "teacher", "layers": [1, 2]}},
            {"label": "chain", "cut": {"of": "teacher", "layers": [1, 2]}, "head": "crf"},
        ],
        method=METHODS,
        train={"epochs": 3, "batch_size": 16, "learning_rate": 3.0e-3, "max_length": 10},
        bank={"files": [str(folder / "bank.parquet")], "encoder": "tfidf"},
        resources=ONE_THREAD,
    )
    result = project("run", "--inline")
    assert result.code == 0, result.err
    return project


NAMES = [method if isinstance(method, str) else method.get("label", method["use"]) for method in METHODS]


def stored(ran: Project, name: str, split: str) -> list[dict[str, object]]:
    """The predictions of a model for a split."""
    rows: list[dict[str, object]] = pq.read_table(
        ran.artifact(f"evaluate/{name}@praise") / "predictions" / f"{split}.parquet"
    ).to_pylist()
    return rows


def given(ran: Project, split: str) -> list[dict[str, list[str]]]:
    rows: list[dict[str, list[str]]] = pq.read_table(
        ran.folder.parent / "data" / "praise" / f"{split}.parquet"
    ).to_pylist()
    return rows


def first_pieces(model: torch.nn.Module, directory: Path, words: list[str]) -> torch.Tensor:
    """The logits [words, C] of a model of transformers, by transformers alone."""
    tokenizer = AutoTokenizer.from_pretrained(directory)
    inputs = tokenizer([words], is_split_into_words=True, truncation=True, max_length=10, return_tensors="pt")
    places = inputs.word_ids()
    first = [places.index(word) for word in range(len(words)) if word in places]
    with torch.no_grad():
        found: torch.Tensor = model(**inputs).logits[0, first]
    return found


def test_every_method_has_a_student_of_both_heads_and_all_scores_are_of_entities(ran: Project) -> None:
    rows = ran.rows()
    assert {row["method"] for row in rows} == {"teacher", *NAMES}
    assert {row["metric"] for row in rows} == {"entity_f1", "entity_precision", "entity_recall"}
    assert {row["status"] for row in rows} == {"done"}
    assert {row["metric"] for row in rows if row["primary"]} == {"entity_f1"}
    assert {step["action"] for step in ran.plan().values()} == {"reuse"}


def test_teacher_and_students_learn_the_tags(ran: Project) -> None:
    scores = {
        (row["method"], row["student"]): row["score"]
        for row in ran.rows()
        if row["metric"] == "entity_f1" and row["split"] == "test"
    }
    assert scores["teacher", "model"] > 95
    for name in ("no-kd", "vanilla-kd"):
        assert scores[name, "two"] > 90 and scores[name, "chain"] > 90, scores


def test_the_score_of_the_report_is_that_of_the_stored_predictions(ran: Project) -> None:
    rows, texts = stored(ran, "vanilla-kd/two/0", "test"), given(ran, "test")
    found = entity_report(
        [texts[row["index"]]["tags"] for row in rows], [[TAGS[tag] for tag in row["prediction"]] for row in rows]
    )
    (reported,) = [
        row["score"]
        for row in ran.rows()
        if (row["method"], row["student"], row["split"], row["metric"]) == ("vanilla-kd", "two", "test", "entity_f1")
    ]
    assert reported == pytest.approx(found.micro.f1)


def test_words_that_are_cut_off_count_as_o_and_are_reported(ran: Project) -> None:
    lost = ran.records()["corpus@praise"]["facts"]["lost_words"]
    assert lost["test"] == sum(max(0, len(row["words"]) - 8) for row in given(ran, "test")) > 0
    for row in stored(ran, "vanilla-kd/two/0", "test"):
        words = given(ran, "test")[row["index"]]["words"]
        assert len(row["prediction"]) == len(words) and set(row["prediction"][8:]) <= {0}


def test_plain_transformers_loads_a_student_without_a_crf_and_predicts_the_same(ran: Project) -> None:
    directory = ran.artifact("distil/vanilla-kd/two/0@praise") / "model"
    model = AutoModelForTokenClassification.from_pretrained(directory).eval()
    assert [model.config.id2label[number] for number in range(4)] == TAGS
    for row in stored(ran, "vanilla-kd/two/0", "validation")[:8]:
        words = given(ran, "validation")[row["index"]]["words"]
        logits = first_pieces(model, directory, words).numpy()
        np.testing.assert_allclose(logits, row["logits"][: len(logits)], atol=1e-5)
    (loader,) = {row["loads_with"] for row in ran.rows() if (row["method"], row["student"]) == ("vanilla-kd", "two")}
    assert loader == "transformers.AutoModelForTokenClassification.from_pretrained"
    assert "AutoModelForTokenClassification" in (directory / "README.md").read_text("utf-8")


def test_a_student_with_a_crf_predicts_its_most_probable_sequence(ran: Project) -> None:
    directory = ran.artifact("distil/vanilla-kd/chain/0@praise") / "model"
    model = load(directory).eval()
    assert float(model.crf.transition.detach().abs().sum()) > 0, "the CRF was trained"
    for row in stored(ran, "vanilla-kd/chain/0", "validation")[:8]:
        logits = first_pieces(model, directory, given(ran, "validation")[row["index"]]["words"])
        tags = viterbi(logits[None], torch.ones(1, len(logits), dtype=torch.bool), model.crf.chain())[0].tolist()
        assert row["prediction"][: len(tags)] == tags
    (loader,) = {row["loads_with"] for row in ran.rows() if (row["method"], row["student"]) == ("vanilla-kd", "chain")}
    assert loader == "stillhouse.load_model"
    with pytest.raises((ValueError, OSError)):
        AutoModelForTokenClassification.from_pretrained(directory)


def test_the_store_holds_the_teachers_logits_of_words(ran: Project) -> None:
    store, directory = ran.artifact("teach@praise"), ran.artifact("finetune@praise") / "model"
    table = pq.read_table(store / "shard-00000.parquet", columns=["row_key", "logits"])
    assert json.loads((store / "store.json").read_text())["layout"]["entries"] is True
    corpus = pq.read_table(ran.artifact("corpus@praise") / "train" / "part-00000.parquet").to_pylist()
    logits = dict(zip(table["row_key"].to_pylist(), table["logits"].to_pylist(), strict=True))
    model = AutoModelForTokenClassification.from_pretrained(directory).eval()
    for row in corpus[:5]:
        expected = first_pieces(model, directory, row["words"]).numpy()
        np.testing.assert_allclose(logits[row["row_key"]][: len(expected)], expected, atol=1e-4)
        assert len(logits[row["row_key"]]) == len(row["words"])
    checked = stillhouse("verify", "teach@praise", "--storage", str(ran.storage), "--sample", "10")
    assert checked.code == 0, checked.out + checked.err


def test_candidates_are_words_as_the_pre_tokenizer_divides_them(ran: Project) -> None:
    rows = pq.read_table(ran.artifact("unlabelled/candidates:transfer@praise") / "candidates" / "part-00000.parquet")
    for row in rows.to_pylist()[:10]:
        assert len(row["first_pieces"]) == len(row["words"].split()) and row["label"] is None


def test_methods_are_compared_and_errors_are_shown_by_type_of_entity(ran: Project) -> None:
    compared = ran("report", "--baseline", "no-kd", "--format", "json")
    assert compared.code == 0, compared.err
    shown = stillhouse("show", "evaluate/vanilla-kd/two/0@praise", "--storage", str(ran.storage))
    assert shown.code == 0 and "GOOD" in shown.out and "THING" in shown.out and "B-GOOD" not in shown.out
    page = ran.folder / "page.html"
    assert ran("report", "--format", "html", "--out", str(page)).code == 0 and "entity_f1" in page.read_text("utf-8")


def test_commands_that_label_rows_are_refused_in_one_line(ran: Project, tmp_path: Path) -> None:
    model, texts = str(ran.artifact("distil/vanilla-kd/two/0@praise") / "model"), tmp_path / "texts.txt"
    texts.write_text("the film was very good\n", "utf-8")
    for arguments in (
        ("predict", model, str(texts)),
        ("export", model, "--to", "onnx", "--out", str(tmp_path / "x")),
        ("latency", model),
    ):
        result = stillhouse(*arguments)
        assert result.code == 2 and "labels words" in result.err and result.err.count("\n") == 1, result.err

"""Recipes with texts beside the task's own, run in this process: what is evaluated on stays out of all that a student
sees, and what was done with candidates is in its history."""

import json
import math
import random
import shutil
import unicodedata
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from project import CommandResult, Project, stillhouse, write_project
from tiny import BAD, GOOD, THINGS, write_tiny_model

K = 4
THREADS = {
    stage: {"cpus_per_worker": 1}
    for stage in ("corpus", "bank", "embed", "index", "candidates", "finetune", "teach", "distil", "evaluate")
}
METHODS: list[object] = [
    "vanilla-kd",
    {"use": "knn", "data": {"k": K}},
    {"use": "minimax-knn", "data": {"k": K, "keep": 2}},
    {"use": "knn", "label": "rewritten", "candidates": "words", "data": {"k": K}},
    {"use": "minimax-knn", "label": "drawn", "candidates": "drawn", "data": {"k": K, "keep": 1, "every": 1}},
]
MAKERS = ("neighbours", "words", "drawn")
EVAL_ROWS = 8
"""Of dev and of test; the other rows are not evaluated on here."""


def sentence(thing: str, word: str, number: int) -> str:
    return f"the {thing} was {word} number {number}"


def variant(text: str, row: int) -> str:
    """A variant of the text, chosen by ``row``, that differs in case, accents, spacing or punctuation only."""
    return [
        text.upper(),
        "  ".join(text.split()) + " !!",
        text.title().replace(" ", ", "),
        text.replace("u", "ú").replace(" the ", "\tthe "),
        f"“{text.replace('number', 'num-ber')}.”",
    ][row % 5]


def same(text: str) -> str:
    """A text without case, accents, spacing and punctuation, computed independently of the project's code."""
    plain = unicodedata.normalize("NFD", text).lower()
    return "".join(letter for letter in plain if letter in "abcdefghijklmnopqrstuvwxyz0123456789")


def write_rows(folder: Path, bank: Path) -> None:
    """A task whose rows of dev are rows of train but for one word, and a bank that has every text of it, otherwise
    written."""
    generator = random.Random(3)
    train = [(generator.choice(THINGS), generator.randrange(2), row) for row in range(48)]
    texts: dict[str, list[tuple[str, int]]] = {"train": [], "validation": [], "test": []}
    for thing, label, row in train:
        words = GOOD if label else BAD
        texts["train"].append((sentence(thing, words[row % 5], row), label))
        texts["validation" if row % 2 else "test"].append((sentence(thing, words[(row + 1) % 5], row), label))
    for split, rows in texts.items():
        columns = {"sentence": [text for text, _ in rows], "label": pa.array([label for _, label in rows], pa.int64())}
        pq.write_table(pa.table(columns), folder / f"{split}.parquet")
    planted = [variant(text, row) for rows in texts.values() for row, (text, _) in enumerate(rows)]
    others = [sentence(THINGS[n % 6], (*GOOD, *BAD)[n % 10], 100 + n) for n in range(80)]
    pq.write_table(pa.table({"text": [*planted, *others]}), bank)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("candidates")
    write_tiny_model(folder / "model")
    (folder / "data" / "tiny").mkdir(parents=True)
    write_rows(folder / "data" / "tiny", folder / "bank.parquet")
    lines = [
        f"{word}\t{', '.join(other for other in words if other != word)}" for words in (GOOD, BAD) for word in words
    ]
    (folder / "synonyms.tsv").write_text("\n".join(lines), "utf-8")
    return folder


@pytest.fixture(scope="module")
def ran(rows: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, CommandResult]:
    """A project with all kinds of candidates, and the result of its run. Not to be changed."""
    project = write_project(
        tmp_path_factory.mktemp("project"),
        rows,
        data={"source": str(rows / "data"), "eval_rows": EVAL_ROWS, "holdout": 0.2, "holdout_min_rows": 0},
        teacher={"model": str(rows / "model"), "finetune": {"epochs": 2, "learning_rate": 1.0e-2}},
        bank={"files": [str(rows / "bank.parquet")], "encoder": str(rows / "model")},
        candidates={
            "words": {"by": "words", "synonyms": str(rows / "synonyms.tsv"), "share": 0.9},
            "drawn": {"by": "transfer"},
        },
        method=METHODS,
        resources=THREADS,
    )
    return project, project("run", "--inline")


def column(folder: Path, name: str) -> list[Any]:
    """A column of all Parquet files of a folder."""
    files = sorted(folder.glob("**/*.parquet"))
    assert files
    return [value for file in files for value in pq.ParquetFile(file).read(columns=[name])[name].to_pylist()]


def evaluated(rows: Path, project: Project) -> set[str]:
    """All texts of dev and test, also those that were not sampled, and those held out of train."""
    held = column(project.artifact("corpus@tiny") / "holdout", "sentence")
    sampled = column(project.artifact("corpus@tiny") / "validation", "sentence")
    every = [
        text
        for split in ("validation", "test")
        for text in pq.read_table(rows / "data" / "tiny" / f"{split}.parquet")["sentence"].to_pylist()
    ]
    assert len(held) == 10 and len(sampled) == EVAL_ROWS < len(every)
    return {same(text) for text in (*held, *every)}


# --- no leakage of evaluated texts ----------------------------------------------------------------------


@pytest.mark.parametrize("maker", MAKERS)
def test_no_evaluated_text_is_a_candidate_or_is_tokenised_as_one(
    rows: Path, ran: tuple[Project, CommandResult], maker: str
) -> None:
    project, result = ran
    assert result.code == 0, result.err
    hidden = evaluated(rows, project)
    table, tokens = (
        project.artifact(f"candidates/{maker}@tiny"),
        project.artifact(f"unlabelled/candidates:{maker}@tiny"),
    )
    made = column(table, "sentence")
    assert len(made) > 100
    assert not hidden & {same(text) for text in made}
    assert set(column(tokens / "candidates", "sentence")) == set(made)


def test_the_evaluated_texts_were_in_the_bank_and_would_have_been_found(
    rows: Path, ran: tuple[Project, CommandResult]
) -> None:
    """Otherwise the test above would hold trivially."""
    project, hidden = ran[0], evaluated(rows, ran[0])
    assert hidden <= {same(text) for text in column(project.artifact("bank"), "text")}
    for maker in MAKERS:
        facts = project.records()[f"candidates/{maker}@tiny"]["facts"]
        assert isinstance(facts, dict)
        assert facts["guarded"] > 0, maker


@pytest.mark.parametrize("maker", MAKERS)
def test_candidates_of_a_row_are_distinct_and_none_is_the_row_itself(
    ran: tuple[Project, CommandResult], maker: str
) -> None:
    project = ran[0]
    corpus, table = project.artifact("corpus@tiny") / "train", project.artifact(f"candidates/{maker}@tiny")
    own = dict(zip(column(corpus, "row_key"), column(corpus, "sentence"), strict=True))
    found: dict[bytes, list[str]] = {}
    for key, text in zip(column(table, "row_key"), column(table, "sentence"), strict=True):
        found.setdefault(key, [same(own[key])]).append(same(text))
    assert len(found) == len(own)
    for texts in found.values():
        assert len(set(texts)) == len(texts) <= K + 1


def test_the_teacher_labels_each_distinct_candidate_once(ran: tuple[Project, CommandResult]) -> None:
    project = ran[0]
    for maker in MAKERS:
        result = column(project.artifact(f"teach/candidates:{maker}@tiny"), "row_key")
        assert sorted(result) == sorted(set(column(project.artifact(f"candidates/{maker}@tiny"), "candidate_key")))


# --- history and output ---------------------------------------------------------------------------------


def history(project: Project, name: str) -> list[dict[str, Any]]:
    text = (project.artifact(name) / "history.json").read_text("utf-8")
    epochs: list[dict[str, Any]] = json.loads(text)["epochs"]
    return epochs


@pytest.mark.parametrize(("method", "kept"), [("knn", 4), ("minimax-knn", 2), ("drawn", 1)])
def test_the_history_of_a_student_has_the_candidates_it_used(
    ran: tuple[Project, CommandResult], method: str, kept: int
) -> None:
    project = ran[0]
    train = len(column(project.artifact("corpus@tiny") / "train", "row_key"))
    for epoch in history(project, f"distil/{method}/two/0@tiny"):
        figures = epoch["candidates"]
        by_rank = figures["by_rank"]
        assert len(by_rank) == K and max(by_rank) <= train
        assert sum(by_rank) == figures["used"] == kept * train
        assert figures["mean_rank"] == pytest.approx(sum(rank * n for rank, n in enumerate(by_rank)) / figures["used"])
        assert (figures["mean_distance"] is None) is (method == "drawn")
        if method == "minimax-knn":
            assert figures["mean_divergence"] > figures["mean_divergence_of_all"] > 0
            assert min(by_rank) > 0, "not the nearest alone"


def test_the_history_of_a_student_without_candidates_has_none(ran: tuple[Project, CommandResult]) -> None:
    assert all("candidates" not in epoch for epoch in history(ran[0], "distil/vanilla-kd/two/0@tiny"))


def scored(project: Project) -> set[object]:
    """The methods whose students have a score on dev."""
    found = [row for row in project.rows() if row["split"] == "validation" and row["primary"]]
    return {row["method"] for row in found if isinstance(row["score"], float) and math.isfinite(row["score"])}


def test_all_are_scored_on_dev(ran: tuple[Project, CommandResult]) -> None:
    assert {"vanilla-kd", "knn", "minimax-knn", "rewritten", "drawn"} <= scored(ran[0])


def test_the_report_counts_the_candidates_used_and_what_the_teacher_has_read_for_them(
    ran: tuple[Project, CommandResult],
) -> None:
    project, _ = ran
    records, rows = project.records(), {row["method"]: row for row in project.rows()}
    stored = records["teach@tiny"]["facts"]["rows"]
    for method, maker in (("rewritten", "words"), ("drawn", "drawn")):
        (name,) = [name for name in records if name.startswith(f"distil/{method}/")]
        used = sum(epoch["candidates"]["used"] for epoch in history(project, name))
        assert rows[method]["augmented_rows"] == rows[method]["candidates"] == used > 0
        of_candidates = records[f"teach/candidates:{maker}@tiny"]["facts"]["rows"]
        assert rows[method]["teacher_rows"] == stored + of_candidates
    assert (rows["vanilla-kd"]["augmented_rows"], rows["vanilla-kd"]["teacher_rows"]) == (0, stored)


def test_show_prints_a_row_of_train_with_its_candidates(ran: tuple[Project, CommandResult]) -> None:
    project = ran[0]
    folder = project.artifact("candidates/neighbours@tiny")
    result = stillhouse("show", str(folder), "--storage", str(project.storage))
    assert result.code == 0, result.err
    corpus = project.artifact("corpus@tiny") / "train"
    own = dict(zip(column(corpus, "row_key"), column(corpus, "sentence"), strict=True))
    first = column(folder, "row_key")[0]
    lines = [" ".join(line.split()) for line in result.out.splitlines()]
    assert own[first] in lines
    keys, texts = column(folder, "row_key"), column(folder, "sentence")
    shown = lines[lines.index(own[first]) :]
    for rank, text in enumerate(text for key, text in zip(keys, texts, strict=True) if key == first):
        assert any(f" {rank} " in line.replace("│", " ") and " ".join(text.split()) in line for line in shown), text


# --- again ----------------------------------------------------------------------------------------------


@pytest.fixture
def copy(ran: tuple[Project, CommandResult], tmp_path: Path) -> Project:
    project = Project(tmp_path / "copy")
    shutil.copytree(ran[0].folder, project.folder)
    return project


def test_a_second_run_has_nothing_to_do(copy: Project) -> None:
    result = copy("run", "--inline")
    assert result.code == 0 and "nothing to do" in result.out


def test_one_more_method_with_candidates_builds_only_its_student_and_evaluation(copy: Project) -> None:
    more = {"use": "minimax-knn", "label": "more", "data": {"k": K, "keep": 3}}
    option = ("--set", f"method={json.dumps([*METHODS, more])}")
    before = copy.records()
    planned = {name for name, step in copy.plan(*option).items() if step["action"] == "build"}
    assert planned == {"distil/more/two/0@tiny", "evaluate/more/two/0@tiny"}
    result = copy("run", "--inline", *option)
    assert result.code == 0, result.err
    after = copy.records()
    assert after.keys() - before.keys() == planned
    assert all(after[name] == before[name] for name in before)
    assert history(copy, "distil/more/two/0@tiny")[0]["candidates"]["used"] > 0


def test_the_teacher_labels_only_the_new_texts_of_a_larger_table(copy: Project) -> None:
    known = {maker: set(column(copy.artifact(f"candidates/{maker}@tiny"), "candidate_key")) for maker in MAKERS}
    result = copy("run", "--inline", "--set", f"method={json.dumps({'use': 'knn', 'data': {'k': K + 2}})}")
    assert result.code == 0, result.err
    made = max(copy.storage.glob("neighbours/*/record.json"), key=lambda path: path.stat().st_mtime_ns)
    keys = set(column(made.parent / "0001", "candidate_key"))
    assert known["neighbours"] < keys, "the nearest stay the nearest"
    store = max(copy.storage.glob("teach/*/record.json"), key=lambda path: path.stat().st_mtime_ns)
    facts = json.loads(store.read_text("utf-8"))["facts"]
    carried = keys & set().union(*known.values())
    assert (facts["rows"], facts["carried"], facts["computed"]) == (len(keys), len(carried), len(keys - carried))


# --- pairs ----------------------------------------------------------------------------------------------


PAIR_TASK = {"name": "pairs", "text": ["one", "two"], "regression": True, "metric": ["pearson", "spearman"]}
WHOLE = {
    "use": "annealing-kd",
    "label": "whole",
    "structure": {"kind": "pick"},
    "data": {"kind": "minimax-knn", "k": K, "keep": 2},
}


@pytest.fixture(scope="module")
def pairs(rows: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, CommandResult]:
    """A regression of pairs, with both texts varied, by a method of all axes."""
    folder = tmp_path_factory.mktemp("pairs")
    generator = random.Random(5)
    (folder / "data" / "pairs").mkdir(parents=True)
    for split, count in (("train", 40), ("validation", 16)):
        words = [[generator.randrange(10) for _ in range(count)] for _ in range(2)]
        one, two = (
            [sentence(generator.choice(THINGS), (*GOOD, *BAD)[word], generator.randrange(1000)) for word in side]
            for side in words
        )
        labels = [5.0 - 0.5 * abs(first - second) for first, second in zip(*words, strict=True)]
        table = pa.table({"one": one, "two": two, "label": pa.array(labels, pa.float64())})
        pq.write_table(table, folder / "data" / "pairs" / f"{split}.parquet")
    project = write_project(
        folder / "project",
        rows,
        data={"source": str(folder / "data"), "holdout_min_rows": 0},
        task=PAIR_TASK,
        teacher={"model": str(rows / "model"), "finetune": {"epochs": 1, "learning_rate": 1.0e-3}},
        bank={"files": [str(rows / "bank.parquet")], "encoder": "tfidf"},
        candidates={"neighbours": {"sides": "both"}},
        method=["no-kd", WHOLE],
        resources=THREADS,
        train={"epochs": 4, "learning_rate": 1.0e-3, "max_length": 40},
    )
    return project, project("run", "--inline")


def test_both_texts_of_a_pair_are_varied(pairs: tuple[Project, CommandResult]) -> None:
    project, result = pairs
    assert result.code == 0, result.err
    table, corpus = project.artifact("candidates/neighbours@pairs"), project.artifact("corpus@pairs") / "train"
    bank = set(column(project.artifact("bank"), "text"))
    own = {
        key: texts for key, *texts in zip(*(column(corpus, name) for name in ("row_key", "one", "two")), strict=True)
    }
    found = list(zip(*(column(table, name) for name in ("row_key", "one", "two")), strict=True))
    assert len(found) == K * len(own)
    for key, one, two in found:
        assert one in bank and two in bank
        assert one != own[key][0] and two != own[key][1]


def test_annealing_with_layers_and_candidates_at_once_trains_and_is_scored(
    pairs: tuple[Project, CommandResult],
) -> None:
    project, _ = pairs
    train = len(column(project.artifact("corpus@pairs") / "train", "row_key"))
    epochs = history(project, "distil/whole/two/0@pairs")
    phases = [epoch["phase"] for epoch in epochs]
    assert len(epochs) == 4 and len(set(phases)) == 2
    for epoch in epochs:
        first = epoch["phase"] == phases[0]
        assert ("candidates" in epoch) is first, "the second phase has no teacher"
        assert not first or epoch["candidates"]["used"] == 2 * train
        assert math.isfinite(epoch["loss"])
    assert {"no-kd", "whole"} <= scored(project)

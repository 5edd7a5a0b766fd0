"""Files of sentences whose words have labels: what is wrong with them is said while planning, in one line that names
the file, the row and what would be right."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from project import Project, stillhouse, write_plannable_model, write_project

TASK = {"name": "mine", "kind": "tokens", "text": "words", "label": "tags", "labels": ["O", "B-X", "I-X"]}
GOOD = [([f"word{row}", "of", "x"], ["O", "O", "B-X" if row % 2 else "O"]) for row in range(20)]
DEV = [([f"dev{row}"], ["B-X"]) for row in range(4)]


def parquet(path: Path, rows: list[tuple[object, object]]) -> None:
    pq.write_table(pa.table({"words": [row[0] for row in rows], "tags": [row[1] for row in rows]}), path)


def jsonl(path: Path, rows: list[tuple[object, object]]) -> None:
    path.write_text("".join(json.dumps({"words": words, "tags": tags}) + "\n" for words, tags in rows), "utf-8")


def conll(path: Path, rows: list[tuple[list[str], list[str]]]) -> None:
    blocks = ["".join(f"{w} NN {t}\n" for w, t in zip(words, tags, strict=True)) for words, tags in rows]
    path.write_text("-DOCSTART- -X- O\n\n" + "\n".join(blocks), "utf-8")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    write_plannable_model(tmp_path / "model")
    (tmp_path / "data" / "mine").mkdir(parents=True)
    return write_project(
        tmp_path / "project",
        tmp_path,
        task=TASK,
        teacher={"model": str(tmp_path / "model"), "finetune": {}},
        student={"label": "one", "cut": {"of": "teacher", "layers": [1]}},
    )


def refusal(project: Project) -> str:
    result = project("plan")
    assert result.code == 2 and result.err.startswith("stillhouse: ") and result.err.count("\n") == 1, result
    return result.err


@pytest.mark.parametrize(("ending", "write"), [("parquet", parquet), ("jsonl", jsonl), ("conll", conll)])
def test_sentences_are_planned_from_each_kind_of_file(project: Project, ending: str, write: object) -> None:
    folder = project.folder.parent / "data" / "mine"
    for split, rows in (("train", GOOD), ("validation", DEV)):
        write(folder / f"{split}.{ending}", rows)  # type: ignore[operator]
    steps = project.plan()
    assert steps["corpus@mine"]["rows"]["value"] == 24  # type: ignore[index]


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ((["a", "b"], ["O", "NOUN"]), "row 21: "),
        ((["a", "b"], ["O", "B-LOC"]), "B-LOC"),
        ((["a", "b"], ["O"]), "row 21: "),
        ((["a", "b"], ["O", "I-X"]), "I-X"),
        ((["a", ""], ["O", "O"]), "with nothing to see"),
        (([], []), "no words"),
        ((["a"], None), "no tags; a train split needs them all"),
    ],
)
def test_a_row_that_is_wrong_is_named(project: Project, row: tuple[object, object], problem: str) -> None:
    folder = project.folder.parent / "data" / "mine"
    parquet(folder / "train.parquet", [*GOOD, row])
    parquet(folder / "validation.parquet", list(DEV))
    line = refusal(project)
    assert "train.parquet: row 21: " in line and problem in line


def test_a_column_of_plain_texts_is_refused(project: Project) -> None:
    folder = project.folder.parent / "data" / "mine"
    for split in ("train", "validation"):
        parquet(folder / f"{split}.parquet", [("a text", "O"), ("another", "O")])
    assert "words are 'a text', a str; a row needs a list of strings" in refusal(project)


def test_a_table_without_the_column_of_words_is_refused(project: Project) -> None:
    folder = project.folder.parent / "data" / "mine"
    for split in ("train", "validation"):
        pq.write_table(pa.table({"tokens": [["a"]], "tags": [["O"]]}), folder / f"{split}.parquet")
    assert "no column words; it has tokens, tags" in refusal(project)


def test_a_line_of_a_column_file_without_a_tag_is_named(project: Project) -> None:
    folder = project.folder.parent / "data" / "mine"
    (folder / "train.conll").write_text("a O\nb\n\nc B-X\n", "utf-8")
    conll(folder / "validation.conll", DEV)
    assert "train.conll: row 1" in refusal(project)


def test_the_hub_has_no_conll_and_the_line_says_what_to_give(project: Project) -> None:
    result = project("plan", "--set", "task=conll2003", "--set", "data.source=hub")
    assert result.code == 2 and "give a folder" in result.err and result.err.count("\n") == 1, result.err
    assert "conll2003" in stillhouse("tasks").out


def test_candidates_of_models_with_different_tokenizers_are_refused(project: Project, tmp_path: Path) -> None:
    folder = project.folder.parent / "data" / "mine"
    parquet(folder / "train.parquet", list(GOOD))
    parquet(folder / "validation.parquet", list(DEV))
    other = write_plannable_model(tmp_path / "other")
    (other / "tokenizer_config.json").write_text('{"do_lower_case": false}', "utf-8")
    pq.write_table(pa.table({"text": ["a text", "another"]}), tmp_path / "bank.parquet")
    bank = f"bank={{files: [{tmp_path / 'bank.parquet'}], encoder: tfidf}}"
    student = f"student={{label: small, model: {other}}}"
    result = project("plan", "--set", bank, "--set", student, "--set", "method=[transfer]")
    assert result.code == 2 and "have different tokenizers" in result.err and result.err.count("\n") == 1, result.err

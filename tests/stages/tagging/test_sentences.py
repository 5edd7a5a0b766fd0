"""Sentences of Parquet, JSON lines and column files are the same, and bad ones are named with file, row and remedy."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from seqeval.metrics.sequence_labeling import get_entities

from stages.corpus.row_key import row_key
from stages.specs.tasks import TagScheme
from stages.tagging.sentences import (
    Sentence,
    SentenceColumns,
    found_tag_set,
    read_sentences,
    row_text,
    words_of,
)
from stages.tagging.tags import spans, tag_set

DATA = Path(os.environ.get("STILLHOUSE_DATA", Path(__file__).parents[3] / "../shared/data"))
TAGS = tag_set(["ORG", "PER"])
WORDS = [["EU", "rejects"], ["Peter", "Blackburn", "."]]
NAMES = [["B-ORG", "O"], ["B-PER", "I-PER", "O"]]
EXPECTED = [Sentence(1, ("EU", "rejects"), (1, 0)), Sentence(2, ("Peter", "Blackburn", "."), (3, 4, 0))]
USUAL = SentenceColumns()
NER_TAGS = SentenceColumns(tags="ner_tags")


def jsonl(path: Path, rows: Sequence[object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def read(
    path: Path, columns: SentenceColumns = USUAL, scheme: TagScheme = "iob2", tags: Sequence[str] = TAGS
) -> list[Sentence]:
    return list(read_sentences(path, columns, tags, scheme))


def test_the_same_sentences_are_read_from_every_kind_of_file(tmp_path: Path) -> None:
    pq.write_table(pa.table({"tokens": WORDS, "tags": NAMES}), tmp_path / "a.parquet")
    numbers = [
        {"tokens": words, "ner_tags": [TAGS.index(tag) for tag in tags]}
        for words, tags in zip(WORDS, NAMES, strict=True)
    ]
    jsonl(tmp_path / "a.jsonl", numbers)
    lines = "\n\n".join("\n".join(map(" x ".join, zip(*row, strict=True))) for row in zip(WORDS, NAMES, strict=True))
    (tmp_path / "a.conll").write_text(f"-DOCSTART- -X- O\n\n{lines}\n", "utf-8")
    assert read(tmp_path / "a.parquet") == EXPECTED
    assert read(tmp_path / "a.jsonl", NER_TAGS) == EXPECTED
    assert read(tmp_path / "a.conll") == EXPECTED


def test_sentences_without_tags_are_unlabelled(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", [{"tokens": words} for words in WORDS])
    assert [sentence.tags for sentence in read(path, SentenceColumns(tags=None))] == [None, None]
    path = jsonl(tmp_path / "b.jsonl", [{"tokens": ["a"], "tags": None}, {"tokens": ["b"], "tags": ["O"]}])
    assert [sentence.tags for sentence in read(path)] == [None, (0,)]


def test_files_in_iob1_are_refused_with_the_remedy_that_reads_them(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("EU I-ORG\nrejects O\n\nPeter I-PER\nBlackburn I-PER\n. O\n", "utf-8")
    with pytest.raises(
        ValueError, match=r"2 of 2 rows cannot be used: row 1 \(line 2\): word 1 \('EU'\) has I-ORG.*scheme: iob1"
    ):
        read(path)
    assert [sentence.tags for sentence in read(path, scheme="iob1")] == [(1, 0), (3, 4, 0)]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"tokens": ["a"], "tags": ["B-LOC"]},
            r"row 2: word 1 \('a'\): 'B-LOC' is no tag of the task, which has O, B-ORG",
        ),
        ({"tokens": ["a"], "tags": ["PER"]}, "row 2: word 1 .*'PER' is no BIO tag; use O, B-TYPE or I-TYPE"),
        ({"tokens": ["a"], "tags": ["O", "O"]}, "row 2: 2 tags for 1 words; give one for each word"),
        ({"tokens": ["a"], "tags": "O"}, "row 2: tags are 'O', a str; a row needs a list of tags"),
        ({"tokens": "a b", "tags": ["O", "O"]}, "row 2: words are 'a b', a str; a row needs a list of strings"),
        ({"tokens": None, "tags": ["O"]}, "row 2: words are null; a row needs a list of strings"),
        ({"tokens": [], "tags": []}, "row 2: no words; leave the row out"),
        ({"tokens": ["a", " "], "tags": ["O", "O"]}, "row 2: word 2 is ' ', with nothing to see"),
        ({"tokens": ["a", 3], "tags": ["O", "O"]}, "row 2: word 2 is 3, a int; a word must be a string"),
        ({"tokens": ["\ud800"], "tags": ["O"]}, "row 2: word 1 .*is no UTF-8; write the whole character"),
        ({"tokens": ["a"], "tags": ["I-PER"]}, "row 2: word 1 .*has I-PER, but no B-PER"),
        ([], "row 2: a list; a line must be one JSON object"),
    ],
)
def test_a_bad_row_is_named_with_file_row_and_remedy(tmp_path: Path, row: object, message: str) -> None:
    path = jsonl(tmp_path / "a.jsonl", [{"tokens": ["a"], "tags": ["O"]}, row])
    with pytest.raises(ValueError, match=message) as error:
        read(path)
    assert str(error.value).startswith(f"{path}: row 2: ")
    assert "\n" not in str(error.value)


def test_of_many_bad_rows_the_first_three_are_named(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", [{"tokens": ["a"], "tags": ["X"]}] * 5)
    with pytest.raises(ValueError, match=r"5 of 5 rows cannot be used: row 1: .*; row 2: .*; row 3: .*; and 2 more"):
        read(path)


def test_files_as_a_whole_are_refused(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", [{"tokens": ["a"], "ner_tags": ["O"]}])
    with pytest.raises(ValueError, match="no column tags; it has tokens, ner_tags"):
        read(path)
    with pytest.raises(ValueError, match="no sentences; a file needs at least 1"):
        read(jsonl(tmp_path / "b.jsonl", []))
    (tmp_path / "a.csv").write_text("tokens,tags\n", "utf-8")
    with pytest.raises(ValueError, match=r"unknown kind of file '.csv'; use one of parquet, jsonl"):
        read(tmp_path / "a.csv")


def test_a_tag_set_is_found_in_files(tmp_path: Path) -> None:
    one = jsonl(tmp_path / "a.jsonl", [{"tokens": ["a"], "tags": ["I-PER"]}, {"tokens": ["a"], "tags": ["nonsense"]}])
    other = jsonl(tmp_path / "b.jsonl", [{"tokens": ["a"], "tags": ["B-ORG"]}, {"tokens": ["a"], "tags": None}])
    assert found_tag_set([one, other], SentenceColumns()) == TAGS
    with pytest.raises(ValueError, match="have no tag but O; name the column of the tags, or list the labels"):
        found_tag_set([jsonl(tmp_path / "c.jsonl", [{"tokens": ["a"], "tags": ["O"]}])], SentenceColumns())
    with pytest.raises(ValueError, match="row 1: tags are numbers; list the labels in the order of their numbers"):
        found_tag_set([jsonl(tmp_path / "d.jsonl", [{"tokens": ["a"], "tags": [0]}])], SentenceColumns())


def test_rows_of_other_words_have_other_keys() -> None:
    words = [("a", "b"), ("a b",), ("ab",), ('a","b',), ("a", "b", ""), ("A", "b"), ("\u00e9",), ("e\u0301",)]
    assert [words_of(row_text(one)) for one in words] == words
    assert len({row_key((row_text(one),)) for one in words}) == len(words)


@pytest.mark.data
def test_conll_2003_has_the_entities_that_its_manifest_counts() -> None:
    folder = DATA / "conll2003"
    if not folder.is_dir():
        pytest.skip(f"no data in {DATA}; set STILLHOUSE_DATA")
    files = json.loads((folder / "manifest.json").read_text("utf-8"))["files"]
    tags = found_tag_set([folder / "train.parquet"], SentenceColumns())
    assert tags == tag_set(["LOC", "MISC", "ORG", "PER"])
    for split in ("train", "validation", "test"):
        sentences = read(folder / f"{split}.parquet", tags=tags)
        names = [[tags[tag] for tag in sentence.tags or ()] for sentence in sentences]
        counts = dict.fromkeys(files[split]["entities"], 0)
        for row in names:
            for span in spans(row):
                counts[span.type] += 1
        assert (len(sentences), sum(map(len, names)), counts) == tuple(
            files[split][key] for key in ("rows", "tokens", "entities")
        )
        assert sum(map(len, map(spans, names))) == len(get_entities(names))

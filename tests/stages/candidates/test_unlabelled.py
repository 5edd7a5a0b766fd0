"""The stage from a candidate table to rows without labels: a corpus that a teacher reads like any other."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from training_setups import RecordingListener, inline

import stages.corpus.token_shards
from stages.candidates.table import Candidate, finish, write_part
from stages.candidates.unlabelled import unlabelled
from stages.corpus.reader import read_meta, read_split
from stages.corpus.row_key import row_key
from stages.corpus.rowset import read_rowset
from stages.outputs.layout import read_store
from stages.outputs.reader import read_columns
from stages.specs.candidates import UnlabelledSpec
from stages.specs.corpus import CorpusSpec
from stages.specs.teacher import TeachSpec
from stages.teaching.teach import teach, tokenisation

TEXTS = ["one text", "another text", "a third one", "a fourth, " * 9]


def write_table(corpus: Path, out: Path, found: Sequence[Sequence[tuple[str, ...]]]) -> Path:
    """A candidate table: row i of train has the texts ``found[i]``. In parts of two rows."""
    out.mkdir()
    text, keys = read_meta(corpus).task.text, read_split(corpus, "train").keys
    rows = [(keys[row], [Candidate(texts, 0.1) for texts in several]) for row, several in enumerate(found)]
    parts = [rows[start : start + 2] for start in range(0, len(rows), 2)]
    for number, part in enumerate(parts):
        write_part(out, number, text, part, {})
    finish(out, "neighbours", 3, text, len(parts))
    return out


@pytest.fixture
def table(tiny_corpus: Path, tmp_path: Path) -> Path:
    """Of the row itself, too, and texts that come again in a row and in another."""
    own = read_split(tiny_corpus, "train").texts()[3]
    found = [[(TEXTS[0],), (TEXTS[1],)], [(TEXTS[1],), (TEXTS[0],), own], [], [(TEXTS[2],)], [(TEXTS[3],), own]]
    return write_table(tiny_corpus, tmp_path / "table", found)


def test_each_distinct_text_is_a_row_without_a_label_in_the_order_of_the_table(
    tiny_corpus: Path, table: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    facts = unlabelled(UnlabelledSpec(), {"candidates": table, "corpus": tiny_corpus}, out, inline())
    own = read_split(tiny_corpus, "train").texts()[3]
    split = read_split(out, "candidates")
    assert split.texts() == [(TEXTS[0],), (TEXTS[1],), own, (TEXTS[2],), (TEXTS[3],)]
    assert split.keys == [row_key(texts) for texts in split.texts()]
    assert split.index.tolist() == [0, 1, 2, 3, 4]
    assert not split.labelled.any()
    assert facts == {
        "rows": {"candidates": 5},
        "truncated": {"candidates": 1},
        "tokens": {"candidates": len(split.tokens)},
    }
    assert not list((out / "scratch").iterdir())


def test_what_it_leaves_says_of_itself_what_the_corpus_says(tiny_corpus: Path, table: Path, tmp_path: Path) -> None:
    unlabelled(UnlabelledSpec(), {"candidates": table, "corpus": tiny_corpus}, tmp_path / "out", inline())
    of, found = read_meta(tiny_corpus), read_meta(tmp_path / "out")
    assert (found.task, found.pad_token_id, found.max_length) == (of.task, of.pad_token_id, of.max_length)
    assert tokenisation(found) == tokenisation(of)
    assert {name: (split.role, split.rows) for name, split in found.splits.items()} == {"candidates": ("candidates", 5)}


def test_a_row_of_train_that_is_a_candidate_too_has_the_same_tokens(
    tiny_corpus: Path, table: Path, tmp_path: Path
) -> None:
    unlabelled(UnlabelledSpec(), {"candidates": table, "corpus": tiny_corpus}, tmp_path / "out", inline())
    train, rows = read_rowset(tiny_corpus, "train"), read_rowset(tmp_path / "out", "candidates")
    place = list(rows.row_keys).index(train.row_keys[3])
    one, other = train.batch(np.array([3]), "cpu"), rows.batch(np.array([place]), "cpu")
    assert one.inputs["input_ids"].tolist() == other.inputs["input_ids"].tolist()


def test_a_teacher_labels_it_as_it_labels_train(tiny_corpus: Path, table: Path, teacher: Path, tmp_path: Path) -> None:
    out, said, train = (tmp_path / name for name in ("out", "said", "train"))
    unlabelled(UnlabelledSpec(), {"candidates": table, "corpus": tiny_corpus}, out, inline())
    said.mkdir()
    train.mkdir()
    facts = teach(TeachSpec(splits=("candidates",)), {"corpus": out, "model": teacher}, said, inline())
    assert facts["rows"] == 5
    teach(TeachSpec(precision="float32"), {"corpus": tiny_corpus, "model": teacher}, train, inline())
    key = read_split(tiny_corpus, "train").keys[3]
    names = ("logits", "hidden_03")
    one, other = (read_columns(store, names, [key]) for store in (said, train))
    for name in names:
        assert one[name] == pytest.approx(other[name], rel=2e-3, abs=1e-3)


def test_what_the_teacher_said_of_train_is_carried_over(
    tiny_corpus: Path, table: Path, teacher: Path, store: Path, tmp_path: Path
) -> None:
    out, said = tmp_path / "out", tmp_path / "said"
    unlabelled(UnlabelledSpec(), {"candidates": table, "corpus": tiny_corpus}, out, inline())
    said.mkdir()
    inputs = {"corpus": out, "model": teacher, "prior/train": store}
    facts = teach(TeachSpec(splits=("candidates",)), inputs, said, inline())
    assert (facts["computed"], facts["carried"]) == (4, 1)
    assert read_store(said).tokenisation == read_store(store).tokenisation


def test_a_pair_of_a_regression_keeps_both_texts_and_its_token_types(pairs_corpus: Path, tmp_path: Path) -> None:
    table = write_table(pairs_corpus, tmp_path / "table", [[("x", "y"), ("x", "z")]])
    out = tmp_path / "out"
    unlabelled(UnlabelledSpec(), {"candidates": table, "corpus": pairs_corpus}, out, inline())
    split = read_split(out, "candidates")
    assert split.texts() == [("x", "y"), ("x", "z")]
    assert split.labels.dtype == np.float32
    assert split.type_ids is not None and set(split.type_ids.tolist()) == {0, 1}


def test_a_cut_run_goes_on_from_its_finished_parts(
    tiny_corpus: Path, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages.corpus.token_shards, "PART_ROWS", 2)
    out, inputs = tmp_path / "out", {"candidates": table, "corpus": tiny_corpus}
    first = unlabelled(UnlabelledSpec(), inputs, out, inline())
    parts = sorted((out / "candidates").iterdir())
    whole = [part.read_bytes() for part in parts]
    assert len(parts) == 3
    parts[1].unlink()
    (out / "corpus.json").unlink()
    heard = RecordingListener()
    assert unlabelled(UnlabelledSpec(), inputs, out, inline(heard)) == first
    assert [part.read_bytes() for part in parts] == whole
    assert (heard.expected, heard.done) == ([2], 2)


def test_a_table_without_any_candidate_is_refused(tiny_corpus: Path, tmp_path: Path) -> None:
    table = write_table(tiny_corpus, tmp_path / "table", [[], []])
    with pytest.raises(ValueError, match=r"^candidates: .* holds none for any of 2 rows; give a larger bank.*$"):
        unlabelled(UnlabelledSpec(), {"candidates": table, "corpus": tiny_corpus}, tmp_path / "out", inline())


def test_a_table_of_another_task_is_refused(tiny_corpus: Path, pairs_corpus: Path, tmp_path: Path) -> None:
    table = write_table(pairs_corpus, tmp_path / "table", [[("x", "y")]])
    with pytest.raises(ValueError, match=r"text columns one, two, but the task tiny has sentence; make the candidates"):
        unlabelled(UnlabelledSpec(), {"candidates": table, "corpus": tiny_corpus}, tmp_path / "out", inline())


def test_the_output_is_pinned_to_its_version(tiny_corpus: Path, table: Path, tmp_path: Path) -> None:
    unlabelled(UnlabelledSpec(), {"candidates": table, "corpus": tiny_corpus}, tmp_path / "out", inline())
    split = read_split(tmp_path / "out", "candidates")
    digest = hashlib.sha256()
    for values in (split.row_keys, split.index, split.labels, split.labelled, split.tokens, split.offsets):
        digest.update(np.ascontiguousarray(values).tobytes())
    assert (UnlabelledSpec.version, CorpusSpec.version, digest.hexdigest()[:16]) == (1, 3, "60281a1d19af08d5")
    names = pq.ParquetFile(tmp_path / "out" / "candidates" / "part-00000.parquet").schema_arrow.names
    assert names == ["index", "row_key", "label", "sentence", "input_ids"]

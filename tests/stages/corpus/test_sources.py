"""Rows are read alike from every kind of file, and what is wrong with a file is said in one line."""

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stages.corpus.row_key import row_key
from stages.corpus.sources import SourceRole, file_source, generated_source, hub_sources, read_rows
from stages.specs.corpus import Hub
from stages.specs.tasks import BUILT_IN, HUB, Task

PAIR = Task(name="pair", text=("one", "two"), labels=("no", "yes"))
ROWS: list[dict[str, object]] = [
    {"one": "plain", "two": "text", "label": 1},
    {"one": 'a "quote", a comma', "two": "caf\u00e9 \u4e2d", "label": 0},
    {"one": "2020-01-01", "two": "", "label": 1},
    {"one": " 17 ", "two": "NULL", "label": 0},
]


def write_parquet(path: Path, rows: list[dict[str, object]]) -> None:
    pq.write_table(pa.Table.from_pylist(rows), path)


def write_jsonl(path: Path, rows: list[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_csv(path: Path, rows: list[dict[str, object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_tsv(path: Path, rows: list[dict[str, object]]) -> None:
    lines = ["\t".join(rows[0]), *("\t".join(str(value) for value in row.values()) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


WRITERS = {"parquet": write_parquet, "jsonl": write_jsonl, "csv": write_csv, "tsv": write_tsv}


def read(path: Path, task: Task = PAIR, role: SourceRole = "train") -> pa.Table:
    return read_rows(file_source(path, task), task, role)


def refusal(path: Path, task: Task = PAIR, role: SourceRole = "train") -> str:
    """The message with which the file is refused; it is one line that begins with the file's name."""
    with pytest.raises(ValueError) as caught:
        read(path, task, role)
    message = str(caught.value)
    assert message.startswith(str(path)) and "\n" not in message
    return message.removeprefix(str(path))


@pytest.mark.parametrize("kind", WRITERS)
def test_every_kind_of_file_gives_the_same_table(tmp_path: Path, kind: str) -> None:
    WRITERS[kind](tmp_path / f"train.{kind}", ROWS)
    table = read(tmp_path / f"train.{kind}")
    assert table.to_pylist() == [
        {"index": number, "row_key": row_key((str(row["one"]), str(row["two"]))), "label": row["label"]}
        | {"one": row["one"], "two": row["two"]}
        for number, row in enumerate(ROWS)
    ]
    assert table.schema.field("row_key").type == pa.binary(16)
    assert (table.schema.field("index").type, table.schema.field("label").type) == (pa.int64(), pa.int64())


def test_scores_are_float32(tmp_path: Path) -> None:
    task = Task(name="sim", text=("one", "two"), metrics=("pearson",))
    write_csv(tmp_path / "train.csv", [{"one": "a", "two": "b", "label": 2.6}])
    table = read(tmp_path / "train.csv", task)
    assert table.schema.field("label").type == pa.float32()
    assert table["label"].to_pylist() == [pytest.approx(2.6)]


def test_quotes_in_tsv_are_text_as_in_the_files_of_glue(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text('one\ttwo\tlabel\n"open\tquote"s\t1\n')
    assert read(tmp_path / "a.tsv").select(["one", "two"]).to_pylist() == [{"one": '"open', "two": 'quote"s'}]


def test_csv_may_quote_line_ends_and_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b'\xef\xbb\xbfone,two,label\r\n"a\nb",c,yes\r\n')
    assert read(tmp_path / "a.csv").select(["one", "label"]).to_pylist() == [{"one": "a\nb", "label": 1}]


def test_a_text_of_200000_characters_can_be_read_from_parquet_and_json_lines(tmp_path: Path) -> None:
    rows = [{"one": "x" * 200_000, "two": "y", "label": 0}]
    write_parquet(tmp_path / "a.parquet", rows)
    write_jsonl(tmp_path / "a.jsonl", rows)
    assert read(tmp_path / "a.parquet") == read(tmp_path / "a.jsonl")


def test_categorical_and_large_columns_of_parquet_are_strings(tmp_path: Path) -> None:
    columns = {
        "one": pa.array(["a", "a"]).dictionary_encode(),
        "two": pa.array(["b", "c"], pa.large_string()),
        "label": pa.array(["yes", "no"]).dictionary_encode(),
    }
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    table = read(tmp_path / "a.parquet")
    assert (table["one"].to_pylist(), table["label"].to_pylist()) == (["a", "a"], [1, 0])


def test_a_folder_that_looks_like_a_partition_adds_no_column(tmp_path: Path) -> None:
    (tmp_path / "label=1").mkdir()
    write_parquet(tmp_path / "label=1" / "a.parquet", [{"one": "a", "two": "b", "label": 0}])
    assert read(tmp_path / "label=1" / "a.parquet")["label"].to_pylist() == [0]


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl"])
def test_another_encoding_is_refused_with_row_and_byte(tmp_path: Path, kind: str) -> None:
    WRITERS[kind](tmp_path / f"a.{kind}", [{"one": "plain", "two": "XX", "label": 1}])
    path = tmp_path / f"a.{kind}"
    path.write_bytes(path.read_bytes().replace(b"XX", "\u00e9".encode("latin-1")))
    place = ": row 1:" if kind == "jsonl" else ": row 1 (line 2), column two:"
    assert refusal(path) == f"{place} byte 0xe9 is not UTF-8; save the file as UTF-8"


def test_utf16_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("one,two,label\na,b,1\n", encoding="utf-16")
    assert refusal(tmp_path / "a.csv") == ": this file is in UTF-16; save the file as UTF-8"


def test_parquet_strings_of_another_encoding_are_refused_with_their_row(tmp_path: Path) -> None:
    strings = pa.array([b"fine", b"caf\xe9"]).view(pa.string())
    pq.write_table(pa.table({"one": strings, "two": ["a", "b"], "label": [0, 1]}), tmp_path / "a.parquet")
    assert "row 2, column one: byte 0xe9 is not UTF-8" in refusal(tmp_path / "a.parquet")


@pytest.mark.parametrize("kept", [0, 10, -4])
def test_a_truncated_parquet_file_is_refused(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "a.parquet"
    write_parquet(path, ROWS)
    path.write_bytes(path.read_bytes()[:kept])
    assert refusal(path).startswith(": not a whole Parquet file (")


def test_a_parquet_file_with_a_damaged_page_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    rows = [{"one": f"text {i}", "two": "b", "label": 0} for i in range(1000)]
    pq.write_table(pa.Table.from_pylist(rows), path, compression="zstd")
    data = bytearray(path.read_bytes())
    data[60:400] = bytes(340)
    path.write_bytes(data)
    assert refusal(path).startswith(": not a whole Parquet file (")


def test_a_missing_file_is_not_called_a_broken_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "a.parquet")


@pytest.mark.parametrize("kind", WRITERS)
def test_a_missing_column_is_refused_with_those_that_there_are(tmp_path: Path, kind: str) -> None:
    WRITERS[kind](tmp_path / f"a.{kind}", [{"one": "a", "deux": "b", "label": 1}])
    assert refusal(tmp_path / f"a.{kind}") == ": no column two; it has one, deux, label"


def test_a_header_in_another_encoding_is_named_as_such(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("one,two,\u00e9tiquette\na,b,1\n".encode("latin-1"))
    message = ": no column label, and in the header byte 0xe9 is not UTF-8; save the file as UTF-8"
    assert refusal(tmp_path / "a.csv") == message


def test_of_many_columns_the_first_are_named(tmp_path: Path) -> None:
    names = ",".join(f"c{number}" for number in range(100_000))
    (tmp_path / "a.csv").write_text(f"{names}\n")
    assert refusal(tmp_path / "a.csv").endswith("c18, c19 and 99980 more")


def test_a_long_value_is_cut_in_messages(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", [{"one": "a", "two": "b", "label": "x" * 100_000}])
    assert len(refusal(tmp_path / "a.csv")) < 300


def test_a_test_split_may_lack_labels_and_others_may_not(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", [{"one": "a", "two": "b"}])
    assert read(tmp_path / "a.csv", role="test")["label"].to_pylist() == [None]
    assert refusal(tmp_path / "a.csv", role="dev") == ": no column label; it has one, two"


@pytest.mark.parametrize("kind", WRITERS)
def test_a_label_outside_the_tasks_is_refused_with_its_row(tmp_path: Path, kind: str) -> None:
    WRITERS[kind](tmp_path / f"a.{kind}", [*ROWS, {"one": "a", "two": "b", "label": 7}])
    message = refusal(tmp_path / f"a.{kind}")
    assert re.match(r": row 5( \(line 6\))?, column label: .*7", message)
    assert message.endswith("is no label of pair; use 0 to 1 or a name (no, yes), or -1 for not public")


def test_labels_that_are_not_public_are_null_outside_train(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", [{"one": "a", "two": "b", "label": -1}, {"one": "a", "two": "c", "label": "yes"}])
    assert read(tmp_path / "a.csv", role="dev")["label"].to_pylist() == [None, 1]
    assert (
        refusal(tmp_path / "a.csv") == ": row 1 (line 2), column label: no label ('-1'); a train split needs them all"
    )


def test_a_dev_split_without_any_label_is_refused_and_a_test_split_is_not(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", [{"one": "a", "two": "b", "label": -1}])
    assert refusal(tmp_path / "a.csv", role="dev") == ": column label: no row has a label; a dev split needs labels"
    assert read(tmp_path / "a.csv", role="test")["label"].to_pylist() == [None]


def test_a_null_text_is_refused(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", [ROWS[0], {"one": "a", "two": None, "label": 0}])
    write_jsonl(tmp_path / "a.jsonl", [ROWS[0], {"one": "a", "label": 0}])
    for path in (tmp_path / "a.parquet", tmp_path / "a.jsonl"):
        assert refusal(path) == ": row 2, column two: null; a text must be a string"


def test_a_text_that_is_no_string_is_refused(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", [{"one": 5, "two": "b", "label": 0}])
    assert refusal(tmp_path / "a.jsonl") == ": row 1, column one: 5, a int; a text must be a string"


def test_half_a_surrogate_pair_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"one": "a \\ud83d", "two": "b", "label": 0}\n')
    assert "row 1, column one: '\\ud83d' is half a surrogate pair" in refusal(tmp_path / "a.jsonl")


@pytest.mark.parametrize("kind", WRITERS)
def test_an_empty_split_is_refused(tmp_path: Path, kind: str) -> None:
    empty: dict[str, Callable[[Path], object]] = {
        "parquet": lambda path: pq.write_table(pa.Table.from_pylist(ROWS).slice(0, 0), path),
        "csv": lambda path: path.write_text("one,two,label\n"),
        "tsv": lambda path: path.write_text(""),
        "jsonl": lambda path: path.write_text("\n"),
    }
    empty[kind](tmp_path / f"a.{kind}")
    assert refusal(tmp_path / f"a.{kind}") == ": no rows; a train split needs at least 1"


def test_a_record_with_too_many_fields_is_refused_with_its_row(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("one,two,label\na,b,1\na,b,c,1\n")
    assert refusal(tmp_path / "a.csv") == ": row 2 (line 3): 4 fields; the header has 3"


def test_a_quote_that_never_ends_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('one,two,label\n"a,b,1\na,b,1\n')
    message = ": row 1 (line 3): unexpected end of data: a quote that is opened in line 2 has no end; mend the line"
    assert refusal(tmp_path / "a.csv").startswith(message)


def test_a_column_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("one,two,one,label\na,b,c,1\n")
    assert refusal(tmp_path / "a.csv") == ": 2 columns are called one; a name must be there once"


@pytest.mark.parametrize("line", ["{", "[1]", "5"])
def test_a_line_that_is_no_json_object_is_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps(ROWS[0]) + f"\n{line}\n")
    assert refusal(tmp_path / "a.jsonl").startswith(": row 2: ")


def test_an_unknown_kind_of_file_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "a.xlsx").startswith(
        ": unknown kind of file '.xlsx'; use one of parquet, csv, tsv, jsonl"
    )


# --- the hub, and generated rows ------------------------------------------------------------------


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which data sets lie as on the hub; ``datasets`` reads such folders before it asks the network."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    return tmp_path


def put(folder: Path, **splits: list[dict[str, object]]) -> None:
    folder.mkdir(parents=True)
    for split, rows in splits.items():
        write_jsonl(folder / f"{split}.jsonl", rows)


def test_columns_of_a_hub_set_get_the_tasks_names(hub: Path) -> None:
    rows = [{"text": "who ?", "coarse_label": 3, "fine_label": 28}]
    put(hub / HUB["trec"].repository, train=rows, test=rows)
    task = BUILT_IN["trec"]
    found = hub_sources(Hub(repository="CogComp/trec", revision="0" * 40), task)
    table = read_rows(found["train"], task, "train")
    assert table.select(["sentence", "label"]).to_pylist() == [{"sentence": "who ?", "label": 3}]
    assert set(found) == {"train", "test"}


def test_a_task_of_ones_own_names_the_columns_of_a_hub_set_itself(hub: Path) -> None:
    rows = [{"text": "who ?", "coarse_label": 3, "fine_label": 1}]
    put(hub / HUB["trec"].repository, train=rows, test=rows)
    task = Task(name="trec", text=("text",), label="fine_label", labels=("a", "b"), dev=(), test=("test",))
    found = hub_sources(Hub(repository="CogComp/trec", revision="0" * 40), task)
    table = read_rows(found["train"], task, "train")
    assert table.select(["text", "label"]).to_pylist() == [{"text": "who ?", "label": 1}]


def test_label_names_of_a_hub_set_decide_where_its_order_is_another(hub: Path) -> None:
    features = datasets.Features({"sentence": datasets.Value("string"), "label": datasets.ClassLabel(names=["b", "a"])})
    dataset = datasets.Dataset.from_dict({"sentence": ["x", "y", "z"], "label": [0, 1, -1]}, features=features)
    for split in ("train", "validation"):
        (hub / "own").mkdir(exist_ok=True)
        dataset.to_parquet(hub / "own" / f"{split}.parquet")
    task = Task(name="own", text=("sentence",), labels=("a", "b"))
    found = hub_sources(Hub(repository="own", revision="0" * 40), task)
    assert read_rows(found["validation"], task, "dev")["label"].to_pylist() == [1, 0, None]


def test_a_hub_set_without_a_needed_split_is_refused(hub: Path) -> None:
    put(hub / HUB["sst5"].repository, train=[{"text": "a", "label": 0}])
    with pytest.raises(ValueError, match=r"^SetFit/sst5 has no split validation for sst5; it has train"):
        hub_sources(Hub(repository="SetFit/sst5", revision="0" * 40), BUILT_IN["sst5"])


@pytest.mark.parametrize("error", [datasets.exceptions.DatasetGenerationError("a\nb"), ConnectionError("offline")])
def test_a_hub_set_that_cannot_be_read_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def failing(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(datasets, "load_dataset", failing)
    with pytest.raises(ValueError, match=r"^SetFit/sst5 cannot be read from the hub \((a|offline)\); give a folder"):
        hub_sources(Hub(repository="SetFit/sst5", revision="0" * 40), BUILT_IN["sst5"])


def test_generated_rows_become_columns() -> None:
    columns = generated_source([{"sentence": "fine", "label": 1}], "train", BUILT_IN["reviews"])
    assert read_rows(columns, BUILT_IN["reviews"], "train")["label"].to_pylist() == [1]

"""The stage ``bank``: files of texts in, distinct clean texts out, by streams and through a cut."""

import hashlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from banks import make_bank, sentences, texts_of, write_lines, write_parquet
from training_setups import Interrupted, LocalWorker, RecordingListener, inline

import stages.bank.bank
import stages.bank.ingest
import stages.bank.sources
from stages.bank.bank import bank
from stages.bank.cleaning import cleaned
from stages.bank.reader import read_bank_meta, read_bank_part, read_bank_rows
from stages.corpus.row_key import row_key
from stages.specs.bank import BankSpec, GeneratedTexts, HubTexts

DATA = Path(os.environ.get("STILLHOUSE_DATA", Path(__file__).parents[3] / "../shared/data"))


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of 16 rows, spans of 40, parts of 32, buckets of 50: all the seams, with few rows."""
    monkeypatch.setattr(stages.bank.ingest, "blocks", _in_blocks_of_16)
    monkeypatch.setattr(stages.bank.sources, "SPAN_ROWS", 40)
    monkeypatch.setattr(stages.bank.bank, "PART_ROWS", 32)
    monkeypatch.setattr("stages.bank.dedup.BUCKET_ROWS", 50)


def _in_blocks_of_16(span: stages.bank.sources.Span, columns: Sequence[str]) -> Iterator[stages.bank.sources.TextBlock]:
    return stages.bank.sources.blocks(span, columns, 16)


def distinct(texts: Sequence[str]) -> list[tuple[str]]:
    """The independent reference: the first of equal texts in a dictionary."""
    first: dict[str, str] = {}
    for text in texts:
        first.setdefault(" ".join(text.split()).casefold(), " ".join(text.split()))
    return [(text,) for text in first.values()]


def with_repeats(count: int) -> list[str]:
    """Every third text is there again, far from the first, in other case or spacing."""
    texts = sentences(count)
    return texts + [f"  {text.upper()}\t" for text in texts[::3]] + texts[1::3] + sentences(7, start=count)


def test_a_text_stays_once_in_the_order_of_files_and_rows(tmp_path: Path, small_pieces: None) -> None:
    texts = with_repeats(150)
    files = [write_parquet(tmp_path / "a.parquet", texts[:90], group=10), write_lines(tmp_path / "b.jsonl", texts[90:])]
    facts = make_bank(tmp_path / "bank", *files)
    expected = distinct(texts)
    assert texts_of(tmp_path / "bank") == expected
    assert facts["read"] == len(texts) and facts["duplicates"] == len(texts) - len(expected)
    assert facts["rows"] == len(expected) == sum(read_bank_meta(tmp_path / "bank").parts)
    assert set(read_bank_meta(tmp_path / "bank").parts[:-1]) == {32}


def test_row_keys_are_those_of_the_texts(tmp_path: Path) -> None:
    make_bank(tmp_path / "bank", write_parquet(tmp_path / "a.parquet", sentences(5)))
    table = read_bank_part(tmp_path / "bank", 0)
    assert table.column_names == ["row_key", "text"]
    assert table["row_key"].to_pylist() == [row_key((text,)) for text in table["text"].to_pylist()]


def test_rows_are_read_by_number_through_the_parts(tmp_path: Path, small_pieces: None) -> None:
    import numpy as np

    make_bank(tmp_path / "bank", write_parquet(tmp_path / "a.parquet", sentences(80)))
    assert read_bank_rows(tmp_path / "bank", np.array([70, 3, 31, 32])) == [
        (sentences(80)[row],) for row in (70, 3, 31, 32)
    ]


def test_each_filter_says_how_many_rows_it_took(tmp_path: Path) -> None:
    texts = ["one two three", None, "one two", "", "a " * 9, "One  two three", "four five six", None]
    facts = make_bank(tmp_path / "bank", write_parquet(tmp_path / "a.parquet", texts), max_words=8)
    assert facts == {"rows": 2, "read": 8, "not_text": 2, "too_short": 2, "too_long": 1, "duplicates": 1}
    assert list(read_bank_meta(tmp_path / "bank").filters) == list(facts)[1:]


def test_texts_are_split_into_sentences_of_the_language(tmp_path: Path) -> None:
    text = "Dr. Smith came home late. He saw the old lamp! Why?\n\nNobody knows it yet."
    facts = make_bank(tmp_path / "bank", write_parquet(tmp_path / "a.parquet", [text]), sentences="en")
    assert texts_of(tmp_path / "bank") == [
        ("Dr. Smith came home late.",),
        ("He saw the old lamp!",),
        ("Nobody knows it yet.",),
    ]
    assert (facts["read"], facts["sentences"], facts["too_short"]) == (1, 4, 1)


def test_a_pair_is_one_row_and_equal_only_as_a_whole(tmp_path: Path) -> None:
    one, two = sentences(2)
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"a": [one, two, one, one, "no"], "b": [two, one, one, two, two]}), path)
    facts = make_bank(tmp_path / "bank", path, text=("a", "b"))
    assert texts_of(tmp_path / "bank") == [(one, two), (two, one), (one, one)]
    assert facts["duplicates"] == 1 and facts["too_short"] == 1
    keys = read_bank_part(tmp_path / "bank", 0)["row_key"].to_pylist()
    assert keys[0] == row_key((one, two))


def test_near_duplicates_go_only_where_that_is_asked(tmp_path: Path) -> None:
    long = "it was a bright cold day in april and the clocks were striking thirteen when he slipped quickly through"
    texts = [*sentences(3), f"{long} the doors", f"{long} the doors!", f"{long} the gates", "something else of it all"]
    path = write_parquet(tmp_path / "a.parquet", texts)
    assert "near_duplicates" not in make_bank(tmp_path / "all", path)
    facts = make_bank(tmp_path / "far", path, near_duplicates=True)
    assert len(texts_of(tmp_path / "all")) == 7
    assert (f"{long} the doors!",) not in texts_of(tmp_path / "far")
    assert {(texts[place],) for place in (0, 1, 2, 3, 6)} <= set(texts_of(tmp_path / "far"))
    assert facts["near_duplicates"] == 7 - facts["rows"] and facts["duplicates"] == 0


class Threads:
    """Three workers side by side, whose items end in another order."""

    def __init__(self) -> None:
        self._on = inline()
        self.resources = self._on.resources

    def map(
        self, open_worker: Callable[[Any, Any], Callable[[Any], Any]], config: Any, items: Sequence[Any]
    ) -> Iterator[tuple[int, Any]]:
        local = threading.local()

        def do(place: int) -> tuple[int, Any]:
            if not hasattr(local, "do"):
                local.do = open_worker(config, LocalWorker())
            return place, local.do(items[place])

        with ThreadPoolExecutor(3) as pool:
            yield from reversed(list(pool.map(do, range(len(items)))))

    def expect(self, total: float, unit: str) -> None: ...
    def log(self, line: str) -> None: ...


def files_of(out: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in out.iterdir() if path.is_file()}


def test_the_bank_is_the_same_bits_whatever_the_workers(tmp_path: Path, small_pieces: None) -> None:
    path = write_parquet(tmp_path / "a.parquet", with_repeats(150), group=10)
    make_bank(tmp_path / "one", path, near_duplicates=True)
    (tmp_path / "three").mkdir()
    bank(BankSpec(near_duplicates=True), {"files/0": path}, tmp_path / "three", Threads())
    assert files_of(tmp_path / "one") == files_of(tmp_path / "three")


def test_an_interrupted_run_goes_on_from_its_raw_parts(
    tmp_path: Path, small_pieces: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_lines(tmp_path / "a.jsonl", with_repeats(150))
    make_bank(tmp_path / "whole", path)
    blocks = 0

    def cut(_: float) -> None:
        nonlocal blocks
        blocks += 1
        if blocks == 9:
            raise Interrupted

    with pytest.raises(Interrupted):
        make_bank(tmp_path / "bank", path, heard=RecordingListener(before_advance=cut))
    pieces = sorted((tmp_path / "bank" / "scratch").glob("raw-*.parquet"))
    assert len(pieces) == 9
    cleaned: list[int] = []
    clean_rows = stages.bank.ingest.clean_rows
    monkeypatch.setattr(
        stages.bank.ingest, "clean_rows", lambda rows, spec: cleaned.append(len(rows)) or clean_rows(rows, spec)
    )
    make_bank(tmp_path / "bank", path)
    assert sum(cleaned) == len(with_repeats(150)) - 9 * 16
    assert files_of(tmp_path / "bank") == files_of(tmp_path / "whole")


def test_generated_texts_are_not_those_of_a_task_of_the_same_seed(tmp_path: Path) -> None:
    from stages.corpus.demo.reviews import generate

    facts = make_bank(tmp_path / "bank", source=GeneratedTexts(seed=3, rows=200))
    found = texts_of(tmp_path / "bank")
    assert facts["read"] == 200 and len(found) == facts["rows"] > 150
    task = generate(seed=3, train=200, validation=0, test=200)
    own = {str(row["sentence"]) for rows in task.values() for row in rows}
    assert len(own & {text for (text,) in found}) < 20


def test_texts_of_the_hub_are_streamed_by_column(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of data files is to the library what a repository is."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "data").mkdir()
    write_parquet(tmp_path / "data" / "train.parquet", with_repeats(30), id=list(range(57)))
    source = HubTexts(repository=str(tmp_path / "data"), revision="main")
    make_bank(tmp_path / "bank", source=source)
    assert texts_of(tmp_path / "bank") == distinct(with_repeats(30))
    with pytest.raises(ValueError, match="data train: no column sentence; it has text, id"):
        make_bank(tmp_path / "other", source=source, text=("sentence",))


def test_a_sample_has_so_many_texts_chosen_by_their_hashes_and_a_larger_one_contains_it(
    tmp_path: Path, small_pieces: None
) -> None:
    texts = with_repeats(150)
    path, turned = (
        write_parquet(tmp_path / f"{name}.parquet", order) for name, order in (("a", texts), ("b", texts[::-1]))
    )
    everything = distinct(texts)
    samples = {}
    for rows in (1, 20, 60, len(everything), 10_000):
        facts = make_bank(tmp_path / f"bank-{rows}", path, rows=rows)
        samples[rows] = texts_of(tmp_path / f"bank-{rows}")
        assert facts["rows"] == len(samples[rows]) == min(rows, len(everything))
        assert facts["not_sampled"] == len(everything) - facts["rows"]
        assert facts["duplicates"] == len(texts) - len(everything)
        assert samples[rows] == [text for text in everything if text in set(samples[rows])], "the order stays"
    assert set(samples[1]) < set(samples[20]) < set(samples[60]) < set(everything)
    smallest = sorted(everything, key=lambda row: int.from_bytes(hash_of(row[0]), "little"))[:20]
    assert set(samples[20]) == set(smallest), "an independent reference: the smallest hashes of the folded texts"
    make_bank(tmp_path / "turned", turned, rows=20)
    assert {text.casefold() for (text,) in texts_of(tmp_path / "turned")} == {
        text.casefold() for (text,) in samples[20]
    }, "the order of the texts does not matter"


def hash_of(text: str) -> bytes:
    return hashlib.blake2b(text.casefold().encode(), digest_size=8).digest()


def test_a_bank_without_texts_says_what_took_them(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", ["a b", "c", None])
    with pytest.raises(ValueError, match=r"no text is left.*read 3, not_text 1, too_short 2"):
        make_bank(tmp_path / "bank", path)


def test_what_is_no_language_code_is_refused(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", sentences(3))
    with pytest.raises(ValueError, match=r"sentences\n.*should match pattern"):
        make_bank(tmp_path / "bank", path, sentences="english")


def test_a_bank_of_files_needs_one(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="files: none is given"):
        make_bank(tmp_path / "bank")


def test_the_output_of_bank_is_pinned_to_its_version(tmp_path: Path) -> None:
    texts = [*with_repeats(30), "Ça va bien ?", "Ça va bien ?", "x\u0007y z\u00a0w"]
    make_bank(tmp_path / "bank", write_parquet(tmp_path / "a.parquet", texts), near_duplicates=True)
    keys = b"".join(read_bank_part(tmp_path / "bank", 0)["row_key"].to_pylist())
    assert (BankSpec.version, hashlib.sha256(keys).hexdigest()[:16]) == (1, "9f4371123a1daa6c")


@pytest.mark.data
def test_the_real_bank_is_distinct_already_and_stays_whole(tmp_path: Path) -> None:
    path = DATA / "unlabeled" / "sentences.parquet"
    if not path.is_file():
        pytest.skip(f"no data in {DATA}; set STILLHOUSE_DATA")
    texts = pq.read_table(path, columns=["text"])["text"].to_pylist()
    facts = make_bank(tmp_path / "bank", path)
    assert facts["rows"] == len(texts) == len({cleaned(text).casefold() for text in texts})
    assert texts_of(tmp_path / "bank") == [(cleaned(text),) for text in texts]

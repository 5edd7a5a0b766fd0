"""The size of a bank that is not built, from its files."""

import bz2
import gzip
from pathlib import Path

import pytest

from pipeline.graph.artifact_sizes import bank_size
from pipeline.graph.external.digests import Digests
from pipeline.graph.nodes import Quantity
from stages.files.text_size import TextSize
from stages.specs.bank import BankSpec

TEXT = "".join(f"this is the text with number {number}\n" for number in range(50))


@pytest.fixture
def digests(tmp_path: Path) -> Digests:
    return Digests(tmp_path / "storage" / "digests.json")


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_lines_bound_the_rows_of_a_bank_whatever_its_files_are(tmp_path: Path, digests: Digests) -> None:
    rows = TEXT.encode()
    files = [
        written(tmp_path / "a.txt", rows),
        written(tmp_path / "b.txt.gz", gzip.compress(rows)),
        written(tmp_path / "c.csv.bz2", bz2.compress(b"text,n\n" + b"some words here,1\n" * 7)),
    ]
    found, size = bank_size(files, BankSpec(), digests)
    assert found == Quantity.at_most(50 + 50 + 7)
    assert size.kind == "about"
    assert size.value is not None and size.value > 2 * len(rows)


def test_a_file_is_counted_once_for_its_content(tmp_path: Path, digests: Digests) -> None:
    one = written(tmp_path / "a.txt", TEXT.encode())
    assert digests.text_size(one) == TextSize(50, len(TEXT))
    digests.save()
    copy = written(tmp_path / "copy.txt", TEXT.encode())
    known = Digests.load(digests.file)
    known.known[f"text|{known.sha256(copy)}"] = "3 4"
    assert known.text_size(copy) == TextSize(3, 4), "what is kept for the content is used"


def test_sentences_are_estimated_from_a_sample(tmp_path: Path, digests: Digests) -> None:
    text = "Here is one sentence of it. Here is another one. Short.\n"
    found, _ = bank_size([written(tmp_path / "a.txt", text.encode() * 30)], BankSpec(sentences="en"), digests)
    assert found == Quantity.about(60), "two sentences of each text are long enough"


def test_a_compressed_file_that_is_cut_short_is_refused(tmp_path: Path, digests: Digests) -> None:
    path = written(tmp_path / "a.txt.gz", gzip.compress(TEXT.encode())[:-20])
    with pytest.raises(ValueError, match=r"a\.txt\.gz: this file is cut short or damaged .*; copy it again"):
        bank_size([path], BankSpec(), digests)

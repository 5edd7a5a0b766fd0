"""How tokenizers join the texts of a pair: read off their files, and off the tokenizers themselves."""

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import BertProcessing, ByteLevel, RobertaProcessing, Sequence, TemplateProcessing
from transformers import PreTrainedTokenizerFast

from stages.models.bilstm import separates_texts
from stages.models.bilstm.separators import frame_of_pairs

SPECIAL = [("<s>", 1), ("</s>", 2)]


def template(pair: str) -> TemplateProcessing:
    return TemplateProcessing(single="<s> $A </s>", pair=pair, special_tokens=SPECIAL)


JOINED = {
    "bert": (BertProcessing(("</s>", 2), ("<s>", 1)), (1, 2)),
    "roberta": (RobertaProcessing(("</s>", 2), ("<s>", 1)), (1, 2)),
    "template": (template("<s> $A </s> $B:1 </s>:1"), (1, 2)),
    "t5": (template("$A </s> $B </s>"), (0, 2)),
    "within": (Sequence([ByteLevel(), template("<s> $A </s> $B </s>")]), (1, 2)),
    "nothing between": (template("<s> $A $B </s>"), (1, None)),
    "bytes alone": (ByteLevel(), (0, None)),
    "none": (None, (0, None)),
}


@pytest.mark.parametrize(("processor", "frame"), JOINED.values(), ids=JOINED)
def test_the_frame_of_a_pair_is_what_the_tokenizer_makes_and_its_file_tells_whether_it_separates(
    processor: object, frame: tuple[int, int | None], tmp_path: Path
) -> None:
    plain = Tokenizer(WordLevel({"<s>": 1, "</s>": 2, "a": 3, "b": 4, "[UNK]": 5}, unk_token="[UNK]"))
    plain.pre_tokenizer = Whitespace()  # type: ignore[assignment]
    if processor is not None:
        plain.post_processor = processor  # type: ignore[assignment]
    plain.save(str(tmp_path / "tokenizer.json"))
    assert frame_of_pairs(PreTrainedTokenizerFast(tokenizer_object=plain)) == frame
    assert separates_texts(tmp_path) == (frame[1] is not None)


def test_a_tokenizer_whose_file_does_not_tell_may_separate_texts(tmp_path: Path) -> None:
    assert separates_texts(tmp_path), "a slow tokenizer has no such file"
    for content in ("{", json.dumps({"vocab": {}}), "[]"):
        (tmp_path / "tokenizer.json").write_text(content, "utf-8")
        assert separates_texts(tmp_path)

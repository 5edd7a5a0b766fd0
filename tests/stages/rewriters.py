"""Tiny real models that rewrite, and candidate tables looked into."""

import json
from pathlib import Path

import sentencepiece
import torch
from tiny import BAD, GOOD, THINGS, packaged_model
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    MarianConfig,
    MarianMTModel,
    MarianTokenizer,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from stages.candidates.table import read_candidates

SPECIAL = ["<pad>", "</s>", "<unk>"]
VOCABULARY = [*SPECIAL, *GOOD, *BAD, *THINGS, "the", "was", "number"]


def write_filler(directory: Path) -> Path:
    """A random BERT with a masked-LM head and the packaged tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(packaged_model())
    torch.manual_seed(5)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=40,
        initializer_range=0.5,
    )
    BertForMaskedLM(config).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def write_translator(directory: Path, seed: int) -> Path:
    """A random T5 over some twenty words."""
    plain = Tokenizer(models.WordLevel({word: number for number, word in enumerate(VOCABULARY)}, unk_token="<unk>"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    plain.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=plain, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=32
    )
    torch.manual_seed(seed)
    config = T5Config(
        vocab_size=len(VOCABULARY),
        d_model=16,
        d_kv=8,
        d_ff=32,
        num_layers=1,
        num_heads=2,
        decoder_start_token_id=0,
        pad_token_id=0,
        eos_token_id=1,
        initializer_factor=1.0,
    )
    T5ForConditionalGeneration(config).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def texts_by_row(table: Path, *text: str) -> dict[bytes, list[tuple[str, ...]]]:
    found: dict[bytes, list[tuple[str, ...]]] = {}
    for row in read_candidates(table).to_pylist():
        found.setdefault(row["row_key"], []).append(tuple(row[name] for name in text))
    return found


def write_marian(directory: Path) -> Path:
    """A random Marian with sentence pieces learnt from a few texts, as those on the hub have."""
    texts = [f"the {thing} was {word}" for thing in THINGS for word in (*GOOD, *BAD)]
    (directory / "texts.txt").write_text("\n".join(texts), "utf-8")
    pieces = str(directory / "pieces")
    sentencepiece.SentencePieceTrainer.train(
        input=str(directory / "texts.txt"), model_prefix=pieces, vocab_size=60, hard_vocab_limit=False, minloglevel=2
    )
    learnt = sentencepiece.SentencePieceProcessor(model_file=f"{pieces}.model")
    names = [*(learnt.id_to_piece(number) for number in range(learnt.get_piece_size())), "<pad>"]
    (directory / "vocab.json").write_text(json.dumps({name: number for number, name in enumerate(names)}), "utf-8")
    tokenizer = MarianTokenizer(
        vocab=str(directory / "vocab.json"), source_spm=f"{pieces}.model", target_spm=f"{pieces}.model"
    )
    pad, end = names.index("<pad>"), names.index("</s>")
    torch.manual_seed(8)
    config = MarianConfig(
        vocab_size=len(names),
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        max_position_embeddings=64,
        pad_token_id=pad,
        eos_token_id=end,
        decoder_start_token_id=pad,
        forced_eos_token_id=end,
    )
    MarianMTModel(config).save_pretrained(directory / "marian")
    tokenizer.save_pretrained(directory / "marian")
    return directory / "marian"

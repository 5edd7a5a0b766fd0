"""The blocks of a recipe file about texts beside the task's own: the bank, its index, and what makes candidates."""

import re
from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from pipeline.recipe.schema.scalars import ONE_OR_MANY, Block, Flag, Number, Seed, Size, Text, Whole, distinct, key
from stages.specs.bank import LANGUAGE


def language(text: str) -> str:
    if not re.match(LANGUAGE, text):
        raise ValueError("must be a language by its code, such as en")
    return text


class HubBlock(Block):
    """Texts of a data set on the hub."""

    short = "repository"
    repository: Text = key("Its name.", "bookcorpus/bookcorpus")
    config: Text | None = key("Its configuration, where it has several.", "plain_text", None)
    split: Text = key("The split to take.", "unsupervised", "train")


class GeneratedBankBlock(Block):
    """Sentences like those of the built-in task `reviews`, without labels."""

    seed: Seed = key("Seed of the generator; that of the task's own rows would give those rows.", 8, 7)
    rows: Whole = key("How many, before what is there twice is left out.", 2000, 4000, ge=1)


class IndexBlock(Block):
    """The FAISS index over the bank's embeddings."""

    kind: Literal["auto", "exact", "hnsw", "ivf-flat", "ivf-sq8", "ivf-pq", "ivf-opq"] = key(
        "`auto` goes by rows and by `bytes`: exact search as long as that is quick, then inverted lists.",
        "hnsw",
        "auto",
    )
    bytes: Size = key("What `auto` lets the index take.", "2GB", 8 * 10**9)
    recall: Number = key(
        "Recall@8 against exact search, on a sample, that sets how much of the index is visited.",
        0.99,
        0.95,
        gt=0,
        le=1,
    )
    lists: Whole | None = key("Inverted lists. By the number of rows, where left out.", 4096, None, ge=1)


class BankBlock(Block):
    """Unlabelled texts. They are cleaned, embedded and indexed once for all tasks, with one of `files`, `hub` and
    `generated`."""

    elsewhere = MappingProxyType({"k": "it belongs to candidates.NAME, or to a method's data"})
    files: Annotated[tuple[Text, ...], Field(min_length=1), AfterValidator(distinct), ONE_OR_MANY] | None = key(
        "Parquet, JSON lines, CSV, TSV or plain text (a text a line), each also compressed (gz, zst, bz2, xz); or "
        "folders of such files.",
        ["sentences.parquet", "more.txt.gz"],
        None,
    )
    hub: HubBlock | None = key("A data set on the hub.", {"repository": "bookcorpus/bookcorpus"}, None)
    generated: GeneratedBankBlock | None = key("Texts for the task `reviews`.", {"rows": 2000}, None)
    text: Annotated[tuple[Text, ...], Field(min_length=1, max_length=2), ONE_OR_MANY] = key(
        "The column of text; two of them make a bank of pairs, for candidates of `sides: joined`.", "body", ("text",)
    )
    sentences: Annotated[Text, AfterValidator(language)] | None = key(
        "Split texts into sentences first: the language they are in, by its code.", "en", None
    )
    min_words: Whole = key("Shorter texts are left out.", 4, 3, ge=1)
    max_words: Whole = key("Longer texts are left out.", 32, 64, ge=1)
    near_duplicates: Flag = key(
        "Also leave out texts that share most of their word triples with an earlier one.", True, False
    )
    encoder: Text = key(
        "A sentence encoder, a directory or a name on the hub, whose vectors are compared; or `tfidf`, without one.",
        "tfidf",
        "sentence-transformers/all-MiniLM-L6-v2",
    )
    pooling: Literal["mean", "cls"] = key("Of the encoder's last layer.", "cls", "mean")
    max_length: Whole = key("Tokens a text at most, for the encoder.", 128, 64, ge=4)
    index: IndexBlock = key("How it is searched.", {"kind": "hnsw"}, IndexBlock)


class CandidatesBlock(Block):
    """What makes candidates for rows of train. Any of them serves `knn` and `minimax-knn`."""

    short = "by"
    by: Literal["neighbours", "transfer", "words", "masked", "translated"] = key(
        "`neighbours`: the nearest of the bank. `transfer`: texts of the bank at random. `words`: words replaced by "
        "synonyms, or by near words of `model`. `masked`: words replaced by what a masked language model expects. "
        "`translated`: into another language and back.",
        "words",
        "neighbours",
    )
    k: Whole | None = key("So many a row. The most that a method takes, where left out.", 16, None, ge=1)
    sides: Literal["first", "second", "either", "both", "joined"] | None = key(
        "What of a pair is varied: one text, the other kept; `either` by turns; `both`; or, with a bank of pairs, the "
        "pair as a whole. `either`, where left out.",
        "both",
        None,
    )
    min_distance: Number = key("Leave out what is nearer: an angle as a share of pi.", 0.02, 0.0, ge=0.0, lt=1.0)
    max_distance: Number = key("Leave out what is farther.", 0.3, 1.0, gt=0.0, le=1.0)
    found: Whole | None = key(
        "So many a row are looked for where `rerank`, `confidence` or `balance` leaves some out. 4 k, where left out.",
        64,
        None,
        ge=1,
    )
    rerank: Flag = key(
        "Order candidates, and bound their distances, by the teacher's own last layer rather than by the encoder.",
        True,
        False,
    )
    confidence: tuple[Number, Number] | None = key(
        "Leave out candidates of which the teacher's highest probability is not between these.", [0.6, 1.0], None
    )
    balance: Number | None = key(
        "No class, as the teacher sees it, keeps more than so many times the candidates of the rarest.", 1.5, None, ge=1
    )
    share: Number | None = key("Share of the words that are replaced.", 0.2, None, gt=0.0, le=1.0)
    nearest: Whole | None = key("So many likely replacements are drawn from.", 10, None, ge=1)
    temperature: Number | None = key("Of the sampling that translates.", 0.8, None, gt=0.0)
    model: Text | None = key(
        "The model of `masked`, or whose word embeddings `words` goes by.", "bert-base-uncased", None
    )
    synonyms: Text | None = key(
        "A file for `words`: a word, a tab, its synonyms with commas between.", "words.tsv", None
    )
    there: Text | None = key("The model that translates.", "Helsinki-NLP/opus-mt-en-de", None)
    back: Text | None = key("The model that translates back.", "Helsinki-NLP/opus-mt-de-en", None)
    seed: Seed = key("Of what is drawn.", 1, 0)

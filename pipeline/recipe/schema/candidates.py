"""The blocks of a recipe file about additional texts: the bank, its index, and the makers of candidates."""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from pipeline.recipe.frozen import FrozenMapping
from pipeline.recipe.schema.scalars import (
    ONE_OR_MANY,
    Block,
    Flag,
    Number,
    ReadAs,
    Seed,
    Size,
    Text,
    Whole,
    distinct,
    key,
)
from stages.specs.bank import LANGUAGE, BankSpec, GeneratedTexts
from stages.specs.candidates import Masked, NeighboursSpec, RerankSpec, Sides, Translated, WordByWord, Words
from stages.specs.retrieval import EmbedSpec, IndexSpec, ModelEncoder, TfIdf

TFIDF = "tfidf"

BANK, ENCODER, INDEX = BankSpec.model_fields, ModelEncoder.model_fields, IndexSpec.model_fields
NEIGHBOURS, RERANK = NeighboursSpec.model_fields, RerankSpec.model_fields

REWRITINGS: Mapping[str, type[Words | Masked | WordByWord | Translated]] = MappingProxyType(
    {"words": Words, "masked": Masked, "tinybert": WordByWord, "translated": Translated}
)
"""The kinds of maker that rewrite texts, with the spec of each."""


def language(text: str) -> str:
    if not re.match(LANGUAGE, text):
        raise ValueError("must be a language by its code, such as en")
    return text


class HubSplit(Block):
    """Texts of a data set on the hub."""

    short = "repository"
    repository: Text = key("The name of the data set.", "bookcorpus/bookcorpus")
    config: Text | None = key("The configuration of the data set, if it has several.", "plain_text", None)
    split: Text = key("The split to take.", "unsupervised", "train")


class GeneratedBankBlock(Block):
    """Sentences like those of the built-in task `reviews`, without labels."""

    seed: Seed = key(
        "Seed of the generator. Take another than that of `data.generated`, which gives the task's own rows.", 8, 7
    )
    rows: Whole = key(
        "Sentences to generate, before duplicates are removed.", 2000, of=GeneratedTexts.model_fields["rows"]
    )


class IndexBlock(Block):
    """The FAISS index over the bank's embeddings."""

    kind: Literal["auto", "exact", "hnsw", "ivf-flat", "ivf-sq8", "ivf-pq", "ivf-opq"] = key(
        "`auto` chooses by the number of rows and by `bytes`: exact search while that is fast, else inverted lists.",
        "hnsw",
        of=INDEX["kind"],
    )
    bytes: Size = key("The largest index that `auto` builds.", "2GB", INDEX["most_bytes"].default)
    recall: Number = key(
        "Target for recall@8 against exact search, measured on a sample. The number of lists that a search visits is "
        "set to reach it.",
        0.99,
        of=INDEX["recall"],
    )
    lists: Whole | None = key(
        "Number of inverted lists. Default: chosen by the number of rows.", 4096, of=INDEX["lists"]
    )

    def spec(self) -> IndexSpec:
        return self.as_spec(IndexSpec, most_bytes=self.bytes)


class Bank(Block):
    """Unlabelled texts. They are cleaned, embedded and indexed once for all tasks, with one of `files`, `hub` and
    `generated`."""

    elsewhere = MappingProxyType({"k": "it belongs to candidates.NAME, or to a method's data"})
    files: Annotated[tuple[Text, ...], Field(min_length=1), AfterValidator(distinct), ONE_OR_MANY] | None = key(
        "Parquet, JSON lines, CSV, TSV or plain text (one text per line), each also compressed (gz, zst, bz2, xz); or "
        "folders of such files.",
        ["sentences.parquet", "more.txt.gz"],
        None,
    )
    hub: HubSplit | None = key("A data set on the hub.", {"repository": "bookcorpus/bookcorpus"}, None)
    generated: Annotated[GeneratedTexts, ReadAs(GeneratedBankBlock)] | None = key(
        "Generated texts, for the task `reviews`.", {"rows": 2000}, None
    )
    text: Annotated[tuple[Text, ...], Field(min_length=1, max_length=2), ONE_OR_MANY] = key(
        "The column of text. Two columns make a bank of pairs, for candidates with `sides: joined`.",
        "body",
        BANK["text"].default,
    )
    sentences: Annotated[Text, AfterValidator(language)] | None = key(
        "Split texts into sentences first. The value is the code of their language.", "en", None
    )
    min_words: Whole = key("Texts of fewer words are left out.", 4, of=BANK["min_words"])
    max_words: Whole = key("Texts of more words are left out.", 32, of=BANK["max_words"])
    near_duplicates: Flag = key(
        "Also leave out texts that share most of their word triples with an earlier one.",
        True,
        of=BANK["near_duplicates"],
    )
    rows: Whole | None = key(
        "Use a sample of at most this many texts, drawn after the texts have been cleaned and duplicates removed. It "
        "depends on the texts alone and not on their order, and a larger sample contains a smaller one. Default: all "
        "texts.",
        100_000,
        of=BANK["rows"],
    )
    encoder: Text = key(
        "The sentence encoder whose vectors are compared: a directory, or a name on the hub. Or `tfidf`, which needs "
        "no model.",
        "tfidf",
        "sentence-transformers/all-MiniLM-L6-v2",
    )
    pooling: Literal["mean", "cls"] = key(
        "Pooling of the encoder's last layer: the mean over tokens, or the first token.", "cls", of=ENCODER["pooling"]
    )
    max_length: Whole = key(
        "Longer texts are cut to this number of tokens for the encoder.", 128, of=ENCODER["max_length"]
    )
    index: Annotated[IndexSpec, ReadAs(IndexBlock, IndexBlock.spec)] = key(
        "The index by which the bank is searched.", {"kind": "hnsw"}, IndexSpec
    )

    @property
    def cleaning(self) -> BankSpec:
        """The spec of the stage ``bank``, without the source of the texts, which planning resolves."""
        return self.as_spec(BankSpec)

    @property
    def encoder_model(self) -> str | None:
        """The directory or hub name of the sentence encoder; None for TF-IDF, which has no model."""
        return None if self.encoder == TFIDF else self.encoder

    @property
    def embedding(self) -> EmbedSpec:
        """The spec of the stage ``embed``."""
        return EmbedSpec(encoder=TfIdf() if self.encoder == TFIDF else self.as_spec(ModelEncoder))


class CandidateMaker(Block):
    """A maker of candidates: of texts that are added to rows of train. Any maker works with `knn` and `minimax-knn`."""

    short = "by"
    by: Literal["neighbours", "transfer", "words", "masked", "tinybert", "translated"] = key(
        "`neighbours`: the nearest of the bank. `transfer`: texts of the bank at random. `words`: words replaced by "
        "synonyms, or by near words of `model`. `masked`: words replaced by what a masked language model expects. "
        "`tinybert`: the same, a word at a time beside the whole text, as in TinyBERT. `translated`: into another "
        "language and back.",
        "words",
        "neighbours",
    )
    k: Whole | None = key(
        "Candidates per row of train. Default: the largest `k` of the methods that use them.",
        16,
        None,
        of=NEIGHBOURS["k"],
    )
    sides: Sides | None = key(
        "For tasks of pairs, the text that is replaced: the first, the second, `either` in turn, `both`, or, with a "
        "bank of pairs, the pair as a whole (`joined`). Default: `either`.",
        "both",
        None,
    )
    min_distance: Number = key(
        "Leave out candidates that are nearer to the row than this: an angle, as a share of pi.",
        0.02,
        of=NEIGHBOURS["min_distance"],
    )
    max_distance: Number = key(
        "Leave out candidates that are farther from the row than this.", 0.3, of=NEIGHBOURS["max_distance"]
    )
    random: Number = key(
        "Of `neighbours`: the share of a row's candidates that are random texts of the bank instead, at any distance. "
        "Of a pair they replace the text that `sides` names.",
        0.5,
        of=NEIGHBOURS["random"],
    )
    found: Whole | None = key(
        "Candidates per row that are made before `rerank`, `confidence` or `balance` leaves some out. Default: 4 times "
        "`k`.",
        64,
        None,
        of=NEIGHBOURS["k"],
    )
    rerank: Flag = key(
        "Measure distances in the teacher's last layer instead of the encoder, both to order candidates and for the "
        "bounds on distances.",
        True,
        of=RERANK["rerank"],
    )
    confidence: tuple[Number, Number] | None = key(
        "Keep only candidates whose highest class probability, by the teacher, lies between these two values.",
        [0.6, 1.0],
        None,
    )
    balance: Number | None = key(
        "Candidates are counted by the class that the teacher predicts. No class keeps more than this many times those "
        "of the rarest class.",
        1.5,
        of=RERANK["balance"],
    )
    share: Number | None = key(
        "Share of the words that `words`, `masked` and `tinybert` replace.", 0.2, None, of=Words.model_fields["share"]
    )
    nearest: Whole | None = key(
        "Draw each replacement among this many of the likeliest.", 10, None, of=Words.model_fields["nearest"]
    )
    temperature: Number | None = key(
        "Sampling temperature of `translated`.", 0.8, None, of=Translated.model_fields["temperature"]
    )
    model: Text | None = key(
        "The masked language model of `masked` and `tinybert`, or the model whose word embeddings `words` uses.",
        "bert-base-uncased",
        None,
    )
    synonyms: Text | None = key(
        "A file of synonyms for `words`. Each line has a word, a tab, and its synonyms, separated by commas.",
        "words.tsv",
        None,
    )
    vectors: Text | None = key(
        "A file of word vectors for `tinybert`, such as GloVe's: each line has a word and its numbers, separated by "
        "spaces; the first 100,000 words count. From it come the replacements of words that are no single token of "
        "`model`. Default: the words nearest to the mean of the embeddings of the word's pieces.",
        "glove.6B.300d.txt",
        None,
    )
    there: Text | None = key("The model that translates into the other language.", "Helsinki-NLP/opus-mt-en-de", None)
    back: Text | None = key("The model that translates back.", "Helsinki-NLP/opus-mt-de-en", None)
    seed: Seed = key("Seed of everything that is drawn at random.", 1, 0)

    @property
    def reranked(self) -> bool:
        """Whether the teacher's outputs decide which candidates are kept."""
        return self.rerank or self.confidence is not None or self.balance is not None

    @property
    def how(self) -> Words | Masked | WordByWord | Translated | None:
        """How texts are rewritten; None for a maker that draws on the bank. What is left out has the default of that
        rewriting, which differs from one to another."""
        if self.by not in REWRITINGS:
            return None
        spec = REWRITINGS[self.by]
        keys = {name: getattr(self, name) for name in ("share", "nearest", "temperature") if name in spec.model_fields}
        return spec.model_validate({name: value for name, value in keys.items() if value is not None})

    @property
    def inputs(self) -> FrozenMapping[str]:
        """The models and the file that rewrite, by the names of the stage's inputs."""
        keys = {name: getattr(self, name) for name in ("model", "synonyms", "vectors", "there", "back")}
        return FrozenMapping({name: value for name, value in keys.items() if value is not None})

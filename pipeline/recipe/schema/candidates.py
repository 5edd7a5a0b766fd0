"""The blocks of a recipe file about texts beside the task's own: the bank, its index, and what makes candidates."""

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
from stages.specs.candidates import Masked, NeighboursSpec, RerankSpec, Sides, Translated, Words
from stages.specs.retrieval import EmbedSpec, IndexSpec, ModelEncoder, TfIdf

TFIDF = "tfidf"

BANK, ENCODER, INDEX = BankSpec.model_fields, ModelEncoder.model_fields, IndexSpec.model_fields
NEIGHBOURS, RERANK = NeighboursSpec.model_fields, RerankSpec.model_fields

REWRITINGS: Mapping[str, type[Words | Masked | Translated]] = MappingProxyType(
    {"words": Words, "masked": Masked, "translated": Translated}
)
"""The kinds of maker that rewrite texts, with the spec of each."""


def language(text: str) -> str:
    if not re.match(LANGUAGE, text):
        raise ValueError("must be a language by its code, such as en")
    return text


class HubSplit(Block):
    """Texts of a data set on the hub."""

    short = "repository"
    repository: Text = key("Its name.", "bookcorpus/bookcorpus")
    config: Text | None = key("Its configuration, where it has several.", "plain_text", None)
    split: Text = key("The split to take.", "unsupervised", "train")


class GeneratedBankBlock(Block):
    """Sentences like those of the built-in task `reviews`, without labels."""

    seed: Seed = key("Seed of the generator; that of the task's own rows would give those rows.", 8, 7)
    rows: Whole = key("How many, before what is there twice is left out.", 2000, of=GeneratedTexts.model_fields["rows"])

    def spec(self) -> GeneratedTexts:
        return self.as_spec(GeneratedTexts)


class IndexBlock(Block):
    """The FAISS index over the bank's embeddings."""

    kind: Literal["auto", "exact", "hnsw", "ivf-flat", "ivf-sq8", "ivf-pq", "ivf-opq"] = key(
        "`auto` goes by rows and by `bytes`: exact search as long as that is quick, then inverted lists.",
        "hnsw",
        of=INDEX["kind"],
    )
    bytes: Size = key("What `auto` lets the index take.", "2GB", INDEX["most_bytes"].default)
    recall: Number = key(
        "Recall@8 against exact search, on a sample, that sets how much of the index is visited.",
        0.99,
        of=INDEX["recall"],
    )
    lists: Whole | None = key("Inverted lists. By the number of rows, where left out.", 4096, of=INDEX["lists"])

    def spec(self) -> IndexSpec:
        return self.as_spec(IndexSpec, most_bytes=self.bytes)


class Bank(Block):
    """Unlabelled texts. They are cleaned, embedded and indexed once for all tasks, with one of `files`, `hub` and
    `generated`."""

    elsewhere = MappingProxyType({"k": "it belongs to candidates.NAME, or to a method's data"})
    files: Annotated[tuple[Text, ...], Field(min_length=1), AfterValidator(distinct), ONE_OR_MANY] | None = key(
        "Parquet, JSON lines, CSV, TSV or plain text (a text a line), each also compressed (gz, zst, bz2, xz); or "
        "folders of such files.",
        ["sentences.parquet", "more.txt.gz"],
        None,
    )
    hub: HubSplit | None = key("A data set on the hub.", {"repository": "bookcorpus/bookcorpus"}, None)
    generated: Annotated[GeneratedTexts, ReadAs(GeneratedBankBlock, GeneratedBankBlock.spec)] | None = key(
        "Texts for the task `reviews`.", {"rows": 2000}, None
    )
    text: Annotated[tuple[Text, ...], Field(min_length=1, max_length=2), ONE_OR_MANY] = key(
        "The column of text; two of them make a bank of pairs, for candidates of `sides: joined`.",
        "body",
        BANK["text"].default,
    )
    sentences: Annotated[Text, AfterValidator(language)] | None = key(
        "Split texts into sentences first: the language they are in, by its code.", "en", None
    )
    min_words: Whole = key("Shorter texts are left out.", 4, of=BANK["min_words"])
    max_words: Whole = key("Longer texts are left out.", 32, of=BANK["max_words"])
    near_duplicates: Flag = key(
        "Also leave out texts that share most of their word triples with an earlier one.",
        True,
        of=BANK["near_duplicates"],
    )
    encoder: Text = key(
        "A sentence encoder, a directory or a name on the hub, whose vectors are compared; or `tfidf`, without one.",
        "tfidf",
        "sentence-transformers/all-MiniLM-L6-v2",
    )
    pooling: Literal["mean", "cls"] = key("Of the encoder's last layer.", "cls", of=ENCODER["pooling"])
    max_length: Whole = key("Tokens a text at most, for the encoder.", 128, of=ENCODER["max_length"])
    index: Annotated[IndexSpec, ReadAs(IndexBlock, IndexBlock.spec)] = key(
        "How it is searched.", {"kind": "hnsw"}, IndexSpec
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
    """What makes candidates for rows of train. Any of them serves `knn` and `minimax-knn`."""

    short = "by"
    by: Literal["neighbours", "transfer", "words", "masked", "translated"] = key(
        "`neighbours`: the nearest of the bank. `transfer`: texts of the bank at random. `words`: words replaced by "
        "synonyms, or by near words of `model`. `masked`: words replaced by what a masked language model expects. "
        "`translated`: into another language and back.",
        "words",
        "neighbours",
    )
    k: Whole | None = key("So many a row. The most that a method takes, where left out.", 16, None, of=NEIGHBOURS["k"])
    sides: Sides | None = key(
        "What of a pair is varied: one text, the other kept; `either` by turns; `both`; or, with a bank of pairs, the "
        "pair as a whole. `either`, where left out.",
        "both",
        None,
    )
    min_distance: Number = key(
        "Leave out what is nearer: an angle as a share of pi.", 0.02, of=NEIGHBOURS["min_distance"]
    )
    max_distance: Number = key("Leave out what is farther.", 0.3, of=NEIGHBOURS["max_distance"])
    found: Whole | None = key(
        "So many a row are looked for where `rerank`, `confidence` or `balance` leaves some out. 4 k, where left out.",
        64,
        None,
        of=NEIGHBOURS["k"],
    )
    rerank: Flag = key(
        "Order candidates, and bound their distances, by the teacher's own last layer rather than by the encoder.",
        True,
        of=RERANK["rerank"],
    )
    confidence: tuple[Number, Number] | None = key(
        "Leave out candidates of which the teacher's highest probability is not between these.", [0.6, 1.0], None
    )
    balance: Number | None = key(
        "No class, as the teacher sees it, keeps more than so many times the candidates of the rarest.",
        1.5,
        of=RERANK["balance"],
    )
    share: Number | None = key("Share of the words that are replaced.", 0.2, None, of=Words.model_fields["share"])
    nearest: Whole | None = key(
        "So many likely replacements are drawn from.", 10, None, of=Words.model_fields["nearest"]
    )
    temperature: Number | None = key(
        "Of the sampling that translates.", 0.8, None, of=Translated.model_fields["temperature"]
    )
    model: Text | None = key(
        "The model of `masked`, or whose word embeddings `words` goes by.", "bert-base-uncased", None
    )
    synonyms: Text | None = key(
        "A file for `words`: a word, a tab, its synonyms with commas between.", "words.tsv", None
    )
    there: Text | None = key("The model that translates.", "Helsinki-NLP/opus-mt-en-de", None)
    back: Text | None = key("The model that translates back.", "Helsinki-NLP/opus-mt-de-en", None)
    seed: Seed = key("Of what is drawn.", 1, 0)

    @property
    def reranked(self) -> bool:
        """Whether the teacher's outputs decide which candidates are kept."""
        return self.rerank or self.confidence is not None or self.balance is not None

    @property
    def how(self) -> Words | Masked | Translated | None:
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
        keys = {name: getattr(self, name) for name in ("model", "synonyms", "there", "back")}
        return FrozenMapping({name: value for name, value in keys.items() if value is not None})

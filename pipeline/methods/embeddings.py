"""Methods of tasks of the kind ``embedding``: a sentence encoder follows the stored sentence embeddings of its teacher.

They are no points on the axes of other methods, as they have neither labels nor logits: each is a value of
``SentenceEmbedding``.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from stages.specs.pretraining import SentenceEmbedding


@dataclass(frozen=True, slots=True)
class EmbeddingMethod:
    """A method that follows sentence embeddings, with its sources. ``formula`` is the loss of a text as implemented,
    ``scale`` its reduction; ``differs`` what deviates from the paper. ``example`` is a part of a recipe, ``recipe`` a
    file in ``recipes/`` that has tasks of this kind."""

    name: str
    title: str
    paper: str
    embedding: SentenceEmbedding
    formula: str
    scale: str
    differs: str
    example: str
    recipe: str = "embedding-small.yaml"


COSINE = EmbeddingMethod(
    name="embedding-cosine",
    title="The direction of the teacher's embedding",
    paper="Sanh et al. 2019, DistilBERT, section 3 (the cosine loss of hidden states), applied to sentence embeddings",
    embedding=SentenceEmbedding(loss="cosine"),
    formula="1 - cos(e_S, e_T)",
    scale="Mean over the texts of a batch.",
    differs="DistilBERT compares the states of every token and adds two other losses; here the pooled state is "
    "compared, and this is the only loss.",
    example="task: {name: stsb, kind: embedding}\nmethod: embedding-cosine",
)

SQUARED = EmbeddingMethod(
    name="embedding-squared",
    title="The squared error of the embeddings",
    paper="Reimers and Gurevych 2020, Making Monolingual Sentence Embeddings Multilingual using Knowledge "
    "Distillation, EMNLP, equation 1",
    embedding=SentenceEmbedding(loss="squared"),
    formula="|e_S - e_T|^2 / D",
    scale="Mean over the D dimensions and over the texts of a batch.",
    differs="The paper's second term compares translations with the teacher's embeddings; one language has none. "
    "Embeddings are compared with the length that the teacher's files give them: if these scale to length 1, the "
    "loss is 2 / D times that of embedding-cosine. `normalized: false` compares them as they are before.",
    example="task: {name: stsb, kind: embedding}\n"
    "method: {use: embedding-squared, embedding: {projection: kept, normalized: false}}",
)

SIMILARITIES = EmbeddingMethod(
    name="embedding-similarities",
    title="The similarities between the texts of a batch",
    paper="Tung and Mori 2019, Similarity-Preserving Knowledge Distillation, ICCV, equation 4",
    embedding=SentenceEmbedding(loss="similarities"),
    formula="mean_j (cos(e_S_i, e_S_j) - cos(e_T_i, e_T_j))^2",
    scale="Mean over all pairs of texts of a batch, of all workers.",
    differs="The paper scales the rows of the matrix of inner products to length 1; here the embeddings are scaled, so "
    "that its entries are cosines. Embeddings of different widths need no projection.",
    example="task: {name: stsb, kind: embedding}\nmethod: embedding-similarities",
)

EMBEDDING_METHODS = (COSINE, SQUARED, SIMILARITIES)
"""In the order of ``docs/methods.md``."""

EMBEDDING_BY_NAME: Mapping[str, EmbeddingMethod] = {named.name: named for named in EMBEDDING_METHODS}

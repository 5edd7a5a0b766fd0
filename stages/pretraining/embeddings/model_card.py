"""The model card of a sentence encoder: what it is, how it is used, its loss on held-out texts, where it comes from."""

from collections.abc import Mapping

from stages.cards.student import origin_lines
from stages.pretraining.progress import PretrainingProgress
from stages.specs.pretraining import PretrainSpec, SentenceEmbedding
from stages.specs.student import describe_start

USE = """\
```python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer(".")  # where this file is
embeddings = model.encode(["A film that I would gladly see again.", "It was dull, and far too long."])
print(model.similarity(embeddings, embeddings))
```"""

LOSSES = {
    "cosine": "one less the cosine of its embedding and the teacher's",
    "squared": "the squared error of its embedding and the teacher's, mean over dimensions",
    "similarities": "the squared difference of the cosines between the texts of a batch, its own and the teacher's",
}


def sentence_encoder_card(
    spec: PretrainSpec,
    progress: PretrainingProgress,
    texts: int,
    width: int,
    parameters: int,
    lineage: Mapping[str, object],
) -> str:
    """Markdown with the front matter that model hubs read. ``texts`` is the number of texts that the model was trained
    on, ``width`` that of the teacher's embeddings; ``parameters`` are the encoder's; ``lineage`` is the content of
    ``lineage.json``, in which the runner records where the model comes from."""
    embedding = spec.embedding
    assert embedding is not None and progress.before is not None
    scored = [("before the first step", progress.before)]
    scored += [(f"after epoch {epoch.epoch}", epoch.held_out) for epoch in progress.history]
    lines = [
        "---",
        "library_name: sentence-transformers",
        "pipeline_tag: sentence-similarity",
        "tags: [sentence-transformers, feature-extraction, sentence-similarity, stillhouse]",
        "---",
        f"# {lineage.get('name', 'Sentence encoder')}",
        "",
        f"A sentence encoder of {parameters:,} parameters, trained on {texts:,} texts without labels by Stillhouse.",
        f"First weights: {describe_start(spec.start)}. Layer 1 is the first; the specification below counts from 0.",
        *learned_lines(embedding, width),
        "",
        "## Use",
        "",
        USE,
        "",
        f"Texts are cut at {spec.max_length} tokens. An embedding is {pooling_text(embedding)}.",
        "",
        "## Loss on held-out texts",
        "",
        "| | loss |",
        "| --- | ---: |",
        *(f"| {when} | {score.loss:.4f} |" for when, score in scored),
        "",
        f"The loss is {LOSSES[embedding.loss]}.",
        "",
        *origin_lines(spec, lineage),
    ]
    return "\n".join(lines)


def learned_lines(embedding: SentenceEmbedding, width: int) -> list[str]:
    """What the model learned, in a sentence, and one on its projection if it had one."""
    lines = [
        "It learned to give the sentence embeddings that its teacher, a larger sentence encoder, gives: the loss of a "
        f"text is {LOSSES[embedding.loss]}."
    ]
    if embedding.projection != "none":
        fate = "is a part of the model" if embedding.projection == "kept" else "was dropped after the training"
        lines.append(f"A linear map of its embeddings to the {width} dimensions of the teacher's {fate}.")
    return lines


def pooling_text(embedding: SentenceEmbedding) -> str:
    """How the model makes an embedding of its last layer, in a phrase."""
    pooled = "the mean over the states of all tokens" if embedding.pooling == "mean" else "the state of the first token"
    mapped = ", mapped to the teacher's width" if embedding.projection == "kept" else ""
    return f"{pooled} in the last layer{mapped}{', scaled to length 1' if embedding.normalize else ''}"

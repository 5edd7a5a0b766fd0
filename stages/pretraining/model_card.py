"""The model card of a pretrained model: what it is, its scores on held-out texts, where it comes from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stages.cards.student import origin_lines, use_with_transformers
from stages.pretraining.progress import HeldOutScore, PretrainingProgress
from stages.specs.layer_map import describe_groups
from stages.specs.pretraining import PretrainSpec
from stages.specs.student import describe_start


@dataclass(frozen=True, slots=True)
class KindOfModel:
    """What the cards of masked language models and of encoders that follow states differ in: their titles and tags, a
    sentence on what the model is and some on what it ``learned``, the class of transformers that loads it and what else
    there is to know of its use, and the ``figures`` of a score with their meaning."""

    title: str
    pipeline_tag: str
    tag: str
    what: str
    learned: Sequence[str]
    auto: str
    use: str
    scores: str
    figures: tuple[str, ...]
    meaning: str


def masked_model_card(
    spec: PretrainSpec, progress: PretrainingProgress, texts: int, parameters: int, lineage: Mapping[str, object]
) -> str:
    """Markdown with the front matter that model hubs read. ``texts`` is the number of texts that the model was trained
    on; ``lineage`` is the content of ``lineage.json``, in which the runner records where the model comes from."""
    masking = spec.masking
    kind = KindOfModel(
        title="Masked language model",
        pipeline_tag="fill-mask",
        tag="masked-language-model",
        what=f"A masked language model of {parameters:,} parameters",
        learned=(
            f"Of {100 * masking.share:g} % of the tokens, which it learned to predict, {100 * masking.masked:g} % were "
            f"replaced by the mask token and {100 * masking.random:g} % by a random token.",
            *distillation_lines(spec),
        ),
        auto="AutoModelForMaskedLM",
        use="`AutoModel` loads the encoder alone.",
        scores="Scores",
        figures=("loss", "accuracy"),
        meaning="The loss is the mean negative log-likelihood of the tokens to predict; accuracy is the share in "
        "percent whose likeliest token is the right one.",
    )
    return _card(kind, spec, progress, texts, lineage)


def state_student_card(
    spec: PretrainSpec, progress: PretrainingProgress, texts: int, parameters: int, lineage: Mapping[str, object]
) -> str:
    """As ``masked_model_card``, for an encoder that was trained on the stored states of another model."""
    assert spec.states is not None
    states = spec.states
    pooled = "the first token's states" if states.pooling == "cls" else "the mean states of a text"
    kind = KindOfModel(
        title="Encoder",
        pipeline_tag="feature-extraction",
        tag="general-distillation",
        what=f"An encoder of {parameters:,} parameters without a head",
        learned=(
            f"It learned to give {pooled} that its teacher, a larger model, gives, without labels (general "
            f"distillation): student layer <- teacher layers {describe_groups(states.layer_groups())}, 0 being the "
            f"embeddings, by `{states.kind}`.",
        ),
        auto="AutoModel",
        use="It is a start for fine-tuning, like any pretrained encoder.",
        scores="Loss",
        figures=("loss",),
        meaning="The loss is the mean distance of the compared states.",
    )
    return _card(kind, spec, progress, texts, lineage)


def _card(
    kind: KindOfModel, spec: PretrainSpec, progress: PretrainingProgress, texts: int, lineage: Mapping[str, object]
) -> str:
    assert progress.before is not None
    scored = [("before the first step", progress.before)]
    scored += [(f"after epoch {epoch.epoch}", epoch.held_out) for epoch in progress.history]
    lines = [
        "---",
        "library_name: transformers",
        f"pipeline_tag: {kind.pipeline_tag}",
        f"tags: [{kind.tag}, stillhouse]",
        "---",
        f"# {lineage.get('name', kind.title)}",
        "",
        f"{kind.what}, trained on {texts:,} texts by Stillhouse.",
        f"First weights: {describe_start(spec.start)}. Layer 1 is the first; the specification below counts from 0.",
        *kind.learned,
        "",
        "## Use",
        "",
        use_with_transformers(kind.auto),
        kind.use,
        "",
        f"## {kind.scores} on held-out texts",
        "",
        f"| | {' | '.join(kind.figures)} |",
        f"| --- | {' | '.join('---:' for _ in kind.figures)} |",
        *(f"| {when} | {' | '.join(_figures(score))} |" for when, score in scored),
        "",
        kind.meaning,
        "",
        *origin_lines(spec, lineage),
    ]
    return "\n".join(lines)


def _figures(score: HeldOutScore) -> tuple[str, ...]:
    """The loss and, of a model that predicts tokens, the accuracy."""
    accuracy = () if score.accuracy is None else (f"{score.accuracy:.1f}",)
    return f"{score.loss:.4f}", *accuracy


def distillation_lines(spec: PretrainSpec) -> list[str]:
    """What the model learned from another one, in a sentence; [] without a teacher."""
    taught = spec.distillation
    if taught is None:
        return []
    return [
        f"A teacher, another masked language model, read the same texts (the objective of DistilBERT): the loss is "
        f"{taught.soft:g} times the divergence from its probabilities at temperature {taught.temperature:g}, plus "
        f"{taught.masked:g} times the loss of the predicted tokens, plus {taught.cosine:g} times the cosine distance "
        "from its last states.",
    ]

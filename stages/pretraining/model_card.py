"""The model card of a pretrained model: what it is, its scores on held-out texts, where it comes from."""

from collections.abc import Mapping

from stages.pretraining.progress import PretrainingProgress
from stages.specs.layer_map import describe_groups
from stages.specs.pretraining import PretrainSpec
from stages.specs.student import describe_start
from stages.training.model_card import origin_lines

USE = """\
```python
from transformers import AutoModelForMaskedLM, AutoTokenizer

directory = "."  # where this file is
tokenizer = AutoTokenizer.from_pretrained(directory)
model = AutoModelForMaskedLM.from_pretrained(directory)
```
"""


def masked_model_card(
    spec: PretrainSpec, progress: PretrainingProgress, texts: int, parameters: int, lineage: Mapping[str, object]
) -> str:
    """Markdown with the front matter that model hubs read. ``texts`` is the number of texts that the model was trained
    on; ``lineage`` is the content of ``lineage.json``, in which the runner records where the model comes from."""
    assert progress.before is not None
    scored = [("before the first step", progress.before)]
    scored += [(f"after epoch {epoch.epoch}", epoch.held_out) for epoch in progress.history]
    masking = spec.masking
    lines = [
        "---",
        "library_name: transformers",
        "pipeline_tag: fill-mask",
        "tags: [masked-language-model, stillhouse]",
        "---",
        f"# {lineage.get('name', 'Masked language model')}",
        "",
        f"A masked language model of {parameters:,} parameters, trained on {texts:,} texts by Stillhouse.",
        f"First weights: {describe_start(spec.start)}. Layer 1 is the first; the specification below counts from 0.",
        f"Of {100 * masking.share:g} % of the tokens, which it learned to predict, {100 * masking.masked:g} % were "
        f"replaced by the mask token and {100 * masking.random:g} % by a random token.",
        *distillation_lines(spec),
        "",
        "## Use",
        "",
        USE,
        "`AutoModel` loads the encoder alone.",
        "",
        "## Scores on held-out texts",
        "",
        "| | loss | accuracy |",
        "| --- | ---: | ---: |",
        *(f"| {when} | {score.loss:.4f} | {score.accuracy:.1f} |" for when, score in scored),
        "",
        "The loss is the mean negative log-likelihood of the tokens to predict; accuracy is the share in percent whose "
        "likeliest token is the right one.",
        "",
        *origin_lines(spec, lineage),
    ]
    return "\n".join(lines)


USE_OF_AN_ENCODER = """\
```python
from transformers import AutoModel, AutoTokenizer

directory = "."  # where this file is
tokenizer = AutoTokenizer.from_pretrained(directory)
model = AutoModel.from_pretrained(directory)
```
"""


def state_student_card(
    spec: PretrainSpec, progress: PretrainingProgress, texts: int, parameters: int, lineage: Mapping[str, object]
) -> str:
    """As ``masked_model_card``, for an encoder that was trained on the stored states of another model."""
    assert progress.before is not None and spec.states is not None
    scored = [("before the first step", progress.before)]
    scored += [(f"after epoch {epoch.epoch}", epoch.held_out) for epoch in progress.history]
    states = spec.states
    pooled = "the first token's states" if states.pooling == "cls" else "the mean states of a text"
    lines = [
        "---",
        "library_name: transformers",
        "pipeline_tag: feature-extraction",
        "tags: [general-distillation, stillhouse]",
        "---",
        f"# {lineage.get('name', 'Encoder')}",
        "",
        f"An encoder of {parameters:,} parameters without a head, trained on {texts:,} texts by Stillhouse.",
        f"First weights: {describe_start(spec.start)}. Layer 1 is the first; the specification below counts from 0.",
        f"It learned to give {pooled} that its teacher, a larger model, gives, without labels (general distillation): "
        f"student layer <- teacher layers {describe_groups(states.layer_groups())}, 0 being the embeddings, by "
        f"`{states.kind}`.",
        "",
        "## Use",
        "",
        USE_OF_AN_ENCODER,
        "It is a start for fine-tuning, like any pretrained encoder.",
        "",
        "## Loss on held-out texts",
        "",
        "| | loss |",
        "| --- | ---: |",
        *(f"| {when} | {score.loss:.4f} |" for when, score in scored),
        "",
        "The loss is the mean distance of the compared states.",
        "",
        *origin_lines(spec, lineage),
    ]
    return "\n".join(lines)


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

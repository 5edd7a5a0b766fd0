"""The model card of a student: what it is, how it is used, how it scored, where it comes from."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stages.cards.front_matter import BaseModel, Scores, front_matter
from stages.models.heads.kinds import SEQUENCE_CLASSIFIER, TOKEN_CLASSIFIER
from stages.specs.base import Spec
from stages.specs.student import DistilSpec, describe_selection, describe_start
from stages.specs.tasks import Task

LOAD_WITH_TRANSFORMERS = """\
```python
from transformers import {auto}, AutoTokenizer

directory = "."  # where this file is
tokenizer = AutoTokenizer.from_pretrained(directory)
model = {auto}.from_pretrained(directory)
{more}```
"""

LOAD_WITH_STILLHOUSE = """\
The model is of a class of Stillhouse's own, which plain transformers refuses:

```python
import stillhouse
from transformers import AutoTokenizer

directory = "."  # where this file is
tokenizer = AutoTokenizer.from_pretrained(directory)
model = stillhouse.load_model(directory)
{more}```
"""

LABEL_WORDS = """\

words = "EU rejects German call to boycott British lamb .".split()
inputs = tokenizer([words], is_split_into_words=True, truncation=True, max_length={max_length}, return_tensors="pt")
first = [inputs.word_ids().index(word) for word in range(len(words))]  # a word's first piece stands for it
logits = model(**inputs).logits[:, first]
{answer}
"""

LOAD_IMAGES = """\
```python
import stillhouse
import torch
from transformers import AutoImageProcessor

directory = "."  # where this file is
processor = AutoImageProcessor.from_pretrained(directory)  # for images of the size that it names
model = stillhouse.load_model(directory)
size = processor.size
images = [torch.zeros(model.config.num_channels, size["height"], size["width"], dtype=torch.uint8)]
logits = model(**processor(images, input_data_format="channels_first", return_tensors="pt")).logits
{answer}
```
"""

LABEL_ROWS = """\

rows = {rows}
inputs = tokenizer(*rows, truncation=True, max_length={max_length}, padding=True, return_tensors="pt")
logits = model(**inputs).logits
{answer}
"""

SENTENCES = ("A film that I would gladly see again.", "It was dull, and far too long.")

NODE = re.compile(r"distil/(?P<method>[^/]+)/(?P<student>[^/]+)/(?P<seed>[0-9]+)@(?P<task>.+)")
"""The name of the node of a recipe's student."""


@dataclass(frozen=True, slots=True)
class CardOfStudent:
    """What a student's card says besides its spec. ``scores`` maps split -> metric -> score x 100; ``lineage`` is the
    content of ``lineage.json``, in which the runner records where the model comes from; ``own_class`` says whether the
    model is of a class of this project, which transformers does not load; ``base`` is the model that it started
    from. Rows are cut at ``max_length`` tokens."""

    task: Task
    parameters: int
    max_length: int
    scores: Scores
    lineage: Mapping[str, object]
    own_class: bool
    base: BaseModel


def model_card(spec: DistilSpec, card: CardOfStudent) -> str:
    """Markdown with the front matter that model hubs read."""
    task, title = card.task, str(card.lineage.get("name", card.task.name))
    table = [
        f"| {split} | {metric} | {value:.2f} |"
        for split, values in card.scores.items()
        for metric, value in values.items()
    ]
    lines = [
        front_matter(title, "stillhouse" if card.own_class else "transformers", task, card.base, card.scores),
        f"# {title}",
        "",
        f"A student of {card.parameters:,} parameters for the task {task.name}, made by Stillhouse.",
        *method_lines(title),
        *(f"It was made of the model {name}." for name in (card.base.name,) if name),
        f"Input: {inputs_of(task, card.max_length)}. Output: {outputs_of(task)}.",
        f"First weights: {describe_start(spec.start)}. Layer 1 is the first; the specification below counts from 0.",
        "",
        "## Use",
        "",
        usage(card.own_class, task, card.max_length),
        "## Scores",
        "",
        "| split | metric | score x 100 |",
        "| --- | --- | ---: |",
        *table,
        "",
        f"The weights are those of {describe_selection(spec.train)}.",
        "",
        *origin_lines(spec, card.lineage),
    ]
    return "\n".join(lines)


def method_lines(name: str) -> list[str]:
    """A sentence on the method of a student, by the name of its node; [] for another kind of node."""
    found = NODE.fullmatch(name)
    return [f"Method: {found['method']}; student: {found['student']}; seed: {found['seed']}."] if found else []


def inputs_of(task: Task, max_length: int) -> str:
    """What a model reads, in a phrase."""
    if task.image is not None:
        return f"images of {task.channels} channels, normalised as preprocessor_config.json says"
    return f"{', '.join(task.text)}, cut at {max_length} tokens"


def outputs_of(task: Task) -> str:
    """The outputs of a model in a phrase: the numbers and names of its labels."""
    return ", ".join(f"{i} {name}" for i, name in enumerate(task.labels)) if task.labels else "a number (regression)"


def usage(own_class: bool, task: Task, max_length: int) -> str:
    """Markdown that shows how the model is loaded and labels two rows, to be copied. ``own_class``: whether the model
    is of a class of this project (``heads.is_own_class``). Texts of any length are cut at ``max_length`` tokens."""
    if task.kind.has_entries:
        return _usage_of_words(own_class, max_length)
    answer = "print(logits[:, 0].tolist())"
    if task.labels is not None:
        answer = "print([model.config.id2label[label] for label in logits.argmax(-1).tolist()])"
    more = LABEL_ROWS.format(rows=[list(SENTENCES)] * len(task.text), max_length=max_length, answer=answer)
    if task.image is not None:
        return LOAD_IMAGES.format(answer=answer)
    if own_class:
        return LOAD_WITH_STILLHOUSE.format(more=more)
    return LOAD_WITH_TRANSFORMERS.format(auto=SEQUENCE_CLASSIFIER, more=more)


def _usage_of_words(own_class: bool, max_length: int) -> str:
    """Markdown that shows how a model is loaded and labels the words of a sentence; one of a class of this project has
    a CRF."""
    answer = "print([model.config.id2label[tag] for tag in logits[0].argmax(-1).tolist()])"
    if not own_class:
        more = LABEL_WORDS.format(max_length=max_length, answer=answer)
        return LOAD_WITH_TRANSFORMERS.format(auto=TOKEN_CLASSIFIER, more=more)
    answer = (
        "from stages.tagging.crf import viterbi\n"
        "\n"
        "tags = viterbi(logits, torch.ones(logits.shape[:2], dtype=torch.bool), model.crf.chain())\n"
        "print([model.config.id2label[tag] for tag in tags[0].tolist()])"
    )
    more = "import torch\n" + LABEL_WORDS.format(max_length=max_length, answer=answer)
    return LOAD_WITH_STILLHOUSE.format(more=more)


def use_with_transformers(auto: str) -> str:
    """Markdown that shows how plain transformers loads a model, by its class ``auto``, and its tokenizer."""
    return LOAD_WITH_TRANSFORMERS.format(auto=auto, more="")


def read_lineage(out: Path) -> Mapping[str, object]:
    """The content of ``lineage.json`` in ``out``, in which the runner records where a model comes from; {} without
    it."""
    path = out / "lineage.json"
    found: Mapping[str, object] = json.loads(path.read_text("utf-8")) if path.exists() else {}
    return found


def origin_lines(spec: Spec, lineage: Mapping[str, object]) -> list[str]:
    """The last sections of a model card, which say how the model was made: its specification and its lineage."""
    return [
        "## Recipe",
        "",
        "```json",
        json.dumps(spec.model_dump(mode="json"), indent=1),
        "```",
        "",
        "## Lineage",
        "",
        "```json",
        json.dumps(lineage, indent=1),
        "```",
        "",
    ]

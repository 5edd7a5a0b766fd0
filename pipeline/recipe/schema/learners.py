"""The blocks of a recipe file that say who learns, from what and how: students, methods, further models, ``train``."""

import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field

from pipeline.methods import METHODS
from pipeline.recipe.reference import PATTERN, Reference, reference
from pipeline.recipe.schema.scalars import (
    ONE_OR_MANY,
    Axis,
    Block,
    Flag,
    Label,
    Layers,
    Loose,
    Name,
    Number,
    ReadAs,
    Seed,
    Text,
    Whole,
    distinct,
    key,
)
from stages.specs.corpus import CorpusSpec
from stages.specs.student import Train

TRAIN = Train.model_fields

Referred = Annotated[Reference, ReadAs(Annotated[Text, Field(json_schema_extra={"pattern": PATTERN})], reference)]
"""A model of the recipe, by name."""

References = Annotated[tuple[Referred, ...], Field(min_length=1), AfterValidator(distinct), ONE_OR_MANY]


class OptimisationBlock(Block):
    """The keys of `train` without `max_length`."""

    elsewhere = MappingProxyType(
        {
            "seed": "students are trained with each of the recipe's seeds: [...]",
            "max_length": "it is one for the whole recipe, under its own train",
            "keep": "students keep their best epoch; it is for teacher.finetune and models.NAME.train",
        }
    )
    epochs: Whole = key("Passes over train.", 20, of=TRAIN["epochs"])
    learning_rate: Number = key("The peak learning rate.", 2.0e-5, of=TRAIN["learning_rate"])
    batch_size: Whole = key("Rows a step, over all workers together.", 16, of=TRAIN["batch_size"])
    micro_batch: Whole | None = key(
        "The most rows of one forward pass in a worker. Gradients add up to those of the batch: for a batch that a "
        "GPU's memory does not hold. The whole batch, where left out.",
        8,
        of=TRAIN["micro_batch"],
    )
    warmup: Number = key("Share of the steps in which the rate rises from 0.", 0.1, of=TRAIN["warmup"])
    weight_decay: Number = key("Weight decay; biases and layer norms have none.", 0.0, of=TRAIN["weight_decay"])
    max_grad_norm: Number = key("Gradients of a larger norm are scaled down to it.", 5.0, of=TRAIN["max_grad_norm"])
    precision: Literal["float32", "bfloat16"] = key(
        "`bfloat16` trains under autocast.", "bfloat16", of=TRAIN["precision"]
    )
    compile: Flag = key(
        "Compile the model with `torch.compile`, for shapes that vary. It takes a C++ compiler and, at the start of "
        "each student, time.",
        True,
        of=TRAIN["compile"],
    )
    select: Literal["holdout", "dev"] = key(
        "The split on which the best epoch is selected: the held-out slice of train, or dev (then dev scores are those "
        "of a selected epoch).",
        "dev",
        of=TRAIN["select"],
    )


class TrainBlock(OptimisationBlock):
    """How students are trained: AdamW, linear warm-up, then linear decay to 0, and clipping."""

    max_length: Whole = key(
        "Tokens a row at most, for teacher and students alike.", 64, of=CorpusSpec.model_fields["max_length"]
    )


class SeededBlock(OptimisationBlock):
    """The keys of `train` without `max_length`, a seed, and what is kept."""

    seed: Seed = key("Seed of the head's weights, of dropout and of the order of rows.", 1, of=TRAIN["seed"])
    keep: Literal["best", "epochs"] = key(
        "`epochs` keeps the model of every epoch beside the best, so that `taught_by` may name them.",
        "epochs",
        of=TRAIN["keep"],
    )

    def spec(self) -> Train:
        return self.as_spec(Train)


class FreshConfig(Block):
    """A fresh model. Every key beside `model` is a field of that model's configuration with its new value."""

    model_config = ConfigDict(frozen=True, extra="allow")
    __pydantic_extra__: dict[str, str | int | float | bool]

    model: Text = key(
        "The model whose configuration and tokenizer are taken, without its weights.", "bert-base-uncased"
    )

    @property
    def changes(self) -> tuple[tuple[str, str | int | float | bool], ...]:
        """The fields to change and their new values, sorted by name."""
        return tuple(sorted(self.__pydantic_extra__.items()))


class StartBlock(Block):
    """Exactly one of `model`, `from_teacher` and `config`."""

    model: Text | None = key(
        "Start from this pretrained model: a directory, or a name on the hub.", "distilroberta-base", None
    )
    from_teacher: Layers | None = key(
        "Start from these layers of the teacher (0 is the first), with its embeddings.", [0, 2, 4], None
    )
    config: FreshConfig | None = key(
        "Start from random weights.", {"model": "bert-base-uncased", "num_hidden_layers": 2, "hidden_size": 128}, None
    )


def derived_label(start: Mapping[str, Any]) -> str:
    """The label of a student whose block has none, from the keys of its ``StartBlock``."""
    if start.get("from_teacher") is not None:
        return "-".join(("layers", *map(str, start["from_teacher"])))[:80]
    if start.get("config") is not None:
        return f"fresh-{_last_part(start['config'].model)}"[:80]
    return _last_part(start.get("model") or "")


def _last_part(model: str) -> str:
    """The last part of a model's name or path, as a label."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", PurePosixPath(model).name).strip("-.")[:80] or "student"


class Student(StartBlock):
    """A student. It needs exactly one of `model`, `from_teacher` and `config`."""

    label: Label = key(
        "Names it in reports and files. Left out: the last part of `model`; `layers-0-2-4`; `fresh-` and the last part "
        "of `config.model`.",
        "six",
        derived_label,
    )
    start: Name | None = key(
        "Another task of this recipe: train on from that task's student of the same label, method and seed. "
        "It makes sense under `overrides`.",
        "mnli",
        None,
    )


class PointBlock(Block):
    """A method's name, or a named method and what differs from it on the axes."""

    short = "use"
    use: Text = key("The method to begin with.", "annealing-kd", enum=[named.name for named in METHODS])
    targets: Annotated[Loose, Axis("targets")] | None = key(
        "What the student is shown.", {"kind": "smoothed", "epsilon": 0.2}, None
    )
    training: Annotated[Loose, Axis("training")] | None = key(
        "How it is trained on that.", {"max_temperature": 10}, None
    )
    data: Annotated[Loose, Axis("data")] | None = key(
        "Texts beside the task's own rows.", {"kind": "minimax-knn", "k": 8, "keep": 2}, None
    )
    structure: Annotated[Loose, Axis("structure")] | None = key(
        "The layers that are matched.", {"kind": "pick", "pairs": [[1, 3], [2, 6]]}, None
    )


class MethodBlock(PointBlock):
    """A method, and what differs from its defaults."""

    label: Label | None = key("Names it in reports and files. Left out: `use`.", "annealing-10", None)
    train: OptimisationBlock | None = key(
        "What differs from the recipe's `train`, for this method alone.", {"learning_rate": 1.0e-4}, None
    )
    taught_by: References | None = key(
        "Who teaches: `teacher`, a name in `models`, either with `:2` for the model of its second epoch or `:all` for "
        "those of each epoch in order, or `itself`, the same student trained without a teacher. Of a list the logits "
        "are averaged (`targets.shares` weighs them); `training: progressive` follows it in turn. Left out: who the "
        "method's name says, `teacher` for most.",
        ["teacher", "assistant"],
        None,
    )
    candidates: Name | None = key(
        "Who makes the texts that `data` uses: a name in the recipe's `candidates`. `neighbours`, where left out.",
        "rewritten",
        None,
    )


class ModelBlock(StartBlock):
    """A further model of the graph, such as a teaching assistant, a generation or an ensemble. It needs exactly one
    of `model`, `from_teacher`, `config` and `members`."""

    members: References | None = key(
        "An ensemble of these, two at least: named as in `taught_by`. It has no method and no training of its own.",
        ["teacher", "assistant"],
        None,
    )
    shares: tuple[Annotated[Number, Field(ge=0.0)], ...] | None = key(
        "What each member weighs in the mean of their logits; together 1. Equal, where left out.", [0.7, 0.3], None
    )
    method: PointBlock | None = key(
        "A method's name, or a block with `use` and axes. Needed but for an ensemble.", "vanilla-kd", None
    )
    taught_by: References | None = key("Who teaches, as for a method, but never `itself`.", "teacher", None)
    candidates: Name | None = key("Who makes the texts that its `data` uses, as for a method.", "rewritten", None)
    train: SeededBlock | None = key(
        "What differs from the recipe's `train`, and its own seed.", {"epochs": 10, "seed": 1}, None
    )

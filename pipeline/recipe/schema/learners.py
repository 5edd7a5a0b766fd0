"""The blocks of a recipe file about training: students, methods, further models, ``train``."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from pipeline.methods import EMBEDDING_METHODS, METHODS
from pipeline.recipe.reference import PATTERN, Reference, reference
from pipeline.recipe.schema.labels import derived_label
from pipeline.recipe.schema.optimizers import OptimizerBlock, ScheduleBlock
from pipeline.recipe.schema.pretraining import EmbeddingBlock, PretrainBlock
from pipeline.recipe.schema.scalars import (
    ONE_OR_MANY,
    Axis,
    Block,
    Flag,
    Label,
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
from pipeline.recipe.schema.starts import StartBlock
from stages.specs.axes.optimizers import AdamW, ConstantRate, LinearRate, Sgd, StepRate
from stages.specs.corpus import CorpusSpec
from stages.specs.student import Train

TRAIN = Train.model_fields
USABLE = [*(named.name for named in METHODS), *(named.name for named in EMBEDDING_METHODS)]

Referred = Annotated[Reference, ReadAs(Annotated[Text, Field(json_schema_extra={"pattern": PATTERN})], reference)]
"""A reference to a model of the recipe, written as its name."""

References = Annotated[tuple[Referred, ...], Field(min_length=1), AfterValidator(distinct), ONE_OR_MANY]


class OptimisationBlock(Block):
    """The keys of `train` without `max_length`."""

    elsewhere = MappingProxyType(
        {
            "seed": "students are trained with each of the recipe's seeds: [...]",
            "max_length": "it is one for the whole recipe, under its own train",
            "rates": "a method has them beside its train, the recipe in its own train",
            "keep": "students keep their best epoch; it is for teacher.finetune and models.NAME.train",
        }
    )
    epochs: Whole = key("Passes over train.", 20, of=TRAIN["epochs"])
    learning_rate: Number = key("The peak learning rate.", 2.0e-5, of=TRAIN["learning_rate"])
    batch_size: Whole = key("Rows per optimizer step, over all workers together.", 16, of=TRAIN["batch_size"])
    micro_batch: Whole | None = key(
        "Most rows of one forward pass in a worker, for batches that do not fit into a GPU's memory. Gradients are "
        "accumulated to those of the whole batch. Default: no limit.",
        8,
        of=TRAIN["micro_batch"],
    )
    warmup: Number = key("Share of the steps in which the learning rate rises from 0.", 0.1, of=TRAIN["warmup"])
    weight_decay: Number = key("Weight decay; biases and layer norms have none.", 0.0, of=TRAIN["weight_decay"])
    max_grad_norm: Number = key(
        "Gradients of a larger norm are scaled down to this norm.", 5.0, of=TRAIN["max_grad_norm"]
    )
    optimizer: Annotated[AdamW | Sgd, ReadAs(OptimizerBlock, OptimizerBlock.spec)] = key(
        "How weights are updated: `adamw`, `sgd`, or a [block](#trainoptimizer).",
        {"kind": "sgd", "momentum": 0.9},
        of=TRAIN["optimizer"],
    )
    schedule: Annotated[LinearRate | StepRate | ConstantRate, ReadAs(ScheduleBlock, ScheduleBlock.spec)] = key(
        "The course of the learning rate after `warmup`: `linear`, `steps`, `constant`, or a [block](#trainschedule).",
        {"kind": "steps", "at": [0.5, 0.75]},
        of=TRAIN["schedule"],
    )
    precision: Literal["float32", "bfloat16"] = key(
        "Number type of forward passes; `bfloat16` uses autocast.", "bfloat16", of=TRAIN["precision"]
    )
    compile: Flag = key(
        "Compile the model with `torch.compile`, with dynamic shapes. It needs a C++ compiler, and time at the start "
        "of each training.",
        True,
        of=TRAIN["compile"],
    )
    graphs: Literal["on", "off"] = key(
        "Run the steps of a training on a GPU as CUDA graphs, captured once for each length of a batch, so that small "
        "models do not wait for the host. Batches are padded to a few lengths. What cannot be captured runs as with "
        "`off`, and the log says why. It changes no key, and nothing on a CPU.",
        "off",
        of=TRAIN["graphs"],
    )
    unpadded: Flag = key(
        "Compute the tokens of a batch and not its padding, for models of the BERT, RoBERTa, DistilBERT and ELECTRA "
        "families. It pays for methods with candidates, whose lengths differ: a third of their positions and more are "
        "padding, where rows of train are batched by length. Without dropout the losses are the same; dropout draws "
        "other masks. On a GPU such steps run kernel by kernel.",
        True,
        of=TRAIN["unpadded"],
    )
    freeze: tuple[Literal["embeddings"], ...] = key(
        "Parts of the model that keep their first weights: `embeddings`, the table of word embeddings. They are most "
        "of a small student's weights, so that each step takes less time and memory.",
        ["embeddings"],
        of=TRAIN["freeze"],
    )
    select: Literal["holdout", "dev", "last"] = key(
        "The split that selects the best epoch: the held-out slice of train, or dev. With dev, the dev scores are "
        "optimistic, because they selected the epoch. `last` selects none and keeps the weights of the last epoch; "
        "with it, `data.holdout` may be 0, so that all rows are trained on.",
        "dev",
        of=TRAIN["select"],
    )
    select_by: Literal["metric", "likelihood"] = key(
        "What selects the best epoch on that split: the highest score of the task's metric, or the lowest mean "
        "negative log-likelihood of the labels (for a regression, the lowest mean squared error), which varies less "
        "from epoch to epoch where the split is small. The history of a training has both for each epoch.",
        "likelihood",
        of=TRAIN["select_by"],
    )


Rates = Annotated[
    tuple[Annotated[Number, Field(gt=0.0)], ...],
    Field(min_length=2, json_schema_extra={"uniqueItems": True}),
    AfterValidator(distinct),
]
"""Learning rates to compare."""


class TrainBlock(OptimisationBlock):
    """How students are trained: by default AdamW, linear warm-up, then linear decay to 0, and clipping."""

    max_length: Whole = key(
        "Longer rows are cut to this number of tokens, for teacher and students alike. It may not be more "
        "than the table of positions of any model has: 512 for most, as their `config.json` says. Models with rotary "
        "embeddings (ModernBERT, Qwen) have no such table.",
        64,
        of=CorpusSpec.model_fields["max_length"],
    )
    rates: Rates | None = key(
        "Learning rates for each method that gives neither `rates` nor `train.learning_rate` of its own, in place of "
        "`learning_rate`; see `method.rates`.",
        [1.0e-4, 2.0e-4, 4.0e-4],
        None,
    )


class SeededBlock(OptimisationBlock):
    """The keys of `train` without `max_length`, a seed, and which epochs are kept."""

    elsewhere = MappingProxyType({**OptimisationBlock.elsewhere, "rates": "only students have them; give one rate"})
    seed: Seed = key("Seed of the head's weights, of dropout and of the order of rows.", 1, of=TRAIN["seed"])
    keep: Literal["best", "epochs"] = key(
        "`epochs` also keeps the model after every epoch, so that `taught_by` may name it.",
        "epochs",
        of=TRAIN["keep"],
    )


def _teachers_rule(given: Mapping[str, Any]) -> str:
    """What selects a teacher's epoch by default, from the keys before it: nothing where the last epoch is kept."""
    return "metric" if given.get("select") == "last" else "likelihood"


class FinetuneBlock(SeededBlock):
    """How the teacher is trained: the keys of `train` without `max_length`, a seed, and which epochs are kept."""

    select_by: Literal["metric", "likelihood"] = key(
        "What selects the teacher's epoch, as in `train`. Default: `likelihood`, because a teacher that is trained on "
        "to the epoch with the best score has memorised its rows, and its logits for them teach less "
        "(docs/results.md, gains).",
        "metric",
        _teachers_rule,
    )


class Student(StartBlock):
    """A student. It needs exactly one of `model`, `cut`, `config`, `bilstm` and `network`, or a `start` in `models`."""

    start: Name | None = key(
        "An entry of `models` with `pretrain`, in the place of `model`, `cut` and `config`: training starts from its "
        "[masked language model](#masked-language-models). Or another task of this recipe, beside them: training "
        "starts from that task's student of the same label, method and seed, which is meant for use under `overrides`.",
        "mnli",
        None,
    )
    label: Label = key(
        "The student's name in reports and files. Default: the last part of `model`; `layers-2-4-6`; `fresh-` and the "
        "last part of `config.model`; `bilstm`; the name of a `network`; or the entry of `models` that it starts from.",
        "six",
        derived_label,
    )


class AxesBlock(Block):
    """A method's name, or a named method with changes on the axes."""

    short = "use"
    use: Text = key("The named method to start from.", "annealing-kd", enum=USABLE)
    targets: Annotated[Loose, Axis("targets")] | None = key(
        "The target distribution that the student learns.", {"kind": "smoothed", "epsilon": 0.2}, None
    )
    training: Annotated[Loose, Axis("training")] | None = key(
        "Losses and schedule on labels and logits.", {"max_temperature": 10}, None
    )
    data: Annotated[Loose, Axis("data")] | None = key(
        "Additional texts for each row.", {"kind": "minimax-knn", "k": 8, "keep": 2}, None
    )
    structure: Annotated[Loose, Axis("structure")] | None = key(
        "Which layers are matched, and how.", {"kind": "pick", "pairs": [[1, 3], [2, 6]]}, None
    )


class MethodBlock(AxesBlock):
    """A method's name, or a named method with changes on the axes, a label, its teachers and its training."""

    embedding: EmbeddingBlock | None = key(
        "How the students of a task of the kind `embedding` follow their teacher, in the place of the axes.",
        {"projection": "kept"},
        None,
    )
    label: Label | None = key("The method's name in reports and files. Default: that of `use`.", "annealing-10", None)
    train: OptimisationBlock | None = key(
        "Changes to the recipe's `train` for this method.", {"learning_rate": 1.0e-4}, None
    )
    rates: Rates | None = key(
        "Learning rates to compare, in place of `learning_rate`. For each student, a training is run at each of them "
        "with the seed `sweep_seed`, which is not reported; the students of all `seeds` are then trained at the rate "
        "whose training did best on the split that selects epochs, by the rule that selects them (`select_by`). A rate "
        "at which the loss diverges fails; leave it out.",
        [1.0e-4, 2.0e-4, 4.0e-4],
        None,
    )
    taught_by: References | None = key(
        "The models that teach: `teacher`, a name in `models`, or `itself` (the same student, trained without a "
        "teacher). `NAME:2` is a model after its second epoch, `NAME:all` stands for the models after each epoch. The "
        "logits of several are averaged, weighted by `targets.shares`; with `training: progressive` they are followed "
        "one after the other. Default: by method, `teacher` for most.",
        ["teacher", "assistant"],
        None,
    )
    candidates: Name | None = key(
        "The maker of the texts that `data` uses: a name in the recipe's `candidates`. Default: `neighbours`, "
        "and `transfer` for the method of that name.",
        "rewritten",
        None,
    )
    generator: Text | None = key(
        "The [masked language model](#masked-language-models) that writes the rows of `data: generated`: an entry of "
        "`models` with `pretrain`, a directory, or a name on the hub. Default: the entry `generator`. A recipe without "
        "one has the first two layers of the teacher's model before its fine-tuning, trained for 2,000 steps on the "
        "bank, or on the task's texts where there is no bank.",
        "writer",
        None,
    )


class ModelBlock(StartBlock):
    """A further model, such as a teaching assistant, a generation, an ensemble or a masked language model. It needs
    exactly one of `model`, `cut`, `config`, `bilstm`, `network`, `start` and `members`."""

    start: Name | None = key(
        "Start from the [masked language model](#masked-language-models) of another entry of `models`.",
        "adapted",
        None,
    )
    pretrain: PretrainBlock | None = key(
        "Train it as a [masked language model](#masked-language-models) first. Without `method` that is all: it is "
        "not evaluated, and teaches nothing.",
        {"texts": "bank", "epochs": 10},
        None,
    )
    members: References | None = key(
        "Makes an ensemble of two or more models, named as in `taught_by`. It has no method and is not trained.",
        ["teacher", "assistant"],
        None,
    )
    shares: tuple[Annotated[Number, Field(ge=0.0)], ...] | None = key(
        "Weight of each member in the mean of their logits; the weights sum to 1. Default: equal.", [0.7, 0.3], None
    )
    method: AxesBlock | None = key(
        "A method's name, or a block with `use` and axes. Required, except for an ensemble and with `pretrain`.",
        "vanilla-kd",
        None,
    )
    taught_by: References | None = key("The models that teach, as for a method, but never `itself`.", "teacher", None)
    candidates: Name | None = key("The maker of the texts that its `data` uses, as for a method.", "rewritten", None)
    generator: Text | None = key("What writes the rows of `data: generated`, as for a method.", "writer", None)
    train: SeededBlock | None = key(
        "Changes to the recipe's `train`, its seed, and which epochs are kept.", {"epochs": 10, "seed": 1}, None
    )

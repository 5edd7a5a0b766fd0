"""The blocks of a recipe file on trainings without labels: ``pretrain`` of an entry of ``models``, and ``embedding`` of
a method."""

from typing import Annotated, Literal

from pipeline.recipe.schema.scalars import Axis, Block, Flag, Loose, Number, Seed, Text, Whole, key
from stages.specs.pretraining import (
    MOST_HELD_OUT_TEXTS,
    STATE_KINDS,
    MaskedDistillation,
    Masking,
    PretrainSpec,
    SentenceEmbedding,
)

PRETRAIN, MASKING = PretrainSpec.model_fields, Masking.model_fields
DISTILLATION = MaskedDistillation.model_fields


class EmbeddingBlock(Block):
    """How [sentence embeddings](#sentence-embeddings) are followed; the loss is that of the method in `use`."""

    projection: Literal["none", "kept", "dropped"] = key(
        "A linear map of the student's embedding to the teacher's width. `kept`: it is a part of the saved model, "
        "whose embeddings are then as wide as the teacher's. `dropped`: it is of the training alone. `none` needs "
        "models of one width, but for `embedding-similarities`.",
        "kept",
        of=SentenceEmbedding.model_fields["projection"],
    )
    normalized: Flag | None = key(
        "Whether `embedding-squared` compares embeddings of length 1. Default: if the teacher's files scale them so.",
        False,
        None,
    )


class DistillationBlock(Block):
    """The loss of a masked language model that another one teaches (`taught_by`), with the weights of DistilBERT: the
    mean over all tokens of the teacher's soft targets and of the distance between the last states, and the mean over
    the predicted tokens of their own loss."""

    temperature: Number = key(
        "Both models' logits are divided by it for the soft targets, whose loss is multiplied by its square.",
        1.0,
        of=DISTILLATION["temperature"],
    )
    soft: Number = key("Weight of the divergence from the teacher's probabilities.", 1.0, of=DISTILLATION["soft"])
    masked: Number = key("Weight of the loss of the predicted tokens.", 1.0, of=DISTILLATION["masked"])
    cosine: Number = key(
        "Weight of 1 less the cosine between the last states of the two models, which have to be of one width; 0 for "
        "models of different widths.",
        0.0,
        of=DISTILLATION["cosine"],
    )


class PretrainBlock(Block):
    """Training on unlabelled texts, before any fine-tuning: as a masked language model, or with `states` on the stored
    states of another model. The head of a masked language model is kept; any other encoder gets a new one, which is
    tied to its word embeddings. With `states`, there is no head. A plain text is `texts`."""

    short = "texts"
    texts: Literal["bank", "task"] = key(
        "`bank`: the texts of the recipe's bank. `task`: the rows of the task's train split, without their labels and "
        "without rows that are held out; a pair is one sequence. With `task`, there is a model for each task.",
        "task",
    )
    taught_by: Text | None = key(
        "A masked language model that reads the same texts, whose predictions and last states are followed "
        "([DistilBERT's objective](#learning-from-another-masked-language-model)): another entry of `models` with "
        "`pretrain`; `base`, the teacher's model before its fine-tuning; or a directory, or a name on the hub. Its "
        "vocabulary must be the same. Default: none. With `states`: the encoder whose states are followed, of any "
        "vocabulary; it needs no head, and `teacher`, the fine-tuned teacher, may be named as well.",
        "base",
        None,
    )
    states: Annotated[Loose, Axis("structure", STATE_KINDS)] | None = key(
        "Follow the pooled states of `taught_by`, in the place of masked tokens ([general "
        "distillation](#general-distillation)): a kind of the axis `structure` of methods, or a block with its "
        "settings; of `pick`, the default of `pairs` is `spread`. Default: none, a masked language model.",
        {"kind": "pick", "pairs": [[0, 0], [1, 3], [2, 6]], "pooling": "mean"},
        None,
    )
    distillation: DistillationBlock | None = key(
        "The weights of its loss, with `taught_by`. Default: those of DistilBERT.", {"soft": 1.0, "cosine": 0.0}, None
    )
    rows: Whole | None = key(
        "The most texts that are used, drawn by hashes of the texts. Default: all.", 20_000, of=PRETRAIN["rows"]
    )
    holdout: Number = key(
        "Share of the texts that is not trained on, but used to measure loss and accuracy. At most "
        f"{MOST_HELD_OUT_TEXTS:,} texts are held out.",
        0.1,
        of=PRETRAIN["holdout"],
    )
    max_length: Whole | None = key(
        "Longer texts are cut to this number of tokens. Default: `train.max_length`.",
        64,
        None,
        ge=4,
    )
    epochs: Whole = key("Passes over the texts.", 10, of=PRETRAIN["epochs"])
    steps: Whole | None = key(
        "The most optimizer steps, if `epochs` would take more. Default: no limit.", 2000, of=PRETRAIN["steps"]
    )
    batch_size: Whole = key("Texts per optimizer step, over all workers together.", 128, of=PRETRAIN["batch_size"])
    learning_rate: Number = key("The peak learning rate.", 5.0e-4, of=PRETRAIN["learning_rate"])
    warmup: Number = key("Share of the steps in which the learning rate rises from 0.", 0.1, of=PRETRAIN["warmup"])
    weight_decay: Number = key("Weight decay; biases and layer norms have none.", 0.0, of=PRETRAIN["weight_decay"])
    max_grad_norm: Number = key(
        "Gradients of a larger norm are scaled down to this norm.", 5.0, of=PRETRAIN["max_grad_norm"]
    )
    precision: Literal["float32", "bfloat16"] = key(
        "Number type of forward passes; `bfloat16` uses autocast.", "bfloat16", of=PRETRAIN["precision"]
    )
    share: Number = key("Share of the tokens that are predicted, special tokens aside.", 0.3, of=MASKING["share"])
    masked: Number = key(
        "Of the tokens that are predicted, the share that is replaced by the mask token.", 1.0, of=MASKING["masked"]
    )
    random: Number = key(
        "Of these tokens, the share that is replaced by a random token. The rest stays as it is.",
        0.0,
        of=MASKING["random"],
    )
    seed: Seed = key(
        "Seed of a new head's or projection's weights, of masks, of dropout and of the order of texts.",
        1,
        of=PRETRAIN["seed"],
    )

"""What a recipe file may hold: one model for each block, each key with its meaning and an example.

A block that needs no resolving is itself the value that the pipeline works from, and has a plain name (``Data``,
``StoreSettings``, ``Limits``). Classes named ``...Block`` are read only: a ``ReadAs`` key converts them to the spec
that they describe, or ``pipeline/recipe/resolve`` resolves them. Where a key sets a field of a spec, it takes its
default and its limits from that field.

The models check one key at a time; what concerns several keys is in ``checks.py``. The page ``docs/recipe.md`` and the
schema for editors are generated from here (``docs/generate/recipe.py``), so a key is described here and nowhere else.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from pipeline.recipe.schema.candidates import Bank, CandidateMaker
from pipeline.recipe.schema.images import NetworkBlock, ViewsBlock
from pipeline.recipe.schema.learners import FinetuneBlock, MethodBlock, ModelBlock, Student, TrainBlock
from pipeline.recipe.schema.limits import Limits, Tracking
from pipeline.recipe.schema.resources import ResourcesBlock
from pipeline.recipe.schema.scalars import (
    ONE_OR_MANY,
    AnyLayers,
    Block,
    Entries,
    Flag,
    Label,
    Layers,
    Name,
    Number,
    PartialBlock,
    ReadAs,
    Seed,
    Text,
    Whole,
    Word,
    distinct,
    key,
)
from pipeline.recipe.schema.search import SearchBlock
from pipeline.recipe.schema.tasks import TaskBlock
from stages.specs.axes.augmentation import Augmentation
from stages.specs.corpus import MOST_HELD_OUT, CorpusSpec, Generated
from stages.specs.student import Head, Network, Train
from stages.specs.teacher import Compression, TeachSpec

SWEEP_SEED = 1_000_003
"""The default of ``sweep_seed``: a number that is hardly ever given as one of ``seeds``."""

GENERATED, CORPUS, TEACH = Generated.model_fields, CorpusSpec.model_fields, TeachSpec.model_fields


class GeneratedBlock(Block):
    """Seed and sizes of the built-in task `reviews`, which is generated."""

    seed: Seed = key("Seed of the generator.", 1, of=GENERATED["seed"])
    train: Whole = key("Rows of train.", 400, of=GENERATED["train"], ge=1)
    validation: Whole = key("Rows of validation.", 200, of=GENERATED["validation"], ge=1)
    test: Whole = key("Rows of test.", 200, of=GENERATED["test"], ge=1)


class Data(Block):
    """Where the rows of the tasks come from. A task with `files` of its own has its rows from those."""

    source: Text = key(
        "`hub` (the data sets hub), `generated` (the project's own task `reviews`), or a folder that holds "
        "`<task>/<split>.{parquet,csv,tsv,jsonl}`, or that holds one folder which does. All but Parquet may be "
        "compressed (`.csv.gz`, also `.zst`, `.bz2`, `.xz`). A folder may be in a bucket (`s3://…`, `gs://…`). For "
        "`reviews` the default is `generated`.",
        "data",
        "hub",
    )
    train_rows: Whole | None = key(
        "Use a seeded sample of this many rows of train. Default: all rows.", 3000, of=CORPUS["train_rows"]
    )
    eval_rows: Whole | None = key("The same for each of the other splits.", 300, of=CORPUS["eval_rows"])
    sample_seed: Seed = key("Seed of these samples and of the slice that is held out.", 1, of=CORPUS["sample_seed"])
    holdout: Number = key(
        "Share of train that is not trained on, but used to select the best epoch. At most "
        f"{MOST_HELD_OUT:,} rows are held out.",
        0.2,
        of=CORPUS["holdout"],
    )
    holdout_min_rows: Whole = key(
        "The fewest rows that are held out, where `holdout` would be fewer: a score on a few rows selects epochs by "
        f"chance. For this, no more than a quarter of train is held out, and never more than {MOST_HELD_OUT:,} rows. "
        "0: none.",
        0,
        300,
        of=CORPUS["holdout_min_rows"],
    )
    views: Annotated[Augmentation, ReadAs(ViewsBlock, ViewsBlock.spec)] | None = key(
        "The [views](#dataviews) in which the images of train are read. All trainings of the recipe have the same. "
        "Default: the images as they are.",
        {"count": 4},
        None,
    )
    generated: Annotated[Generated, ReadAs(GeneratedBlock)] = key(
        "Sizes of the generated task.", {"train": 400}, Generated
    )


def _no_share(score: float) -> float:
    if 0 < score < 1:
        raise ValueError(f"must be a score x 100, as in reports: {100 * score:g} for {score:g}")
    return score


class TeacherSettings(Block):
    """The model whose outputs are stored. It runs over train once, however many methods learn from it."""

    model: Text = key(
        "A directory that `save_pretrained` wrote, or a name on the hub. Required, unless there is `network`.",
        "roberta-large",
        "",
    )
    network: Annotated[Network, ReadAs(NetworkBlock, NetworkBlock.spec)] | None = key(
        "For a task on [images](#images), in the place of `model`: a [network](#studentnetwork) by name, which "
        "`finetune` trains from random weights.",
        "resnet-110",
        None,
    )
    finetune: Annotated[Train, ReadAs(FinetuneBlock)] | None = key(
        "Fine-tune the model on the task first; `{}` does so with the defaults. Without this key, it must be "
        "fine-tuned already.",
        {"epochs": 4, "learning_rate": 1.0e-5},
        None,
    )
    head: Head | None = key(
        "What the [classification head](#heads) reads of the last layer: the state of the first token (`cls`), or the "
        "mean over all tokens (`mean`), which suits models that were trained with mean pooling, as most sentence "
        "encoders are. Of tasks of the kind `tokens`: `crf`, a linear-chain CRF over the words; without it, each word "
        "is labelled by itself. Without `finetune` it must be the head that the model has. Default: the head that the "
        "model has, `cls` for an encoder without one.",
        "mean",
        None,
    )
    labels: Annotated[tuple[Word, ...], AfterValidator(distinct)] | None = key(
        "For a model that is fine-tuned already and whose outputs are in another order than the task's labels: these "
        "labels in the order of its outputs. With several tasks, give it under `overrides`.",
        ["contradiction", "entailment", "neutral"],
        None,
    )
    least: Annotated[Number, AfterValidator(_no_share)] | None = key(
        "The lowest score with which the teacher may teach: its headline metric on the dev splits (of several, the "
        "lowest), x 100 as in reports. With a lower score, its outputs are not computed and no student learns from "
        "them; all other students are trained. It changes no result. Give a task another value under `overrides`.",
        85,
        None,
        ge=-100,
        le=100,
    )


def _rising(layers: tuple[int, ...]) -> tuple[int, ...]:
    """A store of the same layers is the same store, in whatever order they are given."""
    return tuple(sorted(layers))


class StoreSettings(Block):
    """The teacher's outputs that are stored in addition to its logits. They do not depend on the methods."""

    pooling: Literal["mean", "cls", "both"] = key(
        "How the states of a layer are pooled: the mean over tokens (`mean`), the first token (`cls`), or both.",
        "cls",
        of=TEACH["pooling"],
    )
    layers: Literal["all"] | Annotated[AnyLayers, AfterValidator(_rising)] = key(
        "The layers whose pooled states are stored. 0 is the embeddings, 1 the first layer; [] stores logits only.",
        [0, 3, 6],
        of=TEACH["layers"],
    )
    precision: Literal["float16", "float32", "int8"] = key(
        "Number type of these states on disk. `int8` has a scale and an offset for each dimension of a shard. Logits "
        "are always float32.",
        "int8",
        of=TEACH["precision"],
    )
    compute: Literal["float32", "bfloat16", "float16"] = key(
        "Number type in which the teacher runs. A half-precision type is faster on a GPU.",
        "bfloat16",
        of=TEACH["compute"],
    )
    on_bad_rows: Literal["stop", "quarantine"] = key(
        "What to do with rows for which the teacher's outputs are not finite, or do not fit `precision`. `stop` ends "
        "the stage. `quarantine` leaves such rows out of the store and out of the training of each student that reads "
        "it, and lists them in a file; more than 1 % of them still stop the stage. It changes no key.",
        "quarantine",
        of=TEACH["on_bad_rows"],
    )
    compression: Compression = key(
        "Compression of the files. float16 states become 8 % smaller by `zstd`; `none` takes less time to write and to "
        "read, where the disk is fast. It changes no key.",
        "none",
        of=TEACH["compression"],
    )
    tokens: Literal["all"] | Annotated[Layers, AfterValidator(_rising)] | None = key(
        "Also store the states of these layers (1 is the first, 0 the embeddings) at every token, as a separate "
        "artifact. It is large; `stillhouse plan` shows its size.",
        [6],
        None,
    )
    attention: Literal["all"] | Annotated[Layers, AfterValidator(_rising)] | None = key(
        "Also store the attention scores of these layers (1 is the first), before the softmax, as a separate "
        "artifact. It is larger still.",
        [6],
        None,
    )


class OverrideBlock(Block):
    """Changes for one task. Blocks are merged key by key; lists and single values replace those of the recipe."""

    data: Annotated[dict[str, Any], PartialBlock(Data)] | None = key("Changes to `data`.", {"train_rows": 1000}, None)
    teacher: Annotated[dict[str, Any], PartialBlock(TeacherSettings)] | None = key(
        "Changes to `teacher`.", {"model": "roberta-large-mnli", "finetune": None}, None
    )
    store: Annotated[dict[str, Any], PartialBlock(StoreSettings)] | None = key(
        "Changes to `store`.", {"pooling": "cls"}, None
    )
    student: Annotated[dict[str, Any] | list[Any], PartialBlock(Student, or_list=True)] | None = key(
        "A block is merged into every student; a list replaces all students.", {"start": "mnli"}, None
    )
    method: Annotated[Any, Entries(MethodBlock)] | None = key(
        "One method, or a list, in place of the recipe's. A name may also be the label of one of the recipe's methods, "
        "which is then used unchanged.",
        ["no-kd", "vanilla-kd"],
        None,
    )
    models: dict[Name, Any] | None = key("Changes to `models`.", {"assistant": {"model": "bert-base-uncased"}}, None)
    candidates: dict[Name, Any] | None = key("Changes to `candidates`.", {"neighbours": {"sides": "both"}}, None)
    train: Annotated[dict[str, Any], PartialBlock(TrainBlock)] | None = key("Changes to `train`.", {"epochs": 30}, None)
    seeds: Any | None = key("Replaces the seeds.", [0, 1, 2, 3, 4], None)
    sweep_seed: Any | None = key("Replaces the seed of sweeps.", 7, None)


class RecipeFile(Block):
    """The keys of a recipe."""

    name: Label = key("The recipe's name in reports and logs.", "sst2")
    storage: Text = key(
        "Where artifacts are stored: a directory, or `s3://bucket/prefix`.", "s3://bucket/prefix", "runs"
    )
    task: Annotated[tuple[TaskBlock, ...], Field(min_length=1), ONE_OR_MANY] = key(
        "A built-in task's name, a block, or a list of these.", ["sst2", "mrpc"]
    )
    data: Data = key("Where the rows of the tasks come from.", {"source": "hub", "train_rows": 3000}, Data)
    teacher: TeacherSettings = key("The model that teaches.", {"model": "roberta-large", "finetune": {"epochs": 4}})
    store: StoreSettings = key("Which of the teacher's outputs are stored.", {"pooling": "cls"}, StoreSettings)
    student: Annotated[tuple[Student, ...], Field(min_length=1), ONE_OR_MANY] = key(
        "A block, or a list of blocks.", {"label": "six", "model": "distilroberta-base"}
    )
    method: Annotated[tuple[MethodBlock, ...], Field(min_length=1), ONE_OR_MANY] = key(
        "A method's name, a block, or a list of these.", ["no-kd", "vanilla-kd"]
    )
    models: dict[Name, ModelBlock] = key(
        "Further models by name, which may teach: assistants, generations, ensembles; and masked language models, from "
        "which students may start.",
        {"assistant": {"model": "roberta-base", "method": "vanilla-kd"}},
        dict,
    )
    bank: Bank | None = key(
        "Unlabelled texts, in which neighbours of the rows of train are searched.",
        {"files": ["sentences.parquet"], "text": "text"},
        None,
    )
    candidates: dict[Name, CandidateMaker] = key(
        "Makers of candidates by name, for methods that use them. With a bank, `neighbours` and `transfer` exist by "
        "default. `transfer` has random texts of the bank; for pairs, one text of the row beside a neighbour of its "
        "other text or, for half of the candidates, beside a random text.",
        {"rewritten": {"by": "words", "share": 0.3}},
        dict,
    )
    train: TrainBlock = key(
        "How students are trained. A method may change it.", {"epochs": 20, "max_length": 64}, TrainBlock
    )
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1), AfterValidator(distinct), ONE_OR_MANY] = key(
        "Each student is trained once with each of these seeds. Teachers are trained once.", [0, 1, 2], (0,)
    )
    sweep_seed: Seed = key(
        "The seed of the trainings that choose among `rates`. It must not be one of `seeds`, whose students are "
        "reported. It does not depend on them, so that a seed more repeats no sweep.",
        100,
        SWEEP_SEED,
    )
    equal_steps: Flag = key(
        "Whether to refuse methods whose `train` has other `epochs` or another `batch_size` than the rest, so that "
        "methods are compared at equal optimizer steps.",
        False,
        True,
    )
    overrides: dict[Name, OverrideBlock] = key("Changes for single tasks.", {"mrpc": {"train": {"epochs": 30}}}, dict)
    resources: ResourcesBlock = key(
        "Resources of each stage on the cluster.", {"distil": {"workers": 4}}, ResourcesBlock
    )
    limits: Limits = key("Limits of a run.", {"store_bytes": "50GB"}, Limits)
    search: SearchBlock | None = key(
        "What `stillhouse search` varies.", {"vary": {"train.learning_rate": [1.0e-5, 2.0e-5, 5.0e-5]}}, None
    )
    tracking: Tracking | None = key(
        "MLflow or W&B, to which trainings are logged.", {"kind": "mlflow", "uri": "sqlite:////shared/mlflow.db"}, None
    )

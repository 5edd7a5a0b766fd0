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

from pipeline.recipe.frozen import FrozenMapping
from pipeline.recipe.schema.candidates import Bank, CandidateMaker
from pipeline.recipe.schema.learners import MethodBlock, ModelBlock, SeededBlock, Student, TrainBlock
from pipeline.recipe.schema.scalars import (
    ONE_OR_MANY,
    AnyLayers,
    Block,
    Custom,
    Entries,
    Flag,
    Gpus,
    Label,
    Layers,
    Name,
    Number,
    PartialBlock,
    ReadAs,
    Seed,
    Size,
    Span,
    Text,
    Whole,
    Word,
    distinct,
    key,
)
from stages.specs.corpus import CorpusSpec, Generated
from stages.specs.student import Train
from stages.specs.tasks import Metric
from stages.specs.teacher import TeachSpec

GENERATED, CORPUS, TEACH = Generated.model_fields, CorpusSpec.model_fields, TeachSpec.model_fields


class GeneratedBlock(Block):
    """The built-in task `reviews`: made from a seed, with so many rows in each split."""

    seed: Seed = key("Seed of the generator.", 1, of=GENERATED["seed"])
    train: Whole = key("Rows of train.", 400, of=GENERATED["train"], ge=1)
    validation: Whole = key("Rows of validation.", 200, of=GENERATED["validation"], ge=1)
    test: Whole = key("Rows of test.", 200, of=GENERATED["test"], ge=1)

    def spec(self) -> Generated:
        return self.as_spec(Generated)


class Data(Block):
    """Where the rows of the tasks come from. A task with `files` of its own has its rows from those."""

    source: Text = key(
        "`hub` (the data sets hub), `generated` (the project's own task `reviews`), or a folder that holds "
        "`<task>/<split>.{parquet,csv,tsv,jsonl}`, or that holds one folder which does. For `reviews` the default "
        "is `generated`.",
        "data",
        "hub",
    )
    train_rows: Whole | None = key(
        "Take a seeded sample of so many rows of train. All, where left out.", 3000, of=CORPUS["train_rows"]
    )
    eval_rows: Whole | None = key("The same for every other split.", 300, of=CORPUS["eval_rows"])
    sample_seed: Seed = key("Seed of these samples and of the held-out slice.", 1, of=CORPUS["sample_seed"])
    holdout: Number = key("Share of train that is held out to select the best epoch on.", 0.2, of=CORPUS["holdout"])
    generated: Annotated[Generated, ReadAs(GeneratedBlock, GeneratedBlock.spec)] = key(
        "Sizes of the generated task.", {"train": 400}, Generated
    )


class TaskBlock(Block):
    """A task. With only `name`, or `name` and `files`, it is the built-in one of that name; else it is a task of
    your own, which needs `text` and exactly one of `labels` and `regression: true`."""

    short = "name"
    name: Name = key("Names the task: in reports, in `overrides`, in a data folder.", "mine")
    files: FrozenMapping[Text] | None = key(
        "Split -> file. `train` is needed; `validation` and `test` may be there, and further ones whose names begin "
        "with `validation_` or `test_`. Without validation a tenth of train is cut off for it. Without `files`, "
        "`data.source` must be a folder that holds this task.",
        {"train": "a.parquet", "validation": "b.parquet"},
        None,
    )
    text: Annotated[tuple[Text, ...], Field(min_length=1, max_length=2), ONE_OR_MANY] | None = key(
        "The column of text, or the two columns of a pair.", ["question", "answer"], None
    )
    label: Text = key("The column of labels.", "grade", "label")
    labels: Annotated[tuple[Word, ...], Field(min_length=2), AfterValidator(distinct)] | None = key(
        "The names of the labels, in the order of their numbers (the first is 0). `no` and `yes` need no quotes; "
        "booleans stand for these two words (`false` is `no`, `true` is `yes`), so quote 'true' and 'false' if they "
        "are the labels. Whole numbers stand for their digits.",
        ["no", "yes"],
        None,
    )
    regression: Flag = key("The label is a number, and there are no classes.", True, False)
    metric: Annotated[tuple[Metric, ...], ONE_OR_MANY, Field(min_length=1), AfterValidator(distinct)] | None = key(
        "One metric, or a list whose first is the headline. `accuracy`, or `pearson` for a regression, where left out.",
        ["f1", "accuracy"],
        None,
    )


class TeacherSettings(Block):
    """The model whose outputs are stored. It is run over train once, whatever the methods are."""

    model: Text = key("A directory that `save_pretrained` wrote, or a name on the hub.", "roberta-large")
    finetune: Annotated[Train, ReadAs(SeededBlock, SeededBlock.spec)] | None = key(
        "Fine-tune it on the task first; `{}` does so with the defaults. Left out, the model is fine-tuned already.",
        {"epochs": 4, "learning_rate": 1.0e-5},
        None,
    )
    labels: Annotated[tuple[Word, ...], AfterValidator(distinct)] | None = key(
        "The task's labels in the order of the outputs of a model that is fine-tuned already, where that is another "
        "order than the task's. Batches of several tasks give it under `overrides`.",
        ["contradiction", "entailment", "neutral"],
        None,
    )


def _rising(layers: tuple[int, ...]) -> tuple[int, ...]:
    """A store of the same layers is the same store, in whatever order they are given."""
    return tuple(sorted(layers))


class StoreSettings(Block):
    """What the store holds of the teacher, beside its logits. Methods do not change it."""

    pooling: Literal["mean", "cls", "both"] = key(
        "The state of a layer: the mean over its tokens, that of the first token, or both.",
        "cls",
        of=TEACH["pooling"],
    )
    layers: Literal["all"] | Annotated[AnyLayers, AfterValidator(_rising)] = key(
        "The layers to store; 0 is the embeddings, 1 the first layer; [] keeps the logits alone.",
        [0, 3, 6],
        of=TEACH["layers"],
    )
    precision: Literal["float16", "float32", "int8"] = key(
        "Of these states on disk; int8 keeps a scale and an offset for each dimension and shard. Logits are always "
        "float32.",
        "int8",
        of=TEACH["precision"],
    )
    compute: Literal["float32", "bfloat16", "float16"] = key(
        "The number type in which the teacher runs: a half type is worth it on a GPU.",
        "bfloat16",
        of=TEACH["compute"],
    )
    tokens: Literal["all"] | Annotated[Layers, AfterValidator(_rising)] | None = key(
        "Also store every position of these layers, as an artifact of its own. Large: the plan says how large.",
        [6],
        None,
    )
    attention: Literal["all"] | Annotated[Layers, AfterValidator(_rising)] | None = key(
        "Also store the attention maps of these layers (1 is the first), as an artifact of its own. Larger still.",
        [6],
        None,
    )


class OverrideBlock(Block):
    """What is different for one task. Blocks merge key by key; lists and single values replace."""

    data: Annotated[dict[str, Any], PartialBlock(Data)] | None = key("Changes to `data`.", {"train_rows": 1000}, None)
    teacher: Annotated[dict[str, Any], PartialBlock(TeacherSettings)] | None = key(
        "Changes to `teacher`.", {"model": "roberta-large-mnli", "finetune": None}, None
    )
    store: Annotated[dict[str, Any], PartialBlock(StoreSettings)] | None = key(
        "Changes to `store`.", {"pooling": "cls"}, None
    )
    student: Annotated[dict[str, Any] | list[Any], PartialBlock(Student)] | None = key(
        "A block is merged into every student; a list replaces them all.", {"start": "mnli"}, None
    )
    method: Annotated[Any, Entries(MethodBlock)] | None = key(
        "Replaces the methods for this task: one, or a list. A name may also be the label of one of the recipe's "
        "methods, which is then taken over as it is.",
        ["no-kd", "vanilla-kd"],
        None,
    )
    models: dict[Name, Any] | None = key("Changes to `models`.", {"assistant": {"model": "bert-base-uncased"}}, None)
    candidates: dict[Name, Any] | None = key("Changes to `candidates`.", {"neighbours": {"sides": "both"}}, None)
    train: Annotated[dict[str, Any], PartialBlock(TrainBlock)] | None = key("Changes to `train`.", {"epochs": 30}, None)
    seeds: Any | None = key("Replaces the seeds.", [0, 1, 2, 3, 4], None)


class ResourceBlock(Block):
    """What a stage gets. It never changes a result. What is left out, the runner chooses."""

    workers: Whole | None = key("Processes. A global batch is shared among them.", 4, None, ge=1)
    cpus_per_worker: Whole | None = key("CPUs, and threads, of each.", 2, None, ge=1)
    gpus_per_worker: Gpus | None = key("GPUs of each; a fraction shares one.", 1, None)
    memory_per_worker: Size | None = key("Memory that Ray sets aside for each.", "8GB", None)
    custom: Custom | None = key(
        "What else each takes of its node: names that the cluster's nodes give their own resources, and Ray's "
        "`accelerator_type:…`.",
        {"fast_disk": 1},
        None,
    )


class ResourcesBlock(Block):
    """By stage. Left out, the runner chooses."""

    corpus: ResourceBlock = key("Reading and tokenising rows.", {"workers": 2}, ResourceBlock)
    bank: ResourceBlock = key("Reading and cleaning the bank.", {"workers": 4}, ResourceBlock)
    embed: ResourceBlock = key("Embedding the bank.", {"workers": 8, "gpus_per_worker": 1}, ResourceBlock)
    index: ResourceBlock = key("Building its index.", {"cpus_per_worker": 8}, ResourceBlock)
    candidates: ResourceBlock = key("Finding or making candidates.", {"workers": 4}, ResourceBlock)
    finetune: ResourceBlock = key("Training the teacher.", {"gpus_per_worker": 1}, ResourceBlock)
    teach: ResourceBlock = key(
        "Running teachers over train, and fitting classifiers on their layers.",
        {"workers": 4, "gpus_per_worker": 1},
        ResourceBlock,
    )
    distil: ResourceBlock = key(
        "Training students and further models.", {"workers": 4, "memory_per_worker": "8GB"}, ResourceBlock
    )
    evaluate: ResourceBlock = key("Scoring models and ensembles.", {"cpus_per_worker": 4}, ResourceBlock)


class Limits(Block):
    """What a run may not exceed. It is checked while planning, and again when the figures are known."""

    store_bytes: Size | None = key("Size of the recipe's teacher-output stores together.", "50GB", None)
    pending: Span = key(
        "How long a stage that asks for more than the cluster's present nodes have waits for further ones, before it "
        "fails: seconds, or a text such as `10m`. What the cluster can never have is refused at once.",
        "30m",
        600.0,
    )


class Tracking(Block):
    """Who is told of each training when its model is committed, beside the curves that lie with it: MLflow or Weights
    & Biases, through their own libraries, which are extras of the package. Passwords and keys come from the
    environment, as those libraries read them. Never part of what an artifact is."""

    kind: Literal["mlflow", "wandb"] = key("`mlflow` or `wandb`.", "mlflow")
    uri: Text | None = key(
        "MLflow's tracking server or database, or the W&B server; by default what the library takes from the "
        "environment.",
        "http://mlflow.example.com:5000",
        None,
    )
    project: Text = key("MLflow's experiment, or the W&B project; the recipe's name by default.", "glue", "")


STAGES = tuple(ResourcesBlock.model_fields)
"""The stages that ``resources`` may name."""


class RecipeFile(Block):
    """The recipe itself."""

    name: Label = key("Names the recipe in reports and logs.", "sst2")
    storage: Text = key("Where artifacts are kept: a directory, or `s3://bucket/prefix`.", "s3://bucket/prefix", "runs")
    task: Annotated[tuple[TaskBlock, ...], Field(min_length=1), ONE_OR_MANY] = key(
        "A built-in task's name, a block, or a list of these.", ["sst2", "mrpc"]
    )
    data: Data = key("Where rows come from.", {"source": "hub", "train_rows": 3000}, Data)
    teacher: TeacherSettings = key("The model that teaches.", {"model": "roberta-large", "finetune": {"epochs": 4}})
    store: StoreSettings = key("What is kept of the teacher's outputs.", {"pooling": "cls"}, StoreSettings)
    student: Annotated[tuple[Student, ...], Field(min_length=1), ONE_OR_MANY] = key(
        "A block, or a list of blocks.", {"label": "six", "model": "distilroberta-base"}
    )
    method: Annotated[tuple[MethodBlock, ...], Field(min_length=1), ONE_OR_MANY] = key(
        "A method's name, a block, or a list of these.", ["no-kd", "vanilla-kd"]
    )
    models: dict[Name, ModelBlock] = key(
        "Further models of the graph, by name, for `taught_by`.",
        {"assistant": {"model": "roberta-base", "method": "vanilla-kd"}},
        dict,
    )
    bank: Bank | None = key(
        "Unlabelled texts, among which neighbours of the rows of train are looked for.",
        {"files": ["sentences.parquet"], "text": "text"},
        None,
    )
    candidates: dict[Name, CandidateMaker] = key(
        "What makes candidates, by name, for methods that use some. `neighbours` is there without a word, if there is "
        "a bank.",
        {"rewritten": {"by": "words", "share": 0.3}},
        dict,
    )
    train: TrainBlock = key(
        "How students are trained; a method may differ.", {"epochs": 20, "max_length": 64}, TrainBlock
    )
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1), AfterValidator(distinct), ONE_OR_MANY] = key(
        "Each student is trained once with each of these; teachers are not.", [0, 1, 2], (0,)
    )
    equal_steps: Flag = key(
        "Methods are compared at equal student steps: one whose `train` gives other `epochs` or another `batch_size` "
        "is refused, unless this is `false`.",
        False,
        True,
    )
    overrides: dict[Name, OverrideBlock] = key(
        "What is different for one task.", {"mrpc": {"train": {"epochs": 30}}}, dict
    )
    resources: ResourcesBlock = key("What each stage gets of the cluster.", {"distil": {"workers": 4}}, ResourcesBlock)
    limits: Limits = key("What a run may not exceed.", {"store_bytes": "50GB"}, Limits)
    tracking: Tracking | None = key(
        "MLflow or W&B, to be told of trainings.", {"kind": "mlflow", "uri": "sqlite:////shared/mlflow.db"}, None
    )

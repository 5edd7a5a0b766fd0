"""What a recipe says, with every short form written out and every override merged.

These are the values that the rest of the pipeline works from. Nothing later looks at the file.
"""

from pathlib import Path
from typing import Literal

from pydantic import Field

from pipeline.recipe.frozen import FrozenMapping
from pipeline.recipe.reference import Reference
from stages.specs.bank import BankSpec, GeneratedTexts
from stages.specs.base import Frozen
from stages.specs.candidates import Masked, Sides, Translated, Words
from stages.specs.corpus import Generated
from stages.specs.method import Method
from stages.specs.retrieval import EmbedSpec, IndexSpec
from stages.specs.student import Train
from stages.specs.tasks import Task

STAGES = ("corpus", "bank", "embed", "index", "candidates", "finetune", "teach", "distil", "evaluate")
"""The stages that ``resources`` may speak of."""


class Data(Frozen):
    """Where rows come from: ``hub``, ``generated``, or a folder. A task with ``files`` has them from there instead."""

    source: str = "hub"
    train_rows: int | None = None
    eval_rows: int | None = None
    sample_seed: int = 0
    holdout: float = 0.1
    generated: Generated = Generated()


class TeacherSettings(Frozen):
    """``finetune`` is None for a teacher that is fine-tuned already; only then may ``labels`` be given.

    ``labels[i]`` is the task's label that output i of such a teacher means.
    """

    model: str
    finetune: Train | None = None
    labels: tuple[str, ...] | None = None


class StoreSettings(Frozen):
    """What the teacher-output store holds beside the logits. Layers are in rising order; 0 is the embeddings.

    ``tokens`` and ``attention`` are stores of their own: of every position, and of the attention maps.
    """

    pooling: Literal["mean", "cls", "both"] = "mean"
    layers: Literal["all"] | tuple[int, ...] = "all"
    precision: Literal["float16", "float32", "int8"] = "float16"
    compute: Literal["float32", "bfloat16", "float16"] = "float32"
    tokens: Literal["all"] | tuple[int, ...] | None = None
    attention: Literal["all"] | tuple[int, ...] | None = None


class FreshConfig(Frozen):
    """Random weights from the configuration of ``model`` with ``changes``, which are sorted by name."""

    model: str
    changes: tuple[tuple[str, int | float | str | bool], ...] = ()


class Student(Frozen):
    """Exactly one of ``model``, ``from_teacher`` (0-based layers) and ``config`` is given.

    ``start`` names another task of the recipe: training starts from that task's student of the same
    label, method and seed.
    """

    label: str
    model: str | None = None
    from_teacher: tuple[int, ...] | None = None
    config: FreshConfig | None = None
    start: str | None = None


class HubSplit(Frozen):
    """Texts of a data set on the hub, by the name that a run pins."""

    repository: str
    config: str | None = None
    split: str = "train"


class Bank(Frozen):
    """Unlabelled texts: exactly one of ``files``, ``hub`` and ``generated`` is given. ``encoder`` is None for TF-IDF.
    The source of ``cleaning`` is not theirs: planning puts it in."""

    files: tuple[str, ...] = ()
    hub: HubSplit | None = None
    generated: GeneratedTexts | None = None
    cleaning: BankSpec = BankSpec()
    encoder: str | None = None
    embedding: EmbedSpec = EmbedSpec()
    index: IndexSpec = IndexSpec()


class CandidateMaker(Frozen):
    """What makes candidates. ``how`` is that of rewritten texts, ``given`` their models and files, by the names of the
    stage's inputs. ``sides`` is None where the task decides; ``k`` and ``found`` where the methods do."""

    by: Literal["neighbours", "transfer", "words", "masked", "translated"] = "neighbours"
    k: int | None = None
    found: int | None = None
    sides: Sides | None = None
    min_distance: float = 0.0
    max_distance: float = 1.0
    rerank: bool = False
    confidence: tuple[float, float] | None = None
    balance: float | None = None
    how: Words | Masked | Translated | None = None
    given: FrozenMapping[str] = FrozenMapping()
    seed: int = 0

    @property
    def reranked(self) -> bool:
        """Whether the teacher decides on them, too."""
        return self.rerank or self.confidence is not None or self.balance is not None


class MethodUse(Frozen):
    """A method as this task uses it. ``taught_by`` is () where it needs no teacher, ``candidates`` names their maker
    where it uses some.

    ``train.seed`` is 0: the seeds are the task's.
    """

    label: str
    method: Method
    taught_by: tuple[Reference, ...] = ()
    candidates: str | None = None
    train: Train = Train()


class ModelNode(Frozen):
    """A further model of the graph that is trained. ``taught_by`` is () where its method needs no teacher."""

    name: str
    student: Student
    method: Method
    taught_by: tuple[Reference, ...] = ()
    candidates: str | None = None
    train: Train = Train()


class Ensemble(Frozen):
    """A further model that is none of its own: the mean of its members' logits, by ``shares`` where given (one for
    each model that the members come to)."""

    name: str
    members: tuple[Reference, ...]
    shares: tuple[float, ...] | None = None


class TaskRecipe(Frozen):
    """All that one task of the recipe takes. ``files`` maps split -> path; None where ``data`` says the source."""

    task: Task
    files: FrozenMapping[str] | None = None
    data: Data = Data()
    teacher: TeacherSettings
    store: StoreSettings = StoreSettings()
    students: tuple[Student, ...] = Field(min_length=1)
    methods: tuple[MethodUse, ...] = Field(min_length=1)
    models: FrozenMapping[ModelNode | Ensemble] = FrozenMapping()
    bank: Bank | None = None
    makers: FrozenMapping[CandidateMaker] = FrozenMapping()
    train: Train = Train()
    max_length: int = 128
    seeds: tuple[int, ...] = (0,)


class ResourceBlock(Frozen):
    """What a stage gets; None leaves it to the runner. ``memory_per_worker`` is in bytes."""

    workers: int | None = None
    cpus_per_worker: int | None = None
    gpus_per_worker: float | None = None
    memory_per_worker: int | None = None
    custom: FrozenMapping[float] | None = None


class Limits(Frozen):
    """What a run may not exceed. ``store_bytes`` bounds the teacher-output stores of the recipe together; ``pending``
    is for how many seconds a stage waits for nodes that the cluster does not have yet."""

    store_bytes: int | None = None
    pending: float = 600.0


class Tracking(Frozen):
    """Who is told of trainings. ``uri`` is None where the environment says it."""

    kind: Literal["mlflow", "wandb"]
    uri: str | None = None
    project: str


class Recipe(Frozen):
    """A batch: tasks in the order of the file. ``resources`` has every stage of ``STAGES``."""

    name: str
    storage: str = "runs"
    tasks: tuple[TaskRecipe, ...] = Field(min_length=1)
    resources: FrozenMapping[ResourceBlock]
    limits: Limits = Limits()
    tracking: Tracking | None = None
    source_path: Path | None = None

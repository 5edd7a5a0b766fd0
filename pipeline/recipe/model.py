"""A recipe as it is resolved: every short form written out, every override merged, every method a point on the axes.

These are the values that the rest of the pipeline works from; nothing later looks at the file. Blocks of the file that
need no resolving are part of it as they are. Three are not, because the file and the value differ in meaning:

- A method's block holds changes to a named method and to the recipe's ``train``; a MethodUse holds what results.
- A block of ``models`` is that of a trained model, of an ensemble or of a masked language model, or of a model that is
  trained after its masked language model; here these are three classes.
- A task's block may be no more than a built-in task's name; a ``stages.specs.tasks.Task`` is complete.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from pipeline.recipe.frozen import FrozenMapping
from pipeline.recipe.reference import Reference
from pipeline.recipe.schema.candidates import Bank, CandidateMaker
from pipeline.recipe.schema.file import Data, StoreSettings, TeacherSettings
from pipeline.recipe.schema.learners import Student
from pipeline.recipe.schema.limits import Limits, Tracking
from pipeline.recipe.schema.resources import ResourceBlock
from pipeline.recipe.schema.tasks import HubTask
from pipeline.recipe.search_settings import SearchSettings
from stages.specs.base import Frozen
from stages.specs.method import Method
from stages.specs.pretraining import PooledStates, PretrainSpec, SentenceEmbedding
from stages.specs.student import Train
from stages.specs.tasks import Task


class MethodUse(Frozen):
    """A method as a task uses it. ``taught_by`` is () where it needs no teacher. ``candidates`` names the maker of its
    candidates, None where it uses none; ``generator`` what writes its generated rows (an entry of ``masked_models``, or
    an external model), None where it has none. ``train.seed`` is 0: the seeds are the task's. With ``rates``, in rising
    order, students are trained at the best of these learning rates, and ``train.learning_rate`` has its default,
    unused. ``embedding`` is how students of a task of the kind ``embedding`` follow their teacher; then ``method`` has
    its defaults, unused. None for other tasks.

    ``axes`` is the place of the axes within the block.
    """

    axes: ClassVar[tuple[str, ...]] = ()

    label: str
    method: Method
    taught_by: tuple[Reference, ...]
    candidates: str | None
    train: Train
    generator: str | None = None
    rates: tuple[float, ...] = ()
    embedding: SentenceEmbedding | None = None


class ModelNode(Frozen):
    """An entry of ``models`` that is trained. ``taught_by`` is () where its method needs no teacher."""

    axes: ClassVar[tuple[str, ...]] = ("method",)

    name: str
    student: Student
    method: Method
    taught_by: tuple[Reference, ...]
    candidates: str | None
    train: Train
    generator: str | None = None


class Ensemble(Frozen):
    """An entry of ``models`` that is not trained: the mean of its members' logits, weighted by ``shares`` where given.
    A member with ``:all`` stands for one model an epoch, and has as many shares."""

    name: str
    members: tuple[Reference, ...]
    shares: tuple[float, ...] | None = None


class MaskedModel(Frozen):
    """The pretrained model of an entry of ``models`` with ``pretrain``: a masked language model, or with ``states`` an
    encoder that follows the states of another model. ``student`` says what it starts from, its label is the name of the
    entry; ``texts`` are those of the bank or of the task's rows of train. ``taught_by`` is the model that teaches it:
    another entry, ``base``, with ``states`` also ``teacher``, or an external model; None where none does. ``alone``:
    the entry has no method, so that the pretrained model is all that it stands for. ``spec.start`` and ``spec.states``
    have their defaults, as the start and the numbers of layers are known only in the graph."""

    name: str
    student: Student
    texts: Literal["bank", "task"]
    taught_by: str | None
    spec: PretrainSpec
    alone: bool
    states: PooledStates | None = None


class TaskRecipe(Frozen):
    """Everything that concerns one task of the recipe. ``files`` maps split -> path, and ``hub`` is a data set on the
    hub; both are None where the rows come from ``data.source``. ``models`` has the further models that teach or are
    evaluated, ``masked_models`` those that are trained on unlabelled texts, which students may start from; a name may
    be in both. ``makers`` has the makers of candidates by name. ``sweep_seed``, none of ``seeds``, is the seed of the
    trainings that choose a learning rate. ``kind`` is ``embedding`` for sentence encoders, which learn from the bank's
    texts and whose cosines are compared with the scores of the task's pairs; None for a task with labels."""

    task: Task
    kind: Literal["embedding"] | None = None
    files: FrozenMapping[str] | None
    hub: HubTask | None
    data: Data
    teacher: TeacherSettings
    store: StoreSettings
    students: tuple[Student, ...] = Field(min_length=1)
    methods: tuple[MethodUse, ...] = Field(min_length=1)
    models: FrozenMapping[ModelNode | Ensemble]
    masked_models: FrozenMapping[MaskedModel]
    bank: Bank | None
    makers: FrozenMapping[CandidateMaker]
    train: Train
    max_length: int
    seeds: tuple[int, ...]
    sweep_seed: int

    def learners(self) -> Iterator[tuple[tuple[str | int, ...], MethodUse | ModelNode]]:
        """The methods and the further models that are trained, each with its place in the merged file."""
        yield from ((("method", index), use) for index, use in enumerate(self.methods))
        yield from ((("models", name), node) for name, node in self.models.items() if isinstance(node, ModelNode))

    def start_model(self, student: Student) -> str | None:
        """The entry with ``pretrain`` from whose model, or from some of whose layers, a student starts; None for one
        that does not start from one."""
        named = student.start if student.cut is None else student.cut.of
        return named if named in self.masked_models else None

    def start_task(self, student: Student) -> str | None:
        """The other task from whose student ``student`` starts; None for one that starts from a model."""
        return None if student.start in self.masked_models else student.start


class Origin(Frozen):
    """Where a recipe was read from: the absolute path of the file, a digest of the keys and values in it (comments and
    layout do not count), and the changes ``a.b=c`` that were made to them."""

    file: Path
    sha256: str
    sets: tuple[str, ...] = ()


class Recipe(Frozen):
    """A batch: tasks in the order of the file. ``resources`` has every stage of ``STAGES``. ``search`` is None for a
    recipe without one. ``origin`` is None for a recipe that was not read from a file."""

    name: str
    storage: str
    tasks: tuple[TaskRecipe, ...] = Field(min_length=1)
    resources: FrozenMapping[ResourceBlock]
    limits: Limits
    tracking: Tracking | None
    search: SearchSettings | None = None
    origin: Origin | None = None

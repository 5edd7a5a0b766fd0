"""Tasks on images: what their keys may be, and which methods need tokens that images do not have.

A PlacedError's place is in the file as merged for the task.
"""

from pipeline.recipe.errors import ABSENT, Place, PlacedError, placed
from pipeline.recipe.model import TaskRecipe
from pipeline.recipe.resolve.methods import method_of
from pipeline.recipe.schema.file import RecipeFile
from pipeline.recipe.schema.learners import AxesBlock
from pipeline.recipe.schema.starts import StartBlock
from pipeline.recipe.schema.tasks import TaskBlock
from stages.specs.axes.data import Original
from stages.specs.axes.structures import LayerStructure
from stages.specs.student import Train
from stages.specs.tasks import Task

OF_TEXT = ("cut", "config", "bilstm", "head", "start")
"""The keys of a student or a model that have no meaning for images."""


def check_kind_of_task(file: RecipeFile, block: TaskBlock, task: Task) -> None:
    """Raise where keys of the file do not fit a task on images, or fit only such a task."""
    blocks: list[tuple[Place, StartBlock]] = [(("student", place), one) for place, one in enumerate(file.student)]
    blocks += [(("models", name), one) for name, one in file.models.items()]
    if task.image is None:
        _check_no_images(file, task, blocks)
        return
    if block.kind is not None:
        raise PlacedError(("task", file.task.index(block), "kind"), block.kind, f"but {task.name} has images")
    if block.hub is not None:
        problem = "but images are read from files; give files, or a folder as data.source"
        raise PlacedError(("task", file.task.index(block), "hub"), block.hub.repository, problem)
    if file.teacher.head is not None:
        raise PlacedError(("teacher", "head"), file.teacher.head, f"but {task.name} has images; leave it out")
    if file.teacher.network is not None and file.teacher.finetune is None:
        problem = "has random weights; add teacher.finetune, which trains it"
        raise PlacedError(("teacher", "network"), ABSENT, problem)
    for part in ("tokens", "attention"):
        if getattr(file.store, part) is not None:
            raise PlacedError(("store", part), ABSENT, f"is of tokens, and {task.name} has images; leave it out")
    for place, one in blocks:
        for name in OF_TEXT:
            if getattr(one, name) is not None:
                problem = f"is of models of texts, and {task.name} has images; give network, or model"
                raise PlacedError((*place, name), ABSENT, problem)
    for name, model in file.models.items():
        if model.pretrain is not None:
            raise PlacedError(("models", name, "pretrain"), ABSENT, f"is of texts, and {task.name} has images")
        if model.method is not None:
            _check_method(("models", name, "method"), name, model.method, task)
    for index, method in enumerate(file.method):
        _check_method(("method", index), method.label or method.use, method, task)


def _check_no_images(file: RecipeFile, task: Task, blocks: list[tuple[Place, StartBlock]]) -> None:
    problem = f"is of tasks on images, and {task.name} has texts; leave it out"
    if file.data.views is not None:
        raise PlacedError(("data", "views"), ABSENT, problem)
    if file.teacher.network is not None:
        raise PlacedError(("teacher", "network"), ABSENT, problem)
    for place, one in blocks:
        if one.network is not None:
            raise PlacedError((*place, "network"), ABSENT, problem)


def check_images(recipe: TaskRecipe) -> None:
    """Raise for a setting of a training that is of words, in a task on images."""
    if recipe.task.image is None:
        return
    for place, learner in recipe.learners():
        _check_train((*place, "train"), learner.train, recipe)
    if recipe.teacher.finetune is not None:
        _check_train(("teacher", "finetune"), recipe.teacher.finetune, recipe)


def _check_method(place: Place, label: str, block: AxesBlock, task: Task) -> None:
    """Raise for a method that needs tokens."""
    with placed(*place):
        method = method_of(block)
    name, structure = task.name, method.structure
    if not isinstance(method.data, Original):
        problem = f"{label} needs the tokens of texts, and {name} has images; use another method"
        raise PlacedError((*place, "data"), ABSENT, problem)
    if structure.follows == "tokens":
        problem = f"{label} follows the states of tokens, and {name} has images; use one that pools layers"
        raise PlacedError((*place, "structure"), ABSENT, problem)
    if isinstance(structure, LayerStructure) and structure.pooling == "cls":
        problem = f"{label} reads the first token of a layer, and maps of {name} have none; give structure.pooling: "
        raise PlacedError((*place, "structure"), ABSENT, f"{problem}mean")


def _check_train(place: Place, train: Train, recipe: TaskRecipe) -> None:
    for name, value in (("freeze", list(train.freeze)), ("unpadded", train.unpadded)):
        if value:
            own = ("train",) if getattr(train, name) == getattr(recipe.train, name) else place
            raise PlacedError((*own, name), value, f"but {recipe.task.name} has images; leave it out")

"""Tasks of the kind ``embedding``: what their keys may be, and their methods.

They have no labels to learn, so all that is of labels, logits and selected epochs is refused. A PlacedError's place is
in the merged file.
"""

from collections.abc import Mapping

from pipeline.errors import nearest
from pipeline.methods import BY_NAME, EMBEDDING_BY_NAME
from pipeline.recipe.errors import ABSENT, Place, PlacedError, placed
from pipeline.recipe.model import MethodUse
from pipeline.recipe.reference import TEACHER
from pipeline.recipe.schema.file import RecipeFile
from pipeline.recipe.schema.learners import MethodBlock, OptimisationBlock
from stages.specs.method import Method
from stages.specs.pretraining import PretrainSpec
from stages.specs.student import Train
from stages.specs.tasks import Task

OF_TRAININGS = frozenset(PretrainSpec.model_fields) & frozenset(Train.model_fields)
"""The keys of ``train`` that trainings on unlabelled texts have."""

OF_TEACHERS: Mapping[str, str] = {
    "finetune": "but a sentence encoder teaches as it is; leave it out",
    "head": "but a sentence encoder has no head; leave it out",
    "least": "but its embeddings are of no task, whose score could be checked; leave it out",
}
"""The keys of ``teacher`` that have no meaning, and why."""

OF_STUDENTS: Mapping[str, str] = {
    "bilstm": "has no layers, and sentence encoders are transformers; give another student",
    "head": "but a sentence encoder has no head; leave it out",
}
"""The keys of a student that have no meaning, and why."""

OF_METHODS: Mapping[str, str] = {
    "targets": "is of labels and logits, and embeddings have neither; leave it out",
    "training": "is of labels and logits, and embeddings have neither; leave it out",
    "structure": "is of layers, and embeddings are those of the last one; leave it out, or write embedding: {...}",
    "data": "is of rows with labels; students learn from the bank's texts as they are; leave it out",
    "candidates": "is of rows with labels; students learn from the bank's texts as they are; leave it out",
    "generator": "is of rows with labels; students learn from the bank's texts as they are; leave it out",
    "rates": "are compared on held-out labels, and there are none; give train.learning_rate",
}
"""The keys of a method that have no meaning, and why."""


def check_embedding_task(file: RecipeFile, index: int, task: Task) -> None:
    """Raise where keys of the file do not fit the kind of the task at ``index``."""
    _check_pairs(file, index, task)
    if file.bank is None:
        problem = "missing, and needed: students learn from its texts; give bank: {files: [...]}"
        raise PlacedError(("bank",), ABSENT, problem)
    for key, problem in OF_TEACHERS.items():
        _check_absent(("teacher", key), getattr(file.teacher, key), problem)
    for place, student in enumerate(file.student):
        for key, problem in OF_STUDENTS.items():
            _check_absent(("student", place, key), getattr(student, key), problem)
        if student.start is not None and student.start not in file.models:
            problem = "must be an entry of models with pretrain: a sentence encoder starts from no task's student"
            raise PlacedError(("student", place, "start"), student.start, problem)
    for name, model in file.models.items():
        if model.members is not None or model.method is not None:
            problem = "is trained for labels or made of such models; leave it out (null), or give it pretrain alone"
            raise PlacedError(("models", name), ABSENT, problem)
    if file.candidates:
        problem = "are for methods that learn from labels; leave them out (null)"
        raise PlacedError(("candidates",), ", ".join(file.candidates), problem)
    _check_train(("train",), file.train)


def _check_pairs(file: RecipeFile, index: int, task: Task) -> None:
    """Raise unless the rows of the task are pairs with a score."""
    place, block = ("task", index), file.task[index]
    if task.labels is not None:
        problem = f"but {task.name} has labels, and cosines are compared with a score; give pairs with a score"
        raise PlacedError((*place, "kind"), "embedding", problem)
    if not task.pair:
        problem = f"but a row of {task.name} has one text, and cosines are of two; give text: [COLUMN, COLUMN]"
        raise PlacedError((*place, "kind"), "embedding", problem)
    if block.select is not None:
        problem = "but no epoch is selected: the model after the last step is kept; leave it out"
        raise PlacedError((*place, "select"), block.select, problem)


def _check_absent(place: Place, given: object, problem: str) -> None:
    if given is not None:
        value = given if isinstance(given, str | float | int) else ABSENT
        raise PlacedError(place, value, problem if value is not ABSENT else problem.removeprefix("but "))


def _check_train(place: Place, block: OptimisationBlock | None) -> None:
    """Raise for a key of ``train`` that trainings on unlabelled texts do not have."""
    for key, value in ({} if block is None else block.explicit()).items():
        if key not in OF_TRAININGS | {"max_length"}:
            known = ", ".join(name for name in OptimisationBlock.model_fields if name in OF_TRAININGS)
            problem = f"is not of trainings on texts without labels, which have {known}; leave it out (null)"
            raise PlacedError((*place, key), value, problem)


def embedding_method(block: MethodBlock, index: int, file: RecipeFile, task: Task) -> MethodUse:
    """The method that a block describes, for a task of the kind ``embedding``."""
    with placed("method", index):
        if block.use not in EMBEDDING_BY_NAME:
            known = nearest(block.use, EMBEDDING_BY_NAME)
            if block.use in BY_NAME:
                known = (
                    f"learns from labels or logits, and {task.name} is of the kind embedding; use "
                    f"{' or '.join(EMBEDDING_BY_NAME)} (overrides.{task.name}.method, if other tasks have it)"
                )
            else:
                known = f"is no method of sentence embeddings; {known}"
            raise PlacedError(("use",), block.use, known)
        for key, problem in OF_METHODS.items():
            if getattr(block, key) is not None:
                raise PlacedError((key,), ABSENT, problem)
        if block.taught_by is not None and [str(one) for one in block.taught_by] != [TEACHER]:
            names = ", ".join(map(str, block.taught_by))
            raise PlacedError(("taught_by",), names, "but sentence embeddings are those of teacher; leave it out")
        _check_train(("train",), block.train)
        settings = {} if block.embedding is None else block.embedding.explicit()
        return MethodUse(
            label=block.label or block.use,
            method=Method(),
            taught_by=(),
            candidates=None,
            train=_train(file.train, block.train),
            embedding=EMBEDDING_BY_NAME[block.use].embedding.model_copy(update=settings),
        )


def _train(*blocks: OptimisationBlock | None) -> Train:
    """Each block's explicit keys over those of the blocks before it; the rest at their defaults."""
    keys: dict[str, object] = {}
    for block in blocks:
        keys.update(block.explicit() if block is not None else {})
    keys.pop("max_length", None)
    return Train.model_validate(keys)

"""A recipe file, merged for one task -> that task's values: short forms written out, defaults filled in.

A PlacedError's place is in the merged file, with a number for each item of what may be a list.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import Literal

from pipeline.methods import NamedMethod, check_taught_by, default_teacher, find
from pipeline.recipe.errors import ABSENT, PlacedError, unknown
from pipeline.recipe.frozen import FrozenMapping
from pipeline.recipe.model import (
    Ensemble,
    FreshConfig,
    MethodUse,
    ModelNode,
    StoreSettings,
    Student,
    TaskRecipe,
    TeacherSettings,
)
from pipeline.recipe.reference import ITSELF, TEACHER, Reference, reference
from pipeline.recipe.resolve.candidates import bank_of, candidates_of, makers_of
from pipeline.recipe.resolve.data import data_of, task_of
from pipeline.recipe.resolve.methods import point
from pipeline.recipe.schema.file import RecipeFile, StoreBlock, TeacherBlock
from pipeline.recipe.schema.learners import MethodBlock, ModelBlock, OptimisationBlock, StartBlock, StudentBlock
from stages.specs.method import Method
from stages.specs.student import Train
from stages.specs.tasks import Task

STARTS = ("model", "from_teacher", "config")


def task_recipe(file: RecipeFile, index: int) -> TaskRecipe:
    """The values of the task at ``index`` of ``file.task``, in a file whose overrides for it are merged."""
    block = file.task[index]
    with within("task", index):
        task = task_of(block)
    bank = bank_of(file.bank)
    return TaskRecipe(
        task=task,
        files=None if block.files is None else FrozenMapping(block.files),
        data=data_of(file.data, block, task),
        teacher=_teacher(file.teacher, task),
        store=_store(file.store),
        students=tuple(_student(student, place) for place, student in enumerate(file.student)),
        methods=tuple(_method(method, place, file) for place, method in enumerate(file.method)),
        models=FrozenMapping({name: _model(name, model, file) for name, model in file.models.items()}),
        bank=bank,
        makers=makers_of(file.candidates, bank, task),
        train=_train(file.train),
        max_length=file.train.max_length,
        seeds=file.seeds,
    )


@contextmanager
def within(*place: str | int) -> Iterator[None]:
    """PlacedErrors of what is done inside are about a part that lies at ``place``."""
    try:
        yield
    except PlacedError as inner:
        raise inner.below(place) from inner.__cause__


def _teacher(block: TeacherBlock, task: Task) -> TeacherSettings:
    if block.labels is not None:
        _labels_fit(block, block.labels, task)
    finetune = None if block.finetune is None else _train(block.finetune)
    return TeacherSettings(model=block.model, finetune=finetune, labels=block.labels)


def _labels_fit(block: TeacherBlock, labels: tuple[str, ...], task: Task) -> None:
    place = ("teacher", "labels")
    if block.finetune is not None:
        raise PlacedError(place, ABSENT, "is for a model that is fine-tuned already; leave out labels or finetune")
    if task.labels is None:
        raise PlacedError(place, ABSENT, f"{task.name} is a regression and has no labels; leave it out")
    if sorted(labels) != sorted(task.labels):
        right = f"must be the labels of {task.name} in the order of the model's outputs: {', '.join(task.labels)}"
        raise PlacedError(place, list(labels), right)


def _store(block: StoreBlock) -> StoreSettings:
    """Layers in rising order: a store of the same layers is the same store."""
    rising = {name: _rising(getattr(block, name)) for name in ("layers", "tokens", "attention")}
    return StoreSettings.model_validate({**block.model_dump(), **rising})


def _rising(layers: Literal["all"] | Sequence[int] | None) -> Literal["all"] | tuple[int, ...] | None:
    return layers if layers is None or layers == "all" else tuple(sorted(layers))


def _train(*blocks: OptimisationBlock | None) -> Train:
    """Each block over those before it; what none of them gives has the default."""
    given: dict[str, object] = {}
    for block in blocks:
        given.update(block.given() if block is not None else {})
    given.pop("max_length", None)
    return Train.model_validate(given)


def _student(block: StudentBlock, index: int) -> Student:
    with within("student", index):
        return _start(block, block.label or _derived_label(block), block.start)


def _start(block: StartBlock, label: str, start: str | None) -> Student:
    _one_is_given(block, STARTS)
    config = None if block.config is None else _fresh(block.config.model, block.config.changes)
    return Student(label=label, model=block.model, from_teacher=block.from_teacher, config=config, start=start)


def _one_is_given(block: StartBlock, names: Sequence[str]) -> None:
    given = [name for name in names if getattr(block, name) is not None]
    if len(given) != 1:
        found = "none of them is given" if not given else f"{' and '.join(given)} are given"
        raise PlacedError((), ABSENT, f"needs exactly one of {', '.join(names[:-1])} and {names[-1]}; {found}")


def _fresh(model: str, changes: Mapping[str, int | float | str | bool]) -> FreshConfig:
    return FreshConfig(model=model, changes=tuple(sorted(changes.items())))


def _derived_label(block: StartBlock) -> str:
    if block.from_teacher is not None:
        return "-".join(("layers", *map(str, block.from_teacher)))[:80]
    if block.config is not None:
        return f"fresh-{_last_part(block.config.model)}"[:80]
    return _last_part(block.model or "")


def _last_part(model: str) -> str:
    """The last part of a model's name or path, as a label."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", PurePosixPath(model).name).strip("-.")[:80] or "student"


def _method(block: MethodBlock, index: int, file: RecipeFile) -> MethodUse:
    with within("method", index):
        method = point(block)
        taught_by = _taught_by(block.taught_by, method, find(block.use), file.models, ITSELF)
        return MethodUse(
            label=block.label or block.use,
            method=method,
            taught_by=taught_by,
            candidates=candidates_of(block.candidates, method, file.candidates, file.bank is not None),
            train=_train(file.train, block.train),
        )


def _model(name: str, block: ModelBlock, file: RecipeFile) -> ModelNode | Ensemble:
    with within("models", name):
        _one_is_given(block, (*STARTS, "members"))
        if block.members is not None:
            return _ensemble(name, block, block.members, file.models)
        if block.shares is not None:
            raise PlacedError(("shares",), ABSENT, "is of an ensemble's members; leave it out, or name members")
        if block.method is None:
            raise PlacedError(("method",), ABSENT, "missing, and needed")
        with within("method"):
            method = point(block.method)
        return ModelNode(
            name=name,
            student=_start(block, name, None),
            method=method,
            taught_by=_taught_by(block.taught_by, method, find(block.method.use), file.models),
            candidates=candidates_of(block.candidates, method, file.candidates, file.bank is not None),
            train=_train(file.train, block.train),
        )


def _ensemble(name: str, block: ModelBlock, members: Sequence[str], models: Mapping[str, ModelBlock]) -> Ensemble:
    for other in ("method", "taught_by", "candidates", "train"):
        if getattr(block, other) is not None:
            raise PlacedError((other,), ABSENT, "an ensemble learns nothing of its own; leave it out, or members")
    references = _known("members", members, (TEACHER, *models))
    return Ensemble(name=name, members=references, shares=block.shares)


def _taught_by(
    given: Sequence[str] | None, method: Method, named: NamedMethod, models: Mapping[str, ModelBlock], *more: str
) -> tuple[Reference, ...]:
    """Who teaches, as far as the method's name says it; () where nobody has to."""
    default = default_teacher(named, method)
    if given is None and default is not None:
        return (reference(default),)
    said = tuple(given or ())
    references = _known("taught_by", said, (TEACHER, *more, *models)) if method.needs_teacher else ()
    ensembles = [name for name, model in models.items() if model.members is not None]
    wrong = check_taught_by(named, method, said, ensembles)
    # On other axes than its own a method is no longer what its name says, and may have whom it likes.
    if wrong and (not said or not method.needs_teacher or _same_kinds(method, named.method)):
        raise PlacedError(("taught_by",), ", ".join(said) if said else ABSENT, wrong)
    return references


def _known(key: str, given: Sequence[str], names: Sequence[str]) -> tuple[Reference, ...]:
    references = tuple(map(reference, given))
    for index, one in enumerate(references):
        # Whoever says itself where it means nothing is told so later.
        if one.name not in (*names, ITSELF):
            raise unknown((key, index), one.name, "model of this recipe", names)
    return references


def _same_kinds(one: Method, other: Method) -> bool:
    """Whether two methods are the same but for their settings."""
    return all(getattr(one, axis).kind == getattr(other, axis).kind for axis in Method.model_fields)

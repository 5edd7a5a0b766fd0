"""Checks of ``taught_by`` and ``members``: every error in references that reading alone can find.

A PlacedError's place is in the file as merged for the task, with a number for each item of what may be a list.
"""

from collections.abc import Iterator, Sequence

from pipeline.recipe.errors import ABSENT, Place, PlacedError, split_field
from pipeline.recipe.model import Ensemble, MethodUse, ModelNode, TaskRecipe
from pipeline.recipe.reference import ITSELF, TEACHER, Reference
from pipeline.recipe.references import ensemble_of, teachers, training_of, weighed
from stages.specs.axes.targets import TeacherTargets, sum_to_one
from stages.specs.axes.training import Progressive
from stages.specs.base import repeated
from stages.specs.method import Method, check_teachers


def check_references(recipe: TaskRecipe) -> None:
    """Raise a PlacedError for the first error in the references of one task."""
    for place, references in _lists(recipe):
        for index, reference in enumerate(references):
            _check_reference((*place, index), reference, recipe)
    _check_circles(recipe)
    for name, model in recipe.models.items():
        if isinstance(model, Ensemble):
            _check_members(name, model, recipe)
    for place, learner in recipe.learners():
        _check_teachers(place, learner, recipe)


def _lists(recipe: TaskRecipe) -> Iterator[tuple[Place, Sequence[Reference]]]:
    """Every list of references, with its place."""
    for place, learner in recipe.learners():
        yield (*place, "taught_by"), learner.taught_by
    for name, model in recipe.models.items():
        if isinstance(model, Ensemble):
            yield ("models", name, "members"), model.members


def _check_reference(place: Place, reference: Reference, recipe: TaskRecipe) -> None:
    """Raise where ``itself``, or an epoch, cannot be used at this place. That the name is known was checked before."""
    if reference.name == ITSELF:
        if place[0] != "method":
            raise PlacedError(place, ITSELF, "but only a student's method has a first generation; name another model")
        if reference.epoch is not None:
            raise PlacedError(place, str(reference), "but students keep only their best epoch; write itself")
        return
    if reference.epoch is not None:
        _check_epoch(place, reference, recipe)


def _check_epoch(place: Place, reference: Reference, recipe: TaskRecipe) -> None:
    name, train = reference.name, training_of(recipe, reference.name)
    if train is None and name == TEACHER:
        problem = (
            "but the teacher is fine-tuned already, and its epochs are gone; write teacher, or give teacher.finetune"
        )
        raise PlacedError(place, str(reference), problem)
    if train is None:
        raise PlacedError(place, str(reference), f"but {name} is an ensemble and has no epochs; write {name}")
    where = "teacher.finetune" if name == TEACHER else f"models.{name}.train"
    if train.keep != "epochs":
        raise PlacedError(place, str(reference), f"needs {where}.keep: epochs, which keeps the model of each epoch")
    if isinstance(reference.epoch, int) and reference.epoch > train.epochs:
        problem = f"but {where}.epochs is {train.epochs}; name an epoch from 1 to {train.epochs}"
        raise PlacedError(place, str(reference), problem)


def _check_circles(recipe: TaskRecipe) -> None:
    for name, model in recipe.models.items():
        circle = _circle((name,), recipe)
        if circle:
            key = "members" if isinstance(model, Ensemble) else "taught_by"
            problem = f"runs in a circle ({' <- '.join(circle)}); let one of them be taught by {TEACHER}"
            raise PlacedError(("models", name, key), circle[1], problem)


def _circle(chain: tuple[str, ...], recipe: TaskRecipe) -> tuple[str, ...]:
    """A chain of models, each taught by the next, that starts with ``chain`` and ends with its first model again; ()
    where there is none."""
    for name in _sources(chain[-1], recipe):
        if name == chain[0]:
            return (*chain, name)
        found = () if name in chain else _circle((*chain, name), recipe)
        if found:
            return found
    return ()


def _sources(name: str, recipe: TaskRecipe) -> list[str]:
    """The entries of ``models`` that an entry of ``models`` is made of or taught by."""
    model = recipe.models[name]
    references = model.members if isinstance(model, Ensemble) else model.taught_by
    return [reference.name for reference in references if reference.name in recipe.models]


def _check_members(name: str, ensemble: Ensemble, recipe: TaskRecipe) -> None:
    place: Place = ("models", name)
    for index, member in enumerate(ensemble.members):
        if isinstance(recipe.models.get(member.name), Ensemble):
            problem = "is an ensemble itself, and ensembles cannot be nested; name its members in its place"
            raise PlacedError((*place, "members", index), str(member), problem)
    members = teachers(recipe, ensemble.members)
    _check_distinct((*place, "members"), members)
    if len(members) < 2:
        raise PlacedError((*place, "members"), [str(member) for member in members], "needs at least 2 models")
    shares = ensemble.shares
    if shares is not None and (len(shares) != len(members) or not sum_to_one(shares)):
        names = ", ".join(str(member) for member in members)
        problem = f"must be {len(members)} shares that sum to 1, one for each of {names}"
        raise PlacedError((*place, "shares"), list(shares), problem)


def _check_distinct(place: Place, models: Sequence[Reference]) -> None:
    for model in repeated(models):
        raise PlacedError(place, ABSENT, f"{model} is named twice; name each model once")


def _check_teachers(place: Place, learner: MethodUse | ModelNode, recipe: TaskRecipe) -> None:
    method, references, axes = learner.method, learner.taught_by, (*place, *learner.axes)
    if not references:
        return
    for index, reference in enumerate(references):
        if len(references) > 1 and isinstance(recipe.models.get(reference.name), Ensemble):
            problem = "is an ensemble, which cannot be one of several teachers; name its members in its place"
            raise PlacedError((*place, "taught_by", index), str(reference), problem)
    ensemble, models = ensemble_of(recipe, references), teachers(recipe, references)
    _check_distinct((*place, "taught_by"), models)
    if ensemble is not None:
        _check_ensemble(place, axes, method, ensemble)
    try:
        check_teachers(weighed(recipe, method, references), len(models))
    except ValueError as error:
        key, problem = split_field(str(error))
        where = place if key in ((), ("taught_by",)) else axes
        raise PlacedError((*where, *key), ABSENT, problem) from error


def _check_ensemble(place: Place, axes: Place, method: Method, ensemble: Ensemble) -> None:
    if isinstance(method.training, Progressive):
        problem = "is an ensemble, and progressive follows one model at a time; name its members in its place"
        raise PlacedError((*place, "taught_by"), ensemble.name, problem)
    if isinstance(method.targets, TeacherTargets) and method.targets.shares is not None:
        problem = f"but {ensemble.name} is an ensemble, whose shares are its own; give models.{ensemble.name}.shares"
        raise PlacedError((*axes, "targets", "shares"), list(method.targets.shares), problem)

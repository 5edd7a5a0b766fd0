"""What ``taught_by`` and ``members`` may say: all that can be known to be wrong of who teaches before planning.

A PlacedError's place is in the file as merged for the task, with a number for each item of what may be a list.
"""

from collections.abc import Iterator, Sequence

from pipeline.recipe.errors import ABSENT, Place, PlacedError
from pipeline.recipe.model import Ensemble, TaskRecipe
from pipeline.recipe.reference import ITSELF, TEACHER, Reference
from pipeline.recipe.references import ensemble_of, teachers, training_of, weighed
from pipeline.recipe.resolve.methods import split
from stages.specs.base import repeated
from stages.specs.method import Method, Progressive, TeacherTargets, check_teachers, sum_to_one


def check_teaching(recipe: TaskRecipe) -> None:
    """Raise the first PlacedError about who teaches in one task."""
    for place, references in _lists(recipe):
        for index, reference in enumerate(references):
            _is_there((*place, index), reference, recipe)
    _nobody_teaches_itself(recipe)
    for name, model in recipe.models.items():
        if isinstance(model, Ensemble):
            _members_fit(name, model, recipe)
    for place, method, references in _taught(recipe):
        _teachers_fit(place, method, references, recipe)


def _lists(recipe: TaskRecipe) -> Iterator[tuple[Place, Sequence[Reference]]]:
    """Every list of references, and where it stands."""
    for name, model in recipe.models.items():
        if isinstance(model, Ensemble):
            yield ("models", name, "members"), model.members
        else:
            yield ("models", name, "taught_by"), model.taught_by
    for index, use in enumerate(recipe.methods):
        yield ("method", index, "taught_by"), use.taught_by


def _taught(recipe: TaskRecipe) -> Iterator[tuple[Place, Method, Sequence[Reference]]]:
    for name, model in recipe.models.items():
        if not isinstance(model, Ensemble):
            yield ("models", name), model.method, model.taught_by
    for index, use in enumerate(recipe.methods):
        yield ("method", index), use.method, use.taught_by


def _is_there(place: Place, reference: Reference, recipe: TaskRecipe) -> None:
    """Whether the model teaches here, after such an epoch. That there is one of its name is known."""
    if reference.name == ITSELF:
        if place[0] != "method":
            raise PlacedError(place, ITSELF, "but only a student's method has a first generation; name another model")
        if reference.epoch is not None:
            raise PlacedError(place, reference.said, "but students keep their best epoch alone; say itself")
        return
    if reference.epoch is not None:
        _epoch_is_kept(place, reference, recipe)


def _epoch_is_kept(place: Place, reference: Reference, recipe: TaskRecipe) -> None:
    name, train = reference.name, training_of(recipe, reference.name)
    if train is None and name == TEACHER:
        right = "but the teacher is fine-tuned already, and its epochs are gone; say teacher, or give teacher.finetune"
        raise PlacedError(place, reference.said, right)
    if train is None:
        raise PlacedError(place, reference.said, f"but {name} is an ensemble and has no epochs; say {name}")
    where = "teacher.finetune" if name == TEACHER else f"models.{name}.train"
    if train.keep != "epochs":
        raise PlacedError(place, reference.said, f"needs {where}.keep: epochs, which keeps the model of each epoch")
    if isinstance(reference.epoch, int) and reference.epoch > train.epochs:
        right = f"but {where}.epochs is {train.epochs}; name an epoch from 1 to {train.epochs}"
        raise PlacedError(place, reference.said, right)


def _nobody_teaches_itself(recipe: TaskRecipe) -> None:
    for name, model in recipe.models.items():
        circle = _circle((name,), recipe)
        if circle:
            key = "members" if isinstance(model, Ensemble) else "taught_by"
            right = f"runs in a circle ({' <- '.join(circle)}); let one of them be taught by {TEACHER}"
            raise PlacedError(("models", name, key), circle[1], right)


def _circle(chain: tuple[str, ...], recipe: TaskRecipe) -> tuple[str, ...]:
    """``chain``, whose last is taught by whom follows, until its first comes again; () where it never does."""
    for name in _before(chain[-1], recipe):
        if name == chain[0]:
            return (*chain, name)
        found = () if name in chain else _circle((*chain, name), recipe)
        if found:
            return found
    return ()


def _before(name: str, recipe: TaskRecipe) -> list[str]:
    """The further models that a further model is made of or taught by."""
    model = recipe.models[name]
    references = model.members if isinstance(model, Ensemble) else model.taught_by
    return [reference.name for reference in references if reference.name in recipe.models]


def _members_fit(name: str, ensemble: Ensemble, recipe: TaskRecipe) -> None:
    place: Place = ("models", name)
    for index, member in enumerate(ensemble.members):
        if isinstance(recipe.models.get(member.name), Ensemble):
            right = "is an ensemble itself, and shares of shares are not kept; name its members in its place"
            raise PlacedError((*place, "members", index), member.said, right)
    members = teachers(recipe, ensemble.members)
    _each_once((*place, "members"), members)
    if len(members) < 2:
        raise PlacedError((*place, "members"), [member.said for member in members], "needs at least 2 models")
    shares = ensemble.shares
    if shares is not None and (len(shares) != len(members) or not sum_to_one(shares)):
        said = ", ".join(member.said for member in members)
        right = f"must be {len(members)} shares that sum to 1, one for each of {said}"
        raise PlacedError((*place, "shares"), list(shares), right)


def _each_once(place: Place, models: Sequence[Reference]) -> None:
    for model in repeated(models):
        raise PlacedError(place, ABSENT, f"{model.said} is meant twice; name each model once")


def _teachers_fit(place: Place, method: Method, references: Sequence[Reference], recipe: TaskRecipe) -> None:
    if not references:
        return
    for index, reference in enumerate(references):
        if len(references) > 1 and isinstance(recipe.models.get(reference.name), Ensemble):
            right = "is an ensemble, which teaches alone; name its members in its place"
            raise PlacedError((*place, "taught_by", index), reference.said, right)
    ensemble, models = ensemble_of(recipe, references), teachers(recipe, references)
    _each_once((*place, "taught_by"), models)
    if ensemble is not None:
        _ensemble_fits(place, method, ensemble)
    try:
        check_teachers(weighed(recipe, method, references), len(models))
    except ValueError as error:
        key, right = split(str(error))
        raise PlacedError((*place, *key), ABSENT, right) from error


def _ensemble_fits(place: Place, method: Method, ensemble: Ensemble) -> None:
    if isinstance(method.training, Progressive):
        right = "is an ensemble, and progressive follows one model at a time; name its members in its place"
        raise PlacedError((*place, "taught_by"), ensemble.name, right)
    if isinstance(method.targets, TeacherTargets) and method.targets.shares is not None:
        right = f"but {ensemble.name} is an ensemble, whose shares are its own; give models.{ensemble.name}.shares"
        raise PlacedError((*place, "targets", "shares"), list(method.targets.shares), right)

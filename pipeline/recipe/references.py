"""References resolved to single models: ``:all`` as one model an epoch, an ensemble as its members with shares."""

from collections.abc import Iterator, Sequence

from pipeline.recipe.model import Ensemble, TaskRecipe
from pipeline.recipe.reference import ALL, TEACHER, Reference
from stages.specs.axes.targets import TeacherTargets
from stages.specs.method import Method
from stages.specs.student import Train


def training_of(recipe: TaskRecipe, name: str) -> Train | None:
    """The training of a model of the recipe; None for a teacher that is fine-tuned already, and for an ensemble."""
    if name == TEACHER:
        return recipe.teacher.finetune
    model = recipe.models[name]
    return None if isinstance(model, Ensemble) else model.train


def ensemble_of(recipe: TaskRecipe, references: Sequence[Reference]) -> Ensemble | None:
    """The ensemble that ``references`` names, if it names one. An ensemble is never one of several teachers."""
    found = recipe.models.get(references[0].name) if len(references) == 1 else None
    return found if isinstance(found, Ensemble) else None


def teachers(recipe: TaskRecipe, references: Sequence[Reference]) -> tuple[Reference, ...]:
    """The single models that ``references`` stand for, in order: ``:all`` and ensembles are expanded."""
    ensemble = ensemble_of(recipe, references)
    named = references if ensemble is None else ensemble.members
    return tuple(model for reference in named for model in _expanded(recipe, reference))


def _expanded(recipe: TaskRecipe, reference: Reference) -> Iterator[Reference]:
    train = training_of(recipe, reference.name) if reference.epoch == ALL else None
    if train is None:
        yield reference
        return
    for epoch in range(1, train.epochs + 1):
        yield Reference(name=reference.name, epoch=epoch)


def weighed(recipe: TaskRecipe, method: Method, references: Sequence[Reference]) -> Method:
    """The method with the shares of the ensemble that ``references`` names; as it is where they name none."""
    ensemble = ensemble_of(recipe, references)
    if ensemble is None or ensemble.shares is None or not isinstance(method.targets, TeacherTargets):
        return method
    return method.model_copy(update={"targets": method.targets.model_copy(update={"shares": ensemble.shares})})

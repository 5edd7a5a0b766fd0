"""Who teaches, one model at a time: epochs written out, an ensemble as its members with their shares."""

from collections.abc import Iterator, Sequence

from pipeline.recipe.model import Ensemble, TaskRecipe
from pipeline.recipe.reference import ALL, TEACHER, Reference
from stages.specs.method import Method, TeacherTargets
from stages.specs.student import Train


def training_of(recipe: TaskRecipe, name: str) -> Train | None:
    """How a model of the recipe is trained; None where this recipe does not train it."""
    if name == TEACHER:
        return recipe.teacher.finetune
    model = recipe.models[name]
    return None if isinstance(model, Ensemble) else model.train


def ensemble_of(recipe: TaskRecipe, references: Sequence[Reference]) -> Ensemble | None:
    """The ensemble that teaches, if one does. It teaches alone."""
    found = recipe.models.get(references[0].name) if len(references) == 1 else None
    return found if isinstance(found, Ensemble) else None


def teachers(recipe: TaskRecipe, references: Sequence[Reference]) -> tuple[Reference, ...]:
    """The models that are meant, in order, each as it is or after one epoch."""
    ensemble = ensemble_of(recipe, references)
    given = references if ensemble is None else ensemble.members
    return tuple(one for reference in given for one in _written_out(recipe, reference))


def _written_out(recipe: TaskRecipe, reference: Reference) -> Iterator[Reference]:
    train = training_of(recipe, reference.name) if reference.epoch == ALL else None
    if train is None:
        yield reference
        return
    for epoch in range(1, train.epochs + 1):
        yield Reference(name=reference.name, epoch=epoch)


def weighed(recipe: TaskRecipe, method: Method, references: Sequence[Reference]) -> Method:
    """The method with the shares of the ensemble that teaches it."""
    ensemble = ensemble_of(recipe, references)
    if ensemble is None or ensemble.shares is None or not isinstance(method.targets, TeacherTargets):
        return method
    return method.model_copy(update={"targets": method.targets.model_copy(update={"shares": ensemble.shares})})

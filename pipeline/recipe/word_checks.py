"""What tasks whose words have labels cannot have, and what only they can: every such error that reading alone can
find."""

from collections.abc import Iterator

from pipeline.recipe.errors import ABSENT, Place, PlacedError
from pipeline.recipe.model import MethodUse, TaskRecipe
from stages.specs.axes.data import WithGenerator
from stages.specs.student import Head

LOGITS_OF_ROWS = ("rerank", "confidence", "balance")
"""The keys of a maker of candidates that compare logits of rows."""


def check_words(recipe: TaskRecipe) -> None:
    """Raise a PlacedError for the first error of a task in what concerns words."""
    words, name = recipe.task.kind.has_entries, recipe.task.name
    for place, head in _heads(recipe):
        if head == "crf" and not words:
            raise PlacedError(place, head, f"but the words of {name} have no labels; give cls or mean, or leave it out")
        if head in ("cls", "mean") and words:
            raise PlacedError(place, head, f"but {name} has a label for each word; give crf, or leave it out")
    if not words:
        return
    for index, student in enumerate(recipe.students):
        if student.bilstm is not None:
            problem = f"gives no logits of words, which {name} needs; give model, cut or config"
            raise PlacedError(("student", index, "bilstm"), ABSENT, problem)
    for place, learner in recipe.learners():
        method, label = learner.method, learner.label if isinstance(learner, MethodUse) else learner.name
        if isinstance(method.data, WithGenerator):
            problem = f"{label} changes the words of rows, so that the tags of {name} would not be theirs; leave it out"
            raise PlacedError((*place, *learner.axes, "data"), method.data.kind, problem)
        if method.needs_probes:
            problem = f"{label} needs classifiers of whole rows, and {name} has a label for each word; leave it out"
            raise PlacedError((*place, *learner.axes, "structure"), method.structure.kind, problem)
    for maker, settings in recipe.makers.items():
        for key in LOGITS_OF_ROWS:
            if getattr(settings, key):
                problem = f"compares logits of rows, and {name} has logits of words; leave it out"
                raise PlacedError(("candidates", maker, key), ABSENT, problem)


def _heads(recipe: TaskRecipe) -> Iterator[tuple[Place, Head | None]]:
    """Every head that a task's recipe names, with its place."""
    yield ("teacher", "head"), recipe.teacher.head
    for index, student in enumerate(recipe.students):
        yield ("student", index, "head"), student.head
    for place, learner in recipe.learners():
        if not isinstance(learner, MethodUse):
            yield (*place, "head"), learner.student.head

"""What a method with a name is, and who may teach it."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from stages.specs.layers import NoLayers, Outputs
from stages.specs.method import Method

Teachers = Literal["nobody", "any", "one", "assistant", "smaller", "early", "itself", "many"]
"""Who has to teach: nobody; one model or several (``any``); exactly one; one of the recipe's ``models``, never the
teacher itself (``assistant``); one that is meant to be smaller than the student, which has to be named: sizes are not
compared (``smaller``); an epoch of a model (``early``); the student's own kind, trained without a teacher (``itself``);
two or more (``many``)."""


@dataclass(frozen=True, slots=True)
class NamedMethod:
    """A point on the axes that a paper has tried.

    ``formula`` is what is implemented, ``scale`` how it is reduced; ``defaults`` says where the settings of ``method``
    come from, ``differs`` what is not as in the paper or its released code, and why ('-': nothing is known).
    ``example`` is a part of a recipe, ``recipe`` a file in ``recipes/`` that uses the method. ``taught_by`` is who
    teaches where a recipe does not say; None: it must say, or nobody teaches.
    """

    name: str
    title: str
    paper: str
    method: Method
    formula: str
    scale: str
    defaults: str
    differs: str
    example: str
    recipe: str
    teachers: Teachers = "any"
    taught_by: str | None = "teacher"

    @property
    def needs(self) -> str:
        """What it asks of the teacher. It follows from the method, so it cannot be stated wrongly."""
        method, structure = self.method, self.method.structure
        asked = ["logits"] if method.needs_logits else []
        if isinstance(structure, Outputs):
            asked.append(f"pseudo-classifiers on {structure.pooling}-pooled states of layers")
        elif not isinstance(structure, NoLayers):
            asked.append(f"{structure.pooling}-pooled states of layers")
        return " and ".join(asked) or "nothing"

    @property
    def who(self) -> str:
        """Who teaches, in words."""
        words = WHO[self.teachers]
        return words if self.taught_by is None else f"{words}; by default {self.taught_by}"


WHO: Mapping[Teachers, str] = {
    "nobody": "nobody",
    "any": "one model, or several whose logits are averaged",
    "one": "one model",
    "assistant": "one of models, a step between teacher and student",
    "smaller": "a model that is meant to be smaller than the student",
    "early": "an early epoch of a model",
    "itself": "the student's own kind, trained without a teacher",
    "many": "two models or more",
}


def default_teacher(named: NamedMethod, method: Method) -> str | None:
    """Who teaches where a recipe does not say. ``method`` is the named one with what the recipe changes on its axes;
    None: it needs no teacher, or the recipe has to say."""
    if not method.needs_teacher:
        return None
    return "teacher" if named.teachers == "nobody" else named.taught_by


def check_taught_by(
    named: NamedMethod, method: Method, references: Sequence[str], ensembles: Collection[str] = ()
) -> str | None:
    """What is wrong with these teachers for this method, or None. ``method`` is as in ``default_teacher``.

    References are as in a recipe: ``teacher``, ``NAME``, ``NAME:3`` (an epoch), ``NAME:all``, ``itself``; none where
    the recipe names nobody and there is no default. ``ensembles`` are the names in ``models`` that stand for several.
    The text goes behind ``taught_by: VALUE,``. How many a point on the axes can learn from at all is the matter of
    ``stages.specs.method.check_teachers``.
    """
    if not method.needs_teacher:
        return "but this method needs no teacher; leave it out" if references else None
    # One that needs nobody by itself has been given logits or layers to follow: anybody's.
    teachers = "any" if named.teachers == "nobody" else named.teachers
    if not references:
        return f"needs a teacher: {WHO[teachers]}; {_SAY[teachers]}"
    if _fit(teachers, references, ensembles):
        return None
    return f"but {named.name} is taught by {WHO[teachers]}; {_SAY[teachers]}"


def _fit(teachers: Teachers, references: Sequence[str], ensembles: Collection[str]) -> bool:
    models = {reference.partition(":")[0] for reference in references}
    count = sum(2 if reference.endswith(":all") or reference in ensembles else 1 for reference in references)
    match teachers:
        case "one":
            return count == 1
        case "assistant":
            return models.isdisjoint({"teacher", "itself"})
        case "smaller":
            return "itself" not in models
        case "early":
            return count == 1 and references[0] not in ("teacher", "itself")
        case "itself":
            return list(references) == ["itself"]
        case "many":
            return count > 1
        case _:
            return True


_SAY: Mapping[Teachers, str] = {
    "any": "say taught_by: teacher",
    "one": "let one teach",
    "assistant": "say taught_by: NAME, with NAME in models",
    "smaller": "say taught_by: NAME, with NAME in models",
    "early": "say taught_by: teacher:1, with teacher.finetune.keep: epochs",
    "itself": "say taught_by: itself, or use born-again",
    "many": "say taught_by: teacher:all, with teacher.finetune.keep: epochs, or a list of names",
}
"""What to write, by who has to teach."""

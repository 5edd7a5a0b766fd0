"""A method with a name, and the teachers that it may have."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from stages.specs.axes.structures import LayerStructure
from stages.specs.layers import EveryToken
from stages.specs.method import Method

Teachers = Literal["none", "any", "one", "assistant", "smaller", "early", "itself", "many"]
"""The teachers that a method takes:

- ``none``: no teacher;
- ``any``: one model, or several;
- ``one``: exactly one model;
- ``assistant``: one of the recipe's ``models``, never the teacher itself;
- ``smaller``: a model that the recipe names and that should be smaller than the student; sizes are not compared;
- ``early``: a model after a named epoch;
- ``itself``: the same student, trained without a teacher;
- ``many``: two models or more.
"""


@dataclass(frozen=True, slots=True)
class NamedMethod:
    """A method of a paper: its values on the axes, with their sources.

    ``formula`` is the loss as implemented, ``scale`` its reduction over classes, layers and rows. ``defaults`` states
    the source of the settings of ``method``; ``differs`` what deviates from the paper or its released code, and why
    ('-': no deviation is known). ``example`` is a part of a recipe, ``recipe`` a file in ``recipes/`` that uses the
    method. ``taught_by`` is the default of that key; None where a recipe must give it, or where no teacher is needed.
    ``candidates`` is the maker of additional texts, if it uses any, where a recipe names none.
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
    candidates: str = "neighbours"

    @property
    def needs(self) -> str:
        """The teacher's outputs that training reads, in words; "nothing" for none. Derived from the axes."""
        method, structure = self.method, self.method.structure
        outputs = ["logits"] if method.needs_logits else []
        if isinstance(structure, LayerStructure):
            classifiers = "pseudo-classifiers on " if method.needs_probes else ""
            outputs.append(f"{classifiers}{structure.stored_pooling}-pooled states of layers")
        elif isinstance(structure, EveryToken):
            outputs.append(f"states {'and attention scores ' if structure.scores else ''}of layers at every token")
        outputs += ["the teacher's model, on generated rows"] if method.needs_live_teacher else []
        return " and ".join(outputs) or "nothing"

    @property
    def teacher_summary(self) -> str:
        """The teachers that the method takes, in words, with the default."""
        words = TEACHERS_IN_WORDS[self.teachers]
        return words if self.taught_by is None else f"{words}; by default {self.taught_by}"


TEACHERS_IN_WORDS: Mapping[Teachers, str] = {
    "none": "none",
    "any": "one model, or several whose logits are averaged",
    "one": "one model",
    "assistant": "a model in models, between teacher and student",
    "smaller": "a model that is meant to be smaller than the student",
    "early": "an early epoch of a model",
    "itself": "the same student, trained without a teacher",
    "many": "two models or more",
}


def default_teacher(named: NamedMethod, method: Method) -> str | None:
    """The default of ``taught_by``; None where no teacher is needed, or where the recipe has to give it. ``method`` is
    the named one with the changes of the recipe on its axes."""
    if not method.needs_teacher:
        return None
    return "teacher" if named.teachers == "none" else named.taught_by


def check_taught_by(
    named: NamedMethod, method: Method, references: Sequence[str], ensembles: Collection[str] = ()
) -> str | None:
    """What is wrong with these teachers for this method, to follow ``taught_by: VALUE,`` in a message; None if nothing
    is. ``method`` is as in ``default_teacher``.

    References are as in a recipe: ``teacher``, ``NAME``, ``NAME:3`` (an epoch), ``NAME:all``, ``itself``; empty where
    the recipe gives none and there is no default. ``ensembles`` are the names in ``models`` that stand for several
    models. How many teachers a method can use at all is checked by ``stages.specs.method.check_teachers``.
    """
    if not method.needs_teacher:
        return "but this method needs no teacher; leave it out" if references else None
    # The recipe made a method without a teacher follow logits or layers: those of any model.
    teachers = "any" if named.teachers == "none" else named.teachers
    if not references:
        return f"needs a teacher: {TEACHERS_IN_WORDS[teachers]}; {_REMEDIES[teachers]}"
    if _fit(teachers, references, ensembles):
        return None
    return f"but {named.name} is taught by {TEACHERS_IN_WORDS[teachers]}; {_REMEDIES[teachers]}"


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


_REMEDIES: Mapping[Teachers, str] = {
    "any": "give taught_by: teacher",
    "one": "name one model",
    "assistant": "give taught_by: NAME, with NAME in models",
    "smaller": "give taught_by: NAME, with NAME in models",
    "early": "give taught_by: teacher:1, with teacher.finetune.keep: epochs",
    "itself": "give taught_by: itself, or use born-again",
    "many": "give taught_by: teacher:all, with teacher.finetune.keep: epochs, or a list of names",
}
"""What to write in a recipe, by the teachers that a method takes."""

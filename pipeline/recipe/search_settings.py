"""What a recipe's search varies and how: the values that ``stillhouse search`` works from."""

from typing import Any, Literal

from pipeline.recipe.frozen import FrozenMapping
from stages.specs.base import Frozen

Sampling = Literal["grid", "random", "tpe"]


class ValueList(Frozen):
    """The values that a search compares, in the order of the file: numbers, texts, lists or blocks."""

    values: tuple[Any, ...]


class ValueRange(Frozen):
    """The numbers from ``low`` to ``high``, both included. ``log``: equal factors are equally likely, in place of equal
    differences."""

    low: int | float
    high: int | float
    log: bool = False

    @property
    def whole(self) -> bool:
        """Whether it holds whole numbers only: where both ends are written as whole numbers."""
        return isinstance(self.low, int) and isinstance(self.high, int)


class SearchSettings(Frozen):
    """The search of a recipe, for one method and student of one task, each by its label. ``vary`` maps the path of a
    key within the method's block, such as ``train.learning_rate``, to its values. ``trials`` is how many trials the
    search has in all, ``parallel`` how many ``tpe`` proposes at a time. ``seed``, none of the task's seeds, is that of
    the trials' trainings and of the draws."""

    task: str
    method: str
    student: str
    vary: FrozenMapping[ValueList | ValueRange]
    by: Sampling
    trials: int
    seed: int
    parallel: int

    @property
    def combinations(self) -> int | None:
        """How many combinations of values there are; None where a range has fractions."""
        found = 1
        for values in self.vary.values():
            if isinstance(values, ValueList):
                found *= len(values.values)
            elif values.whole:
                found *= int(values.high) - int(values.low) + 1
            else:
                return None
        return found

    @property
    def wanted(self) -> int:
        """How many trials the search comes to: ``trials``, or all combinations of values where these are fewer."""
        return self.trials if self.combinations is None else min(self.trials, self.combinations)

"""The block ``search`` of a recipe file."""

from typing import Annotated, Any, Literal

from pydantic import Field, WithJsonSchema

from pipeline.recipe.schema.scalars import Block, Label, Name, Seed, Text, Whole, key

Values = Annotated[Any, WithJsonSchema({"anyOf": [{"type": "array", "minItems": 1}, {"type": "object"}]})]
"""A list of values, a block ``{low, high, log}``, or a block of further keys."""


class SearchBlock(Block):
    """What `stillhouse search` varies of one method, and how. Its trials are students of one seed that no report lists;
    the best is chosen on the held-out slice of train. `run` and `report` leave this block aside
    ([search.md](search.md))."""

    vary: Annotated[dict[Text, Values], Field(min_length=1)] = key(
        "Key of the method's block -> a list of values, or a range `{low: ..., high: ..., log: true}`. The keys are "
        "those in `train`, `targets`, `training`, `data` and `structure`, and `taught_by`, `candidates` and "
        "`generator`. A range whose ends are written as whole numbers holds whole numbers only; `1.0` instead of `1` "
        "allows fractions. With `log`, equal factors are equally likely.",
        {"train.learning_rate": {"low": 1.0e-5, "high": 1.0e-3, "log": True}, "training.temperature": [1, 2, 4]},
    )
    by: Literal["grid", "random", "tpe"] = key(
        "`grid`: all combinations of lists. `random`: seeded draws. `tpe`: each proposal follows from the scores "
        "before it, by a tree-structured Parzen estimator (Bergstra et al. 2011) of Optuna, which the extra `search` "
        "installs.",
        "tpe",
        "random",
    )
    trials: Whole = key("The number of trials, finished ones included.", 60, 40, ge=1, le=10_000)
    method: Label | None = key(
        "The label of the method that is varied. Default: the only one of the task.", "vanilla-kd", None
    )
    student: Label | None = key("The label of the student. Default: the only one of the task.", "six", None)
    task: Name | None = key("The task. Default: the only one of the recipe.", "sst2", None)
    seed: Seed | None = key(
        "The seed of all trials, and of the draws. It must not be one of `seeds`, whose students are reported. "
        "Default: `sweep_seed`.",
        100,
        None,
    )
    parallel: Whole = key(
        "With `tpe`, how many trials are proposed at a time, and then trained at once where resources allow. Those of "
        "`grid` and `random` are all known at the start.",
        4,
        1,
        ge=1,
        le=1000,
    )

"""The keys ``optimizer`` and ``schedule`` of a recipe's ``train``."""

from typing import Annotated, Literal

from pydantic import Field

from pipeline.recipe.schema.scalars import Block, Flag, Number, key
from stages.specs.axes.optimizers import AdamW, ConstantRate, LinearRate, Sgd, StepRate

SGD, STEPS = Sgd.model_fields, StepRate.model_fields


class OptimizerBlock(Block):
    """How weights are updated. A plain text is `kind`. All keys but `kind` are of `sgd`."""

    short = "kind"
    kind: Literal["adamw", "sgd"] = key(
        "`adamw`: AdamW, with the `weight_decay` of `train` on matrices alone. `sgd`: stochastic gradient descent with "
        "momentum, as is usual for convolutional networks; its weight decay is its own, on all weights.",
        "sgd",
    )
    momentum: Number = key("Momentum.", 0.95, of=SGD["momentum"])
    weight_decay: Number = key("Weight decay of `sgd`.", 5.0e-4, of=SGD["weight_decay"])
    nesterov: Flag = key("Nesterov's form of momentum.", True, of=SGD["nesterov"])

    @staticmethod
    def spec(block: "OptimizerBlock") -> AdamW | Sgd:
        """The optimizer that the block describes. Raises ValueError for settings of another kind."""
        if block.kind == "sgd":
            return block.as_spec(Sgd, kind="sgd")
        _check_alone(block, "adamw has none of its own (weight_decay is a key of train)")
        return AdamW()


class ScheduleBlock(Block):
    """The course of the learning rate over each phase, after `warmup`. A plain text is `kind`. All keys but `kind` are
    of `steps`."""

    short = "kind"
    kind: Literal["linear", "steps", "constant"] = key(
        "`linear`: it falls linearly to 0. `steps`: it is multiplied by `factor` at each of the shares `at` of a "
        "phase. `constant`: it stays.",
        "steps",
    )
    at: Annotated[
        tuple[Annotated[Number, Field(gt=0.0, lt=1.0)], ...],
        Field(min_length=1, json_schema_extra={"uniqueItems": True}),
    ] = key("Shares of a phase, rising.", [0.5, 0.75], of=STEPS["at"])
    factor: Number = key("What the rate is multiplied by at each of them.", 0.2, of=STEPS["factor"])

    @staticmethod
    def spec(block: "ScheduleBlock") -> LinearRate | StepRate | ConstantRate:
        """The schedule that the block describes. Raises ValueError for settings of another kind."""
        if block.kind == "steps":
            return block.as_spec(StepRate, kind="steps")
        _check_alone(block, f"{block.kind} has none; use kind: steps")
        return LinearRate() if block.kind == "linear" else ConstantRate()


def _check_alone(block: Block, problem: str) -> None:
    """Raise ValueError if a block has settings beside its kind."""
    for name in block.explicit():
        if name != "kind":
            raise ValueError(f"{name} is given, but {problem}; leave it out")

"""The blocks ``limits`` and ``tracking`` of a recipe file: what bounds a run, and where it is reported."""

from typing import Literal

from pipeline.recipe.schema.scalars import Block, Number, Size, Span, Text, key


class Limits(Block):
    """Limits of a run. They are checked while planning, and again as soon as actual figures are known."""

    store_bytes: Size | None = key("Largest total size of the recipe's teacher-output stores.", "50GB", None)
    memory: Size | None = key(
        "The most bytes of weights, gradients and optimizer states that a worker of a training may hold: four times "
        "the weights of the student or masked language model and of a generator, and the weights of teachers that run "
        "in the training. "
        "Activations come on top. Trainings that share a worker (`trainings_per_worker`) count together. Default: no "
        "limit.",
        "8GB",
        None,
    )
    hours: Number | None = key(
        "The most hours that a run may take. Then no further stage starts, running stages are stopped as by Ctrl-C, "
        "and the exit code is 1. Finished work and checkpoints are kept, and the next run goes on from there. Default: "
        "no limit.",
        6,
        None,
        gt=0,
    )
    pending: Span = key(
        "How long a stage whose resources exceed those of the cluster's present nodes waits for more nodes before it "
        "fails: seconds, or a text such as `10m`. Resources that the cluster can never have are refused at once.",
        "30m",
        600.0,
    )


class Tracking(Block):
    """An experiment tracker, MLflow or Weights & Biases. Each training is logged there when its model is committed. The
    libraries of both are extras of the package and read passwords and keys from the environment. Tracking is never part
    of an artifact's key."""

    kind: Literal["mlflow", "wandb"] = key("`mlflow` or `wandb`.", "mlflow")
    uri: Text | None = key(
        "MLflow's tracking server or database, or the W&B server. Default: the one that the library takes from the "
        "environment.",
        "http://mlflow.example.com:5000",
        None,
    )
    project: Text = key("MLflow's experiment, or the W&B project. Default: the recipe's name.", "glue", "")

"""A training as a run of MLflow."""

import logging

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag

from pipeline.integrations.training_report import TrainingReport

LONGEST = 6000
"""MLflow's limit on the length of a parameter, in characters."""
AT_ONCE = 1000
"""MLflow's limit on metrics in one call; on parameters and tags it is ``FEW``."""
FEW = 100


class MlflowTracker:
    """Creates a run of MLflow for each training. ``uri`` None means MLFLOW_TRACKING_URI."""

    def __init__(self, uri: str | None, experiment: str) -> None:
        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)  # the terminal shows the run's summary
        self._uri = uri
        self._experiment = experiment

    def __call__(self, training: TrainingReport) -> None:
        client = MlflowClient(tracking_uri=self._uri)
        found = client.get_experiment_by_name(self._experiment)
        experiment = found.experiment_id if found else client.create_experiment(self._experiment)
        began, ended = int(training.began * 1000), int((training.began + training.seconds) * 1000)
        run = client.create_run(experiment, run_name=training.name, start_time=began).info.run_id
        metrics = [
            Metric(name, value, ended, epoch)
            for epoch, values in enumerate(training.epochs, 1)
            for name, value in values.items()
        ] + [Metric(name, value, ended, 0) for name, value in training.final.items()]
        parameters = [Param(name, str(value)[:LONGEST]) for name, value in training.parameters.items()]
        tags = [RunTag(f"stillhouse.{name}", value) for name, value in training.tags.items()]
        for start in range(0, len(metrics), AT_ONCE):
            client.log_batch(run, metrics=metrics[start : start + AT_ONCE])
        for start in range(0, max(len(parameters), len(tags)), FEW):
            client.log_batch(run, params=parameters[start : start + FEW], tags=tags[start : start + FEW])
        client.set_terminated(run, end_time=ended)

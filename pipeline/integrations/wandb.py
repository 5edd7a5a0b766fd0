"""A training as a run of Weights & Biases."""

from pathlib import Path

import wandb

from pipeline.integrations.training_report import TrainingReport


class WandbTracker:
    """Creates a W&B run for each training. ``uri`` None means the server in the environment, from which WANDB_MODE and
    WANDB_API_KEY are read too. ``folder`` holds the library's files, such as runs that are not uploaded yet."""

    def __init__(self, uri: str | None, project: str, folder: Path) -> None:
        self._uri = uri
        self._project = project
        self._folder = folder

    def __call__(self, training: TrainingReport) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        # Without a terminal, the library must not prompt for a key.
        quiet = {"silent": True, "console": "off", "disable_git": True, "disable_code": True, "login_timeout": 5}
        server = {} if self._uri is None else {"base_url": self._uri}
        run = wandb.init(
            project=self._project,
            name=training.name,
            group=training.tags["task"],
            job_type=training.tags["stage"],
            config={**training.parameters, **{f"stillhouse.{name}": value for name, value in training.tags.items()}},
            dir=str(self._folder),
            reinit="create_new",
            settings=wandb.Settings(**quiet, **server),
        )
        for epoch, values in enumerate(training.epochs, 1):
            run.log(dict(values), step=epoch)
        run.summary.update(dict(training.final))
        run.finish()

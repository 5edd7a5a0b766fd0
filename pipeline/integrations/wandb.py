"""A training as a run of Weights & Biases."""

from pathlib import Path

import wandb

from pipeline.integrations.training_report import TrainingReport


class WandbTracker:
    """``uri`` None is what the environment says, where WANDB_MODE=offline and WANDB_API_KEY are read too. ``folder``
    keeps what is not sent yet."""

    def __init__(self, uri: str | None, project: str, folder: Path) -> None:
        self._uri = uri
        self._project = project
        self._folder = folder

    def __call__(self, told: TrainingReport) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        # Nobody is there to be asked for a key.
        quiet = {"silent": True, "console": "off", "disable_git": True, "disable_code": True, "login_timeout": 5}
        server = {} if self._uri is None else {"base_url": self._uri}
        run = wandb.init(
            project=self._project,
            name=told.name,
            group=told.tags["task"],
            job_type=told.tags["stage"],
            config={**told.parameters, **{f"stillhouse.{name}": value for name, value in told.tags.items()}},
            dir=str(self._folder),
            reinit="create_new",
            settings=wandb.Settings(**quiet, **server),
        )
        for epoch, values in enumerate(told.epochs, 1):
            run.log(dict(values), step=epoch)
        run.summary.update(dict(told.ends))
        run.finish()

"""Try whether students with random weights can be built and run: ``python -m stages.models.trial``.

Planning checks what can be read off a configuration. What only the architecture's own code finds out is tried here, in
a process of its own, because the process that carries out a plan imports no torch. Standard input is a JSON list of
``{"start": ..., "directory": ..., "task": ...}``; standard output is a JSON list that has for each of them what is
wrong, or null.
"""

import json
import sys
from pathlib import Path

import torch
from transformers import PreTrainedModel

from stages.models.config_fields import with_defaults
from stages.models.loading import quieten, random_model
from stages.models.parameters import parameter_bound
from stages.models.shape import config_of
from stages.specs.student import Fresh
from stages.specs.tasks import Task

MOST_WITH_WEIGHTS = 200_000_000
"""The most parameters of a model that is given weights and run; a larger one is built without them."""


def problem(start: Fresh, directory: Path, task: Task) -> str | None:
    """Why no model can be built from the configuration in ``directory`` with the changes of ``start``, or why the model
    cannot read a row, in one line; None if it can."""
    changes = dict(start.changes)
    small = parameter_bound(with_defaults(config_of(directory), changes)) <= MOST_WITH_WEIGHTS
    try:
        with torch.device("cpu" if small else "meta"):
            model = random_model(directory, changes, task)
    except Exception as error:  # whatever the code of an architecture raises
        return _line(error)
    return _problem_of_run(model) if small else None


def _problem_of_run(model: PreTrainedModel) -> str | None:
    """What is wrong with the shapes of the model's weights; None if it reads two rows. Other errors are not of the
    configuration: an architecture may demand tokens that these rows do not have."""
    ids = torch.full((2, 8), min(5, int(model.config.vocab_size) - 1))
    try:
        with torch.no_grad():
            model.eval()(input_ids=ids, attention_mask=torch.ones_like(ids))
    except RuntimeError as error:
        return _line(error) if "shape" in str(error) or "size" in str(error) else None
    except Exception:
        return None
    return None


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def main() -> None:
    quieten()
    tried = [
        problem(Fresh.model_validate(one["start"]), Path(one["directory"]), Task.model_validate(one["task"]))
        for one in json.load(sys.stdin)
    ]
    json.dump(tried, sys.stdout)


if __name__ == "__main__":
    main()

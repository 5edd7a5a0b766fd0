"""Try whether students with random weights can be built and run: ``python -m stages.models.trial ANSWERS``.

Planning checks what can be read off a configuration. What only the architecture's own code finds out is tried here, in
a process of its own, because the process that carries out a plan imports no torch. Standard input is a JSON list of
``{"start": ..., "directory": ..., "task": ...}``. The file ANSWERS gets a JSON line for each of them, in order, as soon
as it has been tried: ``{"problem": what is wrong with the student, or null}``, or ``{"failure": why it could not be
tried}``. Libraries may print to the standard output.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from stages.corpus.tokenizer import load_tokenizer
from stages.models.by_task import build
from stages.models.config_fields import with_defaults
from stages.models.loading import quieten, random_model
from stages.models.parameters import parameter_bound
from stages.models.shape import config_of
from stages.specs.student import Fresh
from stages.specs.tasks import Task

MOST_WITH_WEIGHTS = 200_000_000
"""The most parameters of a model that is given weights and run; a larger one is built without them."""

TOKEN = 5
"""The token of which the rows that a model reads on trial consist, if its vocabulary is large enough."""


def problem(start: Fresh, directory: Path, task: Task) -> str | None:
    """Why no model can be built from the configuration in ``directory`` with the changes of ``start``, or why the model
    cannot read a row, in one line; None if it can. Raises any exception if the trial itself fails."""
    changes = dict(start.changes)
    small = parameter_bound(with_defaults(config_of(directory), changes)) <= MOST_WITH_WEIGHTS
    try:
        with torch.device("cpu" if small else "meta"):
            words = task.kind.has_entries
            model = build(start, directory, task) if words else random_model(directory, changes, task, start.head)
    except Exception as error:  # whatever the code of an architecture raises
        return _line(error)
    return (_problem_of_run(model) if small else None) or (_problem_of_pairs(model, directory) if task.pair else None)


def _problem_of_run(model: PreTrainedModel) -> str | None:
    """What is wrong with the shapes of the model's weights; None if it reads two rows. Other errors are not of the
    configuration: an architecture may demand tokens that these rows do not have."""
    size = _text_field(model, "vocab_size")  # CANINE, which reads characters, has none
    ids = torch.full((2, 8), TOKEN if size is None else min(TOKEN, size - 1))
    try:
        with torch.no_grad():
            model.eval()(input_ids=ids, attention_mask=torch.ones_like(ids))
    except RuntimeError as error:
        return _line(error) if "shape" in str(error) or "size" in str(error) else None
    except Exception:
        return None
    return None


def _problem_of_pairs(model: PreTrainedModel, directory: Path) -> str | None:
    """What is wrong with the model's embeddings of the numbers by which its tokenizer, in ``directory``, marks the
    texts of a pair; None if nothing is. A model without such embeddings ignores the marks."""
    size = _text_field(model, "type_vocab_size")
    if not size:
        return None
    marks = load_tokenizer(directory)("a", "b").get("token_type_ids", [0])
    if max(marks) < size:
        return None
    return f"type_vocab_size is {size}, but its tokenizer marks the texts of a pair with {max(marks) + 1} numbers"


def _text_field(model: PreTrainedModel, name: str) -> int | None:
    """A whole number of the configuration, or of its part for texts where it has parts; None if it has no such
    number."""
    value = getattr(model.config.get_text_config(), name, None)
    return value if isinstance(value, int) else None


def answer(student: Any) -> dict[str, str | None]:
    """The line of ANSWERS, as an object, for one student of the list that this program reads."""
    try:
        start, task = Fresh.model_validate(student["start"]), Task.model_validate(student["task"])
        return {"problem": problem(start, Path(student["directory"]), task)}
    except Exception as error:  # an error of the trial says nothing about the student
        return {"failure": _line(error)}


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def main() -> None:
    quieten()
    with Path(sys.argv[1]).open("w", encoding="utf-8", buffering=1) as answers:
        for student in json.load(sys.stdin):
            answers.write(json.dumps(answer(student)) + "\n")


if __name__ == "__main__":
    main()

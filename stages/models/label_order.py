"""Which output of a fine-tuned model means which label of the task, from the model's ``config.json``.

A wrong label order is the most common silent error with MNLI, because BERT and RoBERTa checkpoints differ. An order
that the configuration does not define is refused, never assumed.
"""

from collections.abc import Mapping, Sequence

from stages.specs.tasks import Task


def label_order(config: Mapping[str, object], task: Task, declared: Sequence[str] | None) -> tuple[int, ...] | None:
    """``order[i]`` is the output that means the task's label i; None where outputs and labels agree.

    ``declared`` names the outputs in their order, and takes precedence over the model's ``id2label``. Raises ValueError
    if the model has no head of the task's size, or if the names of its outputs are not the task's labels.
    """
    _check_head(config, task)
    if task.labels is None:
        return None
    names = list(declared) if declared is not None else _own_names(config)
    differ = len(set(map(_plain, task.labels))) == len(task.labels)
    # Heads for words are cut out by the names of their outputs, which have to be those of the task for it.
    spelling = _plain if differ and not task.kind.has_entries else str
    if task.kind.has_entries and sorted(names) != sorted(task.labels):
        raise ValueError(
            f"teacher.model: its outputs are {', '.join(names)}, the tags of {task.name} are {', '.join(task.labels)}; "
            "name them so in its config.json (id2label), or add teacher.finetune"
        )
    if sorted(map(spelling, names)) != sorted(map(spelling, task.labels)):
        raise ValueError(
            f"teacher.labels: the teacher's outputs are {', '.join(names)}, the labels of {task.name} are "
            f"{', '.join(task.labels)}; list the labels in the order of the outputs, for example "
            f"teacher.labels: [{', '.join(task.labels)}]"
        )
    places = [spelling(name) for name in names]
    order = tuple(places.index(spelling(label)) for label in task.labels)
    return None if order == tuple(range(len(order))) else order


def _check_head(config: Mapping[str, object], task: Task) -> None:
    """Raise ValueError unless the model has a classification head with as many outputs as the task."""
    architectures = config.get("architectures")
    known = ", ".join(architectures) if isinstance(architectures, list) else "none named"
    if task.image is not None:
        needed, what = "ForImageClassification", "head that classifies images"
    elif task.kind.has_entries:
        needed, what = "ForTokenClassification", "head for labels on words"
    else:
        needed, what = "ForSequenceClassification", "classification head"
    if needed not in known:
        raise ValueError(f"teacher.model: it has no {what} ({known}); add teacher.finetune")
    outputs = len(_own_names(config))
    if outputs != task.outputs:
        raise ValueError(
            f"teacher.model: it has {outputs} outputs, {task.name} needs {task.outputs}; add teacher.finetune"
        )


def _own_names(config: Mapping[str, object]) -> list[str]:
    """The names of the outputs, in order: ``id2label``, or as transformers names them without it (two by default)."""
    given = config.get("id2label")
    if isinstance(given, Mapping):
        return [str(given[place]) for place in sorted(given, key=int)]
    count = config.get("num_labels", 2)
    assert isinstance(count, int)
    return [f"LABEL_{place}" for place in range(count)]


def _plain(name: str) -> str:
    """``name`` in lower case, letters and digits only. Not used for labels that would become equal ("-1" and "1")."""
    return "".join(character for character in name.casefold() if character.isalnum())

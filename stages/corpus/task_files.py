"""The files of a task in a folder: ``<source>/<task>/<split>.{parquet,csv,tsv,jsonl}``, the last three also compressed.

Only names are looked at here; ``stages/corpus/sources.py`` reads the rows.
"""

from collections.abc import Mapping
from pathlib import Path

from stages.files.kinds import TABLES, split_suffix
from stages.specs.tasks import Task

WORD_FILES = ("parquet", "jsonl", "conll", "bio", "iob", "txt")
"""The kinds of files that may hold sentences whose words have labels: lists, or CoNLL's columns."""


def kinds_of_files(task: Task) -> tuple[str, ...]:
    """The kinds of files that may hold the rows of a task, by the endings of their names."""
    return WORD_FILES if task.kind.has_entries else TABLES


def task_files(source: Path, task: Task) -> Mapping[str, Path]:
    """Split -> file, by the task's names for its splits. Test splits may be missing.

    The task's folder is in ``source`` or in a folder of ``source``. ValueError where a train or dev split is missing,
    and where two folders or two files match.
    """
    folder = task_folder(source, task)
    kinds = kinds_of_files(task)
    found = {split: _split_file(folder, split, kinds) for split in (task.train, *task.dev, *task.test)}
    for split in (task.train, *task.dev):
        if found[split] is None:
            raise ValueError(f"source: {folder} has no {split}.{{{','.join(kinds)}}}; {task.name} needs that split")
    return {split: path for split, path in found.items() if path is not None}


def task_folder(source: Path, task: Task) -> Path:
    """``<source>/<task>``, or the only ``<source>/*/<task>``. ValueError where there is none, or several."""
    if not source.is_dir():
        raise ValueError(f"source: {source} is not a folder; use one that holds {task.name}/{task.train}.parquet")
    if (source / task.name).is_dir():
        return source / task.name
    nested = sorted(child / task.name for child in source.iterdir() if (child / task.name).is_dir())
    if not nested:
        raise ValueError(f"source: neither {source / task.name} nor {source / '*' / task.name} is a folder")
    if len(nested) > 1:
        places = ", ".join(str(place) for place in nested)
        raise ValueError(f"source: {source} holds {task.name} more than once: {places}; name the folder above one")
    return nested[0]


def _split_file(folder: Path, split: str, kinds: tuple[str, ...]) -> Path | None:
    found = [path for path in sorted(folder.iterdir()) if split_suffix(path, kinds) == split and path.is_file()]
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise ValueError(f"source: {folder} holds {split} more than once: {names}; keep one of them")
    return found[0] if found else None

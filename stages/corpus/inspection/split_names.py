"""Which split of a task a data file is, from its name: train, validation or test."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from stages.files.kinds import TABLES, kind_of, split_suffix
from stages.specs.tasks import CUT_DEV, TRAIN

TEST = "test"
SPLIT_WORDS: Mapping[str, str] = {
    "train": TRAIN,
    "training": TRAIN,
    "dev": CUT_DEV,
    "development": CUT_DEV,
    "eval": CUT_DEV,
    "val": CUT_DEV,
    "valid": CUT_DEV,
    "validation": CUT_DEV,
    "test": TEST,
    "testing": TEST,
}
"""Words in a file's name, or in that of its folder -> the split that the file is."""


def splits_of(paths: Sequence[Path]) -> Mapping[str, Path]:
    """Split -> its file, train first. A single file is train, whatever its name.

    Of several files for evaluation of one kind, such as dev_matched and dev_mismatched, each is a split of its own
    (validation_matched). ValueError, of one line, where the names do not say which file is which, and for a file of a
    kind that has no columns.
    """
    for path in paths:
        kind_of(path, TABLES)
    if len(paths) == 1:
        return {TRAIN: paths[0]}
    found: dict[str, list[tuple[str, Path]]] = {TRAIN: [], CUT_DEV: [], TEST: []}
    for path in paths:
        split, rest = _split(path)
        if not split:
            raise ValueError(_unclear(paths, f"{path.name} names none of them, or several"))
        found[split].append((rest, path))
    if len(found[TRAIN]) != 1:
        raise ValueError(_unclear(paths, f"{len(found[TRAIN]) or 'none'} of them would be train"))
    splits: dict[str, Path] = {}
    for split, files in found.items():
        for rest, path in files:
            name = split if len(files) == 1 else f"{split}_{rest}"
            if name in splits or (len(files) > 1 and not rest):
                raise ValueError(_unclear(paths, f"{len(files)} of them would be {split}"))
            splits[name] = path
    return splits


def task_name(train: Path) -> str:
    """A name for the task of this train file: the file's name without the split, else that of its folder; ``task``
    where neither has letters or digits."""
    stem = split_suffix(train, TABLES) or train.name
    for name in (_without_split(stem), _without_split(train.resolve().parent.name), "task"):
        plain = re.sub(r"[^A-Za-z0-9_-]+", "-", name)[:80].strip("-_")
        if plain:
            return plain
    raise AssertionError("task is a name")


def _words(name: str) -> list[str]:
    return [word for word in re.split(r"[^A-Za-z0-9]+", name) if word]


def _split(path: Path) -> tuple[str, str]:
    """(split, the rest of the name), of the file's name or else of its folder's; ("", "") where neither names exactly
    one split."""
    for name in (split_suffix(path, TABLES) or "", path.parent.name):
        words = _words(name.lower())
        splits = {SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS}
        if len(splits) == 1:
            return splits.pop(), "_".join(word for word in words if word not in SPLIT_WORDS)
        if splits:
            break
    return "", ""


def _without_split(name: str) -> str:
    return "-".join(word for word in re.split(r"[^A-Za-z0-9_]+|_", name) if word and word.lower() not in SPLIT_WORDS)


def _unclear(paths: Sequence[Path], reason: str) -> str:
    names = ", ".join(str(path) for path in paths)
    return (
        f"{names}: which of these files is train, validation and test does not follow from their names ({reason}); let "
        "each name contain one of train, dev and test, such as reviews_train.csv and reviews_dev.csv"
    )

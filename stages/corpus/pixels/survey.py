"""Reads the images of a task to the end before any work starts: counts the rows of each split, and finds mistakes."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from stages.corpus.pixels.labels import parsed_labels
from stages.corpus.survey import SplitSurvey, TaskSurvey
from stages.images.rows import read_images
from stages.images.sources.find import images_at
from stages.specs.tasks import Task


def survey_images(task: Task, places: Mapping[str, Path]) -> TaskSurvey:
    """Read all images of a task. ``places``: split -> its file or folder (``images_at``). ValueError, in one line, for
    data that cannot be right: images that are empty, broken or of several sizes, labels that are not the task's, a
    train split of one class, and an evaluation split with the images of train."""
    splits: dict[str, SplitSurvey] = {}
    keys: dict[str, Counter[bytes]] = {}
    first: tuple[str, tuple[int, int, int]] | None = None
    for split, place in places.items():
        source = images_at(place, split, str(task.image), task.label)
        found = read_images(source, task.channels)
        if first is not None and found.shape != first[1]:
            sizes = " and ".join(f"{shape[1]} x {shape[2]}" for shape in (first[1], found.shape))
            raise ValueError(
                f"{source.origin}: images of several sizes: those of {first[0]} and of {split} have {sizes} (height x "
                "width); resize or crop them to one size"
            )
        first = first or (split, found.shape)
        labels = Counter(parsed_labels(found, source.origin, task, split))
        keys[split] = Counter(found.table["row_key"].to_pylist())
        counts = {name: labels[number] for number, name in enumerate(task.labels or ())}
        splits[split] = SplitSurvey(rows=found.table.num_rows, labels=counts, texts=len(keys[split]), empty=0)
        there = [name for name, count in counts.items() if count]
        if split == task.train and len(there) == 1:
            raise ValueError(
                f"{source.origin}: all {found.table.num_rows:,} images have the label {there[0]}; {split} needs images "
                "of at least 2 labels"
            )
    for split in splits:
        if split != task.train and keys[split] == keys[task.train]:
            raise ValueError(
                f"{places[split]}: the {splits[split].rows:,} images of {split} are those of {task.train}; scores on "
                "images that were trained on say nothing: give other images"
            )
    assert first is not None, "a task has a train split"
    return TaskSurvey(splits=splits, warnings=tuple(_warnings(splits, keys, task)), shape=first[1])


def _warnings(splits: Mapping[str, SplitSurvey], keys: Mapping[str, Counter[bytes]], task: Task) -> Iterator[str]:
    """What is probably unintended, with counts."""
    for split, summary in splits.items():
        never = [name for name, count in summary.labels.items() if not count]
        if never and len(never) < len(summary.labels):
            yield f"no image of {split} has the label {' or '.join(never)}"
        shared = sum(count for key, count in keys[split].items() if key in keys[task.train])
        if split != task.train and shared:
            yield f"{shared:,} of {summary.rows:,} images of {split} are in {task.train} as well"

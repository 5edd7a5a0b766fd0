"""The labels of the rows of a source of images."""

from stages.corpus.labels import LabelParser, shown
from stages.images.rows import DESCRIBED, DecodedRows
from stages.specs.tasks import Task


def parsed_labels(found: DecodedRows, origin: str, task: Task, split: str) -> list[int | None]:
    """The number of the label of each row, None where it is not public. ValueError, in one line that counts the bad
    rows and describes the first, for labels that are not the task's; for a row of train without one; and for a dev
    split without any."""
    parse, labels, bad = LabelParser(task), [], list[str]()
    needed = split == task.train
    for number, value in zip(found.table["index"].to_pylist(), found.labels, strict=True):
        try:
            label = parse(value)
        except ValueError as error:
            bad.append(f"row {number + 1}, column {task.label}: {error}")
            continue
        if label is None and needed:
            problem = f"no label ({shown(value)}); a train split needs them all"
            bad.append(f"row {number + 1}, column {task.label}: {problem}")
        labels.append(None if label is None else int(label))
    if bad:
        more = f"; and {len(bad) - DESCRIBED:,} more" if len(bad) > DESCRIBED else ""
        count = f"{len(bad):,} of {len(found.labels):,} rows cannot be used: " if len(bad) > 1 else ""
        raise ValueError(f"{origin}: {count}{'; '.join(bad[:DESCRIBED])}{more}")
    if split in task.dev and not any(label is not None for label in labels):
        raise ValueError(f"{origin}: column {task.label}: no row has a label; a dev split needs labels")
    return labels

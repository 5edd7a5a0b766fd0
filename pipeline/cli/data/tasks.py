"""``stillhouse tasks``: the built-in tasks."""

import sys

from rich.console import Console
from rich.table import Table

from stages.specs.tasks import BUILT_IN


def print_tasks() -> None:
    """Print a table of the built-in tasks: columns, labels, metrics, splits."""
    table = Table(header_style="bold")
    for head in ("task", "text", "labels", "metrics (headline first)", "dev", "test"):
        table.add_column(head)
    for task in BUILT_IN.values():
        labels = ", ".join(task.labels) if task.labels else "a number"
        table.add_row(
            task.name,
            ", ".join(task.text),
            labels,
            task.metric_names,
            ", ".join(task.dev_splits),
            ", ".join(task.test),
        )
    Console(width=None if sys.stdout.isatty() else 200).print(table)

"""What a summary says in words, the same in the terminal, in the log and on the page."""

from pipeline.monitor.eta import TimeLeft
from pipeline.monitor.summary import Counts, Summary
from pipeline.plan.estimate import about

SHARED = "shared"
"""How the nodes are called that belong to no task."""


def clock_text(seconds: float) -> str:
    """12.3s, 4m05s, 2h03m."""
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes = int(seconds) // 60
    if minutes < 60:
        return f"{minutes}m{int(seconds) % 60:02d}s"
    return f"{minutes // 60}h{minutes % 60:02d}m"


def counts_text(counts: Counts) -> str:
    """``12/171 done, 8 running, 1 failed, 3 blocked, 2 with another run``: what is none is left out."""
    return ", ".join([f"{counts.done}/{counts.total} done", *troubles(counts)])


def troubles(counts: Counts) -> list[str]:
    """What stands in another way than done or waiting."""
    amounts = (
        (counts.running, "running"),
        (counts.failed, "failed"),
        (counts.blocked, "blocked"),
        (counts.held, "with another run"),
    )
    return [f"{amount} {name}" for amount, name in amounts if amount]


def hours_text(summary: Summary) -> str:
    """``3.2 GPU h, 12 CPU h``; without GPUs ``12 CPU h``."""
    gpus = f"{amount_text(summary.gpu_hours)} GPU h, " if summary.gpu_hours else ""
    return f"{gpus}{amount_text(summary.cpu_hours)} CPU h"


def amount_text(hours: float) -> str:
    """Two digits or more: 0.04, 3.2, 120."""
    return f"{hours:.2f}" if hours < 1 else f"{hours:.1f}" if hours < 100 else f"{hours:,.0f}"


def left_text(left: TimeLeft) -> str:
    """``~2 h 10 min left``; ``at least ~2 h 10 min left (14 of unknown length)``; ``time left unknown``;
    ``nothing left``."""
    if left.seconds is None:
        return "time left unknown"
    if not left.unknown and not left.seconds:
        return "nothing left"
    if not left.unknown:
        return f"{about(left.seconds)} left"
    return f"at least {about(left.seconds)} left ({left.unknown} of unknown length)"


def failed_text(name: str, message: str, blocks: int) -> str:
    """A failure in one line, and what it costs."""
    if not blocks:
        return f"{name}  {message}"
    return f"{name}  {message}; {blocks} that {'needs it is' if blocks == 1 else 'need it are'} not run"

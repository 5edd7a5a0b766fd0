"""Numbers of a summary as text, the same in the terminal, in plain lines and on the HTML page."""

from pipeline.monitor.eta import TimeLeft
from pipeline.monitor.summary import Counts, Summary
from pipeline.plan.estimate import approximate_time

NO_TASK = "shared"
"""The name under which nodes that belong to no task are shown."""


def duration_text(seconds: float) -> str:
    """A duration: 12.3s, 4m05s, 2h03m."""
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes = int(seconds) // 60
    if minutes < 60:
        return f"{minutes}m{int(seconds) % 60:02d}s"
    return f"{minutes // 60}h{minutes % 60:02d}m"


def counts_text(counts: Counts) -> str:
    """``12/171 done, 8 running, 1 failed, 3 blocked, 2 with another run``; counts of 0 but the first are left out."""
    return ", ".join([f"{counts.done}/{counts.total} done", *other_counts(counts)])


def other_counts(counts: Counts) -> list[str]:
    """The counts of nodes that are neither done nor waiting, such as ``1 failed``; those of 0 are left out."""
    amounts = (
        (counts.running, "running"),
        (counts.paused, "paused"),
        (counts.failed, "failed"),
        (counts.blocked, "blocked"),
        (counts.held, "with another run"),
    )
    return [f"{amount} {name}" for amount, name in amounts if amount]


def hours_text(summary: Summary) -> str:
    """``3.2 GPU h, 12 CPU h``; without GPUs ``12 CPU h``."""
    gpus = f"{hours_number(summary.gpu_hours)} GPU h, " if summary.gpu_hours else ""
    return f"{gpus}{hours_number(summary.cpu_hours)} CPU h"


def hours_number(hours: float) -> str:
    """Hours with two digits or more: 0.04, 3.2, 120."""
    return f"{hours:.2f}" if hours < 1 else f"{hours:.1f}" if hours < 100 else f"{hours:,.0f}"


def rate_text(rate: float) -> str:
    """Units per second, with a digit after the point below 10: 0.4, 8.2, 1,250."""
    return f"{rate:.1f}" if rate < 10 else f"{rate:,.0f}"


def time_left_text(left: TimeLeft) -> str:
    """``~2 h 10 min left``; ``at least ~2 h 10 min left (14 of unknown length)``; ``time left unknown``;
    ``nothing left``."""
    if left.seconds is None:
        return "time left unknown"
    if not left.unknown and not left.seconds:
        return "nothing left"
    if not left.unknown:
        return f"{approximate_time(left.seconds)} left"
    return f"at least {approximate_time(left.seconds)} left ({left.unknown} of unknown length)"


def stopping_text(summary: Summary) -> str:
    """``stopping, finished work is kept; waiting for embed, teach@sst2``: a run that was interrupted."""
    names = [one.name for one in summary.running]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    waiting = f"waiting for {', '.join(names[:3])}{more}" if names else "ending its processes"
    return f"stopping, finished work is kept; {waiting}"


def failed_text(name: str, message: str, blocks: int) -> str:
    """A failure in one line: the node, the message, and how many nodes it blocks."""
    if not blocks:
        return f"{name}  {message}"
    needing = "1 stage that needs it is" if blocks == 1 else f"{blocks} stages that need it are"
    return f"{name}  {message}; {needing} not run"

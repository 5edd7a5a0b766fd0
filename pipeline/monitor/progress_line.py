"""The progress of a run as one line of text."""

from pipeline.monitor.format import counts_text, hours_text, left_text
from pipeline.monitor.summary import Summary


def plain_line(summary: Summary) -> str:
    """The summary in one line, for a log."""
    parts = [counts_text(summary.counts), hours_text(summary), left_text(summary.left)]
    slowest = [one for one in summary.running if one.share is not None][:2]
    far = ", ".join(f"{one.name} {100 * (one.share or 0):.0f}%" for one in slowest)
    return "; ".join([*parts, far] if far else parts)

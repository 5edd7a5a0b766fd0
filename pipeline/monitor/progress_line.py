"""The progress of a run as one line of text, where the output is no terminal."""

from pipeline.monitor.format import counts_text, hours_text, stopping_text, time_left_text
from pipeline.monitor.summary import Summary


def progress_line(summary: Summary) -> str:
    """Counts, cost, time left, and the progress of the two nodes that have run longest."""
    if summary.stopping:
        return stopping_text(summary)
    parts = [counts_text(summary.counts), hours_text(summary), time_left_text(summary.left)]
    longest = [one for one in summary.running if one.share is not None and not one.paused][:2]
    progress = ", ".join(f"{one.name} {100 * (one.share or 0):.0f}%" for one in longest)
    return "; ".join([*parts, progress] if progress else parts)

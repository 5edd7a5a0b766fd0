"""Pages from templates: the environment in which the templates of the report and of a run are rendered."""

from functools import lru_cache
from typing import TYPE_CHECKING

from stages.specs.student import rate_text

if TYPE_CHECKING:
    from jinja2 import Environment

REPORT_TEMPLATE, RUN_TEMPLATE = "report.html.j2", "run.html.j2"


def render(template: str, **parts: object) -> str:
    """The page that a template makes of ``parts``. Texts are escaped; a part that the template needs and does not have
    raises jinja2.UndefinedError."""
    return _environment().get_template(template).render(**parts)


@lru_cache(maxsize=1)
def _environment() -> "Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("pipeline.report.page", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "count": count_text,
        "size": size_text,
        "duration": duration,
        "signed": "{:+.1f}".format,
        "ratio": ratio_text,
        "compact": compact_text,
        "rate": rate_text,
    }
    return environment


def count_text(value: float) -> str:
    """A count with separators of thousands: 1,250."""
    return f"{value:,.0f}"


def compact_text(value: float) -> str:
    """A large count in short: 950, 15.6 M, 1.2 G."""
    for unit, factor in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= factor:
            return f"{value / factor:.1f} {unit}"
    return f"{value:.0f}"


def size_text(value: float) -> str:
    """Bytes in the largest unit that leaves at least 1: 640 B, 12.5 MB, 1.2 GB."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= factor:
            return f"{value / factor:.1f} {unit}"
    return f"{value:.0f} B"


def ratio_text(value: float) -> str:
    """A ratio with two digits: 1.5, 12."""
    return f"{value:.1f}" if value < 10 else f"{value:.0f}"


def duration(seconds: float) -> str:
    """A duration in two units at most: 12.3 s, 4 min 5 s, 2 h 3 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = int(seconds) // 60
    if minutes < 60:
        return f"{minutes} min {int(seconds) % 60} s"
    return f"{minutes // 60} h {minutes % 60} min"

"""How the methods of a report look in its charts: a colour and a dash pattern each, the same in all charts."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.recipe import TEACHER
from pipeline.report.rows import ReportRow

COLOURS = 8
"""The colours of the page's style sheet for series, ``--c0`` to ``--c7``: told apart with colour-blind eyes."""
DASHES = ("", "6 3", "2 2", "8 3 2 3")
"""SVG dash patterns: the methods after the first eight have the same colours again, with the next pattern."""


@dataclass(frozen=True, slots=True)
class Series:
    """A method with a student in the charts: ``number`` counts from 0, ``label`` names it."""

    method: str
    student: str
    number: int
    label: str

    @property
    def id(self) -> str:
        """The name by which the page's script finds all parts of the series."""
        return "teacher" if self.method == TEACHER else f"s{self.number}"

    @property
    def colour(self) -> str:
        """The CSS variable of its colour."""
        return "ink" if self.method == TEACHER else f"c{self.number % COLOURS}"

    @property
    def dash(self) -> str:
        """Its SVG dash pattern; '' for a solid line."""
        return "4 3" if self.method == TEACHER else DASHES[self.number // COLOURS % len(DASHES)]


SeriesTable = dict[tuple[str, str], Series]
"""(method, student) -> its series."""


def series_of(rows: Sequence[ReportRow]) -> SeriesTable:
    """The series of every method and student of a report. The student is part of the label where there are several."""
    models = list(dict.fromkeys((row.method, row.student) for row in rows if row.seed is not None))
    several = len({student for method, student in models if method != TEACHER and ":" not in method}) > 1
    found, number = {}, 0
    for method, student in models:
        label = f"{method}, {student}" if several and method != TEACHER else method
        found[method, student] = Series(method, student, number, label)
        number += method != TEACHER
    return found

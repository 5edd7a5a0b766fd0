"""The named methods as text for a terminal: all of them in short, or one in full. What is a heading stands at the
margin, all else is indented."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence

from pipeline.methods import SECTIONS, NamedMethod
from pipeline.recipe.as_yaml import axes_yaml

MARGIN = 13
"""Columns before what is said of a method: two, and the width of the longest heading."""


def listing(width: int) -> str:
    """All methods in short, section by section, no line wider than ``width`` but for examples."""
    lines: list[str] = []
    for title, section in SECTIONS.items():
        lines += [title.upper(), ""]
        for named in section:
            lines += [*_lines(f"{named.name}: {named.title}", _short(named), width), ""]
    lines.append("stillhouse methods NAME shows one in full; docs/methods.md has them all.")
    return "\n".join(lines)


def whole(named: NamedMethod, width: int) -> str:
    """One method in full."""
    about = {**_short(named), "loss": named.formula.split("\n"), "scale": [named.scale], "sources": [named.defaults]}
    return "\n".join(_lines(f"{named.name}: {named.title}", {**about, "differs": [named.differs]}, width))


def _short(named: NamedMethod) -> dict[str, Sequence[str]]:
    return {
        "paper": [named.paper],
        "needs": [named.needs],
        "taught by": [named.teacher_summary],
        "defaults": list(axes_yaml(named.method)),
        "example": [*named.example.split("\n"), f"(recipes/{named.recipe})"],
    }


def _lines(title: str, about: Mapping[str, Sequence[str]], width: int) -> Iterator[str]:
    yield title
    for what, said in about.items():
        head = f"  {what}".ljust(MARGIN)
        for line in said:
            # YAML stays as it can be copied.
            wrapped = [line] if what == "example" else textwrap.wrap(line, width - MARGIN, break_on_hyphens=False)
            for part in wrapped:
                yield f"{head}{part}"
                head = " " * MARGIN

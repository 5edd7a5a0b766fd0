"""The named methods as text for a terminal: where to begin, then all of them in short; or one in full. Headings are not
indented."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence

from pipeline.methods import EMBEDDING_METHODS, SECTIONS, WHERE_TO_BEGIN, EmbeddingMethod, NamedMethod
from pipeline.recipe.as_yaml import axes_yaml

EMBEDDINGS = "Sentence embeddings"
MARGIN = 13
"""Columns before the text about a method: an indent of two, and the width of the longest label."""


def listing(width: int) -> str:
    """Where to begin, then all methods in short, section by section. Lines are wrapped at ``width``, except those of
    examples."""
    lines = ["WHERE TO BEGIN", "", *_suggestions(width)]
    for title, section in SECTIONS.items():
        lines += [title.upper(), ""]
        for named in section:
            lines += [*_lines(f"{named.name}: {named.title}", _short(named), width), ""]
    lines += [EMBEDDINGS.upper(), ""]
    for one in EMBEDDING_METHODS:
        lines += [*_lines(f"{one.name}: {one.title}", _short_of_embedding(one), width), ""]
    lines.append("stillhouse methods NAME shows one in full; docs/methods.md has them all.")
    return "\n".join(lines)


def full_description(named: NamedMethod | EmbeddingMethod, width: int) -> str:
    """One method in full, wrapped at ``width``."""
    if isinstance(named, EmbeddingMethod):
        loss = {**_short_of_embedding(named), "loss": [named.formula], "scale": [named.scale]}
        return "\n".join(_lines(f"{named.name}: {named.title}", {**loss, "differs": [named.differs]}, width))
    about = {**_short(named), "loss": named.formula.split("\n"), "scale": [named.scale], "sources": [named.defaults]}
    return "\n".join(_lines(f"{named.name}: {named.title}", {**about, "differs": [named.differs]}, width))


def _suggestions(width: int) -> Iterator[str]:
    """For each case, the methods to begin with: their purpose, and YAML to copy."""
    for case, suggestions in WHERE_TO_BEGIN.items():
        yield from textwrap.wrap(f"{case}:", width)
        for suggestion in suggestions:
            head = f"  {suggestion.name} ".ljust(MARGIN + 2)
            for line in textwrap.wrap(suggestion.purpose, width - len(head), break_on_hyphens=False):
                yield f"{head}{line}"
                head = " " * len(head)
            yield from (f"{head}{line}" for line in suggestion.example.split("\n"))
        yield ""


def _short(named: NamedMethod) -> dict[str, Sequence[str]]:
    return {
        "paper": [named.paper],
        "needs": [named.needs],
        "taught by": [named.teacher_summary],
        "defaults": list(axes_yaml(named.method)),
        "example": [*named.example.split("\n"), f"(recipes/{named.recipe})"],
    }


def _short_of_embedding(named: EmbeddingMethod) -> dict[str, Sequence[str]]:
    return {
        "paper": [named.paper],
        "needs": ["sentence embeddings, and a task of the kind embedding"],
        "taught by": ["teacher"],
        "example": [*named.example.split("\n"), f"(recipes/{named.recipe})"],
    }


def _lines(title: str, about: Mapping[str, Sequence[str]], width: int) -> Iterator[str]:
    yield title
    for label, paragraphs in about.items():
        head = f"  {label}".ljust(MARGIN)
        for line in paragraphs:
            # YAML is not wrapped, so that it can be copied.
            wrapped = [line] if label == "example" else textwrap.wrap(line, width - MARGIN, break_on_hyphens=False)
            for part in wrapped:
                yield f"{head}{part}"
                head = " " * MARGIN

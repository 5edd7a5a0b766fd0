"""Figures as SVG elements of a page: colours are CSS variables, fonts those of the page, and marks have a text for the
pointer, the keyboard and screen readers.

A chart draws with the colours of ``PAINT``; ``chart_of`` puts the variables of the style sheet in their place. An
artist to which ``Marks.add`` gives a text becomes a group with class ``mark``, a ``<title>`` and an ``aria-label``.
"""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as Tree

from pipeline.report.page.charts.series import COLOURS, Series

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure

SVG, XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"
POINTS = 72
"""Units of the SVG in an inch: a figure of 360 / 72 inches is 360 CSS pixels wide."""
TEXT = 11.0
"""The size of the text of charts in pixels."""
PAINT = {"ink": "#010101", "soft": "#010102", "line": "#010103", "accent": "#010104", "back": "#010105"} | {
    f"c{number}": f"#0102{number:02d}" for number in range(COLOURS)
}
"""CSS variable -> the colour in its place in a figure."""
_VARIABLES = {colour: f"var(--{name})" for name, colour in PAINT.items()}


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart of the page: ``svg`` is an element whose texts are escaped, ``title`` plain text."""

    title: str
    svg: "Markup"


@dataclass
class Marks:
    """The texts of a figure's artists, by the id that the SVG has of each."""

    prefix: str
    texts: dict[str, tuple[str, str, bool]] = field(default_factory=dict)

    def add(self, artist: "Artist", text: str, series: str = "", focus: bool = True) -> None:
        """Give an artist a text, and the id of the series that it belongs to. ``focus``: it can be reached by the
        keyboard. A text of '' is a part of a series without a text of its own."""
        name = f"{self.prefix}-{len(self.texts)}"
        artist.set_gid(name)
        self.texts[name] = text, series, focus


@contextmanager
def styled() -> Iterator[None]:
    """matplotlib with the style of the page's charts."""
    import matplotlib as mpl

    style: Any = {  # matplotlib has a type for each of its settings
        "svg.fonttype": "none",
        "svg.hashsalt": "stillhouse",
        "font.size": TEXT * POINTS / 72,
        "font.family": "sans-serif",
        "text.color": PAINT["ink"],
        "axes.edgecolor": PAINT["line"],
        "axes.labelcolor": PAINT["soft"],
        "axes.facecolor": "none",
        "axes.grid": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.spines.left": False,
        "axes.axisbelow": True,
        "grid.color": PAINT["line"],
        "grid.linewidth": 0.8,
        "xtick.color": PAINT["line"],
        "ytick.color": PAINT["line"],
        "xtick.labelcolor": PAINT["soft"],
        "ytick.labelcolor": PAINT["soft"],
        "xtick.labelsize": TEXT,
        "ytick.labelsize": TEXT,
        "axes.labelsize": TEXT,
        "ytick.major.size": 0,
        "figure.facecolor": "none",
        "legend.frameon": False,
        "path.simplify": False,
    }
    with mpl.rc_context(style):
        yield


def figure(width: float, height: float) -> "Figure":
    """An empty figure of so many pixels."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width / POINTS, height / POINTS), dpi=POINTS, layout="constrained")


def line_style(series: Series) -> dict[str, Any]:
    """The colour and dash pattern of a series, as arguments of a matplotlib line."""
    dash = tuple(float(length) for length in series.dash.split())
    return {"color": PAINT[series.colour], "linestyle": (0, dash) if dash else "-"}


def chart_of(drawn: "Figure", title: str, label: str, marks: Marks) -> Chart:
    """The chart that a figure makes; ``label`` describes it to a screen reader. The same figure gives the same text."""
    from markupsafe import Markup

    stream = io.StringIO()
    drawn.savefig(stream, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    root = Tree.fromstring(stream.getvalue().encode())
    for metadata in root.findall(f"{SVG}metadata"):
        root.remove(metadata)
    _rename_references(root, marks)
    for element in root.iter():
        _restyle(element)
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    _, _, width, height = root.attrib["viewBox"].split()
    root.attrib |= {"class": "chart", "role": "group", "aria-label": label, "width": width, "height": height}
    return Chart(title, Markup(Tree.tostring(root, encoding="unicode")))


def _rename_references(root: Tree.Element, marks: Marks) -> None:
    """Give definitions ids that no other chart of the page has, turn marks into groups with a text, and remove all
    other ids."""
    known = {element.get("id") for definitions in root.iter(f"{SVG}defs") for element in definitions.iter()} - {None}
    for element in root.iter():
        name = element.attrib.pop("id", None)
        if name in marks.texts:
            _describe(element, *marks.texts[name])
        elif name in known:
            element.set("id", f"{marks.prefix}-{name}")
        for attribute, value in list(element.attrib.items()):
            if attribute == f"{XLINK}href":
                del element.attrib[attribute]
                element.set("href", f"#{marks.prefix}-{value[1:]}")
            elif "url(#" in value:
                element.set(attribute, value.replace("url(#", f"url(#{marks.prefix}-"))


def _describe(element: Tree.Element, text: str, series: str, focus: bool) -> None:
    if series:
        element.set("data-series", series)
    if text:
        element.set("class", "mark")
        title = Tree.Element(f"{SVG}title")
        title.text = text
        element.insert(0, title)
        if focus:
            element.attrib |= {"tabindex": "0", "role": "img", "aria-label": text.replace("\n", ", ")}


def _restyle(element: Tree.Element) -> None:
    """Drop the namespace of an element, and put the page's colours and fonts in the place of the figure's."""
    element.tag = element.tag.rpartition("}")[2]
    style = element.get("style")
    if style is not None:
        style = re.sub(r"font[^;]*;?\s*", "", style)
        for colour, variable in _VARIABLES.items():
            style = style.replace(colour, variable)
        element.set("style", style)
    if element.tag == "svg":
        element.attrib = {name.rpartition("}")[2]: value for name, value in element.attrib.items()}

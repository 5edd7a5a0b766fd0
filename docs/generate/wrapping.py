"""Wrapping of Markdown prose."""

import re
import textwrap

WIDTH = 120
"""Columns of prose."""


def wrapped(text: str, indent: str = "") -> str:
    """Lines of at most 120 columns. None but the first begins with what Markdown would read as an item of a list."""
    glued = re.sub(r" (?=([-+*]|\d+\.) )", "\0", text)
    lines = textwrap.wrap(glued, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines).replace("\0", " ")

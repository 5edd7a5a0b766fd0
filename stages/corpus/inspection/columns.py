"""Which columns of a table are the texts and the label of a task, judged by their values and names alone.

A choice is *clear* where nothing else in the table could be meant. Where it is not, the candidates are given, and the
one that is most probable, which a program may ask about and must not take by itself.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from stages.corpus.inspection.profile import MOST_VALUES, ColumnProfile, TableProfile
from stages.files.rows import not_utf8, shown_names
from stages.specs.tasks import RESERVED_COLUMNS, TRAIN

TEXT_WORDS = 2
"""Mean number of words from which on the strings of a column are texts and no names."""
TEXT_SHARE = 0.9
"""The share of a column's values that have to be strings of letters for it to be a column of text."""
FEW = 5
"""A column has few different values where each occurs in this many rows on average."""
MOST_NUMBERS = 20
"""Different whole numbers of a column that are classes; where there are more, they are scores."""

PAIRS = (
    ("premise", "hypothesis"),
    ("question", "answer"),
    ("question", "sentence"),
    ("question", "context"),
    ("question", "passage"),
    ("query", "passage"),
    ("query", "document"),
    ("context", "response"),
    *((head, body) for head in ("title", "subject", "headline", "summary") for body in (
        "body", "text", "content", "description", "abstract", "review", "review_body", "article", "message"
    )),
)  # fmt: skip
"""Names of two columns that are read together, in this order."""
PAIR_ENDS = (("1", "2"), ("a", "b"), ("left", "right"))
"""Ends of two names that are otherwise equal, such as sentence1 and sentence2."""

LABELS = ("label_text", "label_name", "gold_label", "label", "labels", "class", "class_name", "category", "target", "y")
"""Names of columns that are labels whatever else there is, the best first: names of classes before their numbers."""
TEXTS = ("text", "sentence", "message", "review", "content", "body", "question", "comment", "document", "tweet")
"""Names of columns that are texts even where few of their values differ."""

PERHAPS_LABELS = (
    "sentiment",
    "rating",
    "stars",
    "star_rating",
    "score",
    "similarity",
    "intent",
    "topic",
    "emotion",
    "polarity",
    "team",
    "type",
    "tag",
    "grade",
    "department",
    "language",
)
"""Names of columns that are the label where only one of them is there, and none of ``LABELS``."""
SCORES = ("score", "similarity", "relatedness")
"""Words in the name of a column whose numbers are scores even where there are few of them."""
NO_LABELS = ("id", "idx", "index", "uid", "uuid", "guid", "row", "unnamed: 0", "date", "time", "timestamp", "url")


@dataclass(frozen=True, slots=True)
class ColumnChoice:
    """``best``: the most probable column or, for a pair of texts, two columns; empty where there are no candidates.
    ``candidates``: all columns that may be meant, in the table's order. ``clear``: nothing but ``best`` can be
    meant."""

    best: tuple[str, ...]
    candidates: tuple[str, ...]
    clear: bool


# --- texts ----------------------------------------------------------------------------------------


def text_columns(table: TableProfile, label: str | None = None) -> ColumnChoice:
    """The column of text, or the two columns of a pair; never ``label``. One column of texts is clear, and so are two
    whose names belong together (``PAIRS``, sentence1 and sentence2); more are not."""
    columns = [column for column in table.columns if column.name != label and column.name not in RESERVED_COLUMNS]
    no_texts = (*LABELS, *NO_LABELS)
    found = (
        [column for column in columns if _is_text(column)]
        or [column for column in columns if column.name.lower() in TEXTS and _is_of_letters(column)]
        or [column for column in columns if column.name.lower() not in no_texts and _is_word(column)]
    )
    names = [column.name for column in found]
    pair = _pair(names)
    if len(names) == 1:
        return ColumnChoice((names[0],), (names[0],), True)
    if pair:
        return ColumnChoice(pair, tuple(names), len(names) == 2)
    longest = sorted(found, key=lambda column: -column.words)[:1]
    return ColumnChoice(tuple(column.name for column in longest), tuple(names), False)


def _is_of_letters(column: ColumnProfile) -> bool:
    return column.texts >= TEXT_SHARE * column.present > 0


def _is_text(column: ColumnProfile) -> bool:
    """Whether the column's values are texts of several words, most of them different."""
    return _is_word(column) and column.words >= TEXT_WORDS


def _is_word(column: ColumnProfile) -> bool:
    """Whether the column's values are strings, most of them different, such as names to classify."""
    return _is_of_letters(column) and not _has_few_values(column)


def _has_few_values(column: ColumnProfile) -> bool:
    return column.values is not None and len(column.values) <= max(2, column.present // FEW)


def _pair(names: Sequence[str]) -> tuple[str, ...]:
    """The two of ``names`` that belong together, in order; () where there are none, or several."""
    plain = {re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_"): name for name in names}
    found = [(plain[one], plain[other]) for one, other in PAIRS if one in plain and other in plain]
    for one, other in PAIR_ENDS:
        stems = [name.removesuffix(one) for name in plain if name.endswith(one)]
        found += [(plain[stem + one], plain[stem + other]) for stem in stems if stem and stem + other in plain]
    return found[0] if len(found) == 1 else ()


# --- labels ---------------------------------------------------------------------------------------


def label_column(table: TableProfile, text: Collection[str]) -> ColumnChoice:
    """The column of labels, beside the columns ``text``. It is clear where there is one candidate, or where one alone
    has a name that labels have (``LABELS``, or else ``PERHAPS_LABELS``)."""
    columns = [column for column in table.columns if column.name not in text]
    candidates = [column for column in columns if _may_be_label(column)]
    named = [column for column in columns if column.name.lower() in (*LABELS, *PERHAPS_LABELS)]
    candidates = candidates or [column for column in named if column.values is not None and len(column.values) == 1]
    names = tuple(column.name for column in candidates)
    known = sorted((name for name in names if name.lower() in LABELS), key=lambda name: LABELS.index(name.lower()))
    perhaps = [name for name in names if name.lower() in PERHAPS_LABELS]
    concepts = {re.sub(r"^gold_|_(text|name)$|s$", "", name.lower()) for name in known}
    best = (known or perhaps or names)[:1]
    if known:
        return ColumnChoice(tuple(best), names, len(concepts) == 1)
    return ColumnChoice(tuple(best), names, len(names) == 1 or len(perhaps) == 1)


def _may_be_label(column: ColumnProfile) -> bool:
    if column.rising or column.name.lower() in NO_LABELS:
        return False
    if column.numbers == column.present > 0:
        return column.values is None or len(column.values) > 1
    return column.values is not None and len(column.values) > 1 and _has_few_values(column)


def is_regression(column: ColumnProfile) -> bool:
    """Whether the values of a label column are scores and no classes: numbers with fractions, more than
    ``MOST_NUMBERS`` whole ones, or more than two numbers in a column that is called a score."""
    if not column.present or column.numbers < column.present:
        return False
    if column.whole < column.numbers or column.values is None:
        return True
    called = set(re.split(r"[^a-z]+", column.name.lower()))
    if called.intersection(SCORES):
        return len(column.values) > 2
    return len(column.values) > MOST_NUMBERS and not _counts_from_start(column.values)


def _counts_from_start(values: Mapping[str, int]) -> bool:
    """Whether whole numbers are 0, 1, 2 and so on without a gap, each in several rows: the numbers of classes."""
    numbers = sorted(map(int, values))
    return numbers == list(range(len(numbers))) and sum(values.values()) >= FEW * len(numbers)


def label_names(tables: Mapping[str, TableProfile], label: str) -> tuple[str, ...] | None:
    """The names of the classes in the label column, in order; None for a regression. ``tables``: the profile of each
    split, ``train`` among them.

    Train says which of both it is. A split whose only label is -1 has labels that are not public. ValueError, of one
    line, for a column that cannot be a task's label.
    """
    train = tables[TRAIN]
    column, shown = train.column(label), shown_names([label])
    if not column.present:
        raise ValueError(f"{train.path}: column {shown}: no row has a label; a train split needs them all")
    if is_regression(column):
        return None
    if column.values is None or (column.texts and len(column.values) > max(2, column.present // 2)):
        many = f"more than {MOST_VALUES:,}" if column.values is None else f"{len(column.values):,}"
        raise ValueError(
            f"{train.path}: column {shown} has {many} different values in {column.present:,} rows; a label is one of a "
            "few classes, or a number: name another column by --label"
        )
    if len(column.values) == 1:
        raise ValueError(
            f"{train.path}: all {column.present:,} rows have the label {next(iter(column.values))} (column {shown}); "
            "train needs rows of at least 2 labels"
        )
    names = dict.fromkeys(column.values)
    for table in tables.values():
        there = [other for other in table.columns if other.name == label and other.values is not None]
        names.update(
            dict.fromkeys(name for other in there if set(other.values or ()) != {"-1"} for name in other.values or ())
        )
    for name in names:
        if problem := not_utf8(name):
            raise ValueError(f"{train.path}: column {shown}: {problem}")
    return tuple(sorted(names, key=_label_order))


def _label_order(name: str) -> tuple[bool, float, str]:
    """Numbers by their value, before words in the order of the alphabet."""
    try:
        return False, float(name), name
    except ValueError:
        return True, 0.0, name

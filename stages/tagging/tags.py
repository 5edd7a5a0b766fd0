"""Tags of words in the scheme BIO (IOB2): what a valid sequence is, and which entities it has.

A tag is ``O`` (outside of any entity), ``B-TYPE`` (the first word of an entity) or ``I-TYPE`` (a further word of it).
In IOB1, the scheme of CoNLL's own files, an entity begins with ``I-TYPE``, and with ``B-TYPE`` only where it follows
another entity of its type (Ramshaw and Marcus 1995; Tjong Kim Sang and Veenstra 1999). Within this project, sequences
are numbers of tags in a task's tag set, always in IOB2.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, assert_never

from stages.specs.tasks import TagScheme

OUTSIDE = "O"
MOST_SHOWN = 40
"""Characters of a value in a message."""


class EntitySpan(NamedTuple):
    """An entity: the words ``start`` to ``end`` - 1 of a sentence, counted from 0, and the type."""

    start: int
    end: int
    type: str


def split_tag(tag: str) -> tuple[str, str]:
    """(prefix, type) of a tag: ("B", "PER"), ("I", "PER") or ("O", ""). Raises ValueError for any other string."""
    if tag == OUTSIDE:
        return OUTSIDE, ""
    prefix, dash, kind = tag.partition("-")
    if prefix not in ("B", "I") or not dash or not kind or kind != kind.strip():
        raise ValueError(f"{shown(tag)} is no BIO tag; use O, B-TYPE or I-TYPE")
    return prefix, kind


def shown(value: object) -> str:
    """A value in a message: as Python writes it, cut after ``MOST_SHOWN`` characters."""
    text = repr(value)
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}..."


# --- tag sets ---------------------------------------------------------------------------------------------


def tag_set(types: Iterable[str]) -> tuple[str, ...]:
    """The tags for these types of entities, in the order of this project: O, then B- and I- of each type, the types in
    alphabetical order."""
    return (OUTSIDE, *(f"{prefix}-{kind}" for kind in sorted(set(types)) for prefix in "BI"))


def types_of(tags: Iterable[str]) -> tuple[str, ...]:
    """The types of entities in these tags, in alphabetical order. Raises ValueError for what is no BIO tag."""
    return tuple(sorted({kind for _, kind in map(split_tag, tags) if kind}))


def check_tag_set(tags: Sequence[str]) -> None:
    """Raise ValueError for a task's labels that are no tag set: each a BIO tag and there once, O among them, with B-
    for each type."""
    types = types_of(tags)
    if not types:
        raise ValueError(f"labels: {list(tags)} have no type of entity; give O, and B-TYPE and I-TYPE for each type")
    for tag in tags:
        if tags.count(tag) > 1:
            raise ValueError(f"labels: {tag} is there {tags.count(tag)} times; name each tag once")
    for needed in (OUTSIDE, *(f"B-{kind}" for kind in types)):
        if needed not in tags:
            raise ValueError(f"labels: {needed} is missing; a tag set has O, and B- for each of its types")


# --- sequences --------------------------------------------------------------------------------------------


class TagParser:
    """Parses the tags of sentences: names of tags, or their numbers in the tag set, to numbers in IOB2."""

    def __init__(self, tags: Sequence[str], scheme: TagScheme = "iob2") -> None:
        """``tags`` is the tag set. Raises ValueError where it is none (``check_tag_set``)."""
        check_tag_set(tags)
        self._tags = tuple(tags)
        self._numbers = {tag: number for number, tag in enumerate(tags)}
        self._scheme = scheme

    def __call__(self, words: Sequence[str], tags: Sequence[object]) -> tuple[int, ...]:
        """The numbers of a sentence's tags, one for each word. Raises ValueError, which names the word and the remedy,
        for a tag outside the tag set, a sequence that the scheme does not allow, and another number of tags than of
        words."""
        if len(words) != len(tags):
            raise ValueError(f"{len(tags)} tags for {len(words)} words; give one for each word")
        names: list[str] = []
        for place, (word, value) in enumerate(zip(words, tags, strict=True)):
            try:
                names.append(self._name(value))
            except ValueError as error:
                raise ValueError(f"word {place + 1} ({shown(word)}): {error}") from error
        check_sequence(words, names, self._scheme)
        return tuple(self._numbers[name] for name in to_iob2(names))

    def _name(self, value: object) -> str:
        """The name of a tag that is given by its name or its number in the tag set."""
        if isinstance(value, int) and not isinstance(value, bool):
            if 0 <= value < len(self._tags):
                return self._tags[value]
            raise ValueError(f"{value} is the number of no tag; the task has 0 to {len(self._tags) - 1}")
        if not isinstance(value, str):
            raise ValueError(f"{shown(value)}, a {type(value).__name__}, is no tag; use a name or a number")
        if value in self._numbers:
            return value
        split_tag(value)
        hint = f"; did you mean {meant}?" if (meant := self._meant(value)) else ""
        raise ValueError(f"{shown(value)} is no tag of the task, which has {', '.join(self._tags)}{hint}")

    def _meant(self, value: str) -> str | None:
        return {tag.casefold(): tag for tag in self._tags}.get(value.strip().casefold())


def check_sequence(words: Sequence[str], tags: Sequence[str], scheme: TagScheme) -> None:
    """Raise ValueError, which names the first wrong word and the remedy, for tags that ``scheme`` does not allow."""
    match scheme:
        case "repair":
            return
        case "iob2":
            for place in orphans(tags):
                kind = tags[place][2:]
                raise ValueError(
                    f"word {place + 1} ({shown(words[place])}) has I-{kind}, but no B-{kind} or I-{kind} before it; "
                    f"begin each entity with B-, or set scheme: iob1 for files in IOB1, or scheme: repair"
                )
        case "iob1":
            for place, tag in enumerate(tags):
                if tag.startswith("B-") and (place == 0 or tags[place - 1][2:] != tag[2:]):
                    raise ValueError(
                        f"word {place + 1} ({shown(words[place])}) has {tag} after no entity of its type, which is not "
                        "IOB1; set scheme: iob2, or scheme: repair for a file of both"
                    )
        case _:
            assert_never(scheme)


def orphans(tags: Sequence[str]) -> list[int]:
    """The places, counted from 0, of tags I-TYPE whose word follows no word of an entity of that type."""
    before = (OUTSIDE, *tags[:-1])
    return [place for place, tag in enumerate(tags) if tag.startswith("I-") and before[place][2:] != tag[2:]]


def to_iob2(tags: Sequence[str]) -> list[str]:
    """The tags with B-TYPE for each I-TYPE that continues no entity: IOB1 as IOB2, which loses nothing, and any other
    sequence repaired. The entities, in the sense of conlleval, stay as they are."""
    found = list(tags)
    for place in orphans(tags):
        found[place] = f"B-{tags[place][2:]}"
    return found


def spans(tags: Sequence[str]) -> list[EntitySpan]:
    """The entities of a sequence, in order, as conlleval finds them: one begins at each B-, and at each I- whose word
    follows no word of its type, and goes on over the I- of its type."""
    found: list[EntitySpan] = []
    for place, tag in enumerate(to_iob2(tags)):
        prefix, _, kind = tag.partition("-")
        if prefix == "B":
            found.append(EntitySpan(place, place + 1, kind))
        elif prefix == "I":
            found[-1] = found[-1]._replace(end=place + 1)
    return found


# --- what may follow what ---------------------------------------------------------------------------------


def may_begin(tag: str) -> bool:
    """Whether a sentence in IOB2 may begin with the tag."""
    return not tag.startswith("I-")


def may_follow(before: str, tag: str) -> bool:
    """Whether ``tag`` may follow ``before`` in IOB2: an I- only words of an entity of its type."""
    return may_begin(tag) or before[2:] == tag[2:]

"""The sums that a training keeps over the rows of an epoch, as one vector with named places."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

LOSS, TERM, ATTENTION = "loss", "term", "attention"


def term_place(name: str) -> str:
    """The name of the place of a term's sum."""
    return f"{TERM}/{name}"


@dataclass(frozen=True, slots=True)
class SumLayout:
    """The places of a vector by name, one after the other: ``sizes`` has the number of values of each.

    The first place is ``loss``, the weighted sum of the terms. ``term/NAME`` is a term before weighting, ``attention``
    the largest attention weight of each student layer and then all of its weights; a participant has a place of its own
    name.
    """

    sizes: Mapping[str, int]
    starts: Mapping[str, int] = field(init=False)

    def __post_init__(self) -> None:
        ends = [0]
        for size in self.sizes.values():
            ends.append(ends[-1] + size)
        object.__setattr__(self, "starts", dict(zip(self.sizes, ends, strict=False)))

    @property
    def size(self) -> int:
        """The number of values of the whole vector."""
        return sum(self.sizes.values())

    @property
    def terms(self) -> tuple[str, ...]:
        """The names of the terms, in the order of their places."""
        return tuple(name.removeprefix(f"{TERM}/") for name in self.sizes if name.startswith(f"{TERM}/"))

    def place(self, name: str) -> slice:
        """The place with this name."""
        return slice(self.starts[name], self.starts[name] + self.sizes[name])

    def place_of_term(self, name: str) -> int:
        """The place of the term with this name."""
        return self.starts[term_place(name)]

    def by_name(self, values: Sequence[float]) -> dict[str, list[float]]:
        """The values of each place by its name."""
        return {name: list(values[self.place(name)]) for name in self.sizes}

    def in_order(self, by_name: Mapping[str, Sequence[float]]) -> list[float]:
        """The whole vector. Raises KeyError or ValueError for other names or sizes than these."""
        if list(by_name) != list(self.sizes) or any(len(by_name[name]) != size for name, size in self.sizes.items()):
            raise ValueError(f"sums {list(by_name)} in place of {list(self.sizes)}")
        return [value for name in self.sizes for value in by_name[name]]


def sum_layout(terms: Iterable[str], attending: int, participants: Mapping[str, int]) -> SumLayout:
    """The layout for a training with these terms, so many sums of ``attention``, and for each participant its number of
    sums."""
    return SumLayout(
        {
            LOSS: 1,
            **{term_place(name): 1 for name in terms},
            **({ATTENTION: attending} if attending else {}),
            **participants,
        }
    )

"""The settings with which a new recipe begins, for the size of its data and of its teacher.

They are those with which ``docs/results.md`` measured, rounded: with few rows more epochs, so that there are enough
optimizer steps; with wide models lower learning rates.
"""

from dataclasses import dataclass

from stages.specs.student import Head

SMALL_ROWS = 1_000
MIDDLE_ROWS = 20_000
LARGE_ROWS = 100_000
"""Rows of train: below the first, between them, and above the last."""
SEEDED_ROWS = 5_000
"""Rows of train up to which three seeds take minutes on two cores."""

NARROW, BASE = 384, 768
"""Widths of MiniLM and of BERT-base."""

NUMERALS = {1: "one", 2: "two", 3: "three", 4: "four", 5: "five", 6: "six", 8: "eight", 12: "twelve"}


@dataclass(frozen=True, slots=True)
class Teacher:
    """A teacher's model. ``head``: the head to write into the recipe, None to leave it out. ``finetuned``: it is
    fine-tuned on the task's labels already. ``can_be_cut``: a student can be made of some of its layers; with
    ``keeps_first``, the first one has to be among them."""

    name: str
    layers: int
    width: int
    head: Head | None
    finetuned: bool
    can_be_cut: bool
    keeps_first: bool = False


@dataclass(frozen=True, slots=True)
class Settings:
    """``teacher_epochs`` and ``teacher_rate`` are those of its fine-tuning; ``epochs`` and ``rate`` those of students.
    ``temperatures`` and ``first_phase`` are annealing-kd's, None where its defaults fit the epochs."""

    teacher_epochs: int
    teacher_rate: float
    epochs: int
    rate: float
    temperatures: int | None
    first_phase: float | None
    seeds: tuple[int, ...]


def settings_for(rows: int, width: int) -> Settings:
    """The settings for ``rows`` rows of train and a teacher of this width."""
    if rows < SMALL_ROWS:
        teacher_epochs, epochs, temperatures, first_phase = 10, 20, None, None
    elif rows <= MIDDLE_ROWS:
        teacher_epochs, epochs, temperatures, first_phase = 4, 10, None, None
    elif rows <= LARGE_ROWS:
        teacher_epochs, epochs, temperatures, first_phase = 3, 6, 4, None
    else:
        teacher_epochs, epochs, temperatures, first_phase = 3, 4, 2, 0.5
    teacher_rate, rate = (
        (1.0e-4, 2.0e-4) if width <= NARROW else (3.0e-5, 5.0e-5) if width <= BASE else (1.0e-5, 3.0e-5)
    )
    seeds = (0, 1, 2) if rows <= SEEDED_ROWS else (0,)
    return Settings(teacher_epochs, teacher_rate, epochs, rate, temperatures, first_phase, seeds)


def cut_layers(teacher: Teacher, count: int) -> tuple[int, ...]:
    """Which ``count`` layers of the teacher a student starts from: the first ones where its head reads the mean of all
    tokens, as in recipes/gains.yaml; else layers spread evenly up to the last, as in recipes/all-in-1.yaml."""
    if teacher.head == "mean":
        return tuple(range(1, count + 1))
    if teacher.keeps_first:
        return tuple(1 + place * (teacher.layers - 1) // max(1, count - 1) for place in range(count))
    return tuple((place + 1) * teacher.layers // count for place in range(count))


def student_depths(layers: int) -> tuple[int, ...]:
    """The numbers of layers of the student to begin with, a third of the teacher's, and of a larger one, half of them;
    the second is left out where it is the same."""
    small, large = max(1, layers // 3), max(1, layers // 2)
    return (small,) if small == large else (small, large)


def depth_label(count: int) -> str:
    """A student's label by its number of layers."""
    return NUMERALS.get(count, f"layers-{count}")

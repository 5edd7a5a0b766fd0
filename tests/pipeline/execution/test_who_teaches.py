"""Who may teach each named method."""

import pytest

from pipeline.methods import METHODS, NamedMethod, check_taught_by, default_teacher, find
from stages.specs.layers import Pick
from stages.specs.method import Hard

NAMES = [named.name for named in METHODS]


def complaint(name: str, *references: str) -> str | None:
    named = find(name)
    return check_taught_by(named, named.method, references, ensembles=("both",))


@pytest.mark.parametrize("named", METHODS, ids=NAMES)
def test_whoever_teaches_by_default_may_teach(named: NamedMethod) -> None:
    default = default_teacher(named, named.method)
    assert default == named.taught_by
    if default is not None:
        assert check_taught_by(named, named.method, (default,)) is None


@pytest.mark.parametrize("named", METHODS, ids=NAMES)
def test_a_method_that_has_no_teacher_by_default_asks_for_one_unless_it_needs_none(named: NamedMethod) -> None:
    if named.taught_by is None:
        said = check_taught_by(named, named.method, ())
        asks = said is not None and said.startswith("needs a teacher: ") and "taught_by: " in said
        assert asks is named.method.needs_teacher


def test_a_method_that_is_given_layers_to_follow_has_a_teacher_by_default() -> None:
    named = find("label-smoothing")
    method = named.method.model_copy(update={"structure": Pick()})
    assert default_teacher(named, method) == "teacher"
    assert check_taught_by(named, method, ("assistant:2",)) is None
    assert str(check_taught_by(named, method, ())).startswith("needs a teacher: ")


def test_a_method_whose_targets_are_taken_away_takes_no_teacher() -> None:
    named = find("takd")
    method = named.method.model_copy(update={"targets": Hard()})
    assert default_teacher(named, method) is None
    assert check_taught_by(named, method, ()) is None
    assert "needs no teacher" in str(check_taught_by(named, method, ("assistant",)))


def test_a_method_that_needs_no_teacher_takes_none() -> None:
    for name in ("no-kd", "label-smoothing", "virtual-teacher"):
        assert complaint(name, "teacher") == "but this method needs no teacher; leave it out"


@pytest.mark.parametrize(
    ("name", "references"),
    [
        ("vanilla-kd", ("teacher",)),
        ("vanilla-kd", ("teacher", "assistant")),
        ("annealing-kd", ("teacher:2",)),
        ("takd", ("assistant",)),
        ("takd", ("assistant:3",)),
        ("born-again", ("teacher",)),
        ("born-again", ("first",)),
        ("multi-teacher", ("teacher", "assistant")),
        ("multi-teacher", ("teacher:all",)),
        ("multi-teacher", ("both",)),
        ("self-kd", ("itself",)),
        ("reverse-kd", ("small",)),
        ("reverse-kd", ("teacher",)),
        ("defective-kd", ("teacher:1",)),
        ("defective-kd", ("poor",)),
        ("pro-kd", ("teacher:1", "teacher:4")),
        ("alp", ("teacher:2",)),
    ],
)
def test_these_may_teach(name: str, references: tuple[str, ...]) -> None:
    assert complaint(name, *references) is None


@pytest.mark.parametrize(
    ("name", "references", "remedy"),
    [
        ("takd", ("teacher",), "say taught_by: NAME, with NAME in models"),
        ("takd", ("teacher:2",), "say taught_by: NAME, with NAME in models"),
        ("takd", ("assistant", "teacher"), "say taught_by: NAME, with NAME in models"),
        ("takd", ("itself",), "say taught_by: NAME, with NAME in models"),
        ("born-again", ("first", "second"), "let one teach"),
        ("born-again", ("both",), "let one teach"),
        ("multi-teacher", ("teacher",), "or a list of names"),
        ("multi-teacher", ("teacher:2",), "or a list of names"),
        ("self-kd", ("teacher",), "say taught_by: itself, or use born-again"),
        ("self-kd", ("itself", "teacher"), "say taught_by: itself, or use born-again"),
        ("reverse-kd", ("itself",), "say taught_by: NAME, with NAME in models"),
        ("defective-kd", ("teacher",), "say taught_by: teacher:1, with teacher.finetune.keep: epochs"),
        ("defective-kd", ("teacher:all",), "say taught_by: teacher:1, with teacher.finetune.keep: epochs"),
        ("defective-kd", ("itself",), "say taught_by: teacher:1, with teacher.finetune.keep: epochs"),
        ("pro-kd", ("teacher",), "say taught_by: teacher:all"),
        ("alp", ("teacher:all",), "let one teach"),
        ("relational-kd", ("teacher", "assistant"), "let one teach"),
    ],
)
def test_these_may_not_teach_and_it_is_said_in_one_line_what_to_do(
    name: str, references: tuple[str, ...], remedy: str
) -> None:
    said = complaint(name, *references)
    assert said is not None
    assert said.startswith(f"but {name} is taught by ")
    assert remedy in said
    assert "\n" not in said

"""Who may teach each named method."""

import pytest

from pipeline.methods import METHODS, NamedMethod, check_taught_by, default_teacher, find
from stages.specs.axes.targets import Hard
from stages.specs.layers import Pick

NAMES = [named.name for named in METHODS]


def problem(name: str, *references: str) -> str | None:
    named = find(name)
    return check_taught_by(named, named.method, references, ensembles=("both",))


@pytest.mark.parametrize("named", METHODS, ids=NAMES)
def test_the_default_teacher_is_one_that_the_method_takes(named: NamedMethod) -> None:
    default = default_teacher(named, named.method)
    assert default == named.taught_by
    if default is not None:
        assert check_taught_by(named, named.method, (default,)) is None


@pytest.mark.parametrize("named", METHODS, ids=NAMES)
def test_a_method_without_a_default_teacher_requires_one_unless_it_needs_none(named: NamedMethod) -> None:
    if named.taught_by is None:
        found = check_taught_by(named, named.method, ())
        required = found is not None and found.startswith("needs a teacher: ") and "taught_by: " in found
        assert required is named.method.needs_teacher


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
        assert problem(name, "teacher") == "but this method needs no teacher; leave it out"


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
    assert problem(name, *references) is None


@pytest.mark.parametrize(
    ("name", "references", "remedy"),
    [
        ("takd", ("teacher",), "give taught_by: NAME, with NAME in models"),
        ("takd", ("teacher:2",), "give taught_by: NAME, with NAME in models"),
        ("takd", ("assistant", "teacher"), "give taught_by: NAME, with NAME in models"),
        ("takd", ("itself",), "give taught_by: NAME, with NAME in models"),
        ("born-again", ("first", "second"), "name one model"),
        ("born-again", ("both",), "name one model"),
        ("multi-teacher", ("teacher",), "or a list of names"),
        ("multi-teacher", ("teacher:2",), "or a list of names"),
        ("self-kd", ("teacher",), "give taught_by: itself, or use born-again"),
        ("self-kd", ("itself", "teacher"), "give taught_by: itself, or use born-again"),
        ("reverse-kd", ("itself",), "give taught_by: NAME, with NAME in models"),
        ("defective-kd", ("teacher",), "give taught_by: teacher:1, with teacher.finetune.keep: epochs"),
        ("defective-kd", ("teacher:all",), "give taught_by: teacher:1, with teacher.finetune.keep: epochs"),
        ("defective-kd", ("itself",), "give taught_by: teacher:1, with teacher.finetune.keep: epochs"),
        ("pro-kd", ("teacher",), "give taught_by: teacher:all"),
        ("alp", ("teacher:all",), "name one model"),
        ("relational-kd", ("teacher", "assistant"), "name one model"),
    ],
)
def test_other_teachers_are_refused_with_what_to_write_instead(
    name: str, references: tuple[str, ...], remedy: str
) -> None:
    found = problem(name, *references)
    assert found is not None
    assert found.startswith(f"but {name} is taught by ")
    assert remedy in found
    assert "\n" not in found

"""Which combinations of axes are methods, and the numbers of teachers that each can learn from."""

import re

import pytest
from pydantic import ValidationError

from stages.specs.axes.data import Neighbours
from stages.specs.axes.kinds import CLASSIFICATION, REGRESSION
from stages.specs.axes.targets import Hard, Smoothed, TeacherTargets, Virtual
from stages.specs.axes.training import Annealing, Continuation, OnePhase, Progressive, Training
from stages.specs.layers import Attend, Outputs, Pick, Relational
from stages.specs.method import Method, check_teachers, without_idle_settings
from stages.specs.student import DistilSpec, Fresh, Train

PICK = Pick(pairs=((1, 2),))
OUTPUTS = Outputs(groups=((1,),))


@pytest.mark.parametrize("training", [Annealing(), Continuation(), Progressive()])
@pytest.mark.parametrize("targets", [Hard(), Smoothed(), Virtual()])
def test_a_schedule_of_logits_needs_a_teacher_with_logits(
    training: Training, targets: Hard | Smoothed | Virtual
) -> None:
    line = f"training: {training.kind} follows a teacher's logits, targets is {targets.kind}; use targets: teacher"
    with pytest.raises(ValidationError, match=line):
        Method(targets=targets, training=training)


def test_shares_sum_to_one_and_are_not_of_teachers_in_turn() -> None:
    with pytest.raises(ValidationError, match=r"shares \[0\.5, 0\.6\] sum to 1\.1; let them sum to 1"):
        Method(targets=TeacherTargets(shares=(0.5, 0.6)))
    with pytest.raises(ValidationError, match="progressive follows one teacher at a time"):
        Method(targets=TeacherTargets(shares=(0.5, 0.5)), training=Progressive())


@pytest.mark.parametrize(
    ("method", "count", "line"),
    [
        (
            Method(targets=TeacherTargets(), training=Progressive()),
            1,
            "training: progressive follows several teachers in turn",
        ),
        (Method(targets=TeacherTargets(shares=(0.5, 0.5))), 3, "targets: shares has 2 for 3 teachers; give one each"),
        (Method(structure=PICK), 2, "taught_by: 2 teachers, but only their logits can be averaged; let one teach"),
        (
            Method(targets=TeacherTargets(), structure=PICK),
            2,
            "structure: the layers of which of 2 teachers? Let one teach",
        ),
        (
            Method(targets=TeacherTargets(), structure=OUTPUTS),
            2,
            "structure: outputs follows the layers of one teacher, not",
        ),
    ],
)
def test_a_number_of_teachers_that_a_method_cannot_use_is_refused_in_one_line(
    method: Method, count: int, line: str
) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(line)}"):
        check_teachers(method, count)


@pytest.mark.parametrize(
    ("method", "count"),
    [
        (Method(targets=TeacherTargets()), 1),
        (Method(targets=TeacherTargets()), 5),
        (Method(targets=TeacherTargets(), training=Annealing(), structure=Attend(groups=((1, 2),))), 1),
        (Method(targets=TeacherTargets(), training=Annealing()), 2),
        (Method(targets=TeacherTargets(), training=Progressive(), structure=PICK), 4),
        (Method(targets=Hard(), structure=Relational(pair=(2, 6))), 1),
    ],
)
def test_methods_that_combine_axes_accept_their_numbers_of_teachers(method: Method, count: int) -> None:
    check_teachers(method, count)


def test_the_needs_of_a_method_follow_from_its_axes() -> None:
    def needs(method: Method) -> tuple[bool, bool, bool, bool]:
        return method.needs_logits, method.needs_layers, method.needs_probes, method.needs_teacher

    assert needs(Method()) == needs(Method(targets=Virtual())) == (False, False, False, False)
    assert needs(Method(targets=TeacherTargets())) == (True, False, False, True)
    assert needs(Method(structure=PICK)) == (False, True, False, True)
    assert needs(Method(structure=OUTPUTS)) == (False, False, True, True)
    assert needs(Method(targets=TeacherTargets(), structure=Relational())) == (True, True, False, True)


def test_settings_without_effect_do_not_change_the_method() -> None:
    plain = Method(targets=TeacherTargets())
    assert without_idle_settings(Method(targets=TeacherTargets(shares=(0.25,) * 4)), CLASSIFICATION) == plain
    unequal = Method(targets=TeacherTargets(shares=(0.75, 0.25)))
    assert without_idle_settings(unequal, CLASSIFICATION) == unequal
    warm = Method(targets=TeacherTargets(), training=OnePhase(temperature=9.0, teacher_weight=0.3, reduction="mean"))
    assert without_idle_settings(warm, CLASSIFICATION) == warm
    cold = Method(targets=TeacherTargets(), training=OnePhase(teacher_weight=0.3))
    assert without_idle_settings(warm, REGRESSION) == cold
    squared = Method(targets=TeacherTargets(), training=OnePhase(temperature=9.0, distance="squared"))
    assert without_idle_settings(squared, CLASSIFICATION).training == OnePhase(distance="squared")
    assert without_idle_settings(squared, REGRESSION).training == OnePhase()
    annealed = Method(targets=TeacherTargets(), training=Annealing(max_temperature=3))
    assert without_idle_settings(annealed, REGRESSION) == annealed


@pytest.mark.parametrize("draw", [4, 5])
def test_drawing_all_candidates_of_a_row_or_more_is_refused(draw: int) -> None:
    with pytest.raises(ValidationError, match=f"draw: {draw} of k: 4 draws them all; draw fewer, or leave draw out"):
        Neighbours(k=4, draw=draw)


def test_a_regression_has_no_calibrated_teacher() -> None:
    calibrated = Method(targets=TeacherTargets(calibrated=True, shares=(0.75, 0.25)))
    assert without_idle_settings(calibrated, CLASSIFICATION) == calibrated
    plain = Method(targets=TeacherTargets(shares=(0.75, 0.25)))
    assert without_idle_settings(calibrated, REGRESSION) == plain


def test_pairs_of_rows_are_not_cut_into_micro_batches() -> None:
    method = Method(structure=Relational(pair=(2, 6)))
    with pytest.raises(ValidationError, match=r"train\.micro_batch: 8, but the method compares all rows of a batch"):
        DistilSpec(start=Fresh(), method=method, train=Train(micro_batch=8))


@pytest.mark.parametrize("training", [Annealing(), Progressive()])
def test_two_phases_need_two_epochs(training: Annealing | Progressive) -> None:
    method = Method(targets=TeacherTargets(), training=training)
    with pytest.raises(ValidationError, match=f"{training.kind} has two phases; use at least 2"):
        DistilSpec(start=Fresh(), method=method, train=Train(epochs=1))
    DistilSpec(start=Fresh(), method=Method(targets=TeacherTargets(), training=OnePhase()), train=Train(epochs=1))

"""Layer maps by rule, at different depths."""

import pytest
from pydantic import ValidationError

from stages.specs.axes.structures import NoLayers
from stages.specs.axes.targets import Hard
from stages.specs.layer_map import (
    LayerGroup,
    describe_groups,
    even_groups,
    overlapping_groups,
    teacher_layers,
)
from stages.specs.layers import Attend, Concatenate, Outputs, Pick, Random, Relational, Structure
from stages.specs.method import Method
from stages.specs.student import DistilSpec, Fresh


@pytest.mark.parametrize(("student", "teacher"), [(4, 12), (2, 12), (2, 6), (6, 24), (3, 7), (5, 6), (1, 4), (6, 6)])
def test_even_groups_are_runs_that_cover_all_layers_once_and_differ_by_one_at_most(student: int, teacher: int) -> None:
    groups = even_groups(student, teacher)
    assert [layer for group in groups for layer in group] == list(range(1, teacher + 1))
    assert len(groups) == student
    assert max(map(len, groups)) - min(map(len, groups)) <= 1


def test_the_even_groups_of_12_for_4_are_those_of_the_ckd_code() -> None:
    assert even_groups(4, 12) == ((1, 2, 3), (4, 5, 6), (7, 8, 9), (10, 11, 12))


def test_the_even_pairs_of_6_and_12_are_patient_kds_skip_map() -> None:
    """Its layers 1, 3, 5, 7, 9 counted from 0 are 2, 4, 6, 8, 10 counted from 1."""
    assert Pick().resolved(6, 12) == Pick(pairs=((1, 2), (2, 4), (3, 6), (4, 8), (5, 10)))


def test_the_last_pairs_of_6_and_12_are_patient_kds_other_map() -> None:
    """Its layers 6 to 10 counted from 0 are 7 to 11 counted from 1."""
    assert Pick(pairs="last").resolved(6, 12) == Pick(pairs=((1, 7), (2, 8), (3, 9), (4, 10), (5, 11)))


@pytest.mark.parametrize(("student", "teacher"), [(3, 6), (1, 12), (6, 6), (4, 2)])
def test_the_final_pair_is_the_last_layer_of_each_model_whatever_their_depths(student: int, teacher: int) -> None:
    assert Pick(pairs="final").resolved(student, teacher) == Pick(pairs=((student, teacher),))


def test_overlapping_groups_are_those_of_the_alp_tables_and_of_the_ckd_code() -> None:
    assert overlapping_groups(4, 12) == ((1, 2, 3, 4), (3, 4, 5, 6, 7), (6, 7, 8, 9, 10), (9, 10, 11, 12))
    assert overlapping_groups(2, 6) == ((1, 2, 3, 4), (3, 4, 5, 6))


@pytest.mark.parametrize(("student", "teacher"), [(4, 12), (2, 12), (2, 6), (6, 24), (3, 7), (6, 6), (1, 4)])
def test_overlapping_groups_hold_the_even_ones_and_a_neighbour_on_each_side(student: int, teacher: int) -> None:
    pairs = zip(overlapping_groups(student, teacher), even_groups(student, teacher), strict=True)
    for wide, run in pairs:
        assert set(wide) - set(run) == {run[0] - 1, run[-1] + 1} & set(range(1, teacher + 1))


@pytest.mark.parametrize("kind", [Concatenate, Attend, Outputs])
def test_rules_name_the_layers_of_every_kind_of_group(kind: type[Concatenate | Attend | Outputs]) -> None:
    assert kind(groups="all").resolved(2, 3).groups == ((1, 2, 3), (1, 2, 3))
    assert kind(groups="even").resolved(2, 4).groups == ((1, 2), (3, 4))
    assert kind(groups="overlapping").resolved(2, 4).groups == ((1, 2, 3), (2, 3, 4))


def test_all_layers_can_be_followed_by_a_student_that_is_deeper_than_its_teacher() -> None:
    assert Attend().resolved(3, 2).groups == ((1, 2),) * 3


def test_random_pairs_rise_follow_the_seed_and_use_no_layer_twice() -> None:
    maps = [Pick(pairs="random").resolved(3, 12, seed).pairs for seed in range(40)]
    assert maps == [Pick(pairs="random").resolved(3, 12, seed).pairs for seed in range(40)]
    assert len(set(maps)) > 20
    for pairs in maps:
        assert [student for student, _ in pairs] == [1, 2, 3]
        layers = [teacher for _, teacher in pairs]
        assert layers == sorted(set(layers)) and layers[0] >= 1 and layers[-1] <= 12
    assert {teacher for pairs in maps for _, teacher in pairs} == set(range(1, 13))


def test_a_map_is_the_same_however_its_parts_are_ordered() -> None:
    """Except for concatenated layers, which have an order."""
    assert Pick(pairs=((2, 6), (1, 1))).resolved(2, 6) == Pick(pairs=((1, 1), (2, 6)))
    assert Attend(groups=((2, 1), (4,))).resolved(2, 6) == Attend(groups=((1, 2), (4,)))
    assert Concatenate(groups=((2, 1), (4,))).resolved(2, 6) == Concatenate(groups=((2, 1), (4,)))


@pytest.mark.parametrize(
    ("kind", "fields", "line"),
    [
        (Pick, {"pairs": ((1, 1), (1, 1))}, "must be named once each, \\[1, 1\\] is repeated"),
        (Attend, {"groups": ((1, 1, 2),)}, "must be named once each, 1 is repeated"),
        (Relational, {"distance": 0.0, "angle": 0.0}, "distance and angle: both 0, so that nothing is compared"),
        (
            Pick,
            {"distance": "cosine", "normalised": True},
            "normalised: true, but a cosine does not depend on lengths; give normalised: false",
        ),
    ],
)
def test_repeated_and_empty_layers_are_refused(kind: type, fields: dict[str, object], line: str) -> None:
    with pytest.raises(ValidationError, match=line):
        kind(**fields)


def test_random_draws_from_the_named_layers() -> None:
    assert Random().resolved(2, 4) == Random(layers=(1, 2, 3, 4), student_layers=(1, 2))
    structure = Random(layers=(6, 2, 4), student_layers=(2,)).resolved(2, 6)
    assert structure == Random(layers=(2, 4, 6), student_layers=(2,))
    drawn = {structure.groups_at(0, 0, epoch) for epoch in range(30)}
    assert drawn == {(LayerGroup(2, (2,)),), (LayerGroup(2, (4,)),), (LayerGroup(2, (6,)),)}
    fixed = Pick(pairs=((1, 3),))
    assert fixed.groups_at(0, 0, 1) == fixed.groups_at(9, 1, 7) == fixed.layer_groups()


def test_rows_are_related_in_the_last_layers_unless_others_are_named() -> None:
    assert Relational().resolved(2, 6) == Relational(pair=(2, 6))
    assert Relational(pair=(1, 3)).resolved(2, 6) == Relational(pair=(1, 3))


def test_groups_are_described_as_runs_of_layers() -> None:
    groups = Concatenate(groups=((1, 2, 3), (5,), (2, 3, 7))).layer_groups()
    assert describe_groups(groups) == "1 <- 1-3, 2 <- 5, 3 <- 2-3+7"


def test_layers_that_are_named_are_not_changed_by_resolving() -> None:
    for structure in (NoLayers(), Pick(pairs=((0, 0), (2, 6))), Concatenate(groups=((3, 1), (6,)))):
        assert structure.resolved(2, 6) == structure
        assert structure.resolved(2, 6).resolved(2, 6) == structure


def test_groups_map_student_layers_to_teacher_layers() -> None:
    assert NoLayers().layer_groups() == ()
    assert Pick(pairs=((1, 3), (2, 6))).layer_groups() == (LayerGroup(1, (3,)), LayerGroup(2, (6,)))
    assert Concatenate(groups=((1, 2), (4, 3))).layer_groups() == (LayerGroup(1, (1, 2)), LayerGroup(2, (4, 3)))


def test_a_layer_that_two_groups_follow_is_read_once() -> None:
    assert teacher_layers(Concatenate(groups=((5, 1), (1, 2))).layer_groups()) == (1, 2, 5)
    assert teacher_layers(NoLayers().layer_groups()) == ()


def test_the_structure_without_layers_has_weight_zero() -> None:
    assert NoLayers().weight_given(5.0) == 0


def test_only_the_weight_auto_stands_for_the_measured_number() -> None:
    assert Pick(weight=3.0).weight_given(5.0) == 3
    assert Pick(weight="auto").weight_given(5.0) == 5


@pytest.mark.parametrize(
    ("structure", "student", "line"),
    [
        (Pick(), 1, "structure.pairs: even leaves out the student's last layer, and this student has no other; give"),
        (
            Pick(),
            7,
            "structure.pairs: even cannot divide 6 teacher layers among 7 student layers; name the layers instead",
        ),
        (Concatenate(), 7, "structure.groups: even cannot divide 6 teacher layers among 7 student layers; name"),
        (
            Attend(groups="even"),
            7,
            "structure.groups: even cannot divide 6 teacher layers among 7 student layers",
        ),
        (
            Outputs(groups="overlapping"),
            7,
            "structure.groups: overlapping cannot divide 6 teacher layers among 7 student layers",
        ),
        (
            Pick(pairs="last"),
            1,
            "structure.pairs: last leaves out the student's last layer, and this student has no other",
        ),
        (
            Pick(pairs="random"),
            7,
            "structure.pairs: random cannot divide 6 teacher layers among 7 student layers",
        ),
        (
            Pick(pairs="random"),
            6,
            "structure.pairs: random has only one map of 6 layers to 6; use last, or give pairs",
        ),
        (Random(), 7, "structure.layers: has 6 teacher layers, but 7 are to be drawn, one for each student layer"),
        (Random(layers=(7,)), 1, "structure: the teacher has no layer 7; it has 0 (embeddings) to 6"),
        (Relational(pair=(2, 7)), 2, "structure: the teacher has no layer 7; it has 0 (embeddings) to 6"),
        (Pick(pairs=((3, 1),)), 2, "structure: the student has no layer 3; it has 0 (embeddings) to 2"),
        (Concatenate(groups=((1,), (7,))), 2, "structure: the teacher has no layer 7; it has 0 (embeddings) to 6"),
    ],
)
def test_a_map_that_the_depths_do_not_allow_is_refused(structure: Structure, student: int, line: str) -> None:
    with pytest.raises(ValueError) as caught:
        structure.resolved(student, 6)
    assert str(caught.value).startswith(line) and "\n" not in str(caught.value)


def test_spread_pairs_run_from_the_embeddings_to_the_last_layer_of_each_model() -> None:
    assert Pick(pairs="spread").resolved(2, 6) == Pick(pairs=((0, 0), (1, 3), (2, 6)))
    assert Pick(pairs="spread").resolved(4, 6) == Pick(pairs=((0, 0), (1, 1), (2, 3), (3, 4), (4, 6)))
    assert Pick(pairs="spread").resolved(1, 1) == Pick(pairs=((0, 0), (1, 1)))
    with pytest.raises(ValueError, match=r"^structure\.pairs: spread cannot divide 6 teacher layers among 7"):
        Pick(pairs="spread").resolved(7, 6)


def test_a_store_must_hold_the_layers_and_the_pooling() -> None:
    structure = Concatenate(groups=((1, 3), (5,)), pooling="cls")
    for pooling in ("cls", "both"):
        structure.check_store((0, 1, 3, 5), pooling)
    NoLayers().check_store((), "mean")
    with pytest.raises(ValueError, match=r"^structure\.pooling: cls, but store\.pooling is mean; make them the same$"):
        structure.check_store((1, 3, 5), "mean")
    turned = structure.model_copy(update={"teacher_pooling": "mean"})
    turned.check_store((1, 3, 5), "mean")
    with pytest.raises(ValueError, match=r"^structure\.teacher_pooling: mean, but store\.pooling is cls; set"):
        turned.check_store((1, 3, 5), "cls")
    with pytest.raises(ValueError, match=r"^structure: needs layers 3, 5 of the teacher, which store\.layers leaves"):
        structure.check_store((0, 1), "cls")


def test_a_student_spec_needs_its_layers_by_number() -> None:
    with pytest.raises(ValueError, match=r"method\.structure: a rule names other layers for models of another depth"):
        DistilSpec(start=Fresh(), method=Method(structure=Pick()))


def test_a_method_of_layers_needs_a_teacher_and_no_logits() -> None:
    method = Method(targets=Hard(), structure=Pick())
    assert method.needs_teacher and method.needs_layers and not method.needs_logits
    assert not Method().needs_teacher

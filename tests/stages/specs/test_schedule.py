"""Loss weights, requested teacher outputs and learning rate by the position in training."""

import itertools

import pytest

from stages.specs.axes.data import Neighbours
from stages.specs.axes.kinds import CLASSIFICATION, REGRESSION
from stages.specs.axes.targets import Hard, Smoothed, TeacherTargets, Virtual
from stages.specs.axes.terms import LabelTerm, LayerTerm, SmoothedLabelTerm, SoftTerm, SquaredTerm, VirtualTerm
from stages.specs.axes.training import Annealing, Continuation, OnePhase, Phase, Position, Progressive, annealed_scale
from stages.specs.layer_map import LayerGroup
from stages.specs.layers import AnnealedTemperature, Attend, Pick, Random
from stages.specs.method import Method
from stages.specs.schedule import (
    OutputRequest,
    any_epoch_uses_candidates,
    compared_terms,
    epoch_plan,
    output_request,
    term_names,
    terms_at,
)

ANNEALING = Method(targets=TeacherTargets(), training=Annealing(max_temperature=7))


def test_the_scale_never_falls_never_passes_one_and_ends_at_exactly_one() -> None:
    """Also where there are fewer epochs than temperatures, or the one does not divide the other."""
    for epochs, warmest in itertools.product(range(1, 25), range(1, 12)):
        scales = [annealed_scale(epoch, epochs, warmest) for epoch in range(epochs)]
        assert scales[-1] == 1.0, (epochs, warmest)
        assert all(0 < scale <= 1 for scale in scales), (epochs, warmest)
        assert scales == sorted(scales), (epochs, warmest)
        assert scales[0] == pytest.approx(-(-warmest // epochs) / warmest), (epochs, warmest)


def test_where_the_temperatures_divide_the_epochs_the_scale_is_the_papers() -> None:
    """Jafari et al. 2021: T starts at tau_max and falls by 1 every ``each`` epochs; Phi(T) = 1 - (T - 1) / tau_max."""
    for warmest, each in itertools.product(range(1, 9), range(1, 5)):
        temperature = warmest
        for epoch in range(warmest * each):
            if epoch and epoch % each == 0:
                temperature -= 1
            expected = 1 - (temperature - 1) / warmest
            assert annealed_scale(epoch, warmest * each, warmest) == pytest.approx(expected, abs=1e-15)


def test_an_annealed_temperature_falls_by_equal_factors_to_one() -> None:
    annealed = Attend(temperature=AnnealedTemperature(annealed=8.0))
    assert [annealed.attention_temperature(epoch, 4) for epoch in range(4)] == pytest.approx([8.0, 4.0, 2.0, 1.0])
    assert annealed.attention_temperature(3, 4) == 1.0
    assert annealed.attention_temperature(0, 1) == 1.0


def test_a_number_is_the_temperature_of_every_epoch_and_a_learned_one_begins_at_one() -> None:
    assert [Attend(temperature=5.0).attention_temperature(epoch, 3) for epoch in range(3)] == [5.0] * 3
    assert Attend(temperature="learned").attention_temperature(1, 3) == 1.0
    assert Pick().attention_temperature(1, 3) == 1.0


def test_the_two_phases_add_up_and_each_has_an_epoch() -> None:
    for epochs, share in itertools.product(range(2, 30), (0.01, 0.3, 0.5, 0.7, 0.99)):
        first, second = Annealing(first_phase=share).phases(epochs)
        assert (first.name, second.name) == ("anneal", "labels")
        assert first.epochs + second.epochs == epochs
        assert first.epochs >= 1 and second.epochs >= 1
        assert abs(first.epochs - share * epochs) <= 1


def test_one_phase_has_all_the_epochs() -> None:
    assert OnePhase().phases(5) == (Phase("train", 5),)


def test_annealing_matches_the_teacher_first_and_the_labels_alone_then() -> None:
    assert terms_at(ANNEALING, Position(0, 0), 7, CLASSIFICATION) == (SquaredTerm(1.0, pytest.approx(1 / 7)),)
    assert terms_at(ANNEALING, Position(0, 6), 7, CLASSIFICATION) == (SquaredTerm(1.0, 1.0),)
    assert terms_at(ANNEALING, Position(1, 0), 3, CLASSIFICATION) == (LabelTerm(1.0),)
    assert terms_at(ANNEALING, Position(0, 6), 7, REGRESSION) == (SquaredTerm(1.0, 1.0),)


def test_vanilla_kd_divides_the_weight_between_label_and_teacher() -> None:
    method = Method(targets=TeacherTargets(), training=OnePhase(temperature=4.0, teacher_weight=0.75))
    assert terms_at(method, Position(), 3, CLASSIFICATION) == (LabelTerm(0.25), SoftTerm(0.75, 4.0))
    assert terms_at(method, Position(), 3, REGRESSION) == (LabelTerm(0.25), SquaredTerm(0.75))


def test_a_squared_distance_stands_in_the_place_of_kl() -> None:
    method = Method(targets=TeacherTargets(), training=OnePhase(teacher_weight=0.75, distance="squared"))
    assert terms_at(method, Position(), 3, CLASSIFICATION) == (LabelTerm(0.25), SquaredTerm(0.75))
    with pytest.raises(ValueError, match="a virtual teacher has none; use kl"):
        Method(targets=Virtual(), training=OnePhase(distance="squared"))


def test_without_a_teacher_one_term_has_all_the_weight() -> None:
    assert terms_at(Method(targets=Hard()), Position(), 3, CLASSIFICATION) == (LabelTerm(1.0),)
    assert terms_at(Method(targets=Smoothed()), Position(), 3, CLASSIFICATION) == (SmoothedLabelTerm(1.0, 0.1),)


def test_a_virtual_teacher_has_the_weight_of_a_teacher() -> None:
    method = Method(targets=Virtual(), training=OnePhase(temperature=20.0, teacher_weight=0.1))
    plan = epoch_plan(method, Position(), 3, CLASSIFICATION, teachers=0)
    assert plan.terms == (LabelTerm(0.9), VirtualTerm(0.1, SoftTerm(0.1, 20.0), 0.99))
    assert not plan.request


# --- continuation -----------------------------------------------------------------------------------


def test_the_label_weight_of_continuation_is_that_of_the_paper() -> None:
    """psi(i) = i / 40 for i <= 20 of 30 epochs, then 1."""
    shares = [Continuation(together=2 / 3).label_share(epoch, 30) for epoch in range(30)]
    assert shares == pytest.approx([i / 40 for i in range(1, 21)] + [1.0] * 10)


def test_continuation_weighs_labels_against_the_annealed_teacher_and_its_margin() -> None:
    method = Method(targets=TeacherTargets(), training=Continuation(max_temperature=10, margin=0.4, together=2 / 3))
    middle = terms_at(method, Position(0, 9), 30, CLASSIFICATION)
    assert middle == (LabelTerm(0.25), SquaredTerm(0.75, pytest.approx(0.4), pytest.approx(0.16)))
    assert terms_at(method, Position(0, 29), 30, CLASSIFICATION) == (LabelTerm(1.0),)
    assert method.training.phases(30) == (Phase("train", 30),)


def test_with_a_step_for_psi_and_no_margin_continuation_is_annealing_whose_phases_run_on() -> None:
    """As the paper remarks: the terms then have the same weights in every epoch as in annealing."""
    continued = Method(
        targets=TeacherTargets(), training=Continuation(max_temperature=7, together=1.0, label_weight=0.0)
    )
    annealed = Method(targets=TeacherTargets(), training=Annealing(max_temperature=7))
    for epoch in range(14):
        position = Position(0, epoch)
        assert terms_at(continued, position, 14, CLASSIFICATION) == terms_at(annealed, position, 14, CLASSIFICATION)


# --- requested outputs --------------------------------------------------------------------------------


def test_progressive_teachers_have_equal_parts_and_the_last_epoch_has_the_last_teacher() -> None:
    for epochs, teachers in itertools.product(range(1, 25), range(1, 9)):
        followed = [Progressive().followed(epoch, epochs, teachers) for epoch in range(epochs)]
        assert followed == sorted(followed) and followed[-1] == teachers - 1 and followed[0] >= 0
        counts = [followed.count(teacher) for teacher in range(teachers)]
        assert max(counts) - min(counts) <= 1, (epochs, teachers)


def test_progressive_requests_outputs_of_one_teacher_at_a_time_and_none_in_the_second_phase() -> None:
    method = Method(
        targets=TeacherTargets(), training=Progressive(), structure=Pick(pairs=((1, 2), (2, 4)), weight=3.0)
    )
    followed = []
    for epoch in range(6):
        plan = epoch_plan(method, Position(0, epoch), 6, CLASSIFICATION, teachers=3)
        groups = (LayerGroup(1, (2,)), LayerGroup(2, (4,)))
        assert plan.terms == (SquaredTerm(1.0), LayerTerm(3.0, groups))
        found = plan.request
        assert found.logits == ((found.teacher, 1.0),) and found.layers == (2, 4)
        followed.append(found.teacher)
    assert followed == [0, 0, 1, 1, 2, 2]
    labels = epoch_plan(method, Position(1, 0), 3, CLASSIFICATION, teachers=3)
    assert labels.terms == (LabelTerm(1.0),) and not labels.request
    assert [phase.name for phase in method.training.phases(9)] == ["follow", "labels"]


def test_the_request_for_several_teachers_has_their_shares() -> None:
    plain = Method(targets=TeacherTargets())
    terms = terms_at(plain, Position(), 3, CLASSIFICATION)
    assert output_request(plain, terms, Position(), 3, 2) == OutputRequest(((0, 0.5), (1, 0.5)))
    shared = Method(targets=TeacherTargets(shares=(0.75, 0.0, 0.25)))
    assert output_request(shared, terms, Position(), 3, 3) == OutputRequest(((0, 0.75), (2, 0.25))), (
        "nothing of one without share"
    )


def test_only_layers_are_requested_where_logits_have_no_weight() -> None:
    method = Method(targets=Hard(), structure=Attend(groups=((1, 3), (2,))))
    assert epoch_plan(method, Position(), 3, CLASSIFICATION).request == OutputRequest((), (1, 2, 3))


def test_random_layers_differ_between_epochs_and_agree_for_the_same_seed() -> None:
    structure = Random(layers=tuple(range(1, 13)), student_layers=(1, 2, 3))
    method = Method(targets=TeacherTargets(), structure=structure)

    def drawn(seed: int) -> list[tuple[int, ...]]:
        return [
            epoch_plan(method, Position(0, epoch), 20, CLASSIFICATION, seed=seed).request.layers for epoch in range(20)
        ]

    assert drawn(3) == drawn(3) != drawn(4)
    assert len(set(drawn(3))) > 10 and all(len(set(layers)) == 3 for layers in drawn(3))
    assert {layer for layers in drawn(3) for layer in layers} == set(range(1, 13))


# --- names of terms, and what auto compares -----------------------------------------------------------


def test_the_names_of_a_trainings_terms_are_those_of_all_its_phases() -> None:
    method = Method(
        targets=TeacherTargets(), training=Annealing(), data=Neighbours(), structure=Pick(pairs=((1, 2),), weight=2.0)
    )
    assert term_names(method, 10, CLASSIFICATION) == ("match", "layers", "candidates", "hard")
    assert term_names(Method(targets=TeacherTargets()), 3, REGRESSION) == ("hard", "match")


def test_candidates_weigh_what_the_teachers_logits_weigh_after_the_warm_up() -> None:
    method = Method(targets=TeacherTargets(), training=OnePhase(teacher_weight=0.25), data=Neighbours(weight=2.0))
    assert epoch_plan(method, Position(), 3, CLASSIFICATION).candidates == 0.5
    warm = method.model_copy(update={"data": Neighbours(weight=2.0, warmup_epochs=2)})
    assert [epoch_plan(warm, Position(0, epoch), 3, CLASSIFICATION).candidates for epoch in range(3)] == [0.0, 0.0, 0.5]
    assert any_epoch_uses_candidates(warm, 3) and not any_epoch_uses_candidates(warm, 2)
    assert (
        epoch_plan(method.model_copy(update={"training": Annealing()}), Position(1), 3, CLASSIFICATION).candidates == 0
    )


def test_auto_compares_the_layers_with_the_labels_or_else_with_the_logits_of_the_first_phase() -> None:
    layers = LayerTerm(1.0, (LayerGroup(1, (2,)),))
    for method, expected in (
        (Method(targets=TeacherTargets(), training=OnePhase(teacher_weight=1.0)), LabelTerm(1.0)),
        (Method(targets=Smoothed(epsilon=0.2)), SmoothedLabelTerm(1.0, 0.2)),
        (Method(targets=TeacherTargets(), training=Continuation()), LabelTerm(1.0)),
        (Method(targets=TeacherTargets(), training=Annealing()), SquaredTerm(1.0, pytest.approx(1 / 7))),
    ):
        matching = method.model_copy(update={"structure": Pick(pairs=((1, 2),), weight="auto")})
        assert compared_terms(matching, 7, CLASSIFICATION, seed=0) == (expected, layers)

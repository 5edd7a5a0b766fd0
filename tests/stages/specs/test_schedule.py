"""Loss weights, requested teacher outputs and learning rate by the position in training."""

import itertools

import pytest

from stages.specs.layers import AnnealedTemperature, Attend, Pick, Random
from stages.specs.method import (
    Annealing,
    Continuation,
    Hard,
    Method,
    OnePhase,
    Progressive,
    Smoothed,
    TeacherTargets,
    Virtual,
)
from stages.specs.schedule import (
    LossWeights,
    OutputRequest,
    Phase,
    Position,
    annealed_scale,
    attention_temperature,
    followed_teacher,
    label_share,
    output_request,
    phases,
    weights_at,
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
    assert [attention_temperature(annealed, epoch, 4) for epoch in range(4)] == pytest.approx([8.0, 4.0, 2.0, 1.0])
    assert attention_temperature(annealed, 3, 4) == 1.0
    assert attention_temperature(annealed, 0, 1) == 1.0


def test_a_number_is_the_temperature_of_every_epoch_and_a_learned_one_begins_at_one() -> None:
    assert [attention_temperature(Attend(temperature=5.0), epoch, 3) for epoch in range(3)] == [5.0] * 3
    assert attention_temperature(Attend(temperature="learned"), 1, 3) == 1.0
    assert attention_temperature(Pick(), 1, 3) == 1.0


def test_the_two_phases_add_up_and_each_has_an_epoch() -> None:
    for epochs, share in itertools.product(range(2, 30), (0.01, 0.3, 0.5, 0.7, 0.99)):
        first, second = phases(Annealing(first_phase=share), epochs)
        assert (first.name, second.name) == ("anneal", "labels")
        assert first.epochs + second.epochs == epochs
        assert first.epochs >= 1 and second.epochs >= 1
        assert abs(first.epochs - share * epochs) <= 1


def test_one_phase_has_all_the_epochs() -> None:
    assert phases(OnePhase(), 5) == (Phase("train", 5),)


def test_annealing_matches_the_teacher_first_and_the_labels_alone_then() -> None:
    assert weights_at(ANNEALING, Position(0, 0), 7, False) == LossWeights(match=1.0, scale=pytest.approx(1 / 7))
    assert weights_at(ANNEALING, Position(0, 6), 7, False) == LossWeights(match=1.0, scale=1.0)
    assert weights_at(ANNEALING, Position(1, 0), 3, False) == LossWeights(hard=1.0)
    assert weights_at(ANNEALING, Position(0, 6), 7, True) == LossWeights(match=1.0, scale=1.0)


def test_vanilla_kd_divides_the_weight_between_label_and_teacher() -> None:
    method = Method(targets=TeacherTargets(), training=OnePhase(temperature=4.0, teacher_weight=0.75))
    assert weights_at(method, Position(), 3, False) == LossWeights(hard=0.25, soft=0.75, temperature=4.0)
    assert weights_at(method, Position(), 3, True) == LossWeights(hard=0.25, match=0.75)


def test_without_a_teacher_one_term_has_all_the_weight() -> None:
    assert weights_at(Method(targets=Hard()), Position(), 3, False) == LossWeights(hard=1.0)
    assert weights_at(Method(targets=Smoothed()), Position(), 3, False) == LossWeights(smoothed=1.0)


def test_a_virtual_teacher_has_the_weight_of_a_teacher() -> None:
    method = Method(targets=Virtual(), training=OnePhase(temperature=20.0, teacher_weight=0.1))
    assert weights_at(method, Position(), 3, False) == LossWeights(hard=0.9, soft=0.1, temperature=20.0)
    assert not output_request(method, weights_at(method, Position(), 3, False), Position(), 3, 0, 0)


# --- continuation -----------------------------------------------------------------------------------


def test_the_label_weight_of_continuation_is_that_of_the_paper() -> None:
    """psi(i) = i / 40 for i <= 20 of 30 epochs, then 1."""
    shares = [label_share(Continuation(together=2 / 3), epoch, 30) for epoch in range(30)]
    assert shares == pytest.approx([i / 40 for i in range(1, 21)] + [1.0] * 10)


def test_continuation_weighs_labels_against_the_annealed_teacher_and_its_margin() -> None:
    method = Method(targets=TeacherTargets(), training=Continuation(max_temperature=10, margin=0.4, together=2 / 3))
    middle = weights_at(method, Position(0, 9), 30, False)
    scale = pytest.approx(0.4)
    assert middle == LossWeights(hard=0.25, match=0.75, scale=scale, margin=pytest.approx(0.16))
    last = weights_at(method, Position(0, 29), 30, False)
    assert (last.hard, last.match, last.scale) == (1.0, 0.0, 1.0)
    assert phases(method.training, 30) == (Phase("train", 30),)


def test_with_a_step_for_psi_and_no_margin_continuation_is_annealing_whose_phases_run_on() -> None:
    """As the paper remarks: the terms then have the same weights in every epoch as in annealing."""
    continued = Method(
        targets=TeacherTargets(), training=Continuation(max_temperature=7, together=1.0, label_weight=0.0)
    )
    annealed = Method(targets=TeacherTargets(), training=Annealing(max_temperature=7))
    for epoch in range(14):
        position = Position(0, epoch)
        assert weights_at(continued, position, 14, False) == weights_at(annealed, position, 14, False)


# --- requested outputs --------------------------------------------------------------------------------


def test_progressive_teachers_have_equal_parts_and_the_last_epoch_has_the_last_teacher() -> None:
    for epochs, teachers in itertools.product(range(1, 25), range(1, 9)):
        followed = [followed_teacher(epoch, epochs, teachers) for epoch in range(epochs)]
        assert followed == sorted(followed) and followed[-1] == teachers - 1 and followed[0] >= 0
        counts = [followed.count(teacher) for teacher in range(teachers)]
        assert max(counts) - min(counts) <= 1, (epochs, teachers)


def test_progressive_requests_outputs_of_one_teacher_at_a_time_and_none_in_the_second_phase() -> None:
    method = Method(
        targets=TeacherTargets(), training=Progressive(), structure=Pick(pairs=((1, 2), (2, 4)), weight=3.0)
    )
    followed = []
    for epoch in range(6):
        position = Position(0, epoch)
        weights = weights_at(method, position, 6, False)
        assert weights == LossWeights(match=1.0, layers=3.0)
        found = output_request(method, weights, position, 6, 3, 0)
        assert found.logits == ((found.teacher, 1.0),) and found.layers == (2, 4)
        followed.append(found.teacher)
    assert followed == [0, 0, 1, 1, 2, 2]
    labels = weights_at(method, Position(1, 0), 3, False)
    assert labels == LossWeights(hard=1.0) and not output_request(method, labels, Position(1, 0), 3, 3, 0)
    assert [phase.name for phase in phases(method.training, 9)] == ["follow", "labels"]


def test_the_request_for_several_teachers_has_their_shares() -> None:
    plain = Method(targets=TeacherTargets())
    weights = weights_at(plain, Position(), 3, False)
    assert output_request(plain, weights, Position(), 3, 2, 0) == OutputRequest(((0, 0.5), (1, 0.5)))
    shared = Method(targets=TeacherTargets(shares=(0.75, 0.0, 0.25)))
    assert output_request(shared, weights, Position(), 3, 3, 0) == OutputRequest(((0, 0.75), (2, 0.25))), (
        "nothing of one without share"
    )


def test_only_layers_are_requested_where_logits_have_no_weight() -> None:
    method = Method(targets=Hard(), structure=Attend(groups=((1, 3), (2,))))
    assert output_request(method, weights_at(method, Position(), 3, False), Position(), 3, 1, 0) == OutputRequest(
        (), (1, 2, 3)
    )


def test_random_layers_differ_between_epochs_and_agree_for_the_same_seed() -> None:
    structure = Random(layers=tuple(range(1, 13)), student_layers=(1, 2, 3))
    method = Method(targets=TeacherTargets(), structure=structure)

    def drawn(seed: int) -> list[tuple[int, ...]]:
        weights = weights_at(method, Position(), 20, False)
        return [output_request(method, weights, Position(0, epoch), 20, 1, seed).layers for epoch in range(20)]

    assert drawn(3) == drawn(3) != drawn(4)
    assert len(set(drawn(3))) > 10 and all(len(set(layers)) == 3 for layers in drawn(3))
    assert {layer for layers in drawn(3) for layer in layers} == set(range(1, 13))

"""The named methods."""

import pytest

from pipeline.errors import RequestError
from pipeline.methods import METHODS, find
from stages.method import Annealing, Hard, OnePhase, Smoothed, Taught
from stages.structure import Concatenate, Pick


def test_the_methods_are_these_six_in_this_order() -> None:
    names = ["no-kd", "label-smoothing", "vanilla-kd", "annealing-kd", "pkd", "ckd"]
    assert [named.name for named in METHODS] == names


def test_no_kd_learns_from_labels_alone() -> None:
    assert find("no-kd").method.targets == Hard()


def test_label_smoothing_has_the_epsilon_of_the_paper() -> None:
    assert find("label-smoothing").method.targets == Smoothed(epsilon=0.1, distribution=None)


def test_vanilla_kd_has_the_settings_of_the_minimax_code() -> None:
    method = find("vanilla-kd").method
    assert (method.targets, method.training) == (Taught(), OnePhase(temperature=2.0, teacher_weight=0.5))


def test_annealing_kd_spends_14_of_20_epochs_in_its_first_phase() -> None:
    training = find("annealing-kd").method.training
    assert training == Annealing(max_temperature=7, first_phase=0.7)
    assert isinstance(training, Annealing) and round(20 * training.first_phase) == 14


def test_patient_kd_picks_normalised_layers_at_the_scale_of_the_code() -> None:
    method = find("pkd").method
    assert method.training == OnePhase(temperature=10.0, teacher_weight=0.5)
    assert method.structure == Pick(pairs="even", normalised=True, weight=100.0)


def test_combinatorial_kd_weighs_labels_logits_and_layers_as_1_to_2_to_7() -> None:
    method = find("ckd").method
    assert isinstance(method.training, OnePhase) and isinstance(method.structure, Concatenate)
    hard, soft, layers = 1 - method.training.teacher_weight, method.training.teacher_weight, method.structure.weight
    assert (soft / hard, layers / hard) == pytest.approx((2, 7), rel=2e-3)


def test_what_a_method_needs_of_the_teacher_follows_from_its_axes() -> None:
    assert {named.name: named.needs for named in METHODS} == {
        "no-kd": "nothing",
        "label-smoothing": "nothing",
        "vanilla-kd": "logits",
        "annealing-kd": "logits",
        "pkd": "logits and mean-pooled states of layers",
        "ckd": "logits and mean-pooled states of layers",
    }


def test_a_method_without_a_teacher_is_free_of_settings_for_one() -> None:
    assert all(named.method.training == OnePhase() for named in METHODS if not named.method.needs_teacher)


def test_an_unknown_method_is_refused_and_the_nearest_named() -> None:
    with pytest.raises(RequestError, match=r"^method: vanila-kd is no method; did you mean vanilla-kd\?$"):
        find("vanila-kd")


def test_a_name_is_not_matched_by_halves_or_by_case() -> None:
    for name in ("vanilla", "Vanilla-KD", "hard-labels", ""):
        with pytest.raises(RequestError):
            find(name)

"""The named methods: each is the point, at the scale, that its paper has."""

import pytest

from pipeline.errors import RequestError
from pipeline.methods import METHODS, NamedMethod, find
from stages.specs.axes.structures import NoLayers
from stages.specs.axes.targets import Hard, Smoothed, TeacherTargets, Virtual
from stages.specs.axes.training import Annealing, Continuation, LayersFirst, OnePhase, Progressive
from stages.specs.layer_map import LayerGroup
from stages.specs.layers import Attend, Concatenate, EveryToken, Outputs, Pick, Random, Relational, Structure

NAMES = [named.name for named in METHODS]


def one_phase(name: str) -> OnePhase:
    training = find(name).method.training
    assert isinstance(training, OnePhase)
    return training


def followed(name: str, student: int, teacher: int) -> list[list[int]]:
    """The teacher's layers that each student layer follows."""
    return [list(group.teacher) for group in find(name).method.structure.resolved(student, teacher).layer_groups()]


def test_no_name_stands_twice() -> None:
    assert len(set(NAMES)) == len(NAMES)


def test_the_methods_of_the_slides_and_their_relatives_all_have_names() -> None:
    labels = {"no-kd", "label-smoothing", "virtual-teacher"}
    edges = {"vanilla-kd", "rkd", "takd", "born-again", "multi-teacher", "self-kd", "reverse-kd", "defective-kd"}
    schedules = {"annealing-kd", "continuation-kd", "pro-kd"}
    layers = {"pkd", "pkd-last", "random-map", "ckd", "ckd-po", "rail-kd", "rail-kd-joined", "distilbert"}
    tokens = {"tinybert"}
    mixtures = {"alp", "alp-no", "alp-po", "universal-kd", "relational-kd"}
    candidates = {"transfer", "knn", "minimax-knn"}
    adversaries = {"freelb", "freelb-kd", "adversarial", "mate-kd", "combined-kd", "cilda"}
    assert set(NAMES) == labels | edges | schedules | layers | tokens | mixtures | candidates | adversaries


# --- labels, logits -------------------------------------------------------------------------------


def test_no_kd_learns_from_labels_alone() -> None:
    method = find("no-kd").method
    assert (method.targets, method.structure) == (Hard(), NoLayers())


def test_label_smoothing_has_the_epsilon_of_the_paper() -> None:
    assert find("label-smoothing").method.targets == Smoothed(epsilon=0.1, distribution=None)


def test_a_virtual_teacher_is_the_sum_over_classes_that_the_code_makes_of_its_mean() -> None:
    assert find("virtual-teacher").method.targets == Virtual(correct=0.99)
    assert one_phase("virtual-teacher") == OnePhase(temperature=20.0, teacher_weight=0.1, reduction="sum")


def test_vanilla_kd_has_the_settings_of_the_minimax_code() -> None:
    assert find("vanilla-kd").method.targets == TeacherTargets()
    assert one_phase("vanilla-kd") == OnePhase(temperature=2.0, teacher_weight=0.5, reduction="sum")


def test_methods_whose_code_divides_by_the_classes_divide_by_them() -> None:
    dividing = {name for name in NAMES if getattr(find(name).method.training, "reduction", "sum") == "mean"}
    assert dividing == {"takd", "self-kd", "reverse-kd", "defective-kd", "pkd", "pkd-last", "random-map", "tinybert"}


def test_teacher_free_kd_has_the_settings_of_its_code() -> None:
    wanted = {"self-kd": (6.0, 0.95), "reverse-kd": (20.0, 0.6), "defective-kd": (20.0, 0.95)}
    assert {name: (one_phase(name).temperature, one_phase(name).teacher_weight) for name in wanted} == wanted


def test_regular_kd_is_alp_without_its_layers() -> None:
    assert find("rkd").method == find("alp").method.model_copy(update={"structure": NoLayers()})


# --- schedules ------------------------------------------------------------------------------------


def test_annealing_kd_spends_14_of_20_epochs_in_its_first_phase() -> None:
    training = find("annealing-kd").method.training
    assert training == Annealing(max_temperature=7, first_phase=0.7)
    assert isinstance(training, Annealing) and round(20 * training.first_phase) == 14


def test_continuation_kd_weighs_labels_as_i_over_40_until_epoch_20_of_30() -> None:
    training = find("continuation-kd").method.training
    assert training == Continuation(max_temperature=10, margin=0.0, together=0.667, label_weight=0.5)
    assert isinstance(training, Continuation)
    epochs = round(30 * training.together)
    assert (epochs, training.label_weight / epochs) == (20, 1 / 40)


def test_pro_kd_follows_all_epochs_of_the_teacher_in_turn() -> None:
    named = find("pro-kd")
    assert isinstance(named.method.training, Progressive)
    assert named.taught_by == "teacher:all"


# --- layers ---------------------------------------------------------------------------------------


def test_patient_kd_has_the_settings_of_rte_the_one_run_of_its_code_that_normalises() -> None:
    assert one_phase("pkd") == OnePhase(temperature=10.0, teacher_weight=0.7, reduction="mean")
    assert find("pkd").method.structure == Pick(pairs="even", normalised=True, over="mean", weight="auto")


def test_patient_kd_and_its_control_differ_by_the_pairs_alone_of_which_the_control_has_one_more() -> None:
    pkd = find("pkd").method
    for name in ("pkd-last", "random-map"):
        structure = find(name).method.structure
        assert isinstance(structure, Pick)
        same = structure.model_copy(update={"pairs": "even"})
        assert find(name).method.model_copy(update={"structure": same}) == pkd
    mapped = {name: len(followed(name, 4, 12)) for name in ("pkd", "pkd-last", "random-map")}
    assert mapped == {"pkd": 3, "pkd-last": 3, "random-map": 4}


def test_patient_kd_skips_or_takes_the_last_layers_and_leaves_out_the_students_last() -> None:
    assert followed("pkd", 6, 12) == [[2], [4], [6], [8], [10]]
    assert followed("pkd-last", 6, 12) == [[7], [8], [9], [10], [11]]


@pytest.mark.parametrize("name", ["ckd", "ckd-po"])
def test_combinatorial_kd_weighs_labels_and_logits_as_1_to_2(name: str) -> None:
    training = one_phase(name)
    assert isinstance(find(name).method.structure, Concatenate)
    assert training.teacher_weight / (1 - training.teacher_weight) == pytest.approx(2, rel=2e-3)


@pytest.mark.parametrize("name", ["rail-kd", "rail-kd-joined"])
def test_rail_kd_weighs_labels_and_logits_alike_and_matches_in_128_dimensions(name: str) -> None:
    training, structure = one_phase(name), find(name).method.structure
    assert isinstance(structure, Random)
    assert 1 - training.teacher_weight == training.teacher_weight
    assert (structure.width, structure.joined) == (128, name == "rail-kd-joined")


def test_distilbert_weighs_soft_targets_labels_and_cosine_as_5_to_2_to_1() -> None:
    training, named = one_phase("distilbert"), find("distilbert")
    assert training.temperature == 2.0
    assert training.teacher_weight / (1 - training.teacher_weight) == pytest.approx(5 / 2, rel=3e-3)
    assert "`structure: {weight: 0.143}`" in named.defaults
    assert 0.143 / training.teacher_weight == pytest.approx(1 / 5, rel=3e-3)


def test_distilbert_compares_the_last_layers_by_their_cosine() -> None:
    structure = find("distilbert").method.structure
    assert isinstance(structure, Pick) and structure.distance == "cosine"
    assert structure.resolved(3, 6).layer_groups() == (LayerGroup(3, (6,)),)
    assert structure.resolved(6, 12).layer_groups() == (LayerGroup(6, (12,)),)


@pytest.mark.parametrize("name", ["alp", "alp-no", "alp-po"])
def test_alp_sums_over_layers_with_the_plain_products_of_the_slides(name: str) -> None:
    structure = find(name).method.structure
    assert isinstance(structure, Attend)
    assert (structure.over, structure.scaled, structure.temperature) == ("sum", False, 1.0)
    assert one_phase(name) == OnePhase(temperature=1.0, teacher_weight=0.2, reduction="sum")


def test_groups_without_overlap_and_with_it_are_those_of_the_tables() -> None:
    apart = [[1, 2, 3], [4, 5, 6], [7, 8, 9], [10, 11, 12]]
    over = [[1, 2, 3, 4], [3, 4, 5, 6, 7], [6, 7, 8, 9, 10], [9, 10, 11, 12]]
    assert (followed("ckd", 4, 12), followed("alp-no", 4, 12)) == (apart, apart)
    assert (followed("ckd-po", 4, 12), followed("alp-po", 4, 12)) == (over, over)
    assert followed("alp", 4, 12) == [list(range(1, 13))] * 4


def test_relational_kd_has_the_ratios_of_its_commands_and_labels() -> None:
    method = find("relational-kd").method
    assert (method.targets, method.structure) == (Hard(), Relational(distance=1.0, angle=2.0, weight="auto"))


def test_universal_kd_compares_outputs_of_classifiers() -> None:
    assert isinstance(find("universal-kd").method.structure, Outputs)


def test_tinybert_spends_10_of_13_epochs_on_the_states_and_scores_of_all_layers_and_the_rest_on_logits_alone() -> None:
    method = find("tinybert").method
    training = method.training
    assert isinstance(training, LayersFirst) and (training.temperature, training.reduction) == (1.0, "mean")
    assert [(phase.name, phase.epochs) for phase in training.phases(13)] == [("layers", 10), ("logits", 3)]
    assert (method.structure, followed("tinybert", 4, 12)) == (EveryToken(), [[0], [3], [6], [9], [12]])
    assert find("tinybert").candidates == "tinybert"


# --- needs and texts ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "needs"),
    [
        ("no-kd", "nothing"),
        ("virtual-teacher", "nothing"),
        ("vanilla-kd", "logits"),
        ("pro-kd", "logits"),
        ("pkd", "logits and mean-pooled states of layers"),
        ("relational-kd", "mean-pooled states of layers"),
        ("tinybert", "logits and states and attention scores of layers at every token"),
        ("universal-kd", "logits and pseudo-classifiers on mean-pooled states of layers"),
    ],
)
def test_what_a_method_needs_of_the_teacher_follows_from_its_axes(name: str, needs: str) -> None:
    assert find(name).needs == needs


@pytest.mark.parametrize("named", METHODS, ids=NAMES)
def test_a_method_takes_no_teacher_exactly_where_it_needs_nothing(named: NamedMethod) -> None:
    assert (named.teachers == "none") is (named.needs == "nothing") is (not named.method.needs_teacher)


@pytest.mark.parametrize("named", METHODS, ids=NAMES)
def test_a_method_has_all_of_its_texts(named: NamedMethod) -> None:
    texts = (named.title, named.paper, named.formula, named.scale, named.defaults, named.differs, named.example)
    assert all(text == text.strip() and text for text in texts)
    assert max(len(line) for line in named.formula.split("\n")) <= 110


@pytest.mark.parametrize("named", METHODS, ids=NAMES)
def test_a_formula_has_a_term_for_each_axis_of_its_method(named: NamedMethod) -> None:
    structure: Structure = named.method.structure
    more = not isinstance(structure, NoLayers) or named.method.needs_candidates
    assert ("weight" in named.formula.replace("label_weight", "")) is more
    training, targets = named.method.training, named.method.targets
    by_divergence = isinstance(training, OnePhase) and training.distance == "kl"
    assert ("tau^2 KL" in named.formula) is (by_divergence and isinstance(targets, TeacherTargets | Virtual))


# --- by name --------------------------------------------------------------------------------------


def test_an_unknown_method_is_refused_and_the_nearest_named() -> None:
    with pytest.raises(RequestError, match=r"^method: vanila-kd is no method; did you mean vanilla-kd\?$"):
        find("vanila-kd")


def test_a_name_is_not_matched_by_halves_or_by_case() -> None:
    for name in ("vanilla", "Vanilla-KD", "hard-labels", ""):
        with pytest.raises(RequestError):
            find(name)

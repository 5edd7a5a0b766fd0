"""The loss between layers, against NumPy and by what must hold."""

import numpy as np
import pytest
import torch

from stages.specs.axes.structures import NoLayers
from stages.specs.layer_map import LayerGroup
from stages.specs.layers import Attend, Concatenate, Outputs, Pick, Random, Structure, state_name
from stages.training.objective.layer_losses import attention, concatenated, stacked
from stages.training.objective.matching import LayerMatcher, MatchedRows, Widths, matcher_of
from stages.training.objective.relations import Workers

GENERATOR = np.random.Generator(np.random.PCG64(4))
STUDENT = {layer: GENERATOR.normal(size=(7, 6)).astype(np.float32) for layer in range(3)}
TEACHER = {layer: GENERATOR.normal(size=(7, 6)).astype(np.float32) for layer in range(5)}
WIDER = {layer: GENERATOR.normal(size=(7, 9)).astype(np.float32) for layer in range(5)}
LOGITS = {layer: GENERATOR.normal(size=(7, 3)).astype(np.float32) for layer in range(5)}
PAIRS = Pick(pairs=((1, 2), (2, 4)))
GROUPS = Concatenate(groups=((1, 2, 3), (4, 0)))
ATTEND = Attend(groups=((1, 2, 3), (4, 0)))


def outputs_on(teacher: dict[int, np.ndarray]) -> dict[str, torch.Tensor]:
    return {state_name(layer): torch.from_numpy(values) for layer, values in teacher.items()}


OUTPUTS = outputs_on(TEACHER)


def matcher(structure: Structure, teacher_width: int = 6, outputs: int = 3) -> LayerMatcher:
    torch.manual_seed(5)
    return matcher_of(structure, Widths((6,) * 9, dict.fromkeys(range(13), teacher_width), outputs))


def loss(
    structure: Structure,
    given: LayerMatcher | None = None,
    scale: float = 1.0,
    outputs: dict[str, torch.Tensor] = OUTPUTS,
    groups: tuple[LayerGroup, ...] | None = None,
    temperature: float = 1.0,
) -> np.ndarray:
    states = {layer: torch.from_numpy(scale * values).float() for layer, values in STUDENT.items()}
    with torch.no_grad():
        model, groups = given or matcher(structure), groups or structure.layer_groups()
        found = model(MatchedRows(states, outputs, groups, Workers(rows=7), temperature))
    return found.numpy()


def unit(values: np.ndarray) -> np.ndarray:
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


def projected(layer: torch.nn.Module, values: np.ndarray) -> np.ndarray:
    assert isinstance(layer, torch.nn.Linear)
    return values @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()


def softmax(values: np.ndarray) -> np.ndarray:
    powers = np.exp(values - values.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def same(structure: Structure, **changes: object) -> Structure:
    return structure.model_copy(update=changes)


# --- pick and concatenate ---------------------------------------------------------------------------


@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("over", ["mean", "sum"])
def test_pick_is_the_squared_error_averaged_over_dimensions(normalised: bool, over: str) -> None:
    scaled = unit if normalised else (lambda values: values)
    errors = [((scaled(STUDENT[a]) - scaled(TEACHER[b])) ** 2).mean(1) for a, b in ((1, 2), (2, 4))]
    expected = sum(errors) if over == "sum" else sum(errors) / 2
    np.testing.assert_allclose(loss(same(PAIRS, normalised=normalised, over=over)), expected, rtol=1e-5)


@pytest.mark.parametrize("over", ["mean", "sum"])
def test_the_distance_cosine_is_one_less_the_cosine_of_each_pair_as_torch_has_it(over: str) -> None:
    errors = [1 - (unit(STUDENT[a]) * unit(TEACHER[b])).sum(1) for a, b in ((1, 2), (2, 4))]
    expected = sum(errors) if over == "sum" else sum(errors) / 2
    found = loss(same(PAIRS, distance="cosine", over=over))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_allclose(loss(same(PAIRS, distance="cosine", over=over), scale=37.0), expected, rtol=1e-5)
    pairs = [(torch.from_numpy(STUDENT[a]), torch.from_numpy(TEACHER[b])) for a, b in ((1, 2), (2, 4))]
    whole = sum(torch.nn.CosineEmbeddingLoss()(own, other, torch.ones(7)) for own, other in pairs)
    assert found.mean() == pytest.approx(float(whole) / (1 if over == "sum" else 2), rel=1e-5)


def test_attended_and_concatenated_states_are_compared_by_their_cosine_too() -> None:
    single = Concatenate(groups=((2,), (4,)), distance="cosine")
    given = matcher(single)
    own = [projected(lift, STUDENT[layer]) for lift, layer in zip(given.student, (1, 2), strict=True)]
    errors = [1 - (unit(state) * unit(TEACHER[layer])).sum(1) for state, layer in zip(own, (2, 4), strict=True)]
    np.testing.assert_allclose(loss(single, given), sum(errors) / 2, rtol=1e-4)
    attend, pairs = Attend(groups=((2,), (4,)), distance="cosine"), same(PAIRS, distance="cosine", over="sum")
    np.testing.assert_allclose(loss(attend), loss(pairs), rtol=1e-6)


@pytest.mark.parametrize("normalised", [False, True])
def test_concatenate_is_the_squared_error_to_the_concatenated_group(normalised: bool) -> None:
    structure = same(GROUPS, normalised=normalised)
    given, scaled = matcher(structure), unit if normalised else (lambda values: values)
    expected = np.zeros(7)
    for student, group, lift in zip((1, 2), ((1, 2, 3), (4, 0)), given.student, strict=True):
        target = np.concatenate([TEACHER[layer] for layer in group], axis=1)
        expected += ((scaled(projected(lift, STUDENT[student])) - scaled(target)) ** 2).mean(1) / 2
    np.testing.assert_allclose(loss(structure, given), expected, rtol=1e-5)


@pytest.mark.parametrize("normalised", [False, True])
def test_concatenate_of_single_layers_with_identity_projections_equals_pick(normalised: bool) -> None:
    single, pairs = Concatenate(groups=((2,), (4,)), normalised=normalised), same(PAIRS, normalised=normalised)
    given = matcher(single)
    with torch.no_grad():
        for lift in given.student:
            assert isinstance(lift, torch.nn.Linear)
            lift.weight.copy_(torch.eye(6))
            lift.bias.zero_()
    np.testing.assert_allclose(loss(single, given), loss(pairs), rtol=1e-6)


def test_the_loss_of_normalised_states_does_not_depend_on_their_scale() -> None:
    normalised = same(PAIRS, normalised=True)
    np.testing.assert_allclose(loss(normalised), loss(normalised, scale=37.0), rtol=1e-5)
    assert not np.allclose(loss(PAIRS), loss(PAIRS, scale=37.0))


@pytest.mark.parametrize("structure", [Pick(pairs=((1, 2),)), Attend(groups=((2,),)), Attend(groups=((2, 3),))])
@pytest.mark.parametrize("normalised", [False, True])
def test_equal_layers_have_loss_zero(structure: Structure, normalised: bool) -> None:
    outputs = {state_name(layer): torch.from_numpy(STUDENT[1]) for layer in (2, 3)}
    np.testing.assert_allclose(loss(same(structure, normalised=normalised), outputs=outputs), np.zeros(7), atol=1e-12)


def test_averaged_over_rows_pick_equals_mse_loss_of_all_pairs_concatenated() -> None:
    own = torch.stack([torch.from_numpy(STUDENT[layer]) for layer in (1, 2)], 1)
    whole = torch.nn.functional.mse_loss(own, torch.stack([OUTPUTS["hidden_02"], OUTPUTS["hidden_04"]], 1))
    assert loss(PAIRS).mean() == pytest.approx(float(whole), rel=1e-6)


# --- attend -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("width", [6, 9])
def test_attend_is_the_squared_error_to_the_attention_weighted_sum(scaled: bool, width: int) -> None:
    """alpha_jk = softmax_k(h_j . h_k), c_j = sum_k alpha_jk h_k, sum over j: the slides' formula."""
    structure, teacher = same(ATTEND, scaled=scaled), {6: TEACHER, 9: WIDER}[width]
    given, expected = matcher(structure, width), np.zeros(7)
    for place, (student, group) in enumerate(((1, (1, 2, 3)), (2, (4, 0)))):
        own = STUDENT[student] if width == 6 else projected(given.student[place], STUDENT[student])
        for row in range(7):
            products = np.array([own[row] @ teacher[layer][row] for layer in group])
            alpha = softmax(products / np.sqrt(width) if scaled else products)
            target = sum(share * teacher[layer][row] for share, layer in zip(alpha, group, strict=True))
            expected[row] += ((own[row] - target) ** 2).mean()
    np.testing.assert_allclose(loss(structure, given, outputs=outputs_on(teacher)), expected, rtol=1e-4)


def attended_by_hand(temperatures: tuple[float, float]) -> np.ndarray:
    """[7]: sum_j of the squared errors of ``ATTEND``, alpha = softmax_k(h_j . h_k / temperature of group j)."""
    expected = np.zeros(7)
    for (student, group), temperature in zip(((1, (1, 2, 3)), (2, (4, 0))), temperatures, strict=True):
        own, teacher = STUDENT[student], np.stack([TEACHER[layer] for layer in group], 1)
        alpha = softmax(np.einsum("bd,bkd->bk", own, teacher) / temperature)
        expected += ((own - np.einsum("bk,bkd->bd", alpha, teacher)) ** 2).mean(1)
    return expected


def test_a_temperature_divides_the_products_of_attention() -> None:
    assert not np.allclose(attended_by_hand((4.0, 4.0)), attended_by_hand((1.0, 1.0)), rtol=0.01)
    np.testing.assert_allclose(loss(ATTEND, temperature=4.0), attended_by_hand((4.0, 4.0)), rtol=1e-4)
    np.testing.assert_allclose(loss(ATTEND, temperature=0.5), attended_by_hand((0.5, 0.5)), rtol=1e-4)


def test_a_learned_temperature_is_one_positive_number_for_each_group_and_begins_at_one() -> None:
    structure = same(ATTEND, temperature="learned")
    given = matcher(structure)
    np.testing.assert_allclose(loss(structure, given), attended_by_hand((1.0, 1.0)), rtol=1e-4)
    assert given.log_temperatures is not None
    with torch.no_grad():
        given.log_temperatures.copy_(torch.tensor([-1.0, 2.0]))
    np.testing.assert_allclose(loss(structure, given), attended_by_hand((np.exp(-1.0), np.exp(2.0))), rtol=1e-4)


@pytest.mark.parametrize("detached", [False, True])
def test_the_gradient_of_a_learned_temperature_is_that_of_finite_differences(detached: bool) -> None:
    structure = same(ATTEND, temperature="learned", detached=detached)
    given = matcher(structure)
    states = {layer: torch.from_numpy(values) for layer, values in STUDENT.items()}
    given(MatchedRows(states, OUTPUTS, structure.layer_groups(), Workers(rows=7))).sum().backward()
    assert given.log_temperatures is not None
    assert given.log_temperatures.grad is not None
    small = np.exp(1e-3)
    for group, pair in enumerate((((small, 1.0), (1 / small, 1.0)), ((1.0, small), (1.0, 1 / small)))):
        higher, lower = (attended_by_hand(temperatures).sum() for temperatures in pair)
        expected = (higher - lower) / 2e-3
        assert float(given.log_temperatures.grad[group]) == pytest.approx(expected, rel=0.02, abs=1e-3)


def test_attention_weights_sum_to_one_over_a_group() -> None:
    for group in ATTEND.layer_groups():
        alpha = attention(torch.from_numpy(STUDENT[group.student]), stacked(group, OUTPUTS))
        assert alpha.shape == (7, len(group.teacher))
        np.testing.assert_allclose(alpha.sum(-1), np.ones(7), rtol=1e-6)
        assert bool((alpha > 0).all())


@pytest.mark.parametrize("normalised", [False, True])
def test_attend_to_groups_of_one_layer_equals_pick(normalised: bool) -> None:
    single, pairs = Attend(groups=((2,), (4,)), normalised=normalised), same(PAIRS, normalised=normalised, over="sum")
    np.testing.assert_allclose(loss(single), loss(pairs), rtol=1e-6)


def test_the_attention_weights_have_no_gradient_only_with_detached() -> None:
    gradients = {}
    for detached in (False, True):
        state = torch.from_numpy(STUDENT[1]).clone().requires_grad_(True)
        structure = Attend(groups=((1, 2, 3),), detached=detached)
        matcher(structure)(MatchedRows({1: state}, OUTPUTS, structure.layer_groups(), Workers(rows=7))).sum().backward()
        assert state.grad is not None
        gradients[detached] = state.grad.numpy()
        alpha = softmax(np.einsum("bd,bkd->bk", STUDENT[1], stacked(LayerGroup(1, (1, 2, 3)), OUTPUTS).numpy()))
        target = sum(alpha[:, place, None] * TEACHER[layer] for place, layer in enumerate((1, 2, 3)))
        plain = 2 * (STUDENT[1] - target) / 6
        assert np.allclose(gradients[detached], plain, rtol=1e-4, atol=1e-5) == detached


# --- drawn each epoch -------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [6, 9])
def test_random_is_the_squared_distance_of_unit_projections(width: int) -> None:
    structure, teacher = Random(layers=(1, 2, 3, 4), student_layers=(1, 2), width=5), {6: TEACHER, 9: WIDER}[width]
    given = matcher(structure, width)
    expected = np.zeros(7)
    for place, (student, layer) in enumerate(((1, 2), (2, 3))):
        own = unit(projected(given.student[place], STUDENT[student]))
        expected += ((own - unit(projected(given.teacher[place], teacher[layer]))) ** 2).sum(1)
    drawn = (LayerGroup(1, (2,)), LayerGroup(2, (3,)))
    np.testing.assert_allclose(loss(structure, given, outputs=outputs_on(teacher), groups=drawn), expected, rtol=1e-4)


def test_random_with_joined_projects_the_concatenated_layers() -> None:
    structure = Random(layers=(1, 2, 3, 4), student_layers=(1, 2), width=5, joined=True)
    given = matcher(structure)
    own = unit(projected(given.student[0], np.concatenate([STUDENT[1], STUDENT[2]], 1)))
    other = unit(projected(given.teacher[0], np.concatenate([TEACHER[1], TEACHER[4]], 1)))
    drawn = (LayerGroup(1, (1,)), LayerGroup(2, (4,)))
    np.testing.assert_allclose(loss(structure, given, groups=drawn), ((own - other) ** 2).sum(1), rtol=1e-4)


# --- outputs ----------------------------------------------------------------------------------------


def test_outputs_is_the_divergence_between_the_layer_classifiers() -> None:
    structure = Outputs(groups=((1, 2, 3), (4,)), temperature=2.0)
    given, expected = matcher(structure), np.zeros(7)
    for place, (student, group) in enumerate(((1, (1, 2, 3)), (2, (4,)))):
        own = projected(given.student[place], STUDENT[student])
        teacher = np.stack([LOGITS[layer] for layer in group], 1)
        alpha = softmax(np.einsum("bc,bkc->bk", own, teacher))
        target, student = softmax(np.einsum("bk,bkc->bc", alpha, teacher) / 2), softmax(own / 2)
        expected += 4 * (target * np.log(target / student)).sum(1) / 2
    np.testing.assert_allclose(loss(structure, given, outputs=outputs_on(LOGITS)), expected, rtol=1e-4)


def test_outputs_of_a_regression_is_the_squared_error() -> None:
    structure = Outputs(groups=((1,), (4,)))
    given = matcher(structure, outputs=1)
    numbers = {layer: values[:, :1] for layer, values in LOGITS.items()}
    errors = [(projected(given.student[j - 1], STUDENT[j]) - numbers[k])[:, 0] ** 2 for j, k in ((1, 1), (2, 4))]
    np.testing.assert_allclose(loss(structure, given, outputs=outputs_on(numbers)), sum(errors) / 2, rtol=1e-4)


# --- projections ------------------------------------------------------------------------------------


def shapes(structure: Structure, teacher_width: int) -> list[tuple[int, ...]]:
    """Of all matrices, the student's first."""
    given = matcher_of(structure, Widths((6,) * 9, dict.fromkeys(range(13), teacher_width), 3))
    return [tuple(value.shape) for value in given.parameters() if value.ndim == 2]


def test_layers_are_projected_where_widths_differ_or_the_structure_requires_it() -> None:
    assert shapes(PAIRS, 6) == shapes(ATTEND, 6) == shapes(NoLayers(), 0) == []
    assert shapes(PAIRS, 9) == shapes(ATTEND, 9) == [(9, 6), (9, 6)]
    assert shapes(GROUPS, 6) == [(18, 6), (12, 6)]
    assert shapes(Outputs(groups=((1,), (2,))), 0) == [(3, 6), (3, 6)]
    drawn = Random(layers=(1, 2), student_layers=(1, 2), width=4)
    assert shapes(drawn, 9) == [(4, 6), (4, 6), (4, 9), (4, 9)]
    assert shapes(same(drawn, joined=True), 9) == [(4, 12), (4, 18)]


def test_each_layer_has_a_width_of_its_own_and_a_group_with_several_can_only_be_concatenated() -> None:
    widths = Widths((4, 5, 6), {0: 7, 1: 8, 2: 8, 3: 9}, 3)

    def matrices(structure: Structure) -> list[tuple[int, ...]]:
        return [tuple(value.shape) for value in matcher_of(structure, widths).parameters() if value.ndim == 2]

    assert matrices(Pick(pairs=((1, 1), (2, 3)))) == [(8, 5), (9, 6)]
    assert matrices(Attend(groups=((1, 2), (3,)))) == [(8, 5), (9, 6)]
    assert matrices(Concatenate(groups=((0, 1), (2, 3)))) == [(15, 5), (17, 6)]
    assert matrices(Outputs(groups=((1,), (2,)))) == [(3, 5), (3, 6)]
    assert matrices(Random(layers=(1, 2), student_layers=(1, 2), width=4, joined=True)) == [(4, 11), (4, 16)]
    for structure in (Attend(groups=((0, 1), (3,))), Random(layers=(2, 3), student_layers=(1, 2))):
        with pytest.raises(ValueError, match=r"are \[\d, \d\] wide; group layers of one width"):
            matcher_of(structure, widths)


def test_a_group_is_concatenated_in_its_own_order() -> None:
    (found,) = concatenated((LayerGroup(1, (4, 0)),), OUTPUTS)
    np.testing.assert_array_equal(found.numpy(), np.concatenate([TEACHER[4], TEACHER[0]], axis=1))

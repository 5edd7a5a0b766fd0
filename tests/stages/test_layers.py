"""The loss between layers, against NumPy and by what must hold."""

import numpy as np
import pytest
import torch

from stages.groups import Group
from stages.layers import Lifts, followed, layer_error
from stages.structure import Concatenate, NoLayers, Pick, Structure, state_name

GENERATOR = np.random.Generator(np.random.PCG64(4))
STUDENT = {layer: GENERATOR.normal(size=(7, 6)).astype(np.float32) for layer in range(3)}
TEACHER = {layer: GENERATOR.normal(size=(7, 6)).astype(np.float32) for layer in range(5)}
STATES = {layer: torch.from_numpy(values) for layer, values in STUDENT.items()}
SAID = {state_name(layer): torch.from_numpy(values) for layer, values in TEACHER.items()}
PAIRS = Pick(pairs=((1, 2), (2, 4)))
GROUPS = Concatenate(groups=((1, 2, 3), (4, 0)))


def loss(structure: Structure, lifts: Lifts, normalised: bool = False, scale: float = 1.0) -> np.ndarray:
    states = {layer: scale * values for layer, values in STATES.items()}
    with torch.no_grad():
        return layer_error(lifts(states), followed(lifts.groups, SAID), normalised).numpy()


def unit(values: np.ndarray) -> np.ndarray:
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


@pytest.mark.parametrize("normalised", [False, True])
def test_picked_layers_cost_the_mean_squared_error_over_pairs_and_dimensions(normalised: bool) -> None:
    scaled = unit if normalised else (lambda values: values)
    errors = [(scaled(STUDENT[one]) - scaled(TEACHER[other])) ** 2 for one, other in ((1, 2), (2, 4))]
    expected = np.stack(errors, 1).reshape(7, -1).mean(1)
    np.testing.assert_allclose(loss(PAIRS, Lifts(PAIRS, 6, 6), normalised), expected, rtol=1e-5)


@pytest.mark.parametrize("normalised", [False, True])
def test_a_concatenation_costs_the_distance_of_the_lifted_layer_to_its_group_end_to_end(normalised: bool) -> None:
    lifts = Lifts(GROUPS, 6, 6)
    scaled = unit if normalised else (lambda values: values)
    expected = np.zeros(7)
    for student, group, lift in zip((1, 2), ((1, 2, 3), (4, 0)), lifts.each, strict=True):
        weight, bias = lift.weight.detach().numpy(), lift.bias.detach().numpy()
        target = np.concatenate([TEACHER[layer] for layer in group], axis=1)
        expected += ((scaled(STUDENT[student] @ weight.T + bias) - scaled(target)) ** 2).mean(1) / 2
    np.testing.assert_allclose(loss(GROUPS, lifts, normalised), expected, rtol=1e-5)


@pytest.mark.parametrize("normalised", [False, True])
def test_concatenation_of_one_layer_each_is_the_pick_where_the_projection_is_the_identity(normalised: bool) -> None:
    single = Concatenate(groups=((2,), (4,)))
    lifts = Lifts(single, 6, 6)
    with torch.no_grad():
        for lift in lifts.each:
            lift.weight.copy_(torch.eye(6))
            lift.bias.zero_()
    found, expected = loss(single, lifts, normalised), loss(PAIRS, Lifts(PAIRS, 6, 6), normalised)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_normalised_states_cost_the_same_at_any_scale() -> None:
    lifts = Lifts(PAIRS, 6, 6)
    np.testing.assert_allclose(loss(PAIRS, lifts, True, 1.0), loss(PAIRS, lifts, True, 37.0), rtol=1e-5)
    assert not np.allclose(loss(PAIRS, lifts, False, 1.0), loss(PAIRS, lifts, False, 37.0))


def test_equal_layers_cost_nothing() -> None:
    same = Pick(pairs=((1, 2),))
    lifts = Lifts(same, 6, 6)
    for normalised in (False, True):
        said = {state_name(2): STATES[1]}
        assert layer_error(lifts(STATES), followed(lifts.groups, said), normalised).tolist() == [0.0] * 7


def test_averaged_over_rows_it_is_torchs_mse_loss_of_all_pairs_side_by_side() -> None:
    whole = torch.nn.functional.mse_loss(
        torch.stack([STATES[1], STATES[2]], 1), torch.stack([SAID["hidden_02"], SAID["hidden_04"]], 1)
    )
    assert loss(PAIRS, Lifts(PAIRS, 6, 6)).mean() == pytest.approx(float(whole), rel=1e-6)


def test_a_picked_layer_is_lifted_only_where_widths_differ() -> None:
    assert sum(parameter.numel() for parameter in Lifts(PAIRS, 6, 6).parameters()) == 0
    assert [tuple(lift.weight.shape) for lift in Lifts(PAIRS, 6, 9).each] == [(9, 6), (9, 6)]
    assert [tuple(lift.weight.shape) for lift in Lifts(GROUPS, 6, 6).each] == [(18, 6), (12, 6)]
    assert not list(Lifts(NoLayers(), 6, 0).parameters())


def test_a_group_is_followed_in_the_order_it_is_given_in() -> None:
    (found,) = followed((Group(1, (4, 0)),), SAID)
    np.testing.assert_array_equal(found.numpy(), np.concatenate([TEACHER[4], TEACHER[0]], axis=1))

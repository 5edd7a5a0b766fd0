"""Networks for small images: what they compute, how many parameters they have, and how they are saved and loaded."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoModelForImageClassification, ResNetForImageClassification

from stages.images.networks import NETWORK_TYPES, shape_in
from stages.images.networks.loading import load_network, new_network
from stages.images.networks.network import ImageNetwork
from stages.images.networks.plain_cnn import plain_config
from stages.images.networks.resnet import CifarResnetConfig

Values = npt.NDArray[np.float64]


def resnet(depth: int = 8, seed: int = 0, **more: Any) -> ImageNetwork:
    torch.manual_seed(seed)
    return new_network(CifarResnetConfig(depth=depth, **{"num_labels": 10, **more})).eval()


def plain(depth: int = 2, stack: str = "cifar10", seed: int = 0, **more: Any) -> ImageNetwork:
    torch.manual_seed(seed)
    return new_network(plain_config(depth, stack, **{"num_labels": 10, **more})).eval()


def parameters(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def with_statistics(model: ImageNetwork) -> ImageNetwork:
    """The model with random means, variances and factors in its batch normalisations."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for values in (module.running_mean, module.bias):
                torch.nn.init.normal_(values)
            for values in (module.running_var, module.weight):
                torch.nn.init.uniform_(values, 0.5, 2.0)
    return model


# --- parameters -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("depth", "millions"), [(20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85), (110, 1.7)])
def test_residual_networks_have_the_parameters_of_the_paper_s_table_6(depth: int, millions: float) -> None:
    found = parameters(resnet(depth)) / 1e6
    assert found == pytest.approx(millions, abs=0.05 if depth == 110 else 0.005)


def test_a_padded_shortcut_has_no_parameters_and_projected_ones_have_two_convolutions_with_norms() -> None:
    assert parameters(resnet(20)) == 269_722
    more = parameters(resnet(20, shortcut="projected")) - parameters(resnet(20))
    assert more == (16 * 32 + 2 * 32) + (32 * 64 + 2 * 64)


@pytest.mark.parametrize("depth", [8, 14, 20, 32, 44, 56, 110])
def test_a_residual_network_of_depth_6n_plus_2_has_as_many_layers_with_weights(depth: int) -> None:
    model = resnet(depth)
    assert sum(isinstance(one, torch.nn.Conv2d | torch.nn.Linear) for one in model.modules()) == depth


@pytest.mark.parametrize("stack", ["cifar10", "cifar100"])
@pytest.mark.parametrize("depth", [2, 4, 6, 8, 10])
def test_a_plain_network_is_named_by_its_convolutions(depth: int, stack: str) -> None:
    model = plain(depth, stack)
    assert sum(isinstance(one, torch.nn.Conv2d) for one in model.modules()) == depth


def test_the_plain_networks_of_cifar_10_have_the_weights_of_their_published_stacks() -> None:
    two = (9 * 3 + 3) * 16 + (9 * 16 + 3) * 16 + (16 * 8 * 8 + 1) * 10
    assert parameters(plain(2)) == two
    ten = parameters(plain(10))
    convolutions = [3, 32, 32, 64, 64, 128, 128, 256, 256, 256, 256]
    counted = sum((9 * read + 3) * width for read, width in pairwise(convolutions))
    assert ten == counted + (256 * 2 * 2 + 1) * 128 + (128 + 1) * 10


EVERY = [
    *(pytest.param(lambda depth=depth: resnet(depth), id=f"resnet-{depth}") for depth in (8, 20)),
    pytest.param(lambda: resnet(8, shortcut="projected", num_channels=1, num_labels=3), id="resnet-8-projected"),
    *(
        pytest.param(lambda depth=depth, stack=stack: plain(depth, stack, num_labels=5), id=f"plain-{depth}-{stack}")
        for depth in (2, 4, 6, 8, 10)
        for stack in ("cifar10", "cifar100")
    ),
    pytest.param(lambda: plain(8, image_size=(28, 36), channels=1), id="plain-8-other-size"),
]


@pytest.mark.parametrize("make", EVERY)
def test_the_shape_that_planning_reads_off_a_configuration_is_that_of_the_model(make: Any) -> None:
    model = make()
    shape = shape_in(json.loads(model.config.to_json_string()))
    assert shape.parameters == parameters(model)
    height, width = shape.image_size or (32, 32)
    with torch.no_grad():
        found = model(torch.randn(2, shape.channels, height, width), output_hidden_states=True)
    assert tuple(maps.shape[1] for maps in found.hidden_states) == shape.widths
    assert len(found.hidden_states) == model.config.num_hidden_layers + 1
    assert found.logits.shape == (2, model.config.num_labels)


# --- what they compute ------------------------------------------------------------------------------------


def convolved(maps: Values, weights: Values, stride: int = 1, padding: int = 1) -> Values:
    """[B, O, H', W']: the convolution of maps [B, C, H, W] with weights [O, C, k, k]."""
    padded = np.pad(maps, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, weights.shape[2:], axis=(2, 3))
    return np.einsum("bchwij,ocij->bohw", windows[:, :, ::stride, ::stride], weights)


def normed(maps: Values, weights: dict[str, Values], name: str) -> Values:
    mean, variance, factor, shift = (
        weights[f"{name}.{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (maps - mean) / np.sqrt(variance + 1e-5) * factor + shift


def relu(values: Values) -> Values:
    return np.maximum(values, 0)


def weights_of(model: ImageNetwork) -> dict[str, Values]:
    return {name: value.double().numpy() for name, value in model.state_dict().items()}


def resnet_by_hand(model: ImageNetwork, pixels: Values, blocks: int) -> tuple[Values, list[Values]]:
    """Logits and maps of a residual network, by section 3.3 and 4.2 of the paper."""
    weights = weights_of(model)
    maps = [relu(normed(convolved(pixels, weights["backbone.stem.weight"]), weights, "backbone.stem_norm"))]
    for stage in range(3):
        found = maps[-1]
        for block in range(blocks):
            name, stride = f"backbone.stages.{stage}.{block}", 2 if stage and not block else 1
            inner = relu(
                normed(convolved(found, weights[f"{name}.first.weight"], stride), weights, f"{name}.first_norm")
            )
            inner = normed(convolved(inner, weights[f"{name}.second.weight"]), weights, f"{name}.second_norm")
            kept = found
            if stride == 2 and f"{name}.shortcut.0.weight" in weights:
                kept = normed(
                    convolved(found, weights[f"{name}.shortcut.0.weight"], 2, 0), weights, f"{name}.shortcut.1"
                )
            elif stride == 2:
                kept = np.zeros_like(inner)
                kept[:, : found.shape[1]] = found[:, :, ::2, ::2]
            found = relu(inner + kept)
        maps.append(found)
    return maps[-1].mean((2, 3)) @ weights["classifier.weight"].T + weights["classifier.bias"], maps


@pytest.mark.parametrize("shortcut", ["padded", "projected"])
@pytest.mark.parametrize("size", [(8, 8), (7, 10)])
def test_a_residual_network_computes_the_paper_s_layers(shortcut: str, size: tuple[int, int]) -> None:
    model = with_statistics(resnet(14, shortcut=shortcut, num_labels=4))
    pixels = np.random.default_rng(0).normal(size=(3, 3, *size))
    logits, maps = resnet_by_hand(model, pixels, blocks=2)
    with torch.no_grad():
        found = model.double()(torch.from_numpy(pixels), output_hidden_states=True)
    np.testing.assert_allclose(found.logits.numpy(), logits, rtol=1e-9, atol=1e-9)
    for one, other in zip(found.hidden_states, maps, strict=True):
        np.testing.assert_allclose(one.numpy(), other, rtol=1e-9, atol=1e-9)


def plain_by_hand(model: ImageNetwork, pixels: Values) -> tuple[Values, list[Values]]:
    """Logits and maps of a plain network: C and M of its stack in order, then the fully connected layers."""
    weights, config = weights_of(model), model.config
    found, maps = pixels, []
    for block, widths in enumerate(config.blocks):
        for layer in range(len(widths)):
            name = f"backbone.blocks.{block}.convolutions.{layer}"
            found = convolved(found, weights[f"{name}.0.weight"]) + weights[f"{name}.0.bias"][:, None, None]
            found = relu(normed(found, weights, f"{name}.1"))
            maps += [found] if not maps else []
        if config.last_pool or block < len(config.blocks) - 1:
            height, width = (side // 2 * 2 for side in found.shape[2:])
            windows = found[:, :, :height, :width].reshape(*found.shape[:2], height // 2, 2, width // 2, 2)
            found = windows.max((3, 5))
        maps.append(found)
    features = found.reshape(len(found), -1)
    for layer in range(len(config.fc_sizes)):
        name = f"backbone.fully_connected.{layer}"
        features = relu(features @ weights[f"{name}.weight"].T + weights[f"{name}.bias"])
    return features @ weights["classifier.weight"].T + weights["classifier.bias"], maps


@pytest.mark.parametrize(
    ("depth", "stack", "size"), [(2, "cifar10", (8, 8)), (6, "cifar100", (9, 10)), (8, "cifar10", (16, 28))]
)
def test_a_plain_network_computes_the_layers_of_its_stack(depth: int, stack: str, size: tuple[int, int]) -> None:
    model = with_statistics(plain(depth, stack, image_size=size, channels=2))
    pixels = np.random.default_rng(0).normal(size=(3, 2, *size))
    logits, maps = plain_by_hand(model, pixels)
    with torch.no_grad():
        found = model.double()(torch.from_numpy(pixels), output_hidden_states=True)
    np.testing.assert_allclose(found.logits.numpy(), logits, rtol=1e-9, atol=1e-9)
    for one, other in zip(found.hidden_states, maps, strict=True):
        np.testing.assert_allclose(one.numpy(), other, rtol=1e-9, atol=1e-9)


def test_hidden_states_are_given_where_they_are_requested_alone_and_a_loss_where_there_are_labels() -> None:
    model, pixels = resnet(), torch.randn(4, 3, 32, 32)
    found = model(pixels)
    assert found.hidden_states is None and found.loss is None
    labels = torch.tensor([0, 1, 2, 9])
    loss = model(pixels=None, pixel_values=pixels, labels=labels).loss
    torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(found.logits, labels))


@pytest.mark.parametrize("make", [resnet, plain])
def test_every_parameter_of_a_network_is_trained(make: Any) -> None:
    model = make(8).train()
    model(torch.randn(4, 3, 32, 32), labels=torch.tensor([0, 1, 2, 3])).loss.backward()
    untouched = [name for name, one in model.named_parameters() if one.grad is None or not one.grad.any()]
    # The bias of a convolution before a batch normalisation is taken out again by it.
    assert [name for name in untouched if not name.endswith(".0.bias")] == []


# --- first weights ------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [resnet, plain])
def test_first_weights_depend_on_torch_s_seed_alone(make: Any) -> None:
    one, again, other = (make(8, seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(value, again[name]) for name, value in one.items())
    assert not torch.equal(one["classifier.weight"], other["classifier.weight"])


@pytest.mark.parametrize("make", [resnet, plain])
def test_first_weights_have_the_variance_of_he_et_al_and_biases_of_zero(make: Any) -> None:
    model = make(20) if make is resnet else make(10)
    layers = [one for one in model.modules() if isinstance(one, torch.nn.Conv2d | torch.nn.Linear)]
    for layer in layers:
        fan_in = layer.weight[0].numel()
        if layer.weight.numel() > 2000:
            assert layer.weight.std().item() == pytest.approx((2 / fan_in) ** 0.5, rel=0.06)
        assert layer.bias is None or not layer.bias.any()
    norms = [one for one in model.modules() if isinstance(one, torch.nn.BatchNorm2d)]
    assert all(bool((one.weight == 1).all()) and not one.bias.any() for one in norms)


# --- refused ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: resnet(18), "depth: 18 is not 6n"),
        (lambda: resnet(2), "depth: 2 is not 6n"),
        (lambda: resnet(8, shortcut="none"), "shortcut: 'none' is unknown; use one of padded, projected"),
        (lambda: plain(3), "depth: there is no plain CNN of 3 layers; use one of 2, 4, 6, 8, 10"),
        (lambda: plain(2, "svhn"), "stack: 'svhn' is unknown; use one of cifar10, cifar100"),
        (lambda: plain(8, image_size=(8, 32)), "image_size: 8 x 32 is too small for 4 pools"),
        (lambda: resnet()(torch.zeros(1, 1, 32, 32)), "pixel_values: of shape .1, 1, 32, 32."),
        (lambda: plain()(torch.zeros(1, 3, 28, 28)), "images of 28 x 28; this plain CNN reads 32 x 32"),
    ],
)
def test_what_fits_no_network_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


# --- saved and loaded ------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", EVERY)
def test_a_saved_network_loads_as_it_was(make: Any, tmp_path: Path) -> None:
    model = with_statistics(make())
    model.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "model.images.safetensors"}
    loaded = load_network(tmp_path)
    assert not loaded.training
    assert loaded.config.to_dict() | {"_name_or_path": ""} == model.config.to_dict() | {"_name_or_path": ""}
    states = loaded.state_dict()
    assert all(torch.equal(value, states[name]) for name, value in model.state_dict().items())


def test_a_changed_number_of_labels_replaces_the_classifier_alone(tmp_path: Path) -> None:
    model = with_statistics(resnet())
    model.save_pretrained(tmp_path)
    names = ["cat", "dog", "cow"]
    loaded = load_network(tmp_path, num_labels=3, id2label=dict(enumerate(names)))
    assert loaded.classifier.weight.shape == (3, 64)
    assert list(loaded.config.id2label.values()) == names
    assert torch.equal(loaded.backbone.stem.weight, model.backbone.stem.weight)


@pytest.mark.parametrize("make", [resnet, plain])
def test_transformers_refuses_the_model_types_rather_than_load_random_weights(make: Any, tmp_path: Path) -> None:
    make().save_pretrained(tmp_path)
    for auto in (AutoConfig, AutoModel, AutoModelForImageClassification):
        with pytest.raises(ValueError, match="stillhouse-"):
            auto.from_pretrained(tmp_path)
    with pytest.raises(OSError):
        ResNetForImageClassification.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda home: (home / "config.json").unlink(), "no config.json here"),
        (lambda home: (home / "config.json").write_text("{"), "does not describe a network for images"),
        (lambda home: (home / "config.json").write_text("[]"), "does not describe a network for images"),
        (lambda home: (home / "config.json").write_text('{"model_type": "bert"}'), "'bert' is no network for images"),
        (lambda home: (home / "config.json").write_text(f'{{"model_type": "{NETWORK_TYPES[0]}"}}'), "no field 'short"),
        (lambda home: (home / "model.images.safetensors").unlink(), "no weights that load"),
        (lambda home: (home / "model.images.safetensors").write_bytes(b"not weights"), "no weights that load"),
        (lambda home: changed(home, depth=14), "the weights lack backbone.stages.0.1.first.weight"),
        (lambda home: changed(home, num_channels=1), "the weights lack backbone.stem.weight"),
    ],
)
def test_a_directory_without_a_whole_network_is_refused_in_one_line(damage: Any, message: str, tmp_path: Path) -> None:
    resnet().save_pretrained(tmp_path)
    damage(tmp_path)
    with pytest.raises(ValueError, match=message) as caught:
        load_network(tmp_path)
    assert "\n" not in str(caught.value)


def changed(home: Path, **fields: object) -> None:
    path = home / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))

"""The networks for small images by name: their layers, widths and numbers of parameters. Needs the standard library
only, so that planning stays light."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

RESNET = "stillhouse-resnet-cifar"
"""The ``model_type`` in the ``config.json`` of a residual network. The ``Auto`` classes of transformers refuse it."""

PLAIN_CNN = "stillhouse-plain-cnn"
"""The ``model_type`` in the ``config.json`` of a plain network. The ``Auto`` classes of transformers refuse it."""

NETWORK_TYPES = (RESNET, PLAIN_CNN)

NETWORK_VARIANT = "images"
"""The variant, as transformers calls it, under which the weights of both are saved: in ``model.images.safetensors``. A
concrete class, such as ``ResNetForImageClassification``, does not read ``model_type``; it raises OSError because it
finds no weights."""

Shortcut = Literal["padded", "projected"]
"""What a residual block adds where its maps have another shape than those that it reads (He et al. 2016, section 3.3).
``padded``, their option A, which has no parameters: every second row and column, and channels of zeros after the
others. ``projected``, their option B, as in the code of TAKD: a 1x1 convolution with a batch normalisation."""

STEM_WIDTH = 16
STAGE_WIDTHS = (16, 32, 64)
"""The channels of the three stages of a residual network for CIFAR (He et al. 2016, section 4.2)."""


@dataclass(frozen=True, slots=True)
class PlainStack:
    """The layers of a plain network: the widths of the convolutions of each block, and of the fully connected layers
    before the classifier. A max pool of 2x2 ends each block; the last one's is left out without ``last_pool``."""

    blocks: tuple[tuple[int, ...], ...]
    fc_sizes: tuple[int, ...] = ()
    last_pool: bool = True

    @property
    def pools(self) -> int:
        """The number of max pools, each of which halves height and width."""
        return len(self.blocks) - (not self.last_pool)


Stack = Literal["cifar10", "cifar100"]
"""For which data set a plain network has its widths."""

PLAIN_STACKS: Mapping[Stack, Mapping[int, PlainStack]] = {
    "cifar10": {
        2: PlainStack(((16,), (16,))),
        4: PlainStack(((16, 16), (32, 32))),
        6: PlainStack(((16, 16), (32, 32), (64, 64))),
        8: PlainStack(((16, 16), (32, 32), (64, 64), (128, 128)), (64,)),
        10: PlainStack(((32, 32), (64, 64), (128, 128), (256, 256, 256, 256)), (128,)),
    },
    "cifar100": {
        2: PlainStack(((32,), (32,))),
        4: PlainStack(((32, 32), (64, 64))),
        6: PlainStack(((32, 32), (64, 64), (128, 128)), last_pool=False),
        8: PlainStack(((32, 32), (64, 64), (128, 128), (256, 256)), (64,)),
        10: PlainStack(((32, 32), (64, 64), (128, 128), (256, 256, 256, 256)), (512,)),
    },
}
"""Data set -> number of convolutions -> the layers of the plain network of Mirzadeh et al. 2020 (TAKD), as in their
code."""


@dataclass(frozen=True, slots=True)
class NetworkShape:
    """``widths``: the channels of each hidden state, that of the stem and one for each stage or block. ``channels``: of
    an image. ``image_size``: the height and width of the images that the network reads; None for any."""

    widths: tuple[int, ...]
    channels: int
    image_size: tuple[int, int] | None
    parameters: int


def blocks_of_depth(depth: int) -> int:
    """The number n of residual blocks in each of the three stages of a network of ``depth`` = 6n + 2 layers. Raises
    ValueError for a depth that has no such n."""
    if depth < 8 or depth % 6 != 2:
        raise ValueError(
            f"depth: {depth} is not 6n + 2, as a ResNet for CIFAR has; use one of 8, 14, 20, 32, 44, 56, 110"
        )
    return (depth - 2) // 6


def check_shortcut(shortcut: str) -> None:
    """Raise ValueError for a shortcut that there is not."""
    if shortcut not in get_args(Shortcut):
        raise ValueError(f"shortcut: {shortcut!r} is unknown; use one of {', '.join(get_args(Shortcut))}")


def plain_stack(depth: int, stack: str) -> PlainStack:
    """The layers of the plain network with ``depth`` convolutions for the data set ``stack``. Raises ValueError where
    there is none."""
    stacks = {str(name): depths for name, depths in PLAIN_STACKS.items()}
    if stack not in stacks:
        raise ValueError(f"stack: {stack!r} is unknown; use one of {', '.join(stacks)}")
    if depth not in stacks[stack]:
        raise ValueError(
            f"depth: there is no plain CNN of {depth} layers; use one of {', '.join(map(str, stacks[stack]))}"
        )
    return stacks[stack][depth]


def pooled_size(image_size: Sequence[int], pools: int) -> tuple[int, int]:
    """Height and width of maps after ``pools`` max pools of 2x2; where a side is odd, a pool leaves out its last row or
    column. Raises ValueError where nothing would be left."""
    height, width = image_size
    if min(height, width) < 2**pools:
        raise ValueError(
            f"image_size: {height} x {width} is too small for {pools} pools, which need {2**pools} x {2**pools}; use a "
            "network of fewer layers, or larger images"
        )
    return height >> pools, width >> pools


def resnet_shape(depth: int, channels: int, outputs: int, shortcut: Shortcut = "padded") -> NetworkShape:
    """The shape of a residual network with ``outputs`` logits. Raises ValueError as ``blocks_of_depth`` does."""
    blocks, read = blocks_of_depth(depth), STEM_WIDTH
    parameters = 9 * channels * STEM_WIDTH + 2 * STEM_WIDTH
    for width in STAGE_WIDTHS:
        if shortcut == "projected" and read != width:
            parameters += read * width + 2 * width
        for _ in range(blocks):
            parameters += 9 * read * width + 9 * width * width + 4 * width
            read = width
    return NetworkShape((STEM_WIDTH, *STAGE_WIDTHS), channels, None, parameters + (read + 1) * outputs)


def plain_shape(stack: PlainStack, channels: int, outputs: int, image_size: tuple[int, int]) -> NetworkShape:
    """The shape of a plain network with ``outputs`` logits. Raises ValueError as ``pooled_size`` does."""
    height, width = pooled_size(image_size, stack.pools)
    parameters, read = 0, channels
    for convolution in (size for block in stack.blocks for size in block):
        parameters += (9 * read + 1) * convolution + 2 * convolution
        read = convolution
    features = read * height * width
    for size in (*stack.fc_sizes, outputs):
        parameters += (features + 1) * size
        features = size
    widths = (stack.blocks[0][0], *(block[-1] for block in stack.blocks))
    return NetworkShape(widths, channels, image_size, parameters)


def network_shape(
    family: str, depth: int, shortcut: Shortcut, stack: str, channels: int, outputs: int, image_size: tuple[int, int]
) -> NetworkShape:
    """The shape of a network by the fields of its spec (``stages.specs.student.Network``), for images of this size.
    Raises ValueError where there is none."""
    if family == "resnet":
        return resnet_shape(depth, channels, outputs, shortcut)
    return plain_shape(plain_stack(depth, stack), channels, outputs, image_size)


def shape_in(config: Mapping[str, Any]) -> NetworkShape:
    """The shape of the network that a ``config.json`` of one of ``NETWORK_TYPES`` describes. Raises ValueError for
    another ``model_type``, and where the values fit no network."""
    outputs = len(config["id2label"]) if "id2label" in config else int(config.get("num_labels", 2))
    model_type, channels = config.get("model_type"), config.get("num_channels", 3)
    if model_type == RESNET:
        check_shortcut(config["shortcut"])
        return resnet_shape(config["depth"], channels, outputs, config["shortcut"])
    if model_type == PLAIN_CNN:
        height, width = config["image_size"]
        return plain_shape(stack_in(config), channels, outputs, (height, width))
    raise ValueError(f"model_type: {model_type!r} is no network for images; use one of {', '.join(NETWORK_TYPES)}")


def stack_in(config: Mapping[str, Any]) -> PlainStack:
    """The layers in the fields of a plain network's configuration."""
    blocks = tuple(tuple(block) for block in config["blocks"])
    return PlainStack(blocks, tuple(config["fc_sizes"]), config["last_pool"])

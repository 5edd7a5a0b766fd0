"""Plain convolutional networks of 2 to 10 layers, as Mirzadeh et al. 2020 distil ("Improved Knowledge Distillation via
Teacher Assistant")."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig

from stages.images.networks.description import PLAIN_CNN, PlainStack, plain_stack, pooled_size, stack_in
from stages.images.networks.network import ImageNetwork


class PlainCnnConfig(PreTrainedConfig):
    """The configuration of a ``PlainCnnForImageClassification``: the widths of the convolutions of each block, those of
    the fully connected layers, and whether a pool ends the last block, as in ``PlainStack``; ``image_size``, the height
    and width of the images that it reads, and their number of channels. ``num_hidden_layers`` is the number of blocks,
    whose maps a method can match."""

    model_type = PLAIN_CNN

    blocks: list[list[int]] | tuple[tuple[int, ...], ...] = ((16,), (16,))
    fc_sizes: list[int] | tuple[int, ...] = ()
    last_pool: bool = True
    image_size: list[int] | tuple[int, ...] = (32, 32)
    num_channels: int = 3
    num_hidden_layers: int = 2


def plain_config(
    depth: int, stack: str, image_size: tuple[int, int] = (32, 32), channels: int = 3, **more: Any
) -> PlainCnnConfig:
    """The configuration of the plain network with ``depth`` convolutions and the widths for the data set ``stack``,
    cifar10 or cifar100. ``more`` are fields of every configuration of transformers, such as ``num_labels``. Raises
    ValueError where there is no such network, or where the images are too small for it."""
    layers = plain_stack(depth, stack)
    pooled_size(image_size, layers.pools)
    return PlainCnnConfig(
        blocks=[list(block) for block in layers.blocks],
        fc_sizes=list(layers.fc_sizes),
        last_pool=layers.last_pool,
        image_size=list(image_size),
        num_channels=channels,
        num_hidden_layers=len(layers.blocks),
        **more,
    )


class PlainBlock(nn.Module):
    """3x3 convolutions with bias, each with a batch normalisation and a ReLU, and then a max pool of 2x2."""

    def __init__(self, read: int, widths: tuple[int, ...], pool: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width in widths:
            layers.append(nn.Sequential(nn.Conv2d(read, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()))
            read = width
        self.convolutions = nn.ModuleList(layers)
        self.pool = nn.MaxPool2d(2) if pool else nn.Identity()

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """The maps of the first convolution, and those of the block."""
        first = maps = self.convolutions[0](maps)
        for convolution in self.convolutions[1:]:
            maps = convolution(maps)
        return first, self.pool(maps)


class PlainBackbone(nn.Module):
    """The blocks, and the fully connected layers with ReLU, which read the last maps as one vector."""

    def __init__(self, stack: PlainStack, channels: int, image_size: tuple[int, int]) -> None:
        super().__init__()
        read, blocks = channels, []
        for number, widths in enumerate(stack.blocks):
            blocks.append(PlainBlock(read, widths, stack.last_pool or number < len(stack.blocks) - 1))
            read = widths[-1]
        self.blocks = nn.ModuleList(blocks)
        height, width = pooled_size(image_size, stack.pools)
        self.features = read * height * width
        layers = []
        for size in stack.fc_sizes:
            layers.append(nn.Linear(self.features, size))
            self.features = size
        self.fully_connected = nn.ModuleList(layers)

    def forward(self, pixels: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The features [B, F]; and the maps of the stem, which is the first convolution, and of the blocks, each after
        its pool."""
        stem, maps = self.blocks[0](pixels)
        states = [stem, maps]
        for block in self.blocks[1:]:
            _, maps = block(maps)
            states.append(maps)
        features_BF = maps.flatten(1)
        for layer in self.fully_connected:
            features_BF = torch.relu(layer(features_BF))
        return features_BF, states


class PlainCnnForImageClassification(ImageNetwork):
    """A plain network for images of one size."""

    config_class = PlainCnnConfig

    def __init__(self, config: PlainCnnConfig) -> None:
        height, width = config.image_size
        backbone = PlainBackbone(stack_in(vars(config)), config.num_channels, (height, width))
        super().__init__(config, backbone, backbone.features)

    def forward(self, pixel_values: Tensor, *args: Any, **more: Any) -> Any:
        """As ``ImageNetwork``. Raises ValueError for images of another size than ``image_size``."""
        if list(pixel_values.shape[2:]) != list(self.config.image_size):
            given, own = (" x ".join(map(str, size)) for size in (pixel_values.shape[2:], self.config.image_size))
            raise ValueError(f"pixel_values: images of {given}; this plain CNN reads {own}; make one for their size")
        return super().forward(pixel_values, *args, **more)

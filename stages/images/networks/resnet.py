"""Residual networks for images of 32 x 32 (He et al. 2016, "Deep Residual Learning for Image Recognition", section
4.2)."""

from typing import cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig

from stages.images.networks.description import (
    RESNET,
    STAGE_WIDTHS,
    STEM_WIDTH,
    Shortcut,
    blocks_of_depth,
    check_shortcut,
)
from stages.images.networks.network import ImageNetwork


class CifarResnetConfig(PreTrainedConfig):
    """The configuration of a ``CifarResnetForImageClassification``: ``depth`` layers, 6n + 2 for three stages of n
    blocks of two convolutions; the number of channels of an image; the kind of ``Shortcut``. ``num_hidden_layers`` is
    the number of stages, whose maps a method can match."""

    model_type = RESNET

    depth: int = 20
    num_channels: int = 3
    shortcut: str = "padded"
    num_hidden_layers: int = len(STAGE_WIDTHS)


class ResidualBlock(nn.Module):
    """relu(F(x) + shortcut(x)), where F is two 3x3 convolutions, each with a batch normalisation, and a ReLU between
    them. The first convolution has the block's stride."""

    def __init__(self, read: int, width: int, stride: int, shortcut: Shortcut) -> None:
        super().__init__()
        self.first = nn.Conv2d(read, width, 3, stride=stride, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(width)
        self.second = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(width)
        self.shortcut = _shortcut(read, width, stride, shortcut)

    def forward(self, maps: Tensor) -> Tensor:
        """The block's maps [B, width, H / stride, W / stride], rounded up, of ``maps`` [B, read, H, W]."""
        found = torch.relu(self.first_norm(self.first(maps)))
        return torch.relu(self.second_norm(self.second(found)) + self.shortcut(maps))


class PaddedShortcut(nn.Module):
    """Every ``stride``-th row and column, and ``more`` channels of zeros after the others: option A of He et al., which
    has no parameters."""

    def __init__(self, stride: int, more: int) -> None:
        super().__init__()
        self.stride, self.more = stride, more

    def forward(self, maps: Tensor) -> Tensor:
        """[B, C + more, H / stride, W / stride] of ``maps`` [B, C, H, W]."""
        return nn.functional.pad(maps[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.more))


def _shortcut(read: int, width: int, stride: int, kind: Shortcut) -> nn.Module:
    if stride == 1 and read == width:
        return nn.Identity()
    if kind == "padded":
        return PaddedShortcut(stride, width - read)
    return nn.Sequential(nn.Conv2d(read, width, 1, stride=stride, bias=False), nn.BatchNorm2d(width))


class ResnetBackbone(nn.Module):
    """A 3x3 convolution with batch normalisation and ReLU, the stem; three stages of blocks, the second and third of
    which begin with a stride of 2; and the mean over all positions of the last maps."""

    def __init__(self, config: CifarResnetConfig) -> None:
        super().__init__()
        check_shortcut(config.shortcut)
        blocks, shortcut = blocks_of_depth(config.depth), cast(Shortcut, config.shortcut)
        self.stem = nn.Conv2d(config.num_channels, STEM_WIDTH, 3, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(STEM_WIDTH)
        stages, read = [], STEM_WIDTH
        for number, width in enumerate(STAGE_WIDTHS):
            first = ResidualBlock(read, width, 1 if number == 0 else 2, shortcut)
            others = (ResidualBlock(width, width, 1, shortcut) for _ in range(blocks - 1))
            stages.append(nn.Sequential(first, *others))
            read = width
        self.stages = nn.ModuleList(stages)

    def forward(self, pixels: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The features [B, 64], and the maps of the stem [B, 16, H, W] and of the stages: [B, 16, H, W],
        [B, 32, H / 2, W / 2], [B, 64, H / 4, W / 4], where halves are rounded up."""
        maps = [torch.relu(self.stem_norm(self.stem(pixels)))]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        return maps[-1].mean((2, 3)), maps


class CifarResnetForImageClassification(ImageNetwork):
    """A residual network for small images of any size: ResNet-8, -14, -20, -32, -44, -56, -110."""

    config_class = CifarResnetConfig

    def __init__(self, config: CifarResnetConfig) -> None:
        super().__init__(config, ResnetBackbone(config), STAGE_WIDTHS[-1])

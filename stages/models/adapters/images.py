"""Models that read pixels."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from stages.images.networks import NETWORK_TYPES, shape_in
from stages.images.pixel_rows import PIXEL_VALUES
from stages.models.adapters.protocol import ForwardOutputs
from stages.models.architectures import VISION_TRANSFORMERS
from stages.models.embeddings.words import unwrapped

IMAGES_PER_PASS = {"cpu": 64, "cuda": 2048}
"""Images of one forward pass, by kind of device; on a CPU, for each thread."""


class ImageAdapter:
    """Networks of this project, and classifiers of images of transformers, on ``pixel_values``."""

    def outputs(self, model: nn.Module, inputs: Mapping[str, Tensor], hidden: bool) -> ForwardOutputs:
        """See ``Adapter.outputs``. The states of maps [B, C, H, W] are [B, H * W, C], one for each position, and those
        of a vision transformer [B, T, H] are as they are. All positions count.

        Pixels are handed over with the channels last, which takes a third off a training step on a CPU.
        """
        pixels = inputs[PIXEL_VALUES].contiguous(memory_format=torch.channels_last)
        result = model(pixel_values=pixels, output_hidden_states=hidden)
        states = tuple(_positions(state) for state in result.hidden_states) if hidden else ()
        return ForwardOutputs(result.logits, states, None)

    def widths(self, model: nn.Module) -> tuple[int, ...]:
        """The channels of the stem and of each stage or block; the hidden size of each layer of a vision transformer.
        Other models have no layers that could be matched."""
        config = unwrapped(model).config
        if config.model_type in NETWORK_TYPES:
            return shape_in(config.to_dict()).widths
        if config.model_type in VISION_TRANSFORMERS:
            return (int(config.hidden_size),) * (1 + int(config.num_hidden_layers))
        return (1,)

    def pass_cost(self, device: str, threads: int) -> int:
        """Images of one forward pass."""
        kind = device.split(":")[0]
        return IMAGES_PER_PASS[kind] * (threads if kind == "cpu" else 1)


def _positions(state: Tensor) -> Tensor:
    return state.flatten(2).transpose(1, 2) if state.ndim == 4 else state

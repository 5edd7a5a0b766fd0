"""The GPUs that torch can use on this machine."""

from typing import NamedTuple


class Gpu(NamedTuple):
    """A GPU, and its bytes of memory."""

    name: str
    memory: int


def usable_gpus() -> list[Gpu]:
    """The GPUs that torch can use; [] for a torch that was built without CUDA. Imports torch."""
    import torch

    found = map(torch.cuda.get_device_properties, range(torch.cuda.device_count()))
    return [Gpu(one.name, one.total_memory) for one in found]

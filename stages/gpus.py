"""The GPUs that torch can use on this machine."""

import re
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


def gpu_problem(device: str) -> str | None:
    """Why torch cannot use the GPU ``device`` of this machine, in the words that follow "but"; None if it can."""
    if not re.fullmatch(r"cuda:\d+", device):
        return "a GPU is named cuda:0, cuda:1 and so on"
    count = len(usable_gpus())
    if not count:
        return "torch finds no GPU on this machine; leave it out"
    if int(device.removeprefix("cuda:")) >= count:
        return f"the GPUs of this machine are cuda:0 to cuda:{count - 1}"
    return None

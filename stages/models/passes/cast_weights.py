"""Weights of linear layers cast for autocast all at once. Autocast itself casts each weight and bias where it is read,
and each of their gradients back: four small kernels a layer, which cost a GPU more to start than to run."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call


class CastWeights(nn.Module):
    """``model``, whose forward pass under autocast reads copies of the trained weights of its linear layers in
    autocast's number type. Outputs and gradients are those of ``model`` itself, bit for bit, as autocast casts the same
    weights; only that a weight which several layers share would get the sum of its gradients in that type, and so is
    left to autocast. Without autocast, ``model`` runs as it is."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.names = cast_names(model)

    def forward(self, **inputs: Any) -> Any:
        kind = next(iter(inputs.values())).device.type
        if not torch.is_autocast_enabled(kind):
            return self.model(**inputs)
        parameters = dict(self.model.named_parameters())
        copies = _CastAll.apply(torch.get_autocast_dtype(kind), *(parameters[name] for name in self.names))
        return functional_call(self.model, dict(zip(self.names, copies, strict=True)), (), inputs)


def cast_names(model: nn.Module) -> list[str]:
    """The names of the parameters that one linear layer of ``model`` alone reads and that are trained."""
    readers: dict[nn.Parameter, int] = {}
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            readers[parameter] = readers.get(parameter, 0) + 1
    return [
        f"{prefix}.{name}" if prefix else name
        for prefix, module in model.named_modules()
        if type(module) is nn.Linear
        for name, parameter in module.named_parameters(recurse=False)
        if parameter.requires_grad and readers[parameter] == 1
    ]


class _CastAll(torch.autograd.Function):
    """Copies of tensors in another number type, by one kernel for many of them."""

    @staticmethod
    def forward(ctx: Any, dtype: torch.dtype, *weights: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)  # a weight that was not read has no gradient, rather than one of zeros
        ctx.dtypes = [weight.dtype for weight in weights]
        return tuple(_cast(list(weights), [dtype] * len(weights)))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        given = [number for number, gradient in enumerate(gradients) if gradient is not None]
        cast = _cast([gradients[number] for number in given], [ctx.dtypes[number] for number in given])
        found: list[Tensor | None] = [None] * len(gradients)
        for number, gradient in zip(given, cast, strict=True):
            found[number] = gradient
        return (None, *found)


def _cast(tensors: list[Any], dtypes: list[torch.dtype]) -> list[Tensor]:
    copies = [torch.empty_like(tensor, dtype=dtype) for tensor, dtype in zip(tensors, dtypes, strict=True)]
    if copies:
        torch._foreach_copy_(copies, tensors)
    return copies

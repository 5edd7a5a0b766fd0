"""The teachers' models beside their stores, for rows that no store can hold, because they are made while training.

They are in eval mode and their weights are never trained. Shapes: B rows, C classes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from stages.models.architectures import UNPADDED
from stages.models.by_task import load
from stages.models.cutting import reorder_outputs
from stages.models.embeddings.words import unwrapped
from stages.models.forward import forward
from stages.models.passes.unpadded import compute_tokens_only
from stages.models.predict import autocast
from stages.specs.input_names import LIVE, one_or_in_order
from stages.specs.schedule import OutputRequest
from stages.specs.student import DistilSpec
from stages.training.teachers import temperatures


@dataclass(frozen=True, slots=True)
class LiveTeachers:
    """The models of the teachers, in the order of their stores and with the task's order of labels. ``temperatures``
    has a number for each, by which its logits are divided as those of its store are; () for logits as they are."""

    models: Sequence[nn.Module]
    precision: str
    device: str
    temperatures: Sequence[float] = ()

    def logits(self, inputs: Callable[[nn.Module], Mapping[str, Tensor]], request: OutputRequest) -> Tensor:
        """[B, C]: the mean of the requested teachers' logits, weighted by their shares, in float32. ``inputs`` gives
        those of each model. Call it under ``torch.no_grad`` where no gradient is needed."""
        weighted = [
            self._logits_of(number, inputs) * (1.0 if len(request.logits) == 1 else share)
            for number, share in request.logits
        ]
        total = weighted[0]
        for logits_BC in weighted[1:]:
            total = total + logits_BC
        return total

    def logits_and_states(
        self, inputs: Callable[[nn.Module], Mapping[str, Tensor]]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """As ``logits``, of a single teacher, and the states [B, T, H] of its embeddings and of each layer."""
        assert len(self.models) == 1, "methods that follow layers have one teacher"
        return self._outputs_of(0, inputs, hidden=True)

    def _logits_of(self, number: int, inputs: Callable[[nn.Module], Mapping[str, Tensor]]) -> Tensor:
        return self._outputs_of(number, inputs)[0]

    def _outputs_of(
        self, number: int, inputs: Callable[[nn.Module], Mapping[str, Tensor]], hidden: bool = False
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        model = self.models[number]
        with autocast(self.device, self.precision):
            found = forward(model, inputs(model), hidden=hidden)
        logits_BC = found.logits.float()
        return (logits_BC / self.temperatures[number] if self.temperatures else logits_BC), found.states


def open_live_teachers(spec: DistilSpec, inputs: Mapping[str, Path], device: str) -> LiveTeachers | None:
    """The teachers' models on ``device``, frozen and in eval mode; None if the method runs none."""
    if not spec.method.needs_live_teacher:
        return None
    directories = one_or_in_order(LIVE, inputs)
    orders = spec.live_label_orders or (None,) * len(directories)
    models = [
        frozen(reorder_outputs(load(directory), order), device)
        for directory, order in zip(directories, orders, strict=True)
    ]
    for model in models if spec.train.unpadded else ():
        if unwrapped(model).config.model_type in UNPADDED:
            compute_tokens_only(unwrapped(model))
    return LiveTeachers(models, spec.train.precision, device, temperatures(spec.method, inputs))


def frozen(model: nn.Module, device: str) -> nn.Module:
    """``model`` on ``device``, in eval mode and without gradients for its weights."""
    return model.to(device).eval().requires_grad_(False)

"""Relational knowledge distillation: match the distances and angles between the rows of a batch, in one layer of the
student and one of the teacher (Park et al. 2019, Relational Knowledge Distillation). In the tables of ALP-KD, "RKD"
means regular KD instead.

The loss compares rows with each other, so that each worker needs the rows of all workers. Shapes: R rows of the global
batch, B rows of this worker, H and D the widths of the two layers, which may differ.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from stages.specs.layers import Relational

NEAR = 1e-4
"""Rows at a smaller distance count as equal. States have lengths of 1 and more."""


@dataclass(frozen=True, slots=True)
class Workers:
    """How a global batch of ``rows`` is divided: worker ``rank`` has every ``world_size``-th row, from row ``rank``."""

    rank: int = 0
    world_size: int = 1
    rows: int = 1

    def counts(self) -> list[int]:
        """The number of rows of each worker, by rank."""
        return [len(range(rank, self.rows, self.world_size)) for rank in range(self.world_size)]

    def gathered(self, values_BH: Tensor) -> Tensor:
        """[R, H]: the rows of all workers, in order of rank. Gradients flow back to the worker of each row."""
        if self.world_size == 1:
            return values_BH
        counts = self.counts()
        own = values_BH[: counts[self.rank]]  # drops the placeholder row of a worker without rows
        padded = functional.pad(own, (0, 0, 0, max(counts) - len(own)))
        whole = _Gather.apply(padded, self.rank, self.world_size)
        return torch.cat([part[:count] for part, count in zip(whole, counts, strict=True)])

    @property
    def start(self) -> int:
        """The place of this worker's first row in the result of ``gathered``."""
        return sum(self.counts()[: self.rank])


class _Gather(torch.autograd.Function):
    """All-gather with a gradient: [B, H] of this worker -> [W, B, H] of all W workers. The gradient of a worker's rows
    is the sum of the gradients that the losses of all workers have for them."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, rank: int, world_size: int) -> Tensor:
        ctx.rank = rank
        parts = [torch.empty_like(values) for _ in range(world_size)]
        torch.distributed.all_gather(parts, values.contiguous())
        return torch.stack(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        whole = gradient.contiguous()
        torch.distributed.all_reduce(whole)
        return whole[ctx.rank], None, None


def relational_error(student_BH: Tensor, teacher_BD: Tensor, structure: Relational, workers: Workers) -> Tensor:
    """[B]: the relational loss of each row i of this worker,

        distance * mean_j smooth_l1(|s_i - s_j| / mu_S, |t_i - t_j| / mu_T)
        + angle * mean_jk smooth_l1(cos(angle at s_i between s_j, s_k), cos(angle at t_i between t_j, t_k)),

    with mu the mean distance between different rows. The mean over all R rows equals the loss of the authors' code,
    which counts pairs of a row with itself too.
    """
    student_RH, teacher_RD = workers.gathered(student_BH), workers.gathered(teacher_BD)
    own = slice(workers.start, workers.start + workers.counts()[workers.rank] if workers.world_size > 1 else None)
    loss = torch.zeros(len(student_RH[own]), device=student_BH.device)
    if structure.distance:
        distances = functional.smooth_l1_loss(
            relative_distances(student_RH)[own], relative_distances(teacher_RD)[own], reduction="none"
        )
        loss = loss + structure.distance * distances.mean(-1)
    if structure.angle:
        cosines = functional.smooth_l1_loss(cosines_at(student_RH, own), cosines_at(teacher_RD, own), reduction="none")
        loss = loss + structure.angle * cosines.mean((-2, -1))
    # A worker without rows must take part in the gathering too, forward and backward.
    return loss if len(loss) else (0 * student_RH).sum().expand(len(student_BH))


def relative_distances(values_RH: Tensor) -> Tensor:
    """[R, R]: |x_i - x_j| divided by the mean of the distances above 0."""
    squares = values_RH.square().sum(-1)
    between = (squares[:, None] + squares[None] - 2 * values_RH @ values_RH.T).clamp_min(NEAR**2).sqrt()
    apart = between * (1 - torch.eye(len(values_RH), device=values_RH.device))
    count = (apart > 0).sum().clamp_min(1)
    return apart / (apart.sum() / count).clamp_min(1e-12)


def cosines_at(values_RH: Tensor, own: slice) -> Tensor:
    """[B, R, R]: for each row i in ``own``, the cosine of the angle at i between rows j and k."""
    toward_BRH = values_RH[None] - values_RH[own, None]
    lengths_BR1 = toward_BRH.norm(dim=-1, keepdim=True)
    # Equal rows have no direction between them: a unit vector there would have an unbounded gradient.
    near_BR1 = lengths_BR1 < NEAR
    units_BRH = (toward_BRH / lengths_BR1.masked_fill(near_BR1, 1.0)).masked_fill(near_BR1, 0.0)
    cosines: Tensor = units_BRH @ units_BRH.transpose(1, 2)
    return cosines

"""How the rows of a batch lie to each other, in a student's layer and in its teacher's (Park et al. 2019, Relational
Knowledge Distillation). "RKD" in tables of ALP-KD means regular KD instead.

The loss is between rows, so the rows of all workers are needed: shapes are R rows of the global batch, B of this
worker, H and D the widths, which may differ.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from stages.specs.layers import Relational

NEAR = 1e-4
"""Rows that lie nearer to each other count as one. States have lengths of 1 and more."""


@dataclass(frozen=True, slots=True)
class Workers:
    """Who shares a global batch of ``rows``: every ``world_size``-th row from ``rank`` on is this worker's."""

    rank: int = 0
    world_size: int = 1
    rows: int = 1

    def counts(self) -> list[int]:
        return [len(range(rank, self.rows, self.world_size)) for rank in range(self.world_size)]

    def gathered(self, values_BH: Tensor) -> Tensor:
        """[R, H]: the rows of all workers, one worker's after the other's. Gradients flow back to each."""
        if self.world_size == 1:
            return values_BH
        counts = self.counts()
        own = values_BH[: counts[self.rank]]  # the stand-in row of a worker that got none is left out
        padded = functional.pad(own, (0, 0, 0, max(counts) - len(own)))
        whole = _Gather.apply(padded, self.rank, self.world_size)
        return torch.cat([part[:count] for part, count in zip(whole, counts, strict=True)])

    @property
    def start(self) -> int:
        """Where this worker's rows begin among those gathered."""
        return sum(self.counts()[: self.rank])


class _Gather(torch.autograd.Function):
    """[W, B, H] of all workers; the gradient of a worker's rows is the sum of what all workers' losses say of them."""

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
    """[B]: ``distance`` x smooth L1 of |x_i - x_j| over its mean, mean over j, + ``angle`` x smooth L1 of the cosine of
    the angle at i between j and k, mean over j and k, for each row i of this worker. The mean over all rows is the loss
    of the authors' code, which counts pairs of a row with itself too."""
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
    # A worker without rows takes part in the gathering all the same, and in its way back.
    return loss if len(loss) else (0 * student_RH).sum().expand(len(student_BH))


def relative_distances(values_RH: Tensor) -> Tensor:
    """[R, R]: |x_i - x_j| over the mean of those above 0."""
    squares = values_RH.square().sum(-1)
    between = (squares[:, None] + squares[None] - 2 * values_RH @ values_RH.T).clamp_min(NEAR**2).sqrt()
    apart = between * (1 - torch.eye(len(values_RH), device=values_RH.device))
    count = (apart > 0).sum().clamp_min(1)
    return apart / (apart.sum() / count).clamp_min(1e-12)


def cosines_at(values_RH: Tensor, own: slice) -> Tensor:
    """[B, R, R]: for each row i in ``own``, the cosine of the angle at i between rows j and k."""
    toward_BRH = values_RH[None] - values_RH[own, None]
    lengths_BR1 = toward_BRH.norm(dim=-1, keepdim=True)
    # From a row to itself, or to its like, no direction leads; a unit vector would have a boundless gradient there.
    near_BR1 = lengths_BR1 < NEAR
    units_BRH = (toward_BRH / lengths_BR1.masked_fill(near_BR1, 1.0)).masked_fill(near_BR1, 0.0)
    cosines: Tensor = units_BRH @ units_BRH.transpose(1, 2)
    return cosines

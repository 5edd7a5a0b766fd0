"""The student's layers beside the teacher's: projections, and the loss between pooled states.

Shapes: B rows, H the student's width, D the teacher's, K teacher layers in a group, C classes. The loss is one value
a row, as in ``objectives.py``.
"""

from collections.abc import Mapping, Sequence
from typing import assert_never

import torch
from torch import Tensor, nn
from torch.nn import functional

from stages.specs.layer_map import LayerGroup, groups_of
from stages.specs.layers import (
    Attend,
    Concatenate,
    Matching,
    NoLayers,
    Outputs,
    Pick,
    Random,
    Relational,
    Structure,
    state_name,
)
from stages.training.losses import soft_cross_entropy, squared_error
from stages.training.relations import Workers, relational_error

States = Mapping[int, Tensor]
Said = Mapping[str, Tensor]


class Matcher(nn.Module):
    """The projections of a resolved structure, and its loss. They are trained and kept in checkpoints with the student,
    and are no part of it: the saved student is without them. Weights come from torch's generator.

    A concatenation is always projected; what is picked or attended to, only where the widths differ; what is drawn each
    epoch on both sides; for ``outputs`` the projection is the classifier on a student layer.
    """

    def __init__(self, structure: Structure, student_width: int, teacher_width: int, outputs: int) -> None:
        super().__init__()
        self.structure = structure
        self.outputs = outputs
        groups = groups_of(structure)
        self.student_layers = tuple(sorted({group.student for group in groups}))
        own, other = _projections(structure, groups, student_width, teacher_width, outputs)
        self.student, self.teacher = nn.ModuleList(own), nn.ModuleList(other)

    def forward(self, states: States, outputs: Said, groups: Sequence[LayerGroup], workers: Workers) -> Tensor:
        """[B], from the student's pooled states [B, H] by layer, what the teacher said, and the groups in force."""
        structure = self.structure
        match structure:
            case Pick() | Concatenate():
                lifted, target = self._lifted(states, groups), followed(groups, outputs)
                return layer_error(lifted, target, structure)
            case Attend():
                lifted = self._lifted(states, groups)
                target = [
                    attended(h, stacked(group, outputs), structure) for h, group in zip(lifted, groups, strict=True)
                ]
                return layer_error(lifted, target, structure)
            case Random():
                return self._drawn(states, outputs, groups, structure)
            case Outputs():
                spoken, heard = self._lifted(states, groups), [stacked(group, outputs) for group in groups]
                return outputs_error(spoken, heard, structure.temperature)
            case Relational():
                (group,) = groups
                (layer,) = group.teacher
                return relational_error(states[group.student], outputs[state_name(layer)], structure, workers)
            case NoLayers():
                raise AssertionError("no layer is matched")
            case _:
                assert_never(structure)

    def _lifted(self, states: States, groups: Sequence[LayerGroup]) -> list[Tensor]:
        """Group by group the student's state, projected."""
        return [lift(states[group.student]) for lift, group in zip(self.student, groups, strict=True)]

    def _drawn(self, states: States, outputs: Said, groups: Sequence[LayerGroup], structure: Random) -> Tensor:
        own, other = [states[group.student] for group in groups], followed(groups, outputs)
        if structure.joined:
            own, other = [torch.cat(own, dim=-1)], [torch.cat(other, dim=-1)]
        lifted = [lift(state) for lift, state in zip(self.student, own, strict=True)]
        target = [lift(state) for lift, state in zip(self.teacher, other, strict=True)]
        return unit_distance(lifted, target)


def _projections(
    structure: Structure, groups: Sequence[LayerGroup], student: int, teacher: int, outputs: int
) -> tuple[list[nn.Module], list[nn.Module]]:
    """The student's, and the teacher's."""
    match structure:
        case NoLayers() | Relational():
            return [], []
        case Pick() | Attend() if student == teacher:
            return [nn.Identity() for _ in groups], []
        case Pick() | Attend():
            return [nn.Linear(student, teacher) for _ in groups], []
        case Concatenate():
            return [nn.Linear(student, len(group.teacher) * teacher) for group in groups], []
        case Outputs():
            return [nn.Linear(student, outputs) for _ in groups], []
        case Random(joined=True, width=width):
            count = len(groups)
            return [nn.Linear(count * student, width)], [nn.Linear(count * teacher, width)]
        case Random(width=width):
            return [nn.Linear(student, width) for _ in groups], [nn.Linear(teacher, width) for _ in groups]
        case _:
            assert_never(structure)


def followed(groups: Sequence[LayerGroup], outputs: Said) -> list[Tensor]:
    """What each group's student layer follows, [B, K D]: the states of the group's teacher layers, end to end."""
    return [torch.cat([outputs[state_name(layer)] for layer in group.teacher], dim=-1) for group in groups]


def stacked(group: LayerGroup, outputs: Said) -> Tensor:
    """[B, K, D]: the states of the group's teacher layers side by side."""
    return torch.stack([outputs[state_name(layer)] for layer in group.teacher], dim=1)


def attention(state_BD: Tensor, teacher_BKD: Tensor) -> Tensor:
    """[B, K]: alpha_k = softmax_k(h . h_k), which sums to 1 over the group (ALP-KD, Passban et al. 2021)."""
    return torch.einsum("bd,bkd->bk", state_BD, teacher_BKD).softmax(-1)


def attended(state_BD: Tensor, teacher_BKD: Tensor, structure: Attend) -> Tensor:
    """[B, D]: sum_k alpha_k h_k (ALP-KD). ``scaled`` divides the products by the square root of D, which a plain
    dot product saturates without; ``detached`` lets the student change its state, and not whom it attends to."""
    query_BD = state_BD.detach() if structure.detached else state_BD
    if structure.scaled:
        query_BD = query_BD / query_BD.shape[-1] ** 0.5
    return torch.einsum("bk,bkd->bd", attention(query_BD, teacher_BKD), teacher_BKD)


def layer_error(student: Sequence[Tensor], teacher: Sequence[Tensor], structure: Matching) -> Tensor:
    """[B]: the squared error of each group, mean over its dimensions, mean or sum over groups; ``normalised`` scales
    either side to length 1 first, row by row.

    The mean over groups is, over the rows, ``mse_loss`` of all groups side by side, as in the code of Patient KD (Sun
    et al. 2019), whose eq. 7 sums over layers and dimensions instead: its weights mean (layers x dimensions) times
    ours. CKD (Wu et al. 2020, Why Skip If You Can Combine) has the mean too; ALP-KD sums over layers.
    """
    errors = []
    for lifted, target in zip(student, teacher, strict=True):
        if structure.normalised:
            errors.append(squared_error(functional.normalize(lifted, dim=-1), functional.normalize(target, dim=-1)))
        else:
            errors.append(squared_error(lifted, target))
    whole = torch.stack(errors)
    return whole.sum(0) if structure.over == "sum" else whole.mean(0)


def unit_distance(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """[B]: the squared distance of the unit vectors of either side, summed over dimensions and over groups (RAIL-KD,
    Haidar et al. 2022). It is 2 - 2 cos of each pair."""
    errors = [
        (functional.normalize(one, dim=-1) - functional.normalize(other, dim=-1)).square().sum(-1)
        for one, other in zip(student, teacher, strict=True)
    ]
    return torch.stack(errors).sum(0)


def outputs_error(student: Sequence[Tensor], teacher: Sequence[Tensor], temperature: float) -> Tensor:
    """[B]: what the classifier on each student layer says, [B, C], against what it attends to of the classifiers on the
    teacher's layers, [B, K, C]: tau^2 KL, or the squared error where C is 1; mean over groups (Universal-KD, Wu et al.
    2021: "match in the output space via attention-based layer projection"; the details are ours)."""
    errors = []
    for spoken_BC, heard_BKC in zip(student, teacher, strict=True):
        target_BC = torch.einsum("bk,bkc->bc", attention(spoken_BC, heard_BKC), heard_BKC)
        alone = spoken_BC.shape[1] == 1
        errors.append(
            squared_error(spoken_BC, target_BC) if alone else soft_cross_entropy(spoken_BC, target_BC, temperature)
        )
    return torch.stack(errors).mean(0)

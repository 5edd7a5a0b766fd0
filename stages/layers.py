"""The student's layers beside the teacher's: projections, and the loss between pooled states.

Shapes: B rows, H the student's width, K the width of what a layer follows. The loss is one value a row,
as in ``objectives.py``.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from stages.groups import Group, groups_of
from stages.objectives import squared_error
from stages.structure import Concatenate, NoLayers, Pick, Structure, state_name


class Lifts(nn.Module):
    """One projection a group, from the student's width to that of what the group's layer follows. They are trained
    and kept in checkpoints with the student, and are no part of it: the saved student is without them.

    A concatenation is always lifted, a picked layer only where the widths differ. Weights come from torch's generator.
    """

    def __init__(self, structure: Structure, student_width: int, teacher_width: int) -> None:
        super().__init__()
        self.groups = groups_of(structure)
        match structure:
            case Concatenate():
                lifted = True
            case Pick() | NoLayers():
                lifted = student_width != teacher_width
        self.each = nn.ModuleList(
            nn.Linear(student_width, len(group.teacher) * teacher_width) if lifted else nn.Identity()
            for group in self.groups
        )

    def forward(self, states: Mapping[int, Tensor]) -> list[Tensor]:
        """Group by group [B, K], from the student's pooled states [B, H] by layer."""
        return [lift(states[group.student]) for lift, group in zip(self.each, self.groups, strict=True)]


def followed(groups: Sequence[Group], said: Mapping[str, Tensor]) -> list[Tensor]:
    """What each group's student layer follows, [B, K]: the states of the group's teacher layers, end to end."""
    return [torch.cat([said[state_name(layer)] for layer in group.teacher], dim=-1) for group in groups]


def layer_error(student: Sequence[Tensor], teacher: Sequence[Tensor], normalised: bool) -> Tensor:
    """[B]: the squared error of each group, mean over its dimensions, mean over groups; ``normalised`` scales either
    side to length 1 first, row by row.

    Over the rows this is ``mse_loss`` of all groups side by side, as in the code of Patient KD (Sun et al. 2019), whose
    eq. 7 sums over layers and dimensions instead: its weights mean (layers x dimensions) times ours. CKD (Wu et al.
    2020, Why Skip If You Can Combine) has the mean too.
    """
    errors = []
    for lifted, target in zip(student, teacher, strict=True):
        if normalised:
            errors.append(squared_error(functional.normalize(lifted, dim=-1), functional.normalize(target, dim=-1)))
        else:
            errors.append(squared_error(lifted, target))
    return torch.stack(errors).mean(0)

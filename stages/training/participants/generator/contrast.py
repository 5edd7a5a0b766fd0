"""A contrast between the layers of student and teacher (CILDA; Haidar et al. 2022, "CILDA: Contrastive Data
Augmentation using Intermediate Layer Knowledge Distillation", COLING).

    contrast_i = -log( exp(s_i . t_i / temperature) / sum over j of exp(s_i . t_j / temperature) )

with s_i and t_i the states of all layers of row i in student and teacher, pooled, end to end, projected, and scaled to
length 1; j runs over the rows of the global batch.

Shapes: B rows of this worker, R rows of the global batch, H the width of a layer, W that of the projections.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from stages.models.forward import pooled_state
from stages.specs.axes.data import Contrast
from stages.training.objective.relations import Workers


class LayerContrast(nn.Module):
    """The projections, and the contrast by them."""

    def __init__(self, settings: Contrast, student_width: int, teacher_width: int) -> None:
        """``student_width`` and ``teacher_width`` are those of all layers of a model end to end. The weights come from
        torch's generator."""
        super().__init__()
        self.settings = settings
        self.of_student = nn.Linear(student_width, settings.width)
        self.of_teacher = nn.Linear(teacher_width, settings.width)

    def forward(
        self, student: Sequence[Tensor], teacher: Sequence[Tensor], mask_BT: Tensor | None, workers: Workers
    ) -> Tensor:
        """[B]: the contrast of each row, from the hidden states [B, T, H] of the embeddings and of each layer. The
        embeddings' are left out. All workers must call it for the same step."""
        student_BW = functional.normalize(self.of_student(self.joined(student, mask_BT)), dim=-1)
        teacher_BW = functional.normalize(self.of_teacher(self.joined(teacher, mask_BT)), dim=-1)
        teacher_RW = workers.gathered(teacher_BW)
        if workers.rows <= workers.rank:  # a placeholder row, which the gathering has dropped
            return (0 * teacher_RW).sum().expand(len(student_BW))
        similar_BR = student_BW @ teacher_RW.T / self.settings.temperature
        own_B = torch.arange(workers.start, workers.start + len(student_BW), device=student_BW.device)
        return functional.cross_entropy(similar_BR, own_B, reduction="none")

    def joined(self, hidden: Sequence[Tensor], mask_BT: Tensor | None) -> Tensor:
        """[B, layers * H]: the pooled states of all layers, end to end, in float32."""
        return torch.cat([pooled_state(state, mask_BT, self.settings.pooling) for state in hidden[1:]], dim=-1)

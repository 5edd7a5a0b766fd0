"""The losses between states of the student's layers and of the teacher's: pure functions of tensors.

Shapes: B rows, T tokens of the longest row, D the width of the compared states, A attention heads, K teacher layers in
a group, C classes. All losses are one value a row, as in ``specs.axes.losses``.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from stages.specs.axes.losses import soft_cross_entropy, squared_error
from stages.specs.axes.structures import Matching
from stages.specs.layer_map import LayerGroup
from stages.specs.layers import Attend, state_name

MASKED_SCORE = -100.0
"""An attention score of this or less is that of a masked pair of tokens."""

TeacherOutputs = Mapping[str, Tensor]
"""The teacher's pooled states [B, D], or the logits [B, C] of the classifiers on its layers, by ``state_name``; or its
states [B, T, D] and attention scores [B, A, T, T] at every token, by ``token_state_name`` and ``score_name``."""


def concatenated(groups: Sequence[LayerGroup], outputs: TeacherOutputs) -> list[Tensor]:
    """[B, K D] for each group: the states of its teacher layers end to end, in the group's order."""
    return [torch.cat([outputs[state_name(layer)] for layer in group.teacher], dim=-1) for group in groups]


def stacked(group: LayerGroup, outputs: TeacherOutputs) -> Tensor:
    """[B, K, D], or [B, K, C] for classifiers: the outputs of the group's teacher layers, stacked."""
    return torch.stack([outputs[state_name(layer)] for layer in group.teacher], dim=1)


def attention(state_BD: Tensor, teacher_BKD: Tensor) -> Tensor:
    """[B, K]: alpha_k = softmax_k(h . h_k), the weights of the group's teacher layers (ALP-KD, Passban et al. 2021)."""
    return torch.einsum("bd,bkd->bk", state_BD, teacher_BKD).softmax(-1)


def attention_query(state_BD: Tensor, structure: Attend, temperature: float | Tensor) -> Tensor:
    """[B, D]: the state divided by ``temperature``, and with ``scaled`` by the square root of D, so that its products
    with the teacher's states are. ``detached`` stops the gradient into the state, not that into the temperature."""
    query_BD = state_BD.detach() if structure.detached else state_BD
    if structure.scaled:
        query_BD = query_BD / query_BD.shape[-1] ** 0.5
    if isinstance(temperature, Tensor) or temperature != 1:
        query_BD = query_BD / temperature
    return query_BD


def attended_state(
    state_BD: Tensor, teacher_BKD: Tensor, structure: Attend, temperature: float | Tensor = 1.0
) -> Tensor:
    """[B, D]: sum_k alpha_k h_k, the teacher state that a student layer follows (ALP-KD, Passban et al. 2021).

    ``temperature`` divides the dot products, and ``scaled`` divides them by the square root of D; without either, the
    softmax gives most rows a single layer. ``detached`` stops the student's gradient through alpha: the student learns
    to match the target, not to change which layers it attends to. A learned temperature is trained all the same.
    """
    query_BD = attention_query(state_BD, structure, temperature)
    return torch.einsum("bk,bkd->bd", attention(query_BD, teacher_BKD), teacher_BKD)


def layer_error(student: Sequence[Tensor], teacher: Sequence[Tensor], structure: Matching) -> Tensor:
    """[B]: the squared error of each group, mean over its dimensions, then mean (or, with ``over: sum``, the sum) over
    groups. ``normalised`` first scales both sides to length 1, row by row. With ``distance: cosine``, 1 - cos(s, t) of
    each group: ``CosineEmbeddingLoss`` with the target 1, which DistilBERT takes of the last states (Sanh et al. 2019).

    Averaged over rows, the mean over groups equals ``mse_loss`` of all groups concatenated, as in the code of Patient
    KD (Sun et al. 2019). Eq. 7 of that paper sums over layers and dimensions instead: a weight there is (layers x
    dimensions) times the same weight here. CKD (Wu et al. 2020, Why Skip If You Can Combine) takes the mean too; ALP-KD
    sums over layers.
    """
    errors = []
    for state, target in zip(student, teacher, strict=True):
        if structure.distance == "cosine":
            errors.append(1 - functional.cosine_similarity(state, target, dim=-1))
        elif structure.normalised:
            errors.append(squared_error(functional.normalize(state, dim=-1), functional.normalize(target, dim=-1)))
        else:
            errors.append(squared_error(state, target))
    by_group = torch.stack(errors)
    return by_group.sum(0) if structure.over == "sum" else by_group.mean(0)


def unit_distance(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """[B]: |s / |s| - t / |t||^2 = 2 - 2 cos(s, t), summed over groups (RAIL-KD, Haidar et al. 2022)."""
    errors = [
        (functional.normalize(state, dim=-1) - functional.normalize(target, dim=-1)).square().sum(-1)
        for state, target in zip(student, teacher, strict=True)
    ]
    return torch.stack(errors).sum(0)


def token_state_error(student_BTD: Tensor, teacher_BTD: Tensor, mask_BT: Tensor) -> Tensor:
    """[B]: the squared error of the states, mean over the dimensions and over the tokens of a row that ``mask`` marks
    (TinyBERT, Jiao et al. 2020, eq. 8 and 9). The released code also takes the mean over padding, so that a row weighs
    less the longer the others of its batch are."""
    weights_BT = mask_BT.to(student_BTD.dtype)
    return (((student_BTD - teacher_BTD).square().mean(-1)) * weights_BT).sum(1) / weights_BT.sum(1)


def score_error(student_BATT: Tensor, teacher_BATT: Tensor, mask_BT: Tensor) -> Tensor:
    """[B]: the squared error of the attention scores before the softmax, mean over heads and over the pairs of tokens
    of a row that ``mask`` marks (TinyBERT, eq. 7). Scores of -100 or less count as 0, as in the released code, which
    also takes the mean over padding."""
    weights_BTT = (mask_BT[:, :, None] * mask_BT[:, None, :]).to(student_BATT.dtype)
    student_BATT, teacher_BATT = (
        scores.masked_fill(scores <= MASKED_SCORE, 0.0) for scores in (student_BATT, teacher_BATT)
    )
    # Where either token is padding, the student's score is no number to compare: 0 by the weight would be NaN for inf.
    errors_BTT = (student_BATT - teacher_BATT).square().mean(1).masked_fill(weights_BTT == 0, 0.0)
    return errors_BTT.sum((1, 2)) / weights_BTT.sum((1, 2))


def outputs_error(student: Sequence[Tensor], teacher: Sequence[Tensor], temperature: float) -> Tensor:
    """[B]: the distance of the logits z [B, C] of the classifier on each student layer to sum_k alpha_k z_k over the
    classifiers on the teacher's layers [B, K, C], alpha = softmax_k(z . z_k): tau^2 KL, or the squared error where C
    is 1; mean over groups.

    After Universal-KD (Wu et al. 2021: "match in the output space via attention-based layer projection"); the paper
    leaves the details open.
    """
    errors = []
    for student_BC, teacher_BKC in zip(student, teacher, strict=True):
        target_BC = torch.einsum("bk,bkc->bc", attention(student_BC, teacher_BKC), teacher_BKC)
        regression = student_BC.shape[1] == 1
        errors.append(
            squared_error(student_BC, target_BC)
            if regression
            else soft_cross_entropy(student_BC, target_BC, temperature)
        )
    return torch.stack(errors).mean(0)

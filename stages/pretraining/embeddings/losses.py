"""The distances between the sentence embeddings of a student and those of its teacher: pure functions of tensors.

Shapes: B texts of a worker, R of the whole batch, H and D the widths of the two embeddings, which may differ for
``similarity_losses`` alone. All are one value a text.
"""

import torch
from torch import Tensor
from torch.nn import functional

from stages.specs.pretraining import SentenceEmbedding
from stages.training.objective.relations import Workers


def embedding_losses(student_BH: Tensor, teacher_BD: Tensor, embedding: SentenceEmbedding, workers: Workers) -> Tensor:
    """[B]: the loss of each text, of the kind and with the scaling that ``embedding`` names."""
    match embedding.loss:
        case "cosine":
            return cosine_losses(student_BH, teacher_BD)
        case "squared":
            if embedding.compares_unit_vectors:
                student_BH, teacher_BD = (functional.normalize(one, dim=1) for one in (student_BH, teacher_BD))
            return squared_losses(student_BH, teacher_BD)
        case "similarities":
            return similarity_losses(student_BH, teacher_BD, workers)


def cosine_losses(student_BD: Tensor, teacher_BD: Tensor) -> Tensor:
    """[B]: 1 - cos(e_S, e_T)."""
    return 1 - functional.cosine_similarity(student_BD, teacher_BD, dim=-1)


def squared_losses(student_BD: Tensor, teacher_BD: Tensor) -> Tensor:
    """[B]: the squared error, mean over dimensions (Reimers and Gurevych 2020, equation 1, for one language)."""
    return (student_BD - teacher_BD).square().mean(-1)


def similarity_losses(student_BH: Tensor, teacher_BD: Tensor, workers: Workers) -> Tensor:
    """[B]: the mean over all texts j of the batch of (cos(e_S_i, e_S_j) - cos(e_T_i, e_T_j))^2. The mean over the R
    texts is that of Tung and Mori 2019, equation 4, of similarity matrices of cosines."""
    student_RH, teacher_RD = (workers.gathered(functional.normalize(one, dim=1)) for one in (student_BH, teacher_BD))
    own = slice(workers.start, workers.start + workers.counts()[workers.rank] if workers.world_size > 1 else None)
    differences_BR = student_RH[own] @ student_RH.T - teacher_RD[own] @ teacher_RD.T
    loss = differences_BR.square().mean(-1)
    # A worker without rows must take part in the gathering too, forward and backward.
    return loss if len(loss) else (0 * student_RH).sum().expand(len(student_BH))


def held_out_figures(losses_B: Tensor) -> Tensor:
    """[2], float64: the sum of the losses of texts, and their number."""
    total = losses_B.double().sum()
    return torch.stack([total, total.new_tensor(float(len(losses_B)))])

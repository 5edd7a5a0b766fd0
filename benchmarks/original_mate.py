"""Frozen. MATE-KD in the order of work of the authors' released code (2021), with torch and transformers alone.

``train_adversarial_student.py`` runs the generator on all tokens, makes one-hot vectors over the vocabulary for all of
them and multiplies these with the word embeddings of teacher and student, in the student's turn with gradients, too,
which flow back through teacher and generator and are discarded; the teacher also runs on the rows as they are. Here the
batches are of rows of like length, which there they are not.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

Prepared = tuple[Tensor, Tensor, Tensor, Tensor]
"""The tokens of a batch [B, T], their attention mask, the tokens with masked ones, and where these are."""


def soft_loss(student: Tensor, teacher: Tensor) -> Tensor:
    return -(teacher.softmax(-1) * student.log_softmax(-1)).sum(-1).mean()


def epoch(
    student: nn.Module,
    teacher: nn.Module,
    generator: Any,
    batches: Sequence[tuple[Prepared, Tensor]],
    own: Sequence[bool],
) -> float:
    """An epoch over batches with their labels; ``own`` says which are the generator's. Returns the mean loss of the
    student's steps. The teacher is frozen, as there."""
    optimizers = [
        torch.optim.AdamW(model.parameters(), lr=rate) for model, rate in ((student, 2e-5), (generator, 5e-7))
    ]
    student.train()
    generator.train()
    tables = [model.get_input_embeddings().weight for model in (student, teacher)]  # type: ignore[operator]
    total, steps = 0.0, 0
    for ((ids, mask, hidden, inner), labels), turn in zip(batches, own, strict=True):
        logits = generator(input_ids=hidden, attention_mask=mask).logits
        one_hot = functional.gumbel_softmax(logits, tau=1.0, hard=True)
        embedded = []
        for model, table in zip((student, teacher), tables, strict=True):
            words = model.get_input_embeddings()(ids)  # type: ignore[operator]
            embedded.append(torch.where(inner[:, :, None], one_hot @ table, words))
        invented = [
            model(inputs_embeds=embeds, attention_mask=mask).logits
            for model, embeds in zip((student, teacher), embedded, strict=True)
        ]
        if turn:
            loss = -soft_loss(*invented)
            chosen_optimizer, parameters = optimizers[1], generator.parameters()
        else:
            learned = student(input_ids=ids, attention_mask=mask).logits
            taught = teacher(input_ids=ids, attention_mask=mask).logits
            hard = functional.cross_entropy(learned, labels)
            loss = (hard + soft_loss(learned, taught) + soft_loss(*invented)) / 3
            chosen_optimizer, parameters = optimizers[0], student.parameters()
            total, steps = total + loss.item(), steps + 1
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 5.0)
        chosen_optimizer.step()
        for optimizer in optimizers:
            optimizer.zero_grad()
    return total / max(steps, 1)

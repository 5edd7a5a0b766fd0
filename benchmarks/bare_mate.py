"""Frozen. Steps of MATE-KD with torch and transformers alone: the passes of its three models one by one, and the order
of work of the authors' released code (2021, ``train_adversarial_student.py``) on the same models and batches.

The released code masks, runs the generator on all tokens, makes one-hot vectors over the vocabulary for all of them,
multiplies these with the word embeddings of teacher and student, and does so in the student's turn with gradients,
which flow back through teacher and generator and are discarded; the teacher runs on the rows as they are, too.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

Batches = Sequence[np.ndarray]
MASK_SHARE = 0.3
CYCLE, OWN = 11, 1
"""Of each 11 batches the generator has the first: its share in the released code, 10 of 110."""


def inputs_of(rows: Sequence[Tensor], chosen: np.ndarray, pad: int) -> tuple[Tensor, Tensor]:
    ids = pad_sequence([rows[i] for i in chosen], batch_first=True, padding_value=pad)
    return ids, (ids != pad).long()


def masked(ids: Tensor, mask: Tensor, token: int, seed: int) -> tuple[Tensor, Tensor]:
    """The ids with masked tokens, first and last of a row aside, and where these are."""
    generator = torch.Generator().manual_seed(seed)
    inner = mask.bool() & (torch.rand(ids.shape, generator=generator) < MASK_SHARE)
    inner[:, 0] = False
    inner[torch.arange(len(ids)), mask.sum(1) - 1] = False
    return ids.masked_fill(inner, token), inner


def soft_loss(student: Tensor, teacher: Tensor) -> Tensor:
    return -(teacher.softmax(-1) * student.log_softmax(-1)).sum(-1).mean()


def models_alone(
    student: nn.Module,
    teacher: nn.Module,
    places: nn.Module,
    rows: Sequence[Tensor],
    batches: Batches,
    pad: int,
    token: int,
) -> None:
    """Every pass that a step needs, by each model alone: the student forward and backward on both kinds of rows, and
    the others forward; in the generator's turn, all three forward and backward, teacher and student to their inputs.
    ``places`` gives the generator's logits at some places."""
    student.train()
    for number, chosen in enumerate(batches):
        ids, mask = inputs_of(rows, chosen, pad)
        hidden, inner = masked(ids, mask, token, number)
        flat = inner.flatten().nonzero().squeeze(1)
        given = {"input_ids": hidden, "attention_mask": mask}
        if number % CYCLE < OWN:
            student.requires_grad_(False)
            for model in (student, teacher):
                embeds = model.get_input_embeddings()(ids).detach().requires_grad_(True)  # type: ignore[operator]
                model(inputs_embeds=embeds, attention_mask=mask).logits.sum().backward()
            places(given, flat).logits.sum().backward()
            places.zero_grad(set_to_none=True)
            student.requires_grad_(True)
            continue
        with torch.no_grad():
            places(given, flat)
            teacher(input_ids=ids, attention_mask=mask)
        for _ in range(2):
            student(input_ids=ids, attention_mask=mask).logits.sum().backward()
        student.zero_grad(set_to_none=True)


def original(
    student: nn.Module,
    teacher: nn.Module,
    generator: Any,
    rows: Sequence[Tensor],
    labels: Tensor,
    batches: Batches,
    pad: int,
    token: int,
) -> float:
    """An epoch in the released code's order of work; the mean loss of the student's steps. The teacher is frozen, as
    there, and the batches are of rows of like length, which there they are not."""
    optimizers = [
        torch.optim.AdamW(model.parameters(), lr=rate) for model, rate in ((student, 2e-5), (generator, 5e-7))
    ]
    student.train()
    generator.train()
    tables = [model.get_input_embeddings().weight for model in (student, teacher)]  # type: ignore[operator]
    total, steps = 0.0, 0
    for number, chosen in enumerate(batches):
        ids, mask = inputs_of(rows, chosen, pad)
        hidden, inner = masked(ids, mask, token, number)
        logits = generator(input_ids=hidden, attention_mask=mask).logits
        one_hot = functional.gumbel_softmax(logits, tau=1.0, hard=True)
        embedded = []
        for model, table in zip((student, teacher), tables, strict=True):
            own = model.get_input_embeddings()(ids)  # type: ignore[operator]
            embedded.append(torch.where(inner[:, :, None], one_hot @ table, own))
        invented = [
            model(inputs_embeds=embeds, attention_mask=mask).logits
            for model, embeds in zip((student, teacher), embedded, strict=True)
        ]
        if number % CYCLE < OWN:
            loss = -soft_loss(*invented)
            chosen_optimizer, parameters = optimizers[1], generator.parameters()
        else:
            learned = student(input_ids=ids, attention_mask=mask).logits
            taught = teacher(input_ids=ids, attention_mask=mask).logits
            hard = functional.cross_entropy(learned, labels[chosen])
            loss = (hard + soft_loss(learned, taught) + soft_loss(*invented)) / 3
            chosen_optimizer, parameters = optimizers[0], student.parameters()
            total, steps = total + loss.item(), steps + 1
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 5.0)
        chosen_optimizer.step()
        for optimizer in optimizers:
            optimizer.zero_grad()
    return total / max(steps, 1)

"""Frozen. The passes of MATE-KD's three models, one by one, with torch and transformers alone."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
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

"""A model's inputs with word embeddings in the place of token ids, such that its outputs are those of the tokens.

Most architectures only need the embeddings. Some derive more from token ids than these, which is given to them here.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from stages.models.architectures import embedding_problem
from stages.models.embeddings.words import unwrapped
from stages.models.positions import position_before_first


def embedded_inputs(model: nn.Module, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The arguments of ``model`` for inputs with ``inputs_embeds`` [B, T, E], word embeddings as ``embed`` gives them.

    ``attention_mask`` [B, T] and ``token_type_ids`` [B, T] are passed on where they are given. Where ``input_ids``
    [B, T] are given as well, they only number the positions, and their embeddings are not used: an architecture that
    leaves padding out of its positions (RoBERTa, MPNet) finds it in them, and else in the mask. The two differ for a
    text that contains the padding token as a word.

    Raises ValueError for an architecture whose outputs for embeddings are other ones than for tokens.
    """
    inner = unwrapped(model)
    model_type = str(inner.config.model_type)
    problem = embedding_problem(model_type, mean_head=hasattr(inner, "mean_classifier"))
    if problem is not None:
        raise ValueError(f"{model_type}: it does not take embeddings in the place of tokens, because {problem}")
    embeds_BTE = inputs["inputs_embeds"]
    found = {name: inputs[name] for name in ("attention_mask", "token_type_ids") if name in inputs}
    found["inputs_embeds"] = embeds_BTE
    before = position_before_first(model_type, getattr(inner.config, "pad_token_id", None))
    if before is not None:
        found["position_ids"] = _positions_after_padding(inputs, before)
    if model_type == "longformer":
        found["global_attention_mask"] = first_token_mask(embeds_BTE)
    return found


def first_token_mask(inputs: Tensor) -> Tensor:
    """[B, T]: 1 for the first token of each row and 0 for the others, from token ids [B, T] or embeddings [B, T, E].
    Longformer's classifiers let the first token attend to all others, and all others to it."""
    mask_BT = torch.zeros(inputs.shape[:2], dtype=torch.long, device=inputs.device)
    mask_BT[:, 0] = 1
    return mask_BT


def _positions_after_padding(inputs: Mapping[str, Tensor], padding: int) -> Tensor:
    """[B, T]: the tokens of a row numbered from ``padding`` + 1, and ``padding`` for those that are padding."""
    embeds_BTE = inputs["inputs_embeds"]
    if "input_ids" in inputs:
        counted_BT = (inputs["input_ids"] != padding).long()
    elif "attention_mask" in inputs:
        counted_BT = (inputs["attention_mask"] != 0).long()
    else:
        counted_BT = torch.ones(embeds_BTE.shape[:2], dtype=torch.long, device=embeds_BTE.device)
    return counted_BT.cumsum(1) * counted_BT + padding

"""The logits of words: a model's logits at the first word pieces."""

from torch import Tensor

NOT_A_WORD = -1
"""What stands in ``first_BW`` beyond the words of a row."""


def word_logits(logits_BTC: Tensor, first_BW: Tensor) -> tuple[Tensor, Tensor]:
    """The logits of words [B, W, C], taken at the tokens ``first_BW`` [B, W] of their first pieces, and the mask [B, W]
    that is true for words. ``first_BW`` has ``NOT_A_WORD`` beyond the words of a row, where the logits are 0."""
    mask_BW = first_BW != NOT_A_WORD
    places_BWC = first_BW.clamp_min(0)[:, :, None].expand(-1, -1, logits_BTC.shape[2])
    return logits_BTC.gather(1, places_BWC).masked_fill(~mask_BW[:, :, None], 0), mask_BW

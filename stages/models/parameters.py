"""How many parameters a model has at most, from its configuration alone."""

from collections.abc import Mapping

from stages.models.shape import DEPTHS, WIDTHS

INNER = ("intermediate_size", "hidden_dim", "d_ff", "d_inner", "encoder_ffn_dim", "ffn_dim")


def parameter_bound(fields: Mapping[str, object]) -> int:
    """A bound on the parameters of an encoder with a classification head, from all fields of its configuration
    (``config_fields.with_defaults``). It holds for encoders that are built like BERT; LUKE, which also has a vocabulary
    of entities, and MobileBERT have more.

    It counts embeddings, four square matrices for attention in each layer and two more for relative positions where
    the architecture has them, a feed-forward part with gates, and the head. A plain BERT has about a fifth fewer.
    """

    def number(*names: str, default: int = 0) -> int:
        found = (fields.get(name) for name in names)
        return next((value for value in found if isinstance(value, int) and not isinstance(value, bool)), default)

    layers, width = number(*DEPTHS), number(*WIDTHS)
    inner = number(*INNER, default=4 * width)
    narrow = number("embedding_size", default=width)
    tables = number("vocab_size") + number("max_position_embeddings", "n_positions") + number("type_vocab_size")
    relative = fields.get("relative_attention") is True
    attention = (6 if relative else 4) * width * width
    each = attention + 3 * width * inner + 16 * width + 3 * inner
    once = tables * narrow + narrow * width + 2 * width * width + 16 * width
    if relative:
        once += 2 * max(number("max_relative_positions"), number("position_buckets"), 512) * width + 3 * width * width
    return layers * each + once

"""How many tokens a model reads, from its configuration alone."""

from collections.abc import Mapping

from stages.models.config_fields import with_defaults

AFTER_PADDING = (
    "camembert",
    "data2vec-text",
    "esm",
    "ibert",
    "layoutlmv3",
    "lilt",
    "longformer",
    "luke",
    "markuplm",
    "mpnet",
    "roberta",
    "roberta-prelayernorm",
    "xlm-roberta",
    "xlm-roberta-xl",
    "xmod",
)
"""Architectures that number the positions of tokens from ``pad_token_id`` + 1, so that the first positions are lost."""

RELATIVE = ("bloom", "funnel", "mpt", "mt5", "t5", "umt5", "xlnet")
"""Architectures that know distances between tokens alone, whatever their configuration says of positions."""

POSITIONS = ("max_position_embeddings", "n_positions")


def position_limit(config: Mapping[str, object]) -> int | None:
    """The most tokens that a model with this ``config.json`` reads at once; None if there is no bound, or none known.

    It is the number of position embeddings, less those that no token can have. The tokenizer's ``model_max_length`` is
    another thing: it is where texts are cut if nothing else is requested.
    """
    model_type, fields = config.get("model_type"), with_defaults(config)
    most = next((value for value in map(fields.get, POSITIONS) if isinstance(value, int)), None)
    if most is None or model_type in RELATIVE or _is_relative(fields):
        return None
    pad = fields.get("pad_token_id")
    if model_type == "mpnet":
        pad = 1  # whatever its configuration says
    return most - 1 - pad if model_type in AFTER_PADDING and isinstance(pad, int) else most


def _is_relative(fields: Mapping[str, object]) -> bool:
    """Whether the model's absolute positions are switched off: DeBERTa, ESM with rotary embeddings."""
    if fields.get("model_type") in ("deberta", "deberta-v2"):
        return fields.get("position_biased_input") is False
    return fields.get("position_embedding_type") == "rotary"

"""How many tokens a model reads, from its configuration alone."""

from collections.abc import Mapping

from stages.models.config_fields import config_class, with_defaults

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

WITHOUT_TABLE = ("bloom", "funnel", "jamba", "mpt", "mt5", "t5", "umt5", "xlnet", "zamba", "zamba2")
"""Architectures without rotary embeddings and without a table of positions, even if their configuration has a number of
positions."""

ROTARY_FIELDS = ("rope_parameters", "rope_scaling", "rope_theta")
"""Fields of configurations with rotary embeddings, which are computed for rows of any length."""

POSITIONS = ("max_position_embeddings", "n_positions")


def position_limit(config: Mapping[str, object]) -> int | None:
    """The most tokens that a model with this ``config.json`` reads at once; None if there is no bound, or none known.

    It is the number of entries in the model's table of positions, less those that no token can have. A model with
    rotary embeddings has no table: its ``max_position_embeddings`` is the length up to which it was trained, and longer
    rows run. The tokenizer's ``model_max_length`` is another thing: it is where texts are cut if nothing else is
    requested.
    """
    model_type, fields = config.get("model_type"), with_defaults(config)
    most = next((value for value in map(fields.get, POSITIONS) if isinstance(value, int)), None)
    if most is None or not _has_table(config, fields):
        return None
    before = position_before_first(model_type, fields.get("pad_token_id"))
    return most if before is None else most - 1 - before


def position_before_first(model_type: object, pad_token_id: object) -> int | None:
    """The position that padding has, which is the one before that of a row's first token, in an architecture that
    numbers positions from ``pad_token_id`` + 1; None in any other."""
    if model_type not in AFTER_PADDING:
        return None
    if model_type == "mpnet":
        return 1  # whatever its configuration says
    return pad_token_id if isinstance(pad_token_id, int) else None


def _has_table(config: Mapping[str, object], fields: Mapping[str, object]) -> bool:
    """Whether each token needs an entry of a table of positions. ``fields`` are those of ``config`` with defaults."""
    match config.get("model_type"):
        case "deberta" | "deberta-v2":
            return fields.get("position_biased_input") is not False
        case "tapas":  # numbers the positions within each cell of a table, up to the last entry
            return fields.get("reset_position_index_per_cell") is False
        case "esm":  # has a base for rotary embeddings whether or not it uses them
            return fields.get("position_embedding_type") != "rotary"
        case str() as model_type:
            known = config_class(model_type)
            # Other fields of the file are ignored by the code of an architecture that is known.
            read = fields.keys() if known is None else known.fields.keys()
            rotary = fields.get("position_embedding_type") == "rotary" or not read.isdisjoint(ROTARY_FIELDS)
            return model_type not in WITHOUT_TABLE and not rotary
        case _:
            return True

"""Load the models and tokenizers that rewrite texts. Weights load from safetensors only, no code from a model's
repository runs, and a model that lacks weights is refused, because they would be random."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from transformers import AutoTokenizer

from stages.models.heads import HEAD_FIELD
from stages.models.loading import quieten, read_config, read_weights
from stages.models.shape import config_of


def load_model(auto: Any, directory: Path, name: str, matters: Callable[[str], bool] = lambda _: True) -> Any:
    """The model in ``directory`` as the transformers class ``auto``, in float32 and eval mode.

    ``name`` is the recipe's name for the model, for messages. Raises ValueError if the model does not load, or lacks a
    weight for which ``matters`` (by the weight's name) is true.
    """
    quieten()
    own = {"config": read_config(directory, {})[0]} if HEAD_FIELD in config_of(directory) else {}
    try:
        # transformers does not read the configuration of an encoder with a mean head
        model, random = read_weights(auto, directory, **own)
    except (OSError, ValueError, ImportError, SafetensorError) as error:
        raise ValueError(f"{name}: {directory} holds no {_kind(auto)} that loads ({_first_line(error)})") from error
    lacking = [key for key in random if matters(key)]
    if lacking:
        raise ValueError(
            f"{name}: {directory} lacks {lacking[0]} and {len(lacking) - 1} more weights of a {_kind(auto)}; give a "
            "model that was trained as one"
        )
    return model.eval()


def load_any_tokenizer(directory: Path, name: str) -> Any:
    """The tokenizer in ``directory``, fast or slow: some translation models have no fast one. Raises ValueError if none
    loads, or if it has no pad token. ``name`` is the recipe's name for the model."""
    quieten()
    try:
        tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, ImportError) as error:
        raise ValueError(f"{name}: {directory} holds no tokenizer that loads ({_first_line(error)})") from error
    if tokenizer.pad_token_id is None:
        raise ValueError(f"{name}: the tokenizer in {directory} has no pad token; set one in its tokenizer_config.json")
    return tokenizer


def max_tokens(model: Any, tokenizer: Any) -> int:
    """The number of tokens of the longest text that model and tokenizer accept."""
    positions = getattr(model.config, "max_position_embeddings", None) or 10**6
    return int(min(tokenizer.model_max_length, positions - 2))  # RoBERTa's positions begin at 2


def _kind(auto: Any) -> str:
    return {"AutoModelForMaskedLM": "masked language model", "AutoModelForSeq2SeqLM": "translation model"}.get(
        auto.__name__, "encoder"
    )


def _first_line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)

"""Models that rewrite, loaded: from safetensors only, no code of a repository's run, nothing in them random."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoTokenizer

from stages.models.loading import quieten


def load_model(auto: Any, directory: Path, name: str, matters: Callable[[str], bool] = lambda _: True) -> Any:
    """The model in ``directory`` as this ``auto`` class, in float32, to be asked. ``name`` is what a recipe calls it;
    ValueError where weights that matter are not there."""
    quieten()
    try:
        model, found = auto.from_pretrained(
            directory,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            dtype=torch.float32,
        )
    except (OSError, ValueError, ImportError, SafetensorError) as error:
        raise ValueError(f"{name}: {directory} holds no {_kind(auto)} that loads ({_first(error)})") from error
    lacking = sorted({*found["missing_keys"], *(key for key, *_ in found["mismatched_keys"])})
    lacking = [key for key in lacking if matters(key)]
    if lacking:
        raise ValueError(
            f"{name}: {directory} lacks {lacking[0]} and {len(lacking) - 1} more weights of a {_kind(auto)}; give a "
            "model that was trained as one"
        )
    return model.eval()


def load_any_tokenizer(directory: Path, name: str) -> Any:
    """Fast or slow: models that translate may have no fast one. ValueError where none loads or it cannot pad."""
    quieten()
    try:
        tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, ImportError) as error:
        raise ValueError(f"{name}: {directory} holds no tokenizer that loads ({_first(error)})") from error
    if tokenizer.pad_token_id is None:
        raise ValueError(f"{name}: the tokenizer in {directory} has no pad token; set one in its tokenizer_config.json")
    return tokenizer


def longest(model: Any, tokenizer: Any) -> int:
    """Tokens of the longest text that the model takes."""
    positions = getattr(model.config, "max_position_embeddings", None) or 10**6
    return int(min(tokenizer.model_max_length, positions - 2))  # RoBERTa's positions begin at 2


def _kind(auto: Any) -> str:
    return {"AutoModelForMaskedLM": "masked language model", "AutoModelForSeq2SeqLM": "translating model"}.get(
        auto.__name__, "encoder"
    )


def _first(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)

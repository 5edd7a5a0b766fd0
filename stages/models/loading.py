"""Load, cut and initialise models; one call gives logits and hidden states.

Any architecture of ``AutoModelForSequenceClassification`` is supported. Weights load from safetensors only, and no code
from a model's repository ever runs.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedModel

from stages.models.cutting import cut_layers, reorder_outputs
from stages.models.shape import DEPTHS, config_of
from stages.specs.student import Cut, Fresh, Pretrained, Start
from stages.specs.tasks import Task


def quieten() -> None:
    """Keep transformers' progress bars and notices off the terminal. What they warn about is checked in this module
    instead."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def build(start: Start, directory: Path, task: Task) -> PreTrainedModel:
    """The student before its first step, with a head for ``task``. Seed torch before the call: the weights of a new
    head, and all weights of a ``Fresh`` start, come from torch's generator."""
    quieten()
    match start:
        case Pretrained():
            return load(directory, task)
        case Cut(layers=layers, label_order=order):
            return cut_layers(reorder_outputs(load(directory, task), order), layers)
        case Fresh(changes=changes):
            return random_model(directory, dict(changes), task)


def random_model(directory: Path, changes: Mapping[str, object], task: Task) -> PreTrainedModel:
    """A model with random float32 weights, from the configuration in ``directory`` with these fields changed.

    Raises ValueError if the configuration has no field of a changed name.
    """
    changed = {**changes, **_kinds_of_layers(directory, changes), **head_config(task)}
    config, unknown = AutoConfig.from_pretrained(directory, return_unused_kwargs=True, **changed)
    if unknown:
        raise ValueError(
            f"config.{min(unknown)}: the configuration of {config.model_type} has no such field; "
            f"see {directory / 'config.json'}"
        )
    return cast(PreTrainedModel, AutoModelForSequenceClassification.from_config(config, dtype=torch.float32))


def _kinds_of_layers(directory: Path, changes: Mapping[str, object]) -> dict[str, object]:
    """``layer_types`` of the first layers, for a configuration that lists the kinds of more layers (ModernBERT) than it
    is changed to have; else {}."""
    kinds = config_of(directory).get("layer_types")
    depths = [value for name, value in changes.items() if name in DEPTHS and isinstance(value, int)]
    return {"layer_types": kinds[: depths[-1]]} if isinstance(kinds, list) and depths else {}


def head_config(task: Task) -> dict[str, object]:
    """The fields of a model configuration that define a head for ``task``."""
    names = task.labels or ("score",)
    return {
        "num_labels": task.outputs,
        "id2label": dict(enumerate(names)),
        "label2id": {name: i for i, name in enumerate(names)},
        "problem_type": "regression" if task.regression else "single_label_classification",
    }


def load(directory: Path, task: Task | None = None) -> PreTrainedModel:
    """The model in ``directory`` in float32. With ``task``, its outputs are named after the task's labels, and a head
    of another size is replaced by a random one.

    Raises ValueError if the weights cannot be read, or if some are missing, which transformers would initialise at
    random. Without ``task`` (a finished model) none may be missing; with it, the head and the pooler may.
    """
    quieten()
    config = AutoConfig.from_pretrained(directory, **(head_config(task) if task else {}))
    try:
        model, found = AutoModelForSequenceClassification.from_pretrained(
            directory,
            config=config,
            use_safetensors=True,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            dtype=torch.float32,
        )
    except (OSError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"{directory}: no weights that load ({reason}); save them there with save_pretrained"
        ) from error
    random = sorted({*found["missing_keys"], *(name for name, *_ in found["mismatched_keys"])})
    encoder = f"{model.base_model_prefix}."
    lacking = [name for name in random if task is None or (name.startswith(encoder) and "pooler" not in name)]
    if lacking:
        raise ValueError(
            f"{directory}: the weights lack {lacking[0]} in the shape that config.json gives it, and "
            f"{len(lacking) - 1} more; give the model's own weights"
        )
    return cast(PreTrainedModel, model)

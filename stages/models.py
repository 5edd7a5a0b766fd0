"""Load, cut and initialise models; one call gives logits and hidden states.

Any ``AutoModelForSequenceClassification`` will do. Weights load from safetensors only, and no code from a
model's repository ever runs.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedConfig, PreTrainedModel

from stages.specs import Cut, Fresh, Pretrained, Start
from stages.tasks import Task


def quieten() -> None:
    """Keep transformers' progress bars and notices off the terminal: what matters is checked here instead."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def build(start: Start, directory: Path, task: Task) -> PreTrainedModel:
    """The student before its first step, with a head for ``task``. Seed torch before the call: a new head,
    and all of a fresh model, take their weights from its generator."""
    quieten()
    match start:
        case Pretrained():
            return load(directory, task)
        case Cut(layers=layers, label_order=order):
            return cut(reordered(load(directory, task), order), layers)
        case Fresh(changes=changes):
            return fresh(directory, dict(changes), task)


def fresh(directory: Path, changes: Mapping[str, object], task: Task) -> PreTrainedModel:
    """Random float32 weights, whatever number type the configuration in ``directory`` was saved with.

    Raises ValueError for a change of a field that the configuration does not have.
    """
    config, unknown = AutoConfig.from_pretrained(directory, return_unused_kwargs=True, **changes, **head_of(task))
    if unknown:
        raise ValueError(
            f"config.{min(unknown)}: the configuration of {config.model_type} has no such field; "
            f"see {directory / 'config.json'}"
        )
    return cast(PreTrainedModel, AutoModelForSequenceClassification.from_config(config, dtype=torch.float32))


def head_of(task: Task) -> dict[str, object]:
    """The configuration of a head for ``task``."""
    names = task.labels or ("score",)
    return {
        "num_labels": task.outputs,
        "id2label": dict(enumerate(names)),
        "label2id": {name: i for i, name in enumerate(names)},
        "problem_type": "regression" if task.regression else "single_label_classification",
    }


def load(directory: Path, task: Task | None = None) -> PreTrainedModel:
    """The model in ``directory`` in float32; with ``task``, its head renamed, or made anew where it has another size.

    Raises ValueError when the weights cannot be read, or lack a part that then would be random: any part
    of a finished model; of a start, which may yet get a head and a pooler, any other part of its encoder.
    """
    quieten()
    config = AutoConfig.from_pretrained(directory, **(head_of(task) if task else {}))
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


def encoder_layers(model: PreTrainedModel) -> tuple[nn.Module, str]:
    """The module that holds the encoder's layers, and the name of that list in it."""
    count = depth(model.config)
    for module in model.base_model.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.ModuleList) and len(child) == count:
                return module, name
    raise ValueError(
        f"{model.config.model_type}: found no list of {count} layers to cut; give the student as a model of its own"
    )


def cut(model: PreTrainedModel, layers: Sequence[int]) -> PreTrainedModel:
    """``model`` with these of its encoder layers alone, in this order. Embeddings and head stay."""
    count = depth(model.config)
    wrong = [layer for layer in layers if not 0 <= layer < count]
    if wrong:
        raise ValueError(f"layers: the model has no layer {wrong[0]}; it has {count}, numbered 0 to {count - 1}")
    holder, name = encoder_layers(model)
    full = cast(nn.ModuleList, getattr(holder, name))
    setattr(holder, name, nn.ModuleList(full[layer] for layer in layers))
    kinds = getattr(model.config, "layer_types", None)
    if kinds is not None:
        model.config.layer_types = [kinds[layer] for layer in layers]
    model.config.num_hidden_layers = len(layers)
    _check_cut(model, layers)
    return model


def _check_cut(model: PreTrainedModel, layers: Sequence[int]) -> None:
    """Some models build a layer by its place (ModernBERT's first has no norm). Moved, it would not load again."""
    with torch.device("meta"):
        plain = AutoModelForSequenceClassification.from_config(model.config)
    if plain.state_dict().keys() != model.state_dict().keys():
        raise ValueError(
            f"layers: {list(layers)}, but in {model.config.model_type} a layer depends on its place; keep layer 0 first"
        )


def reordered(model: PreTrainedModel, order: Sequence[int] | None) -> PreTrainedModel:
    """``model`` with output i moved to where ``order`` says: its new output i is the old ``order[i]``."""
    if order is not None:
        last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
        with torch.no_grad():
            last.weight.copy_(last.weight[list(order)])
            last.bias.copy_(last.bias[list(order)])
    return model


def depth(config: PreTrainedConfig) -> int:
    """Number of encoder layers."""
    return int(config.num_hidden_layers)


def width(model: nn.Module) -> int:
    """Width of a layer's state."""
    return int(cast(PreTrainedModel, model).config.hidden_size)


def forward(model: nn.Module, batch: dict[str, Tensor], hidden: bool = False) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Logits [B, C], and with ``hidden`` the states [B, T, H] of the embeddings and of each layer."""
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "token_type_ids") if name in batch}
    result = model(**inputs, output_hidden_states=hidden)
    return result.logits, tuple(result.hidden_states) if hidden else ()


def attend(model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, ...]:
    """The attention maps [B, heads, T, T] of each layer, after the softmax. The model must run eager attention."""
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "token_type_ids") if name in batch}
    return tuple(model(**inputs, output_attentions=True).attentions)


def pool(states_BTH: Tensor, mask_BT: Tensor, pooling: str) -> Tensor:
    """[B, H]: the mean over a row's own tokens, or its first token."""
    if pooling == "cls":
        return states_BTH[:, 0].float()
    weights_BT1 = mask_BT[:, :, None].to(torch.float32)
    return (states_BTH.float() * weights_BT1).sum(1) / weights_BT1.sum(1)


def count_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())

"""Load, cut and initialise models; one call gives logits and hidden states.

Any architecture of ``AutoModelForSequenceClassification`` is supported, with its own classification head or with a mean
head (``stages.models.heads``), and the BiLSTMs of this project (``stages.models.bilstm``). Weights load from
safetensors only, and no code from a model's repository ever runs.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoModel,
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    PreTrainedConfig,
    PreTrainedModel,
)

from stages.images.networks import NETWORK_TYPES
from stages.images.networks.loading import load_network, new_network
from stages.images.networks.plain_cnn import plain_config
from stages.images.networks.resnet import CifarResnetConfig
from stages.images.pixel_reader import read_pixel_meta
from stages.models.architectures import CLASSIFIES_IMAGES
from stages.models.bilstm import BILSTM
from stages.models.bilstm.build import new_bilstm
from stages.models.bilstm.model import BilstmConfig, BilstmForSequenceClassification
from stages.models.config_fields import with_defaults
from stages.models.cutting import cut_layers, reorder_outputs
from stages.models.heads import HEAD_FIELD, POOLING_FIELD, POOLING_VALUES, head_of, is_own_class
from stages.models.heads.mean_head import mean_head_class
from stages.models.shape import DEPTHS, config_of
from stages.models.weights_header import weights_variant
from stages.saved_weights import load_saved, weights_that_load
from stages.specs.student import Bilstm, Cut, Fresh, Head, Network, Pretrained, Start
from stages.specs.tasks import Task


def quieten() -> None:
    """Keep transformers' progress bars and notices off the terminal. What they warn about is checked in this module
    instead."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def build(start: Start, directory: Path | None, task: Task, corpus: Path | None = None) -> PreTrainedModel:
    """The student before its first step, with a head for ``task``. Seed torch before the call: the weights of a new
    head, and all weights of a ``Fresh`` start, come from torch's generator. A ``Network`` has no directory, and reads
    the images of ``corpus``."""
    quieten()
    if isinstance(start, Network):
        assert corpus is not None, "a network is made for the images of a corpus"
        return new_network(network_config(start, read_pixel_meta(corpus).shape, head_config(task)))
    assert directory is not None, "all other starts have an input"
    match start:
        case Pretrained(head=head):
            return load(directory, task, head)
        case Cut(layers=layers, label_order=order, head=head):
            return cut_layers(reorder_outputs(load(directory, task, head), order), layers)
        case Fresh(changes=changes, head=head):
            return random_model(directory, dict(changes), task, head)
        case Bilstm(embeddings=embeddings):
            table = word_embeddings(load(directory, task)) if embeddings == "copied" else None
            tokens = vocabulary_size(directory) if table is None else table.shape[0]
            return new_bilstm(start, directory, task.pair, head_config(task), tokens, table)


def network_config(start: Network, shape: tuple[int, int, int], head: Mapping[str, object]) -> PreTrainedConfig:
    """The configuration of a network for images of ``shape`` [C, H, W], with the fields ``head``."""
    channels, height, width = shape
    fields: dict[str, Any] = dict(head)
    if start.family == "resnet":
        return CifarResnetConfig(depth=start.depth, num_channels=channels, shortcut=start.shortcut, **fields)
    return plain_config(start.depth, start.stack, (height, width), channels, **fields)


def word_embeddings(model: PreTrainedModel) -> Tensor:
    """The table of word embeddings [V, E] of a model."""
    return cast(nn.Embedding, model.get_input_embeddings()).weight


def vocabulary_size(directory: Path) -> int:
    """The number of tokens for which the model in ``directory`` has word embeddings."""
    return int(str(with_defaults(config_of(directory))["vocab_size"]))


def random_model(
    directory: Path, changes: Mapping[str, object], task: Task, head: Head | None = None
) -> PreTrainedModel:
    """A model with random float32 weights, from the configuration in ``directory`` with these fields changed. ``head``
    is None for the head that the configuration has then.

    Raises ValueError if the configuration has no field of a changed name.
    """
    changed = {**changes, **kinds_of_layers(directory, changes), **head_config(task)}
    config, unknown = read_config(directory, changed)
    if unknown:
        raise ValueError(
            f"config.{min(unknown)}: the configuration of {config.model_type} has no such field; "
            f"see {directory / 'config.json'}"
        )
    head = head or head_of({**config_of(directory), **changes})
    _set_pooling(config, head)
    if is_own_class(config.model_type, head):
        return cast(PreTrainedModel, mean_head_class(config.model_type)._from_config(config, dtype=torch.float32))
    return cast(PreTrainedModel, AutoModelForSequenceClassification.from_config(config, dtype=torch.float32))


def read_config(directory: Path, changes: Mapping[str, object]) -> tuple[PreTrainedConfig, Mapping[str, object]]:
    """The configuration of the encoder in ``directory`` with these fields changed, and the changes that it has no field
    for."""
    given = dict(config_of(directory))
    found: Any
    if given["model_type"] == BILSTM:
        found = BilstmConfig.from_dict(given, return_unused_kwargs=True, **changes)
    elif given.pop(HEAD_FIELD, None) is None:
        found = AutoConfig.from_pretrained(directory, return_unused_kwargs=True, **changes)
    else:
        found = CONFIG_MAPPING[str(given["model_type"])].from_dict(given, return_unused_kwargs=True, **changes)
    config, unknown = found
    return config, unknown


def _set_pooling(config: PreTrainedConfig, head: Head | None) -> None:
    """Change ``config``, where its architecture has a field for the head, to say ``head``. None changes nothing."""
    if head is not None and config.model_type in POOLING_VALUES:
        setattr(config, POOLING_FIELD, POOLING_VALUES[config.model_type][head])


def kinds_of_layers(directory: Path, changes: Mapping[str, object]) -> dict[str, object]:
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


def load(directory: Path, task: Task | None = None, head: Head | None = None) -> PreTrainedModel:
    """The model in ``directory`` in float32. With ``task``, its outputs are named after the task's labels, and a head
    of another size is replaced by a random one. ``head`` is None for the model's own head; one of another kind has
    random weights.

    Raises ValueError if the weights cannot be read, or if some are missing, which transformers would initialise at
    random. Without ``task`` (a finished model) none may be missing; with it, the head and the pooler may.
    """
    quieten()
    changes = head_config(task) if task else {}
    model_type = config_of(directory)["model_type"]
    if model_type in NETWORK_TYPES:
        return load_network(directory, **changes)
    if task is not None and config_of(directory)["model_type"] == BILSTM:
        changes["pair"] = task.pair
    config, _ = read_config(directory, changes)
    head = head or head_of(config_of(directory))
    _set_pooling(config, head)
    with weights_that_load(directory):
        model, random = read_weights(_model_class(config.model_type, head), directory, config=config)
    encoder = f"{model.base_model_prefix}."
    lacking = [name for name in random if task is None or (name.startswith(encoder) and "pooler" not in name)]
    if lacking:
        raise ValueError(
            f"{directory}: the weights lack {lacking[0]} in the shape that config.json gives it, and "
            f"{len(lacking) - 1} more; give the model's own weights"
        )
    return model


class LoadedEncoder(NamedTuple):
    """A model without a head. ``new_pooler`` has the names of the weights of its pooler if these are random; () if they
    come from files, and for a model without a pooler."""

    model: PreTrainedModel
    new_pooler: tuple[str, ...]


def load_encoder(directory: Path) -> LoadedEncoder:
    """The model in ``directory`` in float32, without the head that it may have. Raises ValueError if it does not load,
    or lacks weights other than the pooler's."""
    quieten()
    config = config_of(directory)
    if is_own_class(str(config["model_type"]), head_of(config)) and config["model_type"] != BILSTM:
        return LoadedEncoder(cast(PreTrainedModel, load(directory).base_model), ())
    try:
        model, random = read_weights(AutoModel, directory, config=read_config(directory, {})[0])
    except (OSError, ValueError, SafetensorError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{directory} holds no model that loads ({reason}); save one there") from error
    lacking = [name for name in random if "pooler" not in name]
    if lacking:
        raise ValueError(
            f"the weights in {directory} lack {lacking[0]}, and {len(lacking) - 1} more; give the model's own"
        )
    return LoadedEncoder(model, tuple(random))


def build_encoder(start: Start, directory: Path) -> LoadedEncoder:
    """A model without a head before its first step, in float32. Seed torch before the call: a pooler that the files
    lack, and all weights of a ``Fresh`` start, come from torch's generator. Raises ValueError for a model that does not
    load, or that cannot be changed as ``start`` says."""
    quieten()
    match start:
        case Pretrained():
            return load_encoder(directory)
        case Cut(layers=layers):
            found = load_encoder(directory)
            return found._replace(model=cut_layers(found.model, layers))
        case Fresh(changes=changes):
            changed = dict(changes)
            config, _ = read_config(directory, {**changed, **kinds_of_layers(directory, changed)})
            model = cast(PreTrainedModel, AutoModel.from_config(config, dtype=torch.float32))
            return LoadedEncoder(model, tuple(name for name in model.state_dict() if "pooler" in name))
        case Network():
            raise ValueError("start: a network for images is no encoder of texts; start from an encoder")
        case Bilstm():
            raise ValueError("start: a BiLSTM has no layers whose states could be followed; start from an encoder")


def check_finite_weights(model: PreTrainedModel, directory: Path) -> None:
    """Raise ValueError if the first weights, made from the model in ``directory``, are not all finite: no training
    mends that, and its loss would be blamed on the learning rate."""
    for name, weights in model.named_parameters():
        if not torch.isfinite(weights).all():
            raise ValueError(f"{directory}: weights from here are not finite ({name}); use another model")


def read_weights(auto: Any, directory: Path, **more: Any) -> tuple[PreTrainedModel, list[str]]:
    """``load_saved`` with the file of weights that there is. Weights of another shape are random, too. ``more`` are
    further arguments of ``from_pretrained``."""
    return load_saved(auto, directory, weights_variant(directory), ignore_mismatched_sizes=True, **more)


def _model_class(model_type: str, head: Head | None) -> Any:
    """The class that loads a model of this architecture with this head."""
    if model_type == BILSTM:
        return BilstmForSequenceClassification
    if model_type in CLASSIFIES_IMAGES:
        return AutoModelForImageClassification
    return mean_head_class(model_type) if is_own_class(model_type, head) else AutoModelForSequenceClassification

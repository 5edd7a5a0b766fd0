"""Checks of models' configurations while planning: of ``config.json``, and of the changes that a student with random
weights makes to it. Neither transformers nor torch is imported."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.errors import nearest
from pipeline.graph.external.text_kinds import text_kinds
from stages.images.networks.description import NETWORK_TYPES, shape_in
from stages.models.architectures import GIVES_SCORES, UNPADDED, embedding_problem
from stages.models.bilstm import BILSTM
from stages.models.config_fields import (
    OTHER,
    ConfigClass,
    ConfigField,
    activations,
    classifies_sequences,
    config_class,
    is_known,
    library,
    predicts_masked_words,
    with_defaults,
    writes_texts,
)
from stages.models.heads import HEAD_FIELD, is_own_class
from stages.models.parameters import parameter_bound
from stages.models.shape import DEPTHS, HEADS, WIDTHS
from stages.models.weights_header import Shapes, lacks_masked_head, token_count
from stages.specs.student import Head, Train

Changes = tuple[tuple[str, int | float | str | bool], ...]
"""Fields of a configuration and their new values, in order of their names."""

Given = Mapping[str, int | float | str | bool]

MOST_LAYERS = 1_000
MOST_PARAMETERS = 20_000_000_000
MOST_OF_ANYTHING = 10_000_000
"""Bounds on a model's size. The largest encoders have 48 layers and 11 billion parameters, and a vocabulary has a
million tokens at most: more is a slip of the keyboard, and would be noticed only when memory runs out."""

BY_TASK = ("num_labels", "id2label", "label2id", "problem_type")
BY_TRANSFORMERS = (
    "_name_or_path",
    "architectures",
    "dtype",
    "model_type",
    "output_attentions",
    "output_hidden_states",
    "return_dict",
    HEAD_FIELD,
    "torch_dtype",
    "transformers_version",
)
OF_ALL = ("chunk_size_feed_forward",)
"""Fields of every configuration that a recipe may change. They may be 0."""

SHARED_LAYERS = ("albert",)
FIRST_DIFFERS = ("modernbert",)
"""Architectures whose first layer is built otherwise than the others."""

HEAD_WIDTHS = ("head_dim", "d_kv", "d_head", "attention_head_size", "true_hidden_size")
"""Fields that give the width of an attention head, so that heads need not divide the width of the model."""


ACTIVATION_FIELDS = ("_act", "activation", "activation_function")
"""Ends of the names of fields that name an activation function."""

RESTORE = "give the config.json that was saved with the model's weights"

KINDS = {"int": "a whole number", "float": "a number with a decimal point", "str": "a text", "bool": "true or false"}


# --- config.json ----------------------------------------------------------------------------------


def check_config(config: Mapping[str, object], name: str) -> None:
    """Raise ValueError if transformers cannot read this ``config.json`` of model ``name``: for an architecture that it
    does not know, and for a field of another type than it has there."""
    model_type = config.get("model_type")
    if not isinstance(model_type, str):
        raise ValueError(f"{name}: config.json names no model_type; save the model with save_pretrained")
    if model_type == BILSTM:
        raise ValueError(
            f"{name}: is a BiLSTM that Stillhouse trained, from which no model of a recipe can start; name the model "
            "of its teacher, and describe the student with bilstm"
        )
    if model_type in NETWORK_TYPES:
        shape_in(config)
        return
    if not is_known(model_type):
        raise ValueError(
            f"{name}: config.json names the architecture {model_type}, which {library()} does not know; use another "
            "model, whose code is part of transformers"
        )
    known = config_class(model_type)
    for field, value in config.items():
        declared = None if known is None else known.fields.get(known.own_name(field))
        if declared is not None and OTHER not in declared.kinds and not _is_of(value, declared):
            raise ValueError(
                f"{name}: config.json has {field}: {json.dumps(value)}, which must be {_kinds(declared)}; save the "
                "model with save_pretrained"
            )
        if declared is not None and _is_unknown_activation(field, value):
            raise ValueError(
                f"{name}: config.json has {field}: {value}, which is no activation function; "
                f"{nearest(str(value), activations())}"
            )
    _check_size(config, name)


def _check_size(config: Mapping[str, object], name: str) -> None:
    """Raise ValueError for a depth, width or number of heads that no model can have. What the file leaves out is not
    checked."""
    for names, most in ((DEPTHS, MOST_LAYERS), (WIDTHS, MOST_OF_ANYTHING), (HEADS, MOST_OF_ANYTHING)):
        value = _number(config, names)
        if value is not None and not 1 <= value <= most:
            field = next(one for one in names if config.get(one) == value)
            raise ValueError(f"{name}: config.json has {field}: {value}, which must be from 1 to {most:,}; {RESTORE}")
    width, heads = _number(config, WIDTHS), _number(config, HEADS)
    if width is not None and heads is not None and width % heads and not _has_head_width(with_defaults(config)):
        raise ValueError(
            f"{name}: config.json has a width of {width}, which is not divisible by its {heads} attention heads; "
            f"{RESTORE}"
        )


def _has_head_width(fields: Mapping[str, object]) -> bool:
    """Whether a configuration gives the width of its attention heads, so that they need not divide the model's."""
    return any(fields.get(name) is not None for name in HEAD_WIDTHS)


def check_classifier(config: Mapping[str, object], name: str) -> None:
    """Raise ValueError if transformers has no classifier of the model's architecture."""
    model_type = str(config.get("model_type"))
    if not classifies_sequences(model_type):
        raise ValueError(
            f"{name}: {library()} has no {model_type} with a classification head; use another model, such as an encoder"
        )


def check_rewriter(by: str, model_type: str, shapes: Shapes, name: str) -> None:
    """Raise ValueError if a model cannot rewrite texts in the way that ``candidates.NAME.by`` gives. ``shapes`` are
    those of its weights."""
    if by == "translated" and not writes_texts(model_type):
        raise ValueError(f"{name}: is no translation model ({model_type}); give one with an encoder and a decoder")
    if by in ("masked", "tinybert"):
        check_masked_model(model_type, shapes, name)


def check_masked_model(model_type: str, shapes: Shapes, name: str) -> None:
    """Raise ValueError if a model does not predict masked tokens. ``shapes`` are those of its weights."""
    if not is_masked_model(model_type, shapes):
        raise ValueError(
            f"{name}: is no masked language model ({model_type} without a head that predicts words); give a model that "
            "was trained as one, such as distilbert-base-uncased"
        )


def is_masked_model(model_type: str, shapes: Shapes) -> bool:
    """Whether a model with weights of these shapes predicts masked tokens, as far as planning can tell."""
    return predicts_masked_words(model_type) and not lacks_masked_head(shapes, model_type)


def check_embeddings(kind: str, model_type: str, head: Head | None, model: str = "the student") -> None:
    """Raise ValueError if a model of this architecture and head does not take word embeddings in the place of tokens,
    which the adversary ``data: kind`` changes. ``model`` names it."""
    problem = embedding_problem(model_type, is_own_class(model_type, head))
    if problem is not None:
        raise ValueError(
            f"data: {kind} changes word embeddings, which {model} ({model_type}) does not take in the place of tokens, "
            f"because {problem}; use another model, or data: original"
        )


def check_scores(model_type: str, field: str, remedy: str) -> None:
    """Raise ValueError if attention scores cannot be had of a model of this architecture. ``field`` is the key of the
    recipe that needs them, and ``remedy`` what to write instead."""
    if model_type not in GIVES_SCORES:
        raise ValueError(
            f"{field}: needs attention scores before the softmax, which {model_type} does not give for all tokens of a "
            f"row; {remedy}, or use another model, such as a BERT or a RoBERTa"
        )


def check_unpadded(train: Train, model_type: str, field: str) -> None:
    """Raise ValueError if a training is to leave padding out, and its model, of this architecture, or its other
    settings do not allow that. ``field`` is the block of the recipe that has the settings."""
    if not train.unpadded:
        return
    if model_type not in UNPADDED:
        raise ValueError(
            f"{field}.unpadded: true, but the layers of {model_type} cannot leave padding out; leave it out, or use a "
            f"model that is one of {', '.join(UNPADDED)}"
        )
    if train.compile:
        raise ValueError(f"{field}.unpadded: true, but {field}.compile is, too, and compiles padded layers; give one")


def check_cut(model_type: str, layers: Sequence[int]) -> None:
    """Raise ValueError for layers, 1 being the first, that cannot be cut out of a model of this architecture. What
    other architectures do not allow is found when the model is cut."""
    if model_type in SHARED_LAYERS:
        raise ValueError(f"cut.layers: the layers of {model_type} share their weights; give the student as a model")
    if model_type in FIRST_DIFFERS and layers[0] != 1:
        raise ValueError(
            f"cut.layers: {list(layers)}, but in {model_type} a layer depends on its place; keep layer 1 first"
        )


# --- changes --------------------------------------------------------------------------------------


def check_changes(config: Mapping[str, object], changes: Given, directory: Path, pairs: bool) -> None:
    """Raise ValueError, which names the field, if no model can be built from the configuration ``config`` with these
    changes, or if it cannot read the rows of its task. ``directory`` has the model's tokenizer; ``pairs`` is whether
    the rows of the task are pairs of texts."""
    known = config_class(str(config.get("model_type")))
    for name, value in changes.items():
        _check_name(name, config, known)
        _check_value(name, value, config, known)
    own = [name if known is None else known.own_name(name) for name in changes]
    for name, field in zip(changes, own, strict=True):
        if own.count(field) > 1 and name != field:
            raise ValueError(f"config.{name}: is another name of {field}, which is given too; leave one of them out")
    given, fields = dict(zip(own, changes, strict=True)), with_defaults(config, changes)
    _check_whole(fields, changes, given)
    _check_vocabulary(fields, given, config, directory)
    if pairs:
        _check_text_kinds(fields, given, directory)


def _check_name(name: str, config: Mapping[str, object], known: ConfigClass | None) -> None:
    if name in BY_TASK:
        raise ValueError(f"config.{name}: follows from the task; leave it out")
    if name in BY_TRANSFORMERS:
        raise ValueError(f"config.{name}: is no setting of a student; leave it out")
    fields = {*(known.fields if known else ()), *(known.aliases if known else ()), *OF_ALL}
    if name not in fields and name not in config:
        names = fields | set(config) - set(BY_TASK) - set(BY_TRANSFORMERS)
        raise ValueError(f"config.{name}: unknown field of {config.get('model_type')}; {nearest(name, names)}")


def _check_value(name: str, value: object, config: Mapping[str, object], known: ConfigClass | None) -> None:
    own = name if known is None else known.own_name(name)
    declared = known.fields.get(own) if known else None
    before = config.get(name, config.get(own, None if declared is None else declared.default))
    if declared is None:
        declared = ConfigField(_kinds_like(before))
    if not _is_of(value, declared):
        raise ValueError(f"config.{name}: {value}, must be {_kinds(declared)}")
    if _is_unknown_activation(name, value):
        raise ValueError(f"config.{name}: {value} is no activation function; {nearest(str(value), activations())}")
    if isinstance(value, int) and not isinstance(value, bool):
        _check_whole_number(name, value, before)
    elif isinstance(value, float):
        _check_number(name, value, before)


def _is_unknown_activation(field: str, value: object) -> bool:
    """Whether a field names an activation function that transformers does not have."""
    return isinstance(value, str) and field.endswith(ACTIVATION_FIELDS) and value not in activations()


def _check_whole_number(name: str, value: int, before: object) -> None:
    least = 0 if name.endswith("_id") or name in OF_ALL or before == 0 else 1
    if value < least and (before is None or (isinstance(before, int) and before >= 0)):
        raise ValueError(f"config.{name}: {value}, must be at least {least}")
    if value > MOST_OF_ANYTHING:
        raise ValueError(f"config.{name}: {value}, must be at most {MOST_OF_ANYTHING:,}")


def _check_number(name: str, value: float, before: object) -> None:
    if not math.isfinite(value):
        raise ValueError(f"config.{name}: {value}, must be finite")
    if value < 0 and not (isinstance(before, float) and before < 0):
        raise ValueError(f"config.{name}: {value}, must be at least 0")
    if value > 1 and ("drop" in name or name.endswith("_prob")):
        raise ValueError(f"config.{name}: {value}, must be at most 1")


def _kinds_like(before: object) -> frozenset[str]:
    """The types that a field may have whose present value is ``before``."""
    if isinstance(before, int | float) and not isinstance(before, bool):
        return frozenset({"int", "float"} if isinstance(before, float) else {"int"})
    return frozenset({type(before).__name__ if isinstance(before, bool | str) else OTHER})


def _is_of(value: object, field: ConfigField) -> bool:
    """Whether a field takes this value. As transformers has it, true is no whole number, and 1 is no float."""
    if field.choices:
        return value in field.choices or (value is None and "None" in field.kinds)
    if value is None:
        return "None" in field.kinds
    kind = type(value).__name__
    return kind in field.kinds or (field.kinds == {OTHER} and kind in KINDS)


def _kinds(field: ConfigField) -> str:
    """What a field takes, in words."""
    if field.choices:
        return " or ".join(map(str, field.choices))
    if {"int", "float"} <= field.kinds:
        return "a number"
    named = [KINDS[kind] for kind in KINDS if kind in field.kinds]
    return " or ".join(named) or "a list or a block, which cannot be given here"


# --- the configuration as a whole -----------------------------------------------------------------


def _check_whole(fields: Mapping[str, object], changes: Given, given: Mapping[str, str]) -> None:
    """Raise ValueError if the fields of the configuration do not fit each other. ``given`` maps the fields that the
    recipe changes to their names there; so it does below."""
    layers, width, heads = (_number(fields, names) for names in (DEPTHS, WIDTHS, HEADS))
    kinds = fields.get("layer_types")
    most = len(kinds) if isinstance(kinds, list) else MOST_LAYERS
    if layers is not None and layers > most:
        why = ", the layers whose kinds config.json lists" if isinstance(kinds, list) else ""
        raise ValueError(f"config.{_name(given, DEPTHS)}: {layers}, must be at most {most:,}{why}")
    pooled = fields.get("pooler_hidden_size")
    if "hidden_size" in given and isinstance(pooled, int) and pooled != width:
        raise ValueError(f"config.hidden_size: {width}, but pooler_hidden_size is {pooled}; change both to one value")
    divisible = not width or not heads or width % heads == 0 or _has_head_width(fields)
    if not divisible and given.keys() & {*WIDTHS, *HEADS}:
        name = _name(given, WIDTHS if given.keys() & set(WIDTHS) else HEADS)
        raise ValueError(
            f"config.{name}: {changes[name]}, but a width of {width} is not divisible by {heads} attention heads; "
            f"change {WIDTHS[0]} or {HEADS[0]}"
        )
    parameters = parameter_bound(fields)
    if parameters > MOST_PARAMETERS:
        raise ValueError(
            f"config: a model of up to {parameters:,} parameters; give no more than {MOST_PARAMETERS:,}, with fewer or "
            "narrower layers"
        )


def _check_vocabulary(
    fields: Mapping[str, object], given: Mapping[str, str], config: Mapping[str, object], directory: Path
) -> None:
    size, before = fields.get("vocab_size"), config.get("vocab_size")
    if "vocab_size" in given and isinstance(size, int):
        tokens = _tokens_of(directory)
        least = before if tokens is None and isinstance(before, int) else tokens
        if least is not None and size < least:
            raise ValueError(f"config.vocab_size: {size}, but the tokenizer has {least} tokens; give {least} or more")
    pad = fields.get("pad_token_id")
    if "pad_token_id" in given and isinstance(pad, int) and isinstance(size, int) and pad >= size:
        raise ValueError(f"config.pad_token_id: {pad}, but the vocabulary ends at {size - 1}")


def _check_text_kinds(fields: Mapping[str, object], given: Mapping[str, str], directory: Path) -> None:
    """Raise ValueError if a pair's second text is marked by a number for which the model has no embedding. DeBERTa
    without such embeddings ignores the marks."""
    size, kinds = fields.get("type_vocab_size"), text_kinds(directory)
    if "type_vocab_size" in given and isinstance(size, int) and kinds is not None and 0 < size < kinds:
        raise ValueError(
            f"config.type_vocab_size: {size}, but the tokenizer marks the texts of a pair with {kinds} numbers; give "
            f"{kinds} or more"
        )


def _tokens_of(directory: Path) -> int | None:
    """The ``token_count`` of the tokenizer in ``directory``; None if it has no ``tokenizer.json`` that lists them."""
    try:
        return token_count(directory / "tokenizer.json")
    except (OSError, ValueError):
        return None


def _number(fields: Mapping[str, object], names: tuple[str, ...]) -> int | None:
    found = (fields.get(name) for name in names)
    return next((value for value in found if isinstance(value, int) and not isinstance(value, bool)), None)


def _name(given: Mapping[str, str], names: tuple[str, ...]) -> str:
    """The first of these fields that a recipe changes, as the recipe names it; the first of all if it changes none."""
    return next((given[name] for name in names if name in given), names[0])

"""The modules of a sentence encoder, as sentence-transformers reads and writes them. Imports no torch.

    modules.json                         the modules in their order, each with its folder
    sentence_bert_config.json            the most tokens of a text
    1_Pooling/config.json                how the states of the last layer are pooled
    2_Dense/                             a linear map of the pooled state, if there is one, and its weights
    config_sentence_transformers.json    the versions that wrote it, and the measure of similarity

The encoder itself, with its tokenizer, lies in the folder of ``modules.json``, as transformers saves it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from stages.models.shape import config_of

Pooling = Literal["mean", "cls"]

SENTENCE_CLASS = "sentence_transformers.SentenceTransformer"
"""The class that loads a sentence encoder."""

MODULES = "modules.json"
LENGTH = "sentence_bert_config.json"
POOLING = "1_Pooling"
DENSE = "2_Dense"
WEIGHTS = "model.safetensors"
IDENTITY = "torch.nn.modules.linear.Identity"

POOLING_MODES: Mapping[str, Pooling] = {"mean_tokens": "mean", "cls_token": "cls", "mean": "mean", "cls": "cls"}
"""The names of the kinds of pooling that are supported, in the files of older and of newer versions."""


@dataclass(frozen=True, slots=True)
class SentenceModules:
    """What comes after the encoder: how the states of its last layer are pooled, a linear map in the folder ``dense``
    (None for none), and whether the vector is scaled to length 1."""

    pooling: Pooling
    dense: Path | None = None
    normalize: bool = False


def is_sentence_encoder(directory: Path) -> bool:
    """Whether a directory holds a sentence encoder: ``modules.json`` is there, and its model has no head for labels."""
    if not (directory / MODULES).is_file():
        return False
    classes = config_of(directory).get("architectures")
    names = classes if isinstance(classes, list) else []
    return not any(str(name).endswith("ForSequenceClassification") for name in names)


def read_modules(directory: Path) -> SentenceModules | None:
    """The modules of the model in ``directory``; None where its files name none. Without ``modules.json``, a pooling
    that ``1_Pooling`` names is taken, and the vector is not scaled. Raises ValueError for damaged files, and for
    modules and kinds of pooling that are not supported."""
    if not (directory / MODULES).is_file():
        pooling = directory / POOLING / "config.json"
        return SentenceModules(_pooling(pooling)) if pooling.is_file() else None
    pooled: Pooling | None = None
    dense, normalize = None, False
    for number, (kind, folder) in enumerate(_listed(directory)):
        match kind:
            case "Transformer" if number == 0 and not folder:
                continue
            case "Pooling" if pooled is None and number:
                pooled = _pooling(directory / folder / "config.json")
            case "Dense" if pooled is not None and dense is None and not normalize:
                dense = directory / folder
                _check_dense(dense)
            case "Normalize" if pooled is not None:
                normalize = True
            case "Dropout" if pooled is not None:
                continue
            case _:
                raise ValueError(
                    f"{directory / MODULES}: module {number} is a {kind}, and sentence encoders are read as "
                    "Transformer, Pooling, at most one Dense, and Normalize; give another model"
                )
    if pooled is None:
        raise ValueError(f"{directory / MODULES}: has no module Pooling; give a sentence encoder")
    return SentenceModules(pooled, dense, normalize)


def sentence_modules(directory: Path, pooling: Pooling) -> SentenceModules:
    """As ``read_modules``; for a model whose files name no modules, ``pooling`` alone."""
    return read_modules(directory) or SentenceModules(pooling)


def most_tokens(directory: Path) -> int | None:
    """The tokens at which a sentence encoder's files cut a text; None where they do not say."""
    path = directory / LENGTH
    given = _json(path) if path.is_file() else {}
    found = given.get("max_seq_length") if isinstance(given, dict) else None
    return found if isinstance(found, int) else None


def _listed(directory: Path) -> list[tuple[str, str]]:
    """(kind, folder) of each module, in their order."""
    path = directory / MODULES
    document = _json(path)
    try:
        return [(str(one["type"]).rpartition(".")[2], str(one["path"]).strip("/")) for one in document]
    except (TypeError, KeyError) as error:
        raise ValueError(f"{path}: damaged ({error}); save the model again") from error


def _pooling(path: Path) -> Pooling:
    document = _json(path)
    if not isinstance(document, dict):
        raise ValueError(f"{path}: damaged (no object); save the model again")
    given = document.get("pooling_mode")
    modes = [given] if isinstance(given, str) else list(given or [])
    prefix = "pooling_mode_"
    modes += [
        name.removeprefix(prefix) for name, value in document.items() if name.startswith(prefix) and value is True
    ]
    if len(modes) != 1 or modes[0] not in POOLING_MODES:
        raise ValueError(
            f"{path}: pooling by {' and '.join(map(str, modes)) or 'nothing'}, and only that by the mean over tokens "
            "or by the first token is supported; give another model"
        )
    return POOLING_MODES[modes[0]]


def _check_dense(folder: Path) -> None:
    """Raise ValueError unless a module Dense is a linear map with its weights in a safetensors file."""
    activation = _json(folder / "config.json").get("activation_function", "")
    if str(activation).rpartition(".")[2] != "Identity":
        raise ValueError(f"{folder}: its activation is {activation}, and only a linear map is supported; give another")
    if not (folder / WEIGHTS).is_file():
        raise ValueError(f"{folder / WEIGHTS}: is not there; weights load from safetensors only, save the model again")


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read ({error}); save the model again") from error


# --- writing --------------------------------------------------------------------------------------------


def write_modules(
    directory: Path, pooling: Pooling, normalize: bool, max_length: int, width: int, dense: int | None
) -> None:
    """Write the files that make the encoder in ``directory`` one of sentence-transformers. ``width`` is that of its
    states; ``dense`` the width of the vector after a linear map, None for none. The weights of the map are written by
    the caller, into the folder ``2_Dense``."""
    modules = [("", "Transformer"), (POOLING, "Pooling")]
    modules += [(DENSE, "Dense")] if dense is not None else []
    modules += [(f"{len(modules)}_Normalize", "Normalize")] if normalize else []
    listed = [
        {"idx": number, "name": str(number), "path": folder, "type": f"sentence_transformers.models.{kind}"}
        for number, (folder, kind) in enumerate(modules)
    ]
    _write(directory / MODULES, listed)
    _write(directory / LENGTH, {"max_seq_length": max_length, "do_lower_case": False})
    _write(
        directory / POOLING / "config.json",
        {
            "word_embedding_dimension": width,
            "pooling_mode_cls_token": pooling == "cls",
            "pooling_mode_mean_tokens": pooling == "mean",
            "pooling_mode_max_tokens": False,
            "pooling_mode_mean_sqrt_len_tokens": False,
        },
    )
    if dense is not None:
        map_config = {"in_features": width, "out_features": dense, "bias": True, "activation_function": IDENTITY}
        _write(directory / DENSE / "config.json", map_config)
    _write(directory / "config_sentence_transformers.json", {"__version__": {}, "similarity_fn_name": "cosine"})


def _write(path: Path, document: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=2) + "\n", "utf-8")

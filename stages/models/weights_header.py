"""Checks of a model's files that need no model: the headers of its safetensors, their shapes, and its tokenizer.

A plan reads a few kilobytes of each file with this, where loading the model would import torch and read gigabytes.
What only the values of the weights can tell, such as NaN, is found when the model runs.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path

from stages.images.networks.description import NETWORK_TYPES, NETWORK_VARIANT
from stages.models.bilstm import BILSTM, BILSTM_VARIANT
from stages.models.config_fields import with_defaults
from stages.models.embeddings.vocabulary import listed_tokens
from stages.models.heads import HEAD_FIELD, MEAN_HEAD_VARIANT
from stages.models.shape import DEPTHS, WIDTHS, config_of

Shapes = Mapping[str, tuple[int, ...]]
"""Name of a tensor -> its shape."""

LENGTH_BYTES = 8
MOST_HEADER_BYTES = 100_000_000
"""The bound of the safetensors library on a header, in bytes."""

GIT_LFS = b"version https://git-lfs"
"""The first bytes of the small text that Git leaves in the place of a large file."""

WORD_EMBEDDINGS = (
    ".word_embeddings.weight",
    ".tok_embeddings.weight",
    ".embed_tokens.weight",
    ".shared.weight",
    ".word_embedding.weight",
    ".wte.weight",
)
LAYER_BY_LAYER = (
    "bert",
    "camembert",
    "deberta",
    "deberta-v2",
    "distilbert",
    "electra",
    "modernbert",
    "mpnet",
    "roberta",
    "xlm-roberta",
)
"""Architectures in whose weights each layer has tensors of its own, named after its number from 0."""

LAYER = re.compile(r"(?:^|\.)layers?\.(\d+)\.")

MASKED_HEADS = (
    "cls.predictions.",
    "lm_head.",
    "lm_predictions.",
    "vocab_transform.",
    "vocab_projector.",
    "generator_predictions.",
    "generator_lm_head.",
)
"""The first part of the names of a masked language model's head."""


# --- safetensors ----------------------------------------------------------------------------------


def weight_shapes(directory: Path) -> Shapes:
    """The tensors of the weights in ``directory``, from the headers of the files that are loaded:
    ``model.safetensors``, else those that ``model.safetensors.index.json`` lists, else all safetensors. With
    a ``weights_variant``, its name is in theirs. Raises ValueError for a file that is damaged or missing."""
    shapes: dict[str, tuple[int, ...]] = {}
    for path in _loaded_files(directory):
        shapes |= read_header(path)
    return shapes


def weights_variant(directory: Path) -> str | None:
    """The argument ``variant`` with which transformers finds the weights in ``directory``: ``BILSTM_VARIANT`` for a
    BiLSTM, ``NETWORK_VARIANT`` for a network for images, ``MEAN_HEAD_VARIANT`` for an encoder with a mean head, else
    None. None as well for a mean head whose weights have transformers' usual file name, under which they were saved at
    first."""
    config = config_of(directory)
    if config.get("model_type") == BILSTM:
        return BILSTM_VARIANT
    if config.get("model_type") in NETWORK_TYPES:
        return NETWORK_VARIANT
    if HEAD_FIELD not in config:
        return None
    return MEAN_HEAD_VARIANT if any(path.exists() for path in _whole_and_index(directory, MEAN_HEAD_VARIANT)) else None


def _whole_and_index(directory: Path, variant: str | None) -> tuple[Path, Path]:
    """The file with all weights, and the index of several files, as transformers names them."""
    part = "" if variant is None else f".{variant}"
    return directory / f"model{part}.safetensors", directory / f"model.safetensors.index{part}.json"


def read_header(path: Path) -> Shapes:
    """The tensors of a safetensors file. Raises ValueError if the file is not one, is shorter or longer than its header
    says, or has no tensors."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(LENGTH_BYTES)
        if (start + file.read(len(GIT_LFS) - LENGTH_BYTES)).startswith(GIT_LFS):
            raise ValueError(f"{path}: is a pointer of Git LFS and not the file itself; fetch it with git lfs pull")
        length = int.from_bytes(start, "little")
        if len(start) < LENGTH_BYTES or length > min(size - LENGTH_BYTES, MOST_HEADER_BYTES):
            raise _damaged(path, f"has no header of safetensors within its {size:,} bytes")
        file.seek(LENGTH_BYTES)
        header = file.read(length)
    try:
        entries = {name: entry for name, entry in json.loads(header).items() if name != "__metadata__"}
        shapes = {name: tuple(map(int, entry["shape"])) for name, entry in entries.items()}
        ends = [int(entry["data_offsets"][1]) for entry in entries.values()]
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise _damaged(path, "has a header that is not that of safetensors") from error
    if not shapes:
        raise ValueError(f"{path}: holds no tensors; save the model there with save_pretrained")
    expected = LENGTH_BYTES + length + max(ends)
    if size != expected:
        relation = "shorter" if size < expected else "longer"
        raise _damaged(path, f"is {relation} than its header says ({size:,} bytes, not {expected:,})")
    return shapes


def _damaged(path: Path, problem: str) -> ValueError:
    return ValueError(f"{path}: {problem}; copy or download it again")


def _loaded_files(directory: Path) -> list[Path]:
    whole, index = _whole_and_index(directory, weights_variant(directory))
    if whole.exists() or not index.exists():
        return [whole] if whole.exists() else sorted(directory.glob("*.safetensors"))
    try:
        names = sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise _damaged(index, "does not list the files of the weights") from error
    for name in names:
        if not isinstance(name, str) or Path(name).name != name or not (directory / name).is_file():
            raise ValueError(f"{index}: lists {name}, which is not a file beside it; copy or download all files again")
    return [directory / name for name in names]


# --- weights and configuration --------------------------------------------------------------------


def check_shapes(shapes: Shapes, config: Mapping[str, object], where: str) -> None:
    """Raise ValueError if the weights do not fit the configuration: other word embeddings, or layers that are missing.
    ``where`` is the model's folder, for messages. Tensors that have names of another kind are not compared, and more
    layers than the configuration has are allowed, as transformers leaves them out."""
    _check_embeddings(shapes, with_defaults(config), where)
    depth = next((config[name] for name in DEPTHS if isinstance(config.get(name), int)), None)
    if isinstance(depth, int) and config.get("model_type") in LAYER_BY_LAYER:
        found = {int(match.group(1)) for match in map(LAYER.search, shapes) if match}
        lacking = next((layer for layer in range(depth) if layer not in found), None)
        if lacking is not None:
            raise ValueError(
                f"{where}: config.json has {depth} layers, but the weights lack layer {lacking + 1} of them; give the "
                "config.json that was saved with these weights"
            )


def word_embedding_width(shapes: Shapes) -> int | None:
    """The width of the word embeddings; None if no tensor has a name by which they are known here."""
    return next((table[1] for table in _tables(shapes)), None)


def _tables(shapes: Shapes) -> list[tuple[int, ...]]:
    """The shapes of the tables of word embeddings."""
    return [shape for name, shape in shapes.items() if f".{name}".endswith(WORD_EMBEDDINGS) and len(shape) == 2]


def _check_embeddings(shapes: Shapes, fields: Mapping[str, object], where: str) -> None:
    tables, rows = _tables(shapes), fields.get("vocab_size")
    # They may be narrower than the layers: embedding_size of ELECTRA, input_embedding_size of RemBERT.
    widths = [value for name, value in fields.items() if name in WIDTHS or ("emb" in name and "position" not in name)]
    if not tables or not isinstance(rows, int):
        return
    remedy = "give the config.json that was saved with these weights"
    if all(table[0] != rows for table in tables):
        raise ValueError(
            f"{where}: config.json has vocab_size: {rows}, but the weights have embeddings of {tables[0][0]} tokens; "
            f"{remedy}"
        )
    name = next((name for name in WIDTHS if isinstance(fields.get(name), int)), None)
    if name is not None and not any(table == (rows, width) for table in tables for width in widths):
        raise ValueError(
            f"{where}: config.json has {name}: {fields[name]}, but the weights have word embeddings of width "
            f"{tables[0][1]}; {remedy}"
        )


def lacks_masked_head(shapes: Shapes, model_type: str) -> bool:
    """Whether weights of this architecture certainly have no head that predicts masked words. False for architectures
    whose names of a head are not known here."""
    if model_type == "modernbert":  # a classifier of ModernBERT has a part named head as well
        return not any(name.startswith(("decoder.", "head.")) for name in shapes) or "classifier.weight" in shapes
    return model_type in LAYER_BY_LAYER and not any(name.startswith(MASKED_HEADS) for name in shapes)


# --- tokenizers -----------------------------------------------------------------------------------


def token_count(path: Path) -> int | None:
    """One more than the highest id of a token in a ``tokenizer.json``, added tokens included; None if it does not list
    them. Raises ValueError if the file is not JSON."""
    return max((number for _, number in listed_tokens(path)), default=-1) + 1 or None


def check_token_count(tokens: int | None, config: Mapping[str, object], path: Path) -> None:
    """Raise ValueError if a tokenizer has tokens for which the model has no embedding. ``tokens`` is the
    ``token_count`` of the file ``path``. A vocabulary that is smaller than the embeddings is common."""
    size = with_defaults(config).get("vocab_size")
    if tokens is not None and isinstance(size, int) and tokens > size:
        raise ValueError(
            f"{path}: has tokens up to id {tokens - 1}, but config.json has vocab_size: {size}; give the tokenizer "
            "that was saved with these weights"
        )


MASK_TOKENS = ("[MASK]", "<mask>", "[mask]", "<special1>")
"""What the tokenizers of masked language models usually call their mask token."""


def lacks_mask_token(directory: Path) -> bool:
    """Whether the tokenizer in ``directory`` certainly has no mask token: its configuration names none, and no token of
    its vocabulary has a name that mask tokens usually have. False if its files list no tokens. Raises ValueError for a
    file that is not JSON."""
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        document = _document(directory / name)
        if isinstance(document, dict) and document.get("mask_token") is not None:
            return False
    vocabulary = directory / "vocab.txt"
    if vocabulary.exists():
        return set(vocabulary.read_text("utf-8").splitlines()).isdisjoint(MASK_TOKENS)
    file = directory / "tokenizer.json"
    tokens = {token for token, _ in listed_tokens(file)} if file.exists() else set()
    return bool(tokens) and tokens.isdisjoint(MASK_TOKENS)


def _document(path: Path) -> object:
    """The content of a JSON file; None if there is none."""
    try:
        return json.loads(path.read_text("utf-8")) if path.exists() else None
    except (ValueError, RecursionError) as error:
        raise _damaged(path, "is not JSON") from error

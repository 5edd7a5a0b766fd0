"""The present paths of an artifact's inputs, from the paths and digests in its record."""

from pathlib import Path

from pipeline.artifacts.record import Record, content_digest, fetch_artifact, find
from pipeline.errors import RequestError
from pipeline.graph.external.digests import Digests
from pipeline.graph.external.inputs import model_identity
from pipeline.storage import Storage


def input_path(record: Record, name: str, storage: Storage) -> Path:
    """The present path of the artifact's input ``name``, fetched if the storage is remote. Raises RequestError if it no
    longer exists."""
    known = record.places.get(name)
    if known is None:
        raise RequestError(f"{record.name}: its record does not have the path of its {name}; run its recipe again")
    if Path(known).is_absolute():
        return Path(known)
    stage, key, _, *part = Path(known).parts
    source = find(storage, stage, key)
    if source is None:
        raise RequestError(f"{record.name}: its {name} ({stage} {key[:12]}) is gone from {storage}; run its recipe")
    return fetch_artifact(storage, source).joinpath(*part)


def teacher_model(record: Record, storage: Storage) -> Path:
    """The directory of the model whose outputs a store holds. Raises RequestError if it is missing or has changed."""
    path = input_path(record, "model", storage)
    if not Path(record.places["model"]).is_absolute():
        if content_digest(storage, path) != record.contents.get("model"):
            raise RequestError(
                f"{record.name}: the teacher at {path} was rebuilt since; run the recipe with --stage teach"
            )
        return path
    if not path.is_dir():
        raise RequestError(f"{record.name}: the teacher at {path} is missing; put it back, or run the recipe again")
    if model_identity(path, Digests.load(storage.local / ".identity" / "digests.json")) != record.inputs["model"]:
        raise RequestError(f"{record.name}: the model at {path} has changed since; put the teacher back")
    return path

"""Where the inputs of an artifact lie now, by what its record says of where they lay."""

from pathlib import Path

from pipeline.artifacts.record import Record, content, fetched, find
from pipeline.errors import RequestError
from pipeline.graph.external_inputs import Digests, model_identity
from pipeline.storage import Storage


def place(record: Record, name: str, storage: Storage) -> Path:
    """Where an input of the artifact lies now. RequestError where it is gone."""
    known = record.places.get(name)
    if known is None:
        raise RequestError(f"{record.name}: its record does not say where {name} lay; run its recipe again")
    if Path(known).is_absolute():
        return Path(known)
    stage, key, _, *part = Path(known).parts
    standing = find(storage, stage, key)
    if standing is None:
        raise RequestError(f"{record.name}: its {name} ({stage} {key[:12]}) is gone from {storage}; run its recipe")
    return fetched(storage, standing).joinpath(*part)


def live_model(record: Record, storage: Storage) -> Path:
    """The teacher, if it is still the one that spoke. RequestError where it is not."""
    path = place(record, "model", storage)
    if not Path(record.places["model"]).is_absolute():
        if content(storage, path) != record.contents.get("model"):
            raise RequestError(
                f"{record.name}: the teacher at {path} was made anew since; run the recipe with --stage teach"
            )
        return path
    if not path.is_dir():
        raise RequestError(f"{record.name}: the teacher at {path} is gone; put it back, or run the recipe again")
    if model_identity(path, Digests.load(storage.local / ".identity" / "digests.json")) != record.inputs["model"]:
        raise RequestError(f"{record.name}: the model at {path} is another by now; put the teacher back")
    return path

"""What the storage knows of a model's evaluation and of its teacher's, for the model's card."""

import json
from contextlib import suppress

from pipeline.artifacts.evaluations import evaluations_on, teacher_store
from pipeline.artifacts.record import Record
from pipeline.cli.models.find_model import FoundModel
from pipeline.cli.request import storage_errors
from pipeline.storage import Storage
from stages.cards.exported import EvaluatedModel, Evaluations


def evaluations_of(model: FoundModel) -> Evaluations | None:
    """The evaluations of a model and of the first model that taught it, on the corpus that it was trained on; None for
    a model outside a storage. Raises RequestError if the storage does not answer."""
    if model.stored is None:
        return None
    record, storage = model.stored.record, model.stored.storage
    with storage_errors(storage):
        known = evaluations_on(record.inputs.get("corpus", ""), storage)
        store = teacher_store(record, storage)
        teacher = None if store is None else known.get(store.inputs.get("model", ""))
        name = "" if store is None else _model_name(storage, store)
    own = known.get(record.key)
    return Evaluations(
        None if own is None else _evaluated(own, record.name), None if teacher is None else _evaluated(teacher, name)
    )


def _model_name(storage: Storage, store: Record) -> str:
    """The name of the model whose outputs a store holds: in the recipe, or that of its node."""
    with suppress(ValueError, KeyError, TypeError):
        return str(json.loads(storage.read(f"{store.folder}/lineage.json") or "")["inputs"]["model"]["name"])
    return "unknown"


def _evaluated(record: Record, name: str) -> EvaluatedModel:
    gpus = record.hardware.get("gpus")
    machine = gpus[0] if isinstance(gpus, list) and gpus else record.hardware.get("processor", "")
    latency = record.facts.get("latency_ms")
    return EvaluatedModel(
        name,
        int(record.facts["parameters"]),
        record.facts["scores"],
        float(latency) if isinstance(latency, int | float) else None,
        str(machine),
    )

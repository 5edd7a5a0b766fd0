"""Which artifacts belong to a finished model: its evaluation, and the store of the teacher whose outputs it learned."""

from collections.abc import Mapping
from pathlib import Path

from pipeline.artifacts.record import Record, find, parsed_records
from pipeline.storage import Storage
from stages.specs.evaluation import EvaluateSpec
from stages.specs.teacher import TeachSpec


def teacher_store(record: Record, storage: Storage) -> Record | None:
    """The store of the first model that taught the model of a training; None for a training without a teacher, and
    where the store is gone."""
    place = next((record.places.get(name) for name in ("outputs", "outputs/0")), None)
    if place is None or Path(place).is_absolute():
        return None
    stage, key, *_ = Path(place).parts
    return find(storage, stage, key) if stage == TeachSpec.stage else None


def evaluations_on(corpus: str, storage: Storage) -> Mapping[str, Record]:
    """The identity of each model that was evaluated on the corpus of this key -> the record of the evaluation. The
    identity of a training's final model is the training's key."""
    records = parsed_records(storage, EvaluateSpec.stage).values()
    found = [record for record in records if isinstance(record, Record) and record.inputs.get("corpus") == corpus]
    return {record.inputs["model"]: record for record in found if "model" in record.inputs}

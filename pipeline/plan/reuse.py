"""Earlier stores of the same teacher, and embeddings of the same encoder, from which rows can be copied.

Here it is decided from records whether the rows of an earlier artifact are those that the node would compute: from the
same model by content, in the same number type, with the same pooling, precision and order of labels. Whether it holds a
given row, tokenised alike, is checked by the stage.
"""

from collections.abc import Mapping, Sequence

from pydantic import ValidationError

from pipeline.artifacts.record import Record, artifact_path, content_digest, missing, parsed_records
from pipeline.graph.fingerprint import differences
from pipeline.graph.nodes import Edge, Node
from pipeline.storage import Storage
from stages.specs.retrieval import EmbedSpec
from stages.specs.teacher import TeachSpec

SAME_FIELDS = ("part", "precision", "compute")
"""Fields of a store's spec that must be equal."""

STAGES = (TeachSpec.stage, EmbedSpec.stage)
"""The stages that can copy rows."""


def reusable_records(storage: Storage, stage: str) -> tuple[Record, ...]:
    """The records of all complete artifacts of a stage that can copy rows, the newest first, so that rows come from few
    shards; () for other stages."""
    if stage not in STAGES:
        return ()
    records = [record for record in parsed_records(storage, stage).values() if isinstance(record, Record)]
    found = [record for record in records if not missing(storage, record)]
    return tuple(sorted(found, key=lambda record: (record.committed, record.key), reverse=True))


def priors(
    candidates: Sequence[Record], node: Node, storage: Storage, records: Mapping[str, Record]
) -> tuple[Record, ...]:
    """Those of the ``candidates`` that may hold rows of the node; () if its teacher is not built yet. ``records`` are
    those of existing artifacts, by key."""
    spec, model = node.spec, node.inputs.get("model")
    if isinstance(spec, EmbedSpec):
        encoder = node.input_keys.get("encoder")
        same = (record for record in candidates if record.key != node.key and encoder is not None)
        return tuple(record for record in same if _embeds(record, spec) and record.inputs.get("encoder") == encoder)
    if not isinstance(spec, TeachSpec) or model is None:
        return ()
    teacher = node.input_keys["model"]
    if isinstance(model, Edge):
        trained = records.get(model.source.key)
        teacher = content_digest(storage, artifact_path(storage, trained) / model.part) if trained else ""
    return tuple(record for record in candidates if record.key != node.key and _has_rows_of(record, teacher, spec))


def _embeds(record: Record, spec: EmbedSpec) -> bool:
    return record.stage == spec.stage and record.version == spec.version and not differences(record.spec, spec)


def _has_rows_of(record: Record, teacher: str, spec: TeachSpec) -> bool:
    """Whether a store's rows are those that ``spec`` would compute. The store may have more layers, both
    poolings, or logits where ``spec`` wants none.
    ``teacher``: identity or content digest of the model, '' if it is not built."""
    if (
        not teacher
        or record.stage != spec.stage
        or record.version != spec.version
        or record.contents.get("model") != teacher
    ):
        return False
    try:
        stored = TeachSpec.model_validate(record.spec)
    except ValidationError:  # of another version of this package, with fields that this one does not know
        return False
    pooled = spec.part != "pooled" or stored.pooling in (spec.pooling, "both")
    logits = not spec.logits or (stored.logits and stored.label_order == spec.label_order)
    return pooled and logits and all(getattr(stored, name) == getattr(spec, name) for name in SAME_FIELDS)

"""Earlier stores of the same teacher, and embeddings by the same encoder, from which rows may be carried over rather
than computed.

Whether one holds a row is the stage's to find out; whether its rows mean the same is decided here, by what records
say: the same model by content, run in the same number type, pooled and stored alike, its outputs in the same order.
That texts became tokens by the same rule is said by the store itself.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress

from pipeline.artifacts.record import Record, artifact_path, content, missing, parsed, recorded
from pipeline.errors import RequestError
from pipeline.graph.fingerprint import plain
from pipeline.graph.nodes import Edge, Node
from pipeline.storage import Storage
from stages.specs.retrieval import EmbedSpec
from stages.specs.teacher import TeachSpec

ALIKE = ("part", "precision", "compute", "label_order")


STAGES = (TeachSpec.stage, EmbedSpec.stage)
"""Those whose rows may be carried over."""


def held(storage: Storage, stage: str) -> tuple[Record, ...]:
    """All whole artifacts of a stage whose rows may be carried over, the newest first, so that rows come from as few
    shards as may be; () for any other."""
    found = []
    for name, text in recorded(storage, stage).items() if stage in STAGES else ():
        with suppress(RequestError):  # a record that cannot be read is somebody else's trouble
            record = parsed(text, storage.where(name))
            if not missing(storage, record):
                found.append(record)
    return tuple(sorted(found, key=lambda record: (record.committed, record.key), reverse=True))


def priors(held: Sequence[Record], node: Node, storage: Storage, records: Mapping[str, Record]) -> tuple[Record, ...]:
    """Those of them that may hold rows of the node. ``records`` are the artifacts that are there. () while a node's
    teacher is yet to be made."""
    spec, model = node.spec, node.inputs.get("model")
    if isinstance(spec, EmbedSpec):
        encoder = node.input_keys.get("encoder")
        same = (record for record in held if record.key != node.key and encoder is not None)
        return tuple(record for record in same if _embeds(record, spec) and record.inputs.get("encoder") == encoder)
    if not isinstance(spec, TeachSpec) or model is None:
        return ()
    speaker = node.input_keys["model"]
    if isinstance(model, Edge):
        standing = records.get(model.source.key)
        speaker = content(storage, artifact_path(storage, standing) / model.part) if standing else ""
    return tuple(record for record in held if record.key != node.key and _serves(record, speaker, spec))


def _embeds(record: Record, spec: EmbedSpec) -> bool:
    return record.stage == spec.stage and record.version == spec.version and record.spec == plain(spec)


def _serves(record: Record, speaker: str, spec: TeachSpec) -> bool:
    """Whether the store's rows are what the node would compute. More layers, and both poolings, do no harm."""
    if (
        not speaker
        or record.stage != spec.stage
        or record.version != spec.version
        or record.contents.get("model") != speaker
    ):
        return False
    held = TeachSpec.model_validate(record.spec)
    pooled = spec.part != "pooled" or held.pooling in (spec.pooling, "both")
    return pooled and all(getattr(held, name) == getattr(spec, name) for name in ALIKE)

"""Earlier stores of the same teacher, from which rows may be carried over rather than computed.

Whether one holds a row is the stage's to find out; whether its rows mean the same is decided here, by what records
say: the same model by content, run in the same number type, pooled and stored alike, its outputs in the same order.
That texts became tokens by the same rule is said by the store itself.
"""

from collections.abc import Sequence
from pathlib import Path

from pipeline.artifact import Record, missing, read_record
from pipeline.graph import Node
from stages.specs import TeachSpec

PRIOR = "prior/"
"""What the inputs of a stage are called that are earlier stores."""

ALIKE = ("part", "precision", "compute", "label_order")


def stores(storage: Path) -> tuple[Record, ...]:
    """All whole teacher-output stores, the newest first, so that rows come from as few shards as may be."""
    records = (read_record(path) for path in storage.glob(f"{TeachSpec.stage}/*/record.json"))
    found = [record for record in records if record is not None and not missing(storage, record)]
    return tuple(sorted(found, key=lambda record: (record.committed, record.key), reverse=True))


def priors(held: Sequence[Record], node: Node) -> tuple[Record, ...]:
    """Those of the stores that may hold rows of the node; () for any stage but teach."""
    spec = node.spec
    if not isinstance(spec, TeachSpec):
        return ()
    return tuple(record for record in held if record.key != node.key and _serves(record, node, spec))


def _serves(record: Record, node: Node, spec: TeachSpec) -> bool:
    """Whether the store's rows are what the node would compute. More layers, and both poolings, do no harm."""
    if record.version != spec.version or record.inputs.get("model") != node.input_keys.get("model"):
        return False
    held = TeachSpec.model_validate(record.spec)
    pooled = spec.part != "pooled" or held.pooling in (spec.pooling, "both")
    return pooled and all(getattr(held, name) == getattr(spec, name) for name in ALIKE)

"""Rows and bytes of the steps of a plan, as far as files and records of other artifacts tell them.

The record of a node's own artifact tells both exactly. Else they follow from the inputs: a corpus's record has the rows
of each split, a candidate table's record the number of its distinct texts; of an input that is not built either, its
own quantities are used.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.artifacts.record import Record
from pipeline.graph.artifact_sizes import store_bytes
from pipeline.graph.nodes import Edge, Node, Quantity, SplitSizes
from pipeline.graph.split_sizes import recorded_sizes
from pipeline.graph.unlabelled.pretraining import trained_texts, used_texts
from stages.models.shape import config_of, shape_of
from stages.retrieval.index_plan import index_bytes, planned
from stages.specs.candidates import NeighboursSpec, RerankSpec, RewriteSpec, TransferSpec, UnlabelledSpec
from stages.specs.corpus import CorpusSpec
from stages.specs.evaluation import EnsembleSpec, EvaluateSpec, SimilaritySpec
from stages.specs.pretraining import PretrainSpec, TextsSpec
from stages.specs.retrieval import EmbedSpec, IndexSpec, TfIdf
from stages.specs.student import DistilSpec
from stages.specs.tasks import TRAIN
from stages.specs.teacher import CalibrateSpec, ProbeSpec, TeachSpec

KEY_BYTES = 16
VALUE_BYTES = 2
"""Bytes of a number of an embedding (float16)."""
TEXT_BYTES = 80
"""Bytes of a text whose source does not tell them, about."""
TOKEN_BYTES = 2
"""Bytes of a token in a corpus, compressed."""
REST_BYTES = 4096
"""Bytes of the small files beside an artifact's rows, about."""


@dataclass(frozen=True, slots=True)
class SizeOfNode:
    """Rows and bytes of an artifact, built or planned."""

    rows: Quantity
    bytes: Quantity


def sizes_of(nodes: Iterable[Node], records: Mapping[str, Record]) -> dict[str, SizeOfNode]:
    """Key -> rows and bytes of each node, as known from ``records`` (by key). Each node comes after its inputs."""
    known: dict[str, SizeOfNode] = {}
    for node in nodes:
        known[node.key] = size_of(node, records, known)
    return known


def size_of(node: Node, records: Mapping[str, Record], known: Mapping[str, SizeOfNode]) -> SizeOfNode:
    """Rows and bytes of a node. ``known`` has those of its inputs, by key."""
    if node.key in records:
        own = records[node.key]
        return SizeOfNode(Quantity.exact(own.rows), Quantity.exact(own.bytes))
    rows = _rows(node, records, known)
    return SizeOfNode(rows, _bytes(node, rows, known))


# --- rows -------------------------------------------------------------------------------------------


def _rows(node: Node, records: Mapping[str, Record], known: Mapping[str, SizeOfNode]) -> Quantity:
    corpus = source_of(node, "corpus")
    sizes = corpus_sizes(corpus, records) if corpus is not None else None
    match node.spec:
        case DistilSpec() if sizes is not None:
            return Quantity.exact(sizes.trained)
        case CalibrateSpec() if sizes is not None:
            return Quantity.exact(sizes.held_out)
        case EvaluateSpec() | SimilaritySpec() | EnsembleSpec() if sizes is not None:
            return Quantity.exact(sizes.evaluated)
        case TeachSpec(splits=(split,)) if sizes is not None and corpus is not None:
            return _distinct(records[corpus.key], split).times(_views(corpus, split))
        case NeighboursSpec() | TransferSpec() | RewriteSpec() if sizes is not None and corpus is not None:
            return _distinct(records[corpus.key], TRAIN)
        case UnlabelledSpec():
            return _texts(node, records, known)
        case PretrainSpec() as spec if sizes is not None and corpus is not None:
            return trained_texts(spec, _distinct(records[corpus.key], TRAIN))
        case PretrainSpec() as spec:
            return _pretrained_rows(node, spec, known)
        case TextsSpec() as spec:
            return _used_texts(node, spec, records, known)
        case TeachSpec() | ProbeSpec() | EmbedSpec() | IndexSpec() | RerankSpec():
            return _input_rows(node, known)
        case _:
            return node.rows


def source_of(node: Node, name: str) -> Node | None:
    """The node that is the input ``name``; None for an external input, and without such an input."""
    given = node.inputs.get(name)
    return given.source if isinstance(given, Edge) else None


def corpus_sizes(corpus: Node, records: Mapping[str, Record]) -> SplitSizes | None:
    """The sizes of the splits of a corpus that is built; None if it is not, and for tokenised candidates."""
    record, spec = records.get(corpus.key), corpus.spec
    if record is None or not isinstance(spec, CorpusSpec):
        return None
    rows = record.facts.get("rows")
    return recorded_sizes(rows, spec) if isinstance(rows, Mapping) else None


def sizes_of_splits(corpus: Node, records: Mapping[str, Record]) -> SplitSizes | None:
    """The sizes of a corpus's splits: from its record if it is built, else as they are expected. What a record does not
    tell, the rows of train in the source, is taken from what is expected."""
    built, expected = corpus_sizes(corpus, records), corpus.splits
    if built is None or expected is None or built.given is not None:
        return built or expected
    return replace(built, given=expected.given, not_sampled=expected.not_sampled, cut_off=expected.cut_off)


def _distinct(corpus: Record, split: str) -> Quantity:
    """The rows of a split with different texts: exact where the record counts duplicates."""
    rows, repeated = corpus.facts["rows"][split], corpus.facts.get("duplicates", {}).get(split)
    return Quantity.at_most(rows) if repeated is None else Quantity.exact(rows - repeated)


def _views(corpus: Node, split: str) -> int:
    """The views in which a split is read, each of which has a row in a store: those of the images of train."""
    assert isinstance(corpus.spec, CorpusSpec), "other inputs of this name have no sizes of splits"
    augmentation = corpus.spec.augmentation
    return augmentation.views if augmentation is not None and split == TRAIN else 1


def _texts(node: Node, records: Mapping[str, Record], known: Mapping[str, SizeOfNode]) -> Quantity:
    """The distinct texts of a candidate table."""
    table = source_of(node, "candidates")
    assert table is not None and isinstance(table.spec, NeighboursSpec | TransferSpec | RewriteSpec)
    if table.key in records and "distinct" in records[table.key].facts:
        return Quantity.exact(int(records[table.key].facts["distinct"]))
    rows = known[table.key].rows if table.key in known else table.rows
    return node.rows if rows.value is None else Quantity.at_most(rows.value * table.spec.k)


def _pretrained_rows(node: Node, spec: PretrainSpec, known: Mapping[str, SizeOfNode]) -> Quantity:
    """The texts that a model is pretrained on: of a bank, or of tokenised texts, as many as these are known to have."""
    source = source_of(node, "bank") or source_of(node, "texts")
    rows = known[source.key].rows if source is not None and source.key in known else None
    return node.rows if rows is None or rows.value is None else trained_texts(spec, rows)


def _used_texts(
    node: Node, spec: TextsSpec, records: Mapping[str, Record], known: Mapping[str, SizeOfNode]
) -> Quantity:
    """The texts that are tokenised, of a bank or of a task's rows of train."""
    corpus, bank = source_of(node, "corpus"), source_of(node, "bank")
    rows = known[bank.key].rows if bank is not None and bank.key in known else None
    if corpus is not None and corpus_sizes(corpus, records) is not None:
        rows = _distinct(records[corpus.key], TRAIN)
    return node.rows if rows is None or rows.value is None else used_texts(spec, rows)


FOLLOWED = ("outputs", "embeddings", "bank", "candidates", "corpus")
"""Inputs whose rows are those of the node, the first that it has."""


def _input_rows(node: Node, known: Mapping[str, SizeOfNode]) -> Quantity:
    """The rows of the input that the node has a row for each row of. Of a corpus, which has several splits, they are
    not the node's."""
    for name in FOLLOWED:
        source = source_of(node, name)
        if source is None:
            continue
        if isinstance(source.spec, CorpusSpec) or source.key not in known:
            return node.rows
        rows = known[source.key].rows
        return node.rows if rows.value is None else rows
    return node.rows


# --- bytes ------------------------------------------------------------------------------------------


def _bytes(node: Node, rows: Quantity, known: Mapping[str, SizeOfNode]) -> Quantity:
    if rows.value is None:
        return node.bytes
    count = rows.value
    match node.spec:
        case TeachSpec() as spec if node.extent is not None:
            return _bounded(store_bytes(spec, node.extent, count), rows)
        case ProbeSpec() if node.rows.value and node.bytes.value is not None:
            return _bounded(count * node.bytes.value // node.rows.value, rows)
        case EmbedSpec():
            return _embedding_bytes(node, count, rows, known)
        case IndexSpec() as spec:
            width = encoder_width(source_of(node, "embeddings"))
            kind = planned(spec, count, width)
            return Quantity.about(index_bytes(kind.kind, count, width, kind.lists) + REST_BYTES)
        case EvaluateSpec() | EnsembleSpec():
            corpus = source_of(node, "corpus")
            assert corpus is not None and isinstance(corpus.spec, CorpusSpec)
            return Quantity.about(count * (KEY_BYTES + 4 + 4 * corpus.spec.task.outputs) + REST_BYTES)
        case NeighboursSpec(k=k) | TransferSpec(k=k) | RewriteSpec(k=k) | RerankSpec(k=k):
            return Quantity.about(count * k * (KEY_BYTES + 4 + _text_bytes(node, known)) + REST_BYTES)
        case CalibrateSpec():
            return Quantity.about(REST_BYTES)
        case UnlabelledSpec():
            return Quantity.about(count * (KEY_BYTES + 2 * _text_bytes(node, known)) + REST_BYTES)
        case _:
            return node.bytes


def _bounded(size: int, rows: Quantity) -> Quantity:
    """Bytes before compression, for exact or bounded rows: an upper bound."""
    return Quantity.about(size) if rows.kind == "about" else Quantity.at_most(size)


def _embedding_bytes(node: Node, count: int, rows: Quantity, known: Mapping[str, SizeOfNode]) -> Quantity:
    assert isinstance(node.spec, EmbedSpec)
    if isinstance(node.spec.encoder, TfIdf):
        # A word or a run of words takes an index and a count, and each row has about as many as its text has words.
        return Quantity.about(count * (KEY_BYTES + _text_bytes(node, known) * node.spec.encoder.words))
    return _bounded(count * (VALUE_BYTES * encoder_width(node) + KEY_BYTES), rows)


def encoder_width(embeddings: Node | None) -> int:
    """The width of the vectors that an encoder model makes. ``embeddings``: the node of the stage ``embed``."""
    assert embeddings is not None
    encoder = embeddings.inputs["encoder"]
    assert not isinstance(encoder, Edge)
    return _width(encoder.path)


def _width(directory: Path) -> int:
    return shape_of(config_of(directory), str(directory)).width


def _text_bytes(node: Node, known: Mapping[str, SizeOfNode]) -> int:
    """The bytes of a text of the bank or corpus that a node reads, about."""
    for name in ("bank", "candidates", "corpus"):
        source = source_of(node, name)
        if source is None or source.key not in known:
            continue
        if isinstance(source.spec, NeighboursSpec | TransferSpec | RewriteSpec):
            return _text_bytes(source, known)
        size = known[source.key]
        if size.rows.value and size.bytes.value:
            return max(1, size.bytes.value // size.rows.value - KEY_BYTES)
    return TEXT_BYTES

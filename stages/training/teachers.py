"""What a student is taught from: the stores of its teachers, mapped from this node's copies."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from stages.cache_folder import CacheFolder
from stages.candidates.table import read_candidates, read_table_meta
from stages.corpus.reader import CANDIDATES
from stages.corpus.rowset import Rowset, read_rowset
from stages.outputs.layer_variance import DEAD, dead_layers
from stages.outputs.layout import read_store
from stages.outputs.node_cache import Columns, decode
from stages.specs.input_names import CANDIDATE_OUTPUTS, OUTPUTS, one_or_in_order
from stages.specs.layer_map import check_store, groups_of, teacher_layers
from stages.specs.layers import NoLayers
from stages.specs.method import Method, WithCandidates, check_teachers
from stages.specs.student import DistilSpec
from stages.training.candidates import FOUND, Pool, pool
from stages.training.signal import NoTeacher, Signal, StoredSignal


def signal_of(
    spec: DistilSpec, inputs: Mapping[str, Path], rows: Rowset, say: Callable[[str], None] = lambda _text: None
) -> Signal:
    """What teachers said, mapped from this node's copies of their stores for the rows of train. ``say`` hears of it
    when a copy has to be made first."""
    method = spec.method
    if not method.needs_teacher:
        return NoTeacher()
    stores = teachers(inputs)
    check_teachers(method, len(stores))
    cache = CacheFolder.of(os.environ)

    def mapped(store: Path, names: Sequence[str]) -> Columns:
        return decode(store, names, rows.row_keys, cache, say)

    logits = ("logits",) if method.needs_logits else ()
    if method.needs_probes:
        names = columns_of(method, inputs["probes"])
        spoken = [mapped(store, logits) for store in stores] if logits else []
        return StoredSignal(spoken, [mapped(inputs["probes"], list(names.values()))], names)
    each = [columns_of(method, store) for store in stores]
    found = [mapped(store, [*logits, *names.values()]) for store, names in zip(stores, each, strict=True)]
    return StoredSignal(found, found, each[0])


def pool_of(
    spec: DistilSpec, inputs: Mapping[str, Path], rows: Rowset, say: Callable[[str], None] = lambda _text: None
) -> Pool | None:
    """The candidates for the rows of train, and what the same teachers said of them; None where the method asks for
    none.
    Raises ValueError for a table that holds fewer a row than the method takes."""
    data = spec.method.data
    if not isinstance(data, WithCandidates):
        return None
    meta = read_table_meta(inputs["candidates"])
    if meta.k < data.k:
        raise ValueError(f"data.k: {data.k}, but the candidate table has {meta.k} a row; ask for no more")
    if not meta.candidates:
        raise ValueError("candidates: the table holds none; widen the bank, or the distances between which they lie")
    texts = read_rowset(inputs["candidate_rows"], CANDIDATES)
    stores = one_or_in_order(CANDIDATE_OUTPUTS, inputs)
    cache = CacheFolder.of(os.environ)
    spoken = StoredSignal([decode(store, ["logits"], texts.row_keys, cache, say) for store in stores])
    return pool(texts, spoken, read_candidates(inputs["candidates"], FOUND), rows.row_keys, data.k)


def teachers(inputs: Mapping[str, Path]) -> Sequence[Path]:
    """The stores of who teaches: ``outputs``, or ``outputs/0``, ``outputs/1`` ... in their order."""
    return one_or_in_order(OUTPUTS, inputs)


def columns_of(method: Method, store: Path) -> dict[int, str]:
    """The layers that the method follows -> the column of the store that holds each, and no other column.
    ValueError where the store lacks one."""
    layout, structure = read_store(store).layout, method.structure
    check_store(structure, layout.layers, layout.pooling)
    if isinstance(structure, NoLayers):
        return {}
    return {layer: layout.column_of(layer, structure.pooling) for layer in teacher_layers(groups_of(structure))}


def teacher_width(method: Method, inputs: Mapping[str, Path]) -> int:
    """That of the teacher's layers, 0 where none is followed. Teachers of other widths in turn would need projections
    of their own: ValueError."""
    if not method.needs_layers:
        return 0
    widths = {read_store(store).layout.width for store in teachers(inputs)}
    if len(widths) > 1:
        raise ValueError(f"structure: the teachers' layers are {sorted(widths)} wide; follow layers of one width")
    return widths.pop()


def warnings_of(signal: Signal, rows: int) -> dict[str, object]:
    """What whoever asked for this training should know: that layers are followed in which all rows look alike."""
    if not isinstance(signal, StoredSignal) or not signal.names:
        return {}
    dead = sorted({layer for columns in signal.layers for layer in dead_layers(columns, signal.names, rows)})
    if not dead:
        return {}
    named = ", ".join(map(str, dead))
    return {
        "warnings": [
            f"structure: the rows look alike in layers {named} of the teacher (variance below {DEAD:g} of their "
            "energy), so that matching them teaches nothing; match others, or choose pooling: mean"
        ]
    }

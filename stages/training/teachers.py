"""Open what a student learns from: the teachers' stores, and the candidates with the teachers' outputs for them.

Columns are memory-mapped from this node's decoded copies of the stores, which are made on first use.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from stages.cache_folder import CacheFolder
from stages.candidates.table import read_candidates, read_table_meta
from stages.corpus.reader import CANDIDATES
from stages.corpus.row_key import KEY_BYTES
from stages.corpus.rowset import Rowset, read_rowset, without
from stages.outputs.layer_variance import DEAD, dead_layers
from stages.outputs.layout import read_store
from stages.outputs.node_cache import Columns, Positions, decode, decode_positions
from stages.outputs.quarantine import set_aside
from stages.specs.axes.data import WithCandidates
from stages.specs.axes.structures import LayerStructure, StructureKind
from stages.specs.input_names import CALIBRATION, CANDIDATE_OUTPUTS, OUTPUTS, SCORES, TOKENS, one_or_in_order
from stages.specs.layer_map import score_name, teacher_layers, token_state_name
from stages.specs.layers import EveryToken
from stages.specs.method import Method, check_teachers
from stages.specs.student import DistilSpec
from stages.teaching.temperature import read_calibration
from stages.training.candidates import TABLE_COLUMNS, CandidatePool, candidate_pool
from stages.training.signal import NoTeacher, Signal, StoredSignal


def sound_rows(spec: DistilSpec, inputs: Mapping[str, Path], rows: Rowset) -> Rowset:
    """The rows of train without those that a store which the training reads has set aside (``quarantined.parquet``)."""
    if not spec.method.needs_teacher:
        return rows
    probes = [inputs["probes"]] if spec.method.needs_probes else []
    positions = [inputs[name] for name in (TOKENS, SCORES) if name in inputs]
    return without(rows, set_aside([*teacher_stores(inputs), *probes, *positions]))


def quarantine_facts(found: int, trained: int) -> dict[str, object]:
    """``{"quarantined": n}`` if a training leaves out n rows of the ``found`` rows of train; {} if it has them all."""
    return {"quarantined": found - trained} if found > trained else {}


def signal_of(
    spec: DistilSpec, inputs: Mapping[str, Path], rows: Rowset, note: Callable[[str], None] = lambda _text: None
) -> Signal:
    """The teachers' outputs for the rows of train, mapped from this node's copies of their stores. ``note`` is called
    with a line of text when a copy has to be made first.

    Raises ValueError if the method cannot learn from this number of teachers, or if a store lacks a layer.
    """
    method = spec.method
    if not method.needs_teacher:
        return NoTeacher()
    stores = teacher_stores(inputs)
    check_teachers(method, len(stores))
    cache = CacheFolder.of(os.environ)

    def mapped(store: Path, names: Sequence[str]) -> Columns:
        return decode(store, names, rows.row_keys, cache, note)

    logits, divisors = ("logits",) if method.needs_logits else (), temperatures(method, inputs)
    if method.needs_probes:
        names = layer_columns(method.structure, inputs["probes"])
        teacher_logits = [mapped(store, logits) for store in stores] if logits else []
        return StoredSignal(teacher_logits, [mapped(inputs["probes"], list(names.values()))], names, divisors)
    columns = [layer_columns(method.structure, store) for store in stores]
    found = [mapped(store, [*logits, *names.values()]) for store, names in zip(stores, columns, strict=True)]
    positions: dict[str, Positions] = {}
    if isinstance(method.structure, EveryToken):
        for part, wanted in position_columns(method.structure).items():
            positions |= dict.fromkeys(wanted, decode_positions(inputs[part], wanted, rows.row_keys, cache, note))
    return StoredSignal(found, found, columns[0], divisors, positions)


def position_columns(structure: EveryToken) -> dict[str, list[str]]:
    """Name of an input of the training, a store that keeps positions -> the columns that ``structure`` follows."""
    layers = teacher_layers(structure.layer_groups())
    scores = {SCORES: [score_name(layer) for layer in structure.score_layers]} if structure.score_layers else {}
    return {TOKENS: [token_state_name(layer) for layer in layers], **scores}


def open_candidate_pool(
    spec: DistilSpec, inputs: Mapping[str, Path], rows: Rowset, note: Callable[[str], None] = lambda _text: None
) -> CandidatePool | None:
    """The candidates for the rows of train with the same teachers' outputs for them; None if the method uses none.
    Candidates that a store has set aside are left out.

    Raises ValueError if the candidate table is empty, or has fewer candidates a row than the method uses.
    """
    data = spec.method.data
    if not isinstance(data, WithCandidates):
        return None
    meta = read_table_meta(inputs["candidates"])
    if meta.k < data.k:
        raise ValueError(
            f"data.k: {data.k}, but the candidate table has {meta.k} a row; set data.k to at most {meta.k}"
        )
    if not meta.candidates:
        raise ValueError("candidates: the table is empty; enlarge the bank, or widen min_distance and max_distance")
    stores = one_or_in_order(CANDIDATE_OUTPUTS, inputs)
    bad = set_aside(stores)
    texts = without(read_rowset(inputs["candidate_rows"], CANDIDATES), bad)
    table = read_candidates(inputs["candidates"], TABLE_COLUMNS)
    if bad:
        table = table.filter(pc.invert(pc.is_in(table["candidate_key"], pa.array(list(bad), pa.binary(KEY_BYTES)))))
    cache = CacheFolder.of(os.environ)
    found = [decode(store, ["logits"], texts.row_keys, cache, note) for store in stores]
    signal = StoredSignal(found, temperatures=temperatures(spec.method, inputs))
    return candidate_pool(texts, signal, table, rows.row_keys, data.k)


def teacher_stores(inputs: Mapping[str, Path]) -> Sequence[Path]:
    """The teachers' stores: the input ``outputs``, or ``outputs/0``, ``outputs/1`` ... in the order of their
    numbers."""
    return one_or_in_order(OUTPUTS, inputs)


def temperatures(method: Method, inputs: Mapping[str, Path]) -> Sequence[float]:
    """The temperature of each teacher, by which its logits are divided; () for a method whose teachers are not
    calibrated. They apply to the rows of train and to candidates alike."""
    if not method.needs_calibration:
        return ()
    return [read_calibration(directory).temperature for directory in one_or_in_order(CALIBRATION, inputs)]


def layer_columns(structure: StructureKind, store: Path) -> dict[int, str]:
    """Layer -> the column of ``store`` that holds it, for the teacher layers that a resolved structure follows. Raises
    ValueError if the store lacks one of them."""
    layout = read_store(store).layout
    structure.check_store(layout.layers, layout.pooling)
    if not isinstance(structure, LayerStructure):
        return {}
    return {
        layer: layout.column_of(layer, structure.stored_pooling) for layer in teacher_layers(structure.layer_groups())
    }


def teacher_widths(method: Method, inputs: Mapping[str, Path]) -> Mapping[int, int]:
    """Layer -> its width in the teacher's store, {} if the method follows no layers. Raises ValueError for several
    teachers whose layers differ in width, each of which would need projections of its own."""
    if not (method.needs_layers or method.needs_tokens):
        return {}
    stores = [inputs[TOKENS]] if method.needs_tokens else teacher_stores(inputs)
    first, *others = (read_store(store).layout.width_by_layer for store in stores)
    for other in others:
        for layer, width in first.items():
            if other.get(layer, width) != width:
                wide = sorted({width, other[layer]})
                raise ValueError(f"structure: the teachers' layers are {wide} wide; follow layers of one width")
    return first


def layer_warnings(signal: Signal, rows: int) -> list[str]:
    """A warning, in one line, if the student follows layers in which the states of all rows are nearly the same, so
    that matching them has no use; else []. ``rows`` is the number of rows of train."""
    if not isinstance(signal, StoredSignal) or not signal.names:
        return []
    dead = sorted({layer for columns in signal.layers for layer in dead_layers(columns, signal.names, rows)})
    if not dead:
        return []
    named = ", ".join(map(str, dead))
    return [
        f"structure: the rows look alike in layers {named} of the teacher (variance below {DEAD:g} of their "
        "energy), so that matching them teaches nothing; match others, or choose pooling: mean"
    ]

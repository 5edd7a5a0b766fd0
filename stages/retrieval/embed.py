"""The stage ``embed``: a bank -> one vector for each row, in shards. Formats: ``embeddings``, for TF-IDF ``tfidf``.

Workers embed pieces of a shard, so that a worker can be given up between two of them; the driver puts a shard together
when its last piece is there. So the work folder holds, beside finished shards, pieces of about as many shards as there
are workers. An interrupted run goes on from finished shards and pieces and, of the others, from the vectors that were
saved meanwhile (``stages/saved_rows.py``). Vectors that earlier embeddings by the same encoder hold are copied bit by
bit, so only new rows are embedded.
"""

import hashlib
import shutil
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cluster.resources import On, Worker
from stages.atomic import replacing
from stages.bank.reader import read_bank_meta, read_bank_rows
from stages.corpus.reader import SCRATCH
from stages.corpus.row_key import KEY_BYTES, split_keys
from stages.models.shape import config_of, shape_of
from stages.retrieval.embeddings import SHARD_ROWS, keys_path, vectors_path
from stages.retrieval.embeddings_writer import EmbedJob, save_array, shard_keys, shard_rows, shard_texts, write_meta
from stages.retrieval.reuse import Keys, open_priors
from stages.saved_rows import SavedRows
from stages.specs.retrieval import EmbedSpec, ModelEncoder, TfIdf
from stages.specs.teacher import PRIOR

ROWS_AT_ONCE = 2048
"""The rows of a piece; batches of similar length are formed among them. They take about half a minute on two CPU cores
with an encoder of six layers."""


@dataclass(frozen=True, slots=True)
class Piece:
    """What a worker embeds at a time, so that it can soon be given up: the rows of part ``part`` (from 0) of those of
    a shard that must be embedded, ``ROWS_AT_ONCE`` of them."""

    number: int
    part: int


@dataclass(frozen=True, slots=True)
class EmbeddedShard:
    """Counts of a written shard: its rows, and how many of them were ``carried`` over from earlier embeddings."""

    rows: int
    carried: int = 0


def embed(spec: EmbedSpec, inputs: Mapping[str, Path], out: Path, on: On) -> dict[str, int]:
    """Write the embeddings to ``out``. Inputs: ``bank``, ``encoder`` for vectors of a model, any ``prior/...``.

    Returns ``rows``, how many of them were ``embedded`` and ``carried`` in this call, ``width`` and ``bytes``.
    """
    (out / SCRATCH).mkdir(parents=True, exist_ok=True)
    rows = read_bank_meta(inputs["bank"]).rows
    shards = [shard_rows(rows, number) for number in range(-(-rows // SHARD_ROWS))]
    match spec.encoder:
        case ModelEncoder():
            return _embed_model(spec.encoder, inputs, out, on, shards)
        case TfIdf():
            from stages.retrieval.tfidf import embed_counts

            return embed_counts(spec.encoder, inputs["bank"], out, on, shards)


# --- vectors of a model -------------------------------------------------------------------------------


def _embed_model(
    encoder: ModelEncoder, inputs: Mapping[str, Path], out: Path, on: On, shards: list[int]
) -> dict[str, int]:
    model, rows = inputs["encoder"], sum(shards)
    width = shape_of(config_of(model), str(model)).width
    made_by: dict[str, object] = {
        "kind": encoder.kind,
        "width": width,
        "encoder": encoder.model_dump(mode="json"),
        "model_sha256": model_sha256(model),
    }
    missing = [number for number, count in enumerate(shards) if not finished(out, number, count, width)]
    if len(missing) < len(shards):
        on.log(f"{len(shards) - len(missing)} of {len(shards)} shards were there already")
    left = sum(shards[number] for number in missing)
    _check_space(out, left * (2 * width + KEY_BYTES))
    given = [path for name, path in sorted(inputs.items()) if name.startswith(PRIOR)]
    priors = open_priors(given, made_by, out / SCRATCH) if missing else []
    on.expect(left, "rows")
    config = EmbedJob(encoder, model, inputs["bank"], out, rows, width, tuple(priors))
    written, incomplete = _embed_shards(on, config, missing)
    if incomplete:  # earlier embeddings were removed meanwhile
        on.log(f"{len(incomplete)} shards are embedded anew, as earlier embeddings can no longer be read")
        further, incomplete = _embed_shards(on, replace(config, priors=()), incomplete)
        written += further
    if incomplete:
        raise ValueError(f"{out}: vectors of shard {incomplete[0]} cannot be read back; run the recipe again")
    write_meta(out, {**made_by, "shards": shards})
    carried = sum(result.carried for result in written)
    size = sum(path(out, number).stat().st_size for number in range(len(shards)) for path in (vectors_path, keys_path))
    return {"rows": rows, "embedded": left - carried, "carried": carried, "width": width, "bytes": size}


def model_sha256(directory: Path) -> str:
    """A hash of the weights in a model directory, whatever their files are called. Directories with the same weights
    count as the same model, since their other files may differ by the software that saved them."""
    whole = hashlib.sha256()
    for path in sorted(directory.glob("*.safetensors")):
        with path.open("rb") as file:
            whole.update(hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()


def finished(out: Path, number: int, rows: int, width: int) -> bool:
    """Whether an earlier attempt wrote that shard. Its vectors are written last."""
    try:
        vectors = np.load(vectors_path(out, number), mmap_mode="r")
        keys = np.load(keys_path(out, number), mmap_mode="r")
    except (ValueError, OSError, EOFError):
        return False
    return bool(vectors.shape == (rows, width) and keys.shape == (rows, KEY_BYTES))


def _check_space(out: Path, needed: int) -> None:
    """ValueError where the disk has too little room for ``needed`` bytes."""
    free = shutil.disk_usage(out).free
    if free < needed:
        raise ValueError(f"{out}: {free:,} bytes are free, the rest of the embeddings takes {needed:,}; free some")


def _pieces(rows: int) -> range:
    """The numbers of the pieces of a shard of ``rows`` rows, of which the last ones are empty if rows are carried
    over."""
    return range(-(-rows // ROWS_AT_ONCE))


def _embed_shards(on: On, config: EmbedJob, numbers: Sequence[int]) -> tuple[list[EmbeddedShard], list[int]]:
    """Embed shards piece by piece, and write each as soon as its last piece is there. Returns the counts of those that
    are written, and the numbers of those of which rows are missing."""
    pieces = [Piece(number, part) for number in numbers for part in _pieces(shard_rows(config.rows, number))]
    open_pieces = Counter(piece.number for piece in pieces)
    written, incomplete = [], []
    for place, _ in on.map(open_embedder, config, pieces):
        number = pieces[place].number
        open_pieces[number] -= 1
        if open_pieces[number]:
            continue
        shard = _write_shard(config, number, on.log)
        if shard is None:
            incomplete.append(number)
        else:
            written.append(shard)
    return written, incomplete


def _write_shard(config: EmbedJob, number: int, note: Callable[[str], None]) -> EmbeddedShard | None:
    """Write one shard from its pieces and from earlier embeddings, and remove the pieces. None, and nothing is written,
    if a vector is missing."""
    keys = shard_keys(shard_texts(config.bank, number, config.rows))
    vectors, there = _carried(config, keys, note)
    paths = [_piece_path(config, Piece(number, part)) for part in _pieces(len(keys))]
    computed: dict[bytes, npt.NDArray[np.float16]] = {}
    for path in paths:
        found = _read_piece(path)
        if found is not None:
            computed |= zip(split_keys(found[0].tobytes()), found[1], strict=True)
    for row in np.flatnonzero(~there).tolist():
        vector = computed.get(keys[row].tobytes())
        if vector is None:
            return None
        vectors[row] = vector
    save_array(keys_path(config.out, number), keys)
    save_array(vectors_path(config.out, number), vectors)
    for path in paths:
        path.unlink(missing_ok=True)
    return EmbeddedShard(len(keys), int(there.sum()))


def _piece_path(config: EmbedJob, piece: Piece) -> Path:
    """The file of a piece that is embedded: ``keys`` [rows, 16] and ``vectors`` [rows, width] in float16."""
    return config.out / SCRATCH / f"piece-{piece.number:05d}-{piece.part}.npz"


def _read_piece(path: Path) -> tuple[Keys, npt.NDArray[np.float16]] | None:
    """The keys and vectors of a piece; None if there is no such file, or one that cannot be read."""
    try:
        with np.load(path) as content:
            return content["keys"], content["vectors"]
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
        return None


def open_embedder(config: EmbedJob, worker: Worker) -> Callable[[Piece], None]:
    """Return a function that embeds one piece and saves its vectors. The encoder is loaded when the first row must be
    embedded."""
    from stages.models.predict import finite_or_raise
    from stages.models.text_encoder import open_encoder

    assert isinstance(config.encoder, ModelEncoder) and config.model is not None
    opened = cache(partial(open_encoder, config.encoder, config.model, worker.device, worker.threads))

    def embed_piece(piece: Piece) -> None:
        texts, keys, carried = _texts_to_embed(config, piece, worker.note)
        if piece.part == 0:
            worker.restore(carried)
        if not texts:
            return
        path = _piece_path(config, piece)
        before = _read_piece(path)
        if before is not None and np.array_equal(before[0], keys):
            worker.restore(len(texts))
            return
        vectors = np.zeros((len(texts), config.width), np.float16)
        saved = SavedRows(config.out / SCRATCH, f"vectors-{piece.number:05d}-{piece.part}")
        known = _restored(saved, keys, vectors)
        worker.restore(int(known.sum()))
        unsaved: list[int] = []
        for places, found in opened().batches(texts, known):
            vectors[places] = found
            worker.advance(int((~known[places]).sum()))
            unsaved += places.tolist()
            if saved.due and np.isfinite(vectors[unsaved]).all():
                saved.save([keys[row].tobytes() for row in unsaved], {"vector": vectors[unsaved]})
                unsaved = []
        finite_or_raise(vectors, [key.tobytes() for key in keys], "vectors of the bank")
        with replacing(path) as draft, draft.open("wb") as file:
            np.savez(file, keys=keys, vectors=vectors)
        saved.remove()

    return embed_piece


def _texts_to_embed(
    config: EmbedJob, piece: Piece, note: Callable[[str], None]
) -> tuple[list[tuple[str, ...]], Keys, int]:
    """The texts of a piece with their keys [len(texts), 16]: ``ROWS_AT_ONCE`` of those rows of the shard that no
    earlier embeddings hold; and how many rows of the shard these hold."""
    part = slice(piece.part * ROWS_AT_ONCE, (piece.part + 1) * ROWS_AT_ONCE)
    if not config.priors:
        first, count = piece.number * SHARD_ROWS, shard_rows(config.rows, piece.number)
        texts = read_bank_rows(config.bank, first + np.arange(count)[part])
        return texts, shard_keys(texts), 0
    texts = shard_texts(config.bank, piece.number, config.rows)
    keys = shard_keys(texts)
    _, there = _carried(config, keys, note)
    rows = np.flatnonzero(~there)[part]
    return [texts[row] for row in rows], keys[rows], int(there.sum())


def _restored(saved: SavedRows, keys: Keys, vectors: npt.NDArray[np.float16]) -> npt.NDArray[np.bool_]:
    """Enter what was saved of the rows with these ``keys`` in their ``vectors``. Returns a mask [len(keys)] of them."""
    known = np.zeros(len(keys), np.bool_)
    for row in range(len(keys)) if saved.found else ():
        values = saved.found.get(keys[row].tobytes())
        if values is not None:
            vectors[row], known[row] = values["vector"], True
    return known


def _carried(
    config: EmbedJob, keys: Keys, note: Callable[[str], None]
) -> tuple[npt.NDArray[np.float16], npt.NDArray[np.bool_]]:
    """(vectors [len(keys), width], mask [len(keys)]): the vectors that earlier embeddings hold, and which these are.
    The others are zero."""
    vectors = np.zeros((len(keys), config.width), np.float16)
    there = np.zeros(len(keys), np.bool_)
    for prior in config.priors:
        left = np.flatnonzero(~there)
        try:
            rows = prior.find(keys[left])
            found = prior.embeddings.gather_stored(rows[rows >= 0])
        except (OSError, ValueError) as error:
            note(f"embeds what earlier embeddings hold, which cannot be read: {error}")
            continue
        vectors[left[rows >= 0]] = found
        there[left[rows >= 0]] = True
    return vectors, there

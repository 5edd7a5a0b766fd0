"""The stage ``embed``: a bank -> one vector for each row, in shards. Formats: ``embeddings``, for TF-IDF ``tfidf``.

An interrupted run goes on from the shards that it finished and, of the others, from the vectors that were saved
meanwhile (``stages/saved_rows.py``). Vectors that earlier embeddings by the same encoder hold
are copied bit by bit, so only new rows are embedded.
"""

import hashlib
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cluster.resources import On, Worker
from stages.bank.reader import read_bank_meta
from stages.corpus.reader import SCRATCH
from stages.corpus.row_key import KEY_BYTES
from stages.models.shape import config_of, shape_of
from stages.retrieval.embeddings import SHARD_ROWS, keys_path, vectors_path
from stages.retrieval.embeddings_writer import EmbedJob, save_array, shard_keys, shard_rows, shard_texts, write_meta
from stages.retrieval.reuse import Keys, open_priors
from stages.saved_rows import SavedRows
from stages.specs.retrieval import EmbedSpec, ModelEncoder, TfIdf
from stages.specs.teacher import PRIOR

ROWS_AT_ONCE = 2048
"""Batches of similar length are formed among so many rows."""


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
    written = [result for _, result in on.map(open_embedder, config, missing)]
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


def open_embedder(config: EmbedJob, worker: Worker) -> Callable[[int], EmbeddedShard]:
    """Return a function that writes one shard. The encoder is loaded when the first row must be embedded."""
    from stages.models.predict import finite_or_raise
    from stages.models.text_encoder import open_encoder

    assert isinstance(config.encoder, ModelEncoder) and config.model is not None
    opened = cache(partial(open_encoder, config.encoder, config.model, worker.device, worker.threads))

    def write(number: int) -> EmbeddedShard:
        texts = shard_texts(config.bank, number, config.rows)
        keys = shard_keys(texts)
        vectors, there = _carried(config, keys, worker)
        left = np.flatnonzero(~there)
        saved = SavedRows(config.out / SCRATCH, f"vectors-{number:05d}")
        known = _restored(saved, keys, vectors, left)
        worker.restore(int(there.sum()) + int(known.sum()))
        unsaved: list[int] = []
        for start in range(0, len(left), ROWS_AT_ONCE):
            rows = left[start : start + ROWS_AT_ONCE]
            if known[rows].all():
                continue
            for places, found in opened().batches([texts[row] for row in rows], known[rows]):
                done = rows[places]
                vectors[done] = found
                worker.advance(int((~known[done]).sum()))
                unsaved += done.tolist()
                if saved.due and np.isfinite(vectors[unsaved]).all():
                    saved.save([keys[row].tobytes() for row in unsaved], {"vector": vectors[unsaved]})
                    unsaved = []
            finite_or_raise(vectors[rows], [keys[row].tobytes() for row in rows], "vectors of the bank")
        save_array(keys_path(config.out, number), keys)
        save_array(vectors_path(config.out, number), vectors)
        saved.remove()
        return EmbeddedShard(len(texts), int(there.sum()))

    return write


def _restored(
    saved: SavedRows, keys: Keys, vectors: npt.NDArray[np.float16], rows: npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_]:
    """Enter what was saved of these rows of a shard in its ``vectors``. Returns a mask [rows of the shard] of them."""
    known = np.zeros(len(keys), np.bool_)
    for row in rows.tolist() if saved.found else ():
        values = saved.found.get(keys[row].tobytes())
        if values is not None:
            vectors[row], known[row] = values["vector"], True
    return known


def _carried(config: EmbedJob, keys: Keys, worker: Worker) -> tuple[npt.NDArray[np.float16], npt.NDArray[np.bool_]]:
    """(vectors [len(keys), width], mask [len(keys)]): the vectors that earlier embeddings hold, and which these are.
    The others are zero."""
    vectors = np.zeros((len(keys), config.width), np.float16)
    there = np.zeros(len(keys), np.bool_)
    for prior in config.priors:
        left = np.flatnonzero(~there)
        try:
            rows = prior.find(keys[left])
            found = prior.embeddings.gather(rows[rows >= 0])  # float16 -> float32 -> float16 keeps every bit
        except (OSError, ValueError) as error:
            worker.note(f"embeds what earlier embeddings hold, which cannot be read: {error}")
            continue
        vectors[left[rows >= 0]] = found
        there[left[rows >= 0]] = True
    return vectors, there

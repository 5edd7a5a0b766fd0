"""The teacher in a worker: computes rows and writes shards."""

import errno
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from cluster.resources import Worker
from stages.corpus.batches import Rows, sorted_batches
from stages.corpus.reader import SCRATCH, read_meta
from stages.corpus.rowset import Batch, distinct, read_rowset
from stages.models.forward import attention_maps, attention_scores, encoder_states, forward, pooled_state
from stages.models.loading import load, load_encoder
from stages.models.malloc import keep_freed_memory
from stages.models.predict import autocast, out_of_memory, tokens_per_pass
from stages.outputs.layout import Layout
from stages.outputs.parquet import Damaged, write_shard
from stages.outputs.quarantine import BROKEN_SHARD_ROWS, WhatIsBad, write_bad_rows
from stages.outputs.reuse import read_rows
from stages.saved_rows import SavedRows
from stages.specs.teacher import ATTENTION_PARTS
from stages.teaching.collector import OutputCollector, Outputs
from stages.teaching.job import Shard, TeachJob, WrittenShard, bad_rows_path, sizes_of_rows


class TeacherWorker:
    """A teacher and its corpus. The model is loaded when the first row has to be computed."""

    def __init__(self, job: TeachJob, worker: Worker) -> None:
        keep_freed_memory()
        torch.set_num_threads(worker.threads)
        self.job = job
        self.worker = worker
        self.rows = distinct([read_rowset(job.corpus, split) for split in job.spec.splits])
        self.tokens = tokens_per_pass(worker.device, worker.threads)
        self.halvings = 0

    @cached_property
    def model(self) -> nn.Module:
        model = load(self.job.model) if self.job.spec.logits else load_encoder(self.job.model).model
        if self.job.spec.part in ATTENTION_PARTS:
            model.set_attn_implementation("eager")  # the other implementations form neither scores nor maps
        module: nn.Module = model
        return module.to(self.worker.device).eval()

    def write(self, shard: Shard) -> WrittenShard:
        """Copy or compute the rows of one shard, and write it."""
        try:
            if shard.source is not None:
                try:
                    return self._copy(shard)
                except Damaged as error:
                    self.worker.note(f"computes the {len(shard.rows)} rows of a damaged shard: {error}")
            return self._compute(shard)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise self._disk_is_full(shard) from error

    def _disk_is_full(self, shard: Shard) -> OSError:
        row_lengths = self.rows.tokens.lengths[shard.rows]
        needed = int(sizes_of_rows(self.job.layout, read_meta(self.job.corpus), row_lengths).sum())
        return OSError(
            errno.ENOSPC,
            f"{self.job.out}: No space left on device; this shard of {len(shard.rows)} rows takes about {needed:,} "
            "bytes; free some and run again, finished shards are kept",
        )

    def _copy(self, shard: Shard) -> WrittenShard:
        """Write rows as an earlier store holds them."""
        assert shard.source is not None
        source, layout = shard.source, self.job.layout
        keys = [self.rows.row_keys[row] for row in shard.rows]
        heads, states, scales = read_rows(source.directory, source.number, source.layout, layout, keys)
        file = write_shard(self.job.out, shard.number, layout, keys, heads, states, scales)
        self.worker.restore(len(keys))
        return WrittenShard(file, copied=len(keys))

    def _compute(self, shard: Shard) -> WrittenShard:
        before, keys = self.halvings, [self.rows.row_keys[row] for row in shard.rows]
        # Named by its first row: an interrupted stage may give the shard another number.
        saved = SavedRows(self.job.out / SCRATCH, f"outputs-{keys[0].hex()}")
        collected = self.compute(shard.rows, saved)
        bad = collected.not_finite() if self.job.spec.on_bad_rows == "quarantine" else {}
        what = {keys[place]: columns for place, columns in bad.items()}
        sound = None
        if bad:
            self._set_aside(shard, what)
            sound = np.array([place for place in range(len(keys)) if place not in bad], np.int64)
            keys = [keys[place] for place in sound]
        if not keys:
            saved.remove()
            return WrittenShard(None, self.halvings - before, bad=what)
        heads, states = collected.finished(keys, sound)
        file = write_shard(self.job.out, shard.number, self.job.layout, keys, heads, states)
        saved.remove()
        return WrittenShard(file, self.halvings - before, bad=what)

    def _set_aside(self, shard: Shard, bad: WhatIsBad) -> None:
        """Write down which rows of the shard are bad, before the shard itself is written. Raises ValueError if all rows
        of a larger shard are."""
        if len(bad) == len(shard.rows) >= BROKEN_SHARD_ROWS:
            key, columns = next(iter(bad.items()))
            raise ValueError(
                f"the teacher's outputs: none of the {len(bad):,} rows of a shard is finite, the first is row_key "
                f"{key.hex()} ({columns}); check the model's weights"
            )
        path = bad_rows_path(self.job.out, shard.number)
        path.parent.mkdir(exist_ok=True)
        write_bad_rows(path, bad)
        self.worker.note(f"sets {len(bad)} rows aside whose outputs are not finite")

    def compute(self, rows: Rows, saved: SavedRows | None = None) -> OutputCollector:
        """The model's outputs for the distinct rows with these numbers. With ``saved``, rows that it holds are
        restored, and others are saved there from time to time."""
        collected = OutputCollector(self.job.layout, len(rows))
        known = np.zeros(len(rows), np.bool_)
        keys = [self.rows.row_keys[row] for row in rows]
        if saved is not None:
            for place, key in enumerate(keys):
                if key in saved.found:
                    collected.restore(place, saved.found[key])
                    known[place] = True
            self.worker.restore(int(known.sum()))
        unsaved: list[int] = []
        for places, outputs in self._outputs(rows, known):
            collected.add(places, outputs)
            self.worker.advance(int((~known[places]).sum()))
            unsaved += places.tolist()
            if saved is not None and saved.due:
                saved.save([keys[place] for place in unsaved], collected.values_of(unsaved))
                unsaved = []
        return collected

    def _outputs(self, rows: Rows, known: npt.NDArray[np.bool_]) -> Iterator[tuple[Rows, Outputs]]:
        """(places among ``rows``, outputs for them), in batches of similar length, but for those of which all rows are
        ``known``. When memory runs out, the token budget is halved and the rows that are left are divided into batches
        again."""
        left = np.arange(len(rows))
        while len(left):
            batches = [left[batch] for batch in sorted_batches(self.rows.tokens.lengths[rows[left]], self.tokens)]
            left = left[:0]
            for number, places in enumerate(batches):
                if known[places].all():
                    continue
                outputs = self._try(rows[places])
                if outputs is None:
                    self.tokens, self.halvings = max(1, self.tokens // 2), self.halvings + 1
                    left = np.concatenate(batches[number:])
                    break
                yield places, outputs

    def _try(self, rows: Rows) -> Outputs | None:
        """The model's outputs for ``rows``, as one batch; None when memory did not suffice."""
        try:
            return self._run(rows)
        except RuntimeError as error:
            if len(rows) == 1 or not out_of_memory(error):
                raise
            return None

    def _run(self, rows: Rows) -> Outputs:
        batch, layout = self.rows.batch(rows, self.worker.device), self.job.layout
        with torch.inference_mode(), autocast(self.worker.device, self.job.spec.compute):
            if layout.part in ATTENTION_PARTS:
                read = attention_scores if layout.part == "scores" else attention_maps
                return self._lengths(rows), pairs_of_tokens(read(self.model, batch.inputs), batch, layout)
            if not self.job.spec.logits:
                none = np.empty((len(rows), 0), np.float32)
                return none, pooled(encoder_states(self.model, batch.inputs), batch, layout)
            logits, hidden = forward(self.model, batch.inputs, hidden=bool(layout.layers))
            if layout.part == "tokens":
                return self._lengths(rows), positions(hidden, batch, layout)
            order = self.job.spec.label_order
            ordered = logits if order is None else logits[:, list(order)]
            return _host(ordered), pooled(hidden, batch, layout)

    def _lengths(self, rows: Rows) -> npt.NDArray[np.int32]:
        return self.rows.tokens.lengths[rows].astype(np.int32)


def pooled(hidden: tuple[Tensor, ...], batch: Batch, layout: Layout) -> Mapping[str, npt.NDArray[Any]]:
    """[B, width] float32 for each column. All columns leave the device in one copy."""
    if not layout.states:
        return {}
    mask = batch.inputs["attention_mask"]
    stacked = torch.stack([pooled_state(hidden[state.layer], mask, state.pooling) for state in layout.states])
    whole = _host(stacked)
    return {state.column: whole[place] for place, state in enumerate(layout.states)}


def positions(hidden: tuple[Tensor, ...], batch: Batch, layout: Layout) -> Mapping[str, list[npt.NDArray[Any]]]:
    """For each column an array [T, width] a row, without padding."""
    lengths = batch.inputs["attention_mask"].sum(1).tolist()
    found = {}
    for state in layout.states:
        whole = _host(hidden[state.layer])
        found[state.column] = [whole[row, :length] for row, length in enumerate(lengths)]
    return found


def pairs_of_tokens(
    attention: tuple[Tensor, ...], batch: Batch, layout: Layout
) -> Mapping[str, list[npt.NDArray[Any]]]:
    """For each column a row's attention scores or maps [heads, T, T], flattened, without padding. ``attention`` has
    [B, heads, T, T] of each layer, the first layer first."""
    lengths = batch.inputs["attention_mask"].sum(1).tolist()
    found = {}
    for state in layout.states:
        whole = _host(attention[state.layer - 1])
        found[state.column] = [whole[row, :, :length, :length].reshape(-1) for row, length in enumerate(lengths)]
    return found


def _host(values: Tensor) -> npt.NDArray[np.float32]:
    found: npt.NDArray[np.float32] = values.float().cpu().numpy()
    return found

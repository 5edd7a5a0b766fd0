"""The teacher in a worker: computes rows and writes shards.

The parts of the work overlap. While a forward pass runs, the next batch is padded in a thread of its own, and outputs
that have been computed are on their way to host memory. While a shard is converted, compressed, hashed and written to
the disk in one of as many threads as the worker has CPUs (these libraries release the interpreter's lock), the rows of
the next one are computed.
"""

import errno
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from cluster.resources import Worker
from stages.corpus.batches import Rows, sorted_batches
from stages.corpus.prefetch import one_ahead
from stages.corpus.reader import SCRATCH, read_meta
from stages.corpus.rowset import Batch, distinct, read_rowset
from stages.device_turn import TURN
from stages.freed_memory import keep_freed_memory
from stages.models.by_task import load
from stages.models.forward import attention_maps, attention_scores, encoder_states, forward, pass_cost, pooled_state
from stages.models.loading import load_encoder
from stages.models.predict import autocast, out_of_memory
from stages.outputs.entry_logits import EntryLogits
from stages.outputs.layout import Layout, ShardFile, shard_name
from stages.outputs.parquet import Damaged, write_shard
from stages.outputs.quantization import Scales
from stages.outputs.quarantine import BROKEN_SHARD_ROWS, WhatIsBad, write_bad_rows
from stages.outputs.reuse import read_rows
from stages.saved_rows import SavedRows
from stages.specs.teacher import ATTENTION_PARTS
from stages.teaching.collector import OutputCollector, Outputs, state_type
from stages.teaching.finished import finished_shards
from stages.teaching.job import Shard, TeachJob, WrittenShard, bad_rows_path, sizes_of_rows

COPIES = 2
"""The most batches whose outputs are on their way to host memory while the next one is computed."""

ComingOutputs = Callable[[], Outputs]
"""Waits until the outputs of a batch are in host memory, and returns them."""


class TeacherWorker:
    """A teacher and its corpus. The model is loaded when the first row has to be computed."""

    def __init__(self, job: TeachJob, worker: Worker) -> None:
        keep_freed_memory()
        torch.set_num_threads(worker.threads)
        self.job = job
        self.worker = worker
        self.rows = distinct([read_rowset(job.corpus, split) for split in job.spec.splits])
        self.halvings = 0

    @cached_property
    def model(self) -> nn.Module:
        model = load(self.job.model) if self.job.spec.logits else load_encoder(self.job.model).model
        if self.job.spec.part in ATTENTION_PARTS:
            model.set_attn_implementation("eager")  # the other implementations form neither scores nor maps
        module: nn.Module = model
        return module.to(self.worker.device).eval()

    @property
    def pass_cost(self) -> int:
        """The cost of the rows of one forward pass, after the halvings so far."""
        return max(1, pass_cost(self.model, self.worker.device, self.worker.threads) >> self.halvings)

    def write(self, shards: Sequence[Shard]) -> list[WrittenShard]:
        """Copy or compute the rows of these shards, and write them. Besides the shard that is being computed, at most
        as many are held in memory as the worker has CPUs, and one more."""
        found: list[Future[WrittenShard]] = []
        with ThreadPoolExecutor(self.worker.threads, "shards") as writers:
            for shard in shards:
                self._wait_for_room(found)
                found.append(writers.submit(self._with_rows(shard)))
            return [one.result() for one in found]

    def _wait_for_room(self, given: Sequence[Future[WrittenShard]]) -> None:
        """Wait until few enough shards are being written. Raises what one of ``given`` has failed with."""
        unwritten = []
        for one in given:
            if one.done():
                one.result()
            else:
                unwritten.append(one)
        for one in unwritten[: max(0, len(unwritten) - self.worker.threads)]:
            one.result()

    def _with_rows(self, shard: Shard) -> Callable[[], WrittenShard]:
        """Copy or compute the rows of a shard. Returns what is left to do, which writes them."""
        written = self._written_before(shard)
        if written is not None:
            return lambda: written
        if shard.source is not None:
            try:
                return self._copy(shard)
            except Damaged as error:
                self.worker.note(f"computes the {len(shard.rows)} rows of a damaged shard: {error}")
        with self._explained(shard):  # what has been computed is saved from time to time
            return self._compute(shard)

    @contextmanager
    def _explained(self, shard: Shard) -> Iterator[None]:
        """Raises a full disk with what the shard needs."""
        try:
            yield
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise self._disk_is_full(shard) from error

    def _written_before(self, shard: Shard) -> WrittenShard | None:
        """The shard, if this stage has written it already: a worker that died may have finished some of the shards that
        were given to it."""
        if not (self.job.out / shard_name(shard.number)).exists():
            return None
        for file, keys in finished_shards(self.job.out, self.job.layout, [shard.number]):
            if keys == self._keys(shard.rows):
                self.worker.restore(len(keys))
                return WrittenShard(file)
        return None

    def _keys(self, rows: Rows) -> list[bytes]:
        return [self.rows.row_keys[row] for row in rows]

    def _disk_is_full(self, shard: Shard) -> OSError:
        row_lengths = self.rows.costs[shard.rows]
        needed = int(sizes_of_rows(self.job.layout, read_meta(self.job.corpus), row_lengths).sum())
        return OSError(
            errno.ENOSPC,
            f"{self.job.out}: No space left on device; this shard of {len(shard.rows)} rows takes about {needed:,} "
            "bytes; free some and run again, finished shards are kept",
        )

    def _copy(self, shard: Shard) -> Callable[[], WrittenShard]:
        """Read rows as an earlier store holds them. Raises Damaged where they cannot be read."""
        assert shard.source is not None
        source, keys = shard.source, self._keys(shard.rows)
        values = read_rows(source.directory, source.number, source.layout, self.job.layout, keys)
        self.worker.restore(len(keys))
        return lambda: WrittenShard(self._write_file(shard, keys, *values), copied=len(keys))

    def _compute(self, shard: Shard) -> Callable[[], WrittenShard]:
        """Compute the rows of a shard; one of which no row is finite is not written."""
        before, keys = self.halvings, self._keys(shard.rows)
        # Named by its first row: an interrupted stage may give the shard another number.
        saved = SavedRows(self.job.out / SCRATCH, f"outputs-{keys[0].hex()}")
        collected = self.compute(shard.rows, saved)
        bad = collected.not_finite() if self.job.spec.on_bad_rows == "quarantine" else {}
        what = {keys[place]: columns for place, columns in bad.items()}
        halvings, sound = self.halvings - before, None
        if bad:
            self._set_aside(shard, what)
            sound = np.array([place for place in range(len(keys)) if place not in bad], np.int64)
            keys = [keys[place] for place in sound]

        def finish() -> WrittenShard:
            file = self._write_file(shard, keys, *collected.finished(keys, sound)) if keys else None
            saved.remove()
            return WrittenShard(file, halvings, bad=what)

        return finish

    def _write_file(
        self,
        shard: Shard,
        keys: Sequence[bytes],
        heads: npt.NDArray[Any] | EntryLogits,
        states: Mapping[str, npt.NDArray[Any]],
        scales: Mapping[str, Scales] | None = None,
    ) -> ShardFile:
        """Write the rows with these keys as the shard's file."""
        with self._explained(shard):
            compression = self.job.spec.compression
            return write_shard(self.job.out, shard.number, self.job.layout, keys, heads, states, scales, compression)

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
        keys = self._keys(rows)
        if saved is not None:
            for place, key in enumerate(keys):
                if key in saved.found:
                    collected.restore(place, saved.found[key])
                    known[place] = True
            self.worker.restore(int(known.sum()))
        unsaved: list[int] = []
        for places, outputs in arrived(self._outputs(rows, known)):
            collected.add(places, outputs)
            self.worker.advance(int((~known[places]).sum()))
            unsaved += places.tolist()
            if saved is not None and saved.due:
                saved.save([keys[place] for place in unsaved], collected.values_of(unsaved))
                unsaved = []
        return collected

    def _outputs(self, rows: Rows, known: npt.NDArray[np.bool_]) -> Iterator[tuple[Rows, ComingOutputs]]:
        """(places among ``rows``, outputs for them), in batches of similar length, but for those of which all rows are
        ``known``. When memory runs out, the budget of a pass is halved and the rows that are left are divided into
        batches again."""
        left = np.arange(len(rows))
        while len(left):
            every = [left[batch] for batch in sorted_batches(self.rows.costs[rows[left]], self.pass_cost)]
            batches = [places for places in every if not known[places].all()]
            left = left[:0]
            with closing(one_ahead(self._host_batch, [rows[places] for places in batches])) as prepared:
                for number, (places, batch) in enumerate(zip(batches, prepared, strict=True)):
                    outputs = self._try(batch)
                    if outputs is None:
                        self.halvings += 1
                        left = np.concatenate(batches[number:])
                        break
                    yield places, outputs

    def _host_batch(self, rows: Rows) -> Batch:
        """These rows in host memory, from which the device can copy while it computes."""
        batch = self.rows.batch(rows, "cpu")
        return batch.pinned() if self.worker.device.startswith("cuda") else batch

    def _try(self, batch: Batch) -> ComingOutputs | None:
        """The model's outputs for a batch; None when memory did not suffice."""
        try:
            return self._run(batch.to(self.worker.device))
        except RuntimeError as error:
            if len(batch.rows) == 1 or not out_of_memory(error):
                raise
            return None

    def _run(self, batch: Batch) -> ComingOutputs:
        layout, lengths = self.job.layout, self._lengths(batch.rows)
        with torch.inference_mode(), autocast(self.worker.device, self.job.spec.compute), TURN:
            if layout.part in ATTENTION_PARTS:
                read = attention_scores if layout.part == "scores" else attention_maps
                pairs = pairs_of_tokens(read(self.model, batch.inputs), batch, layout)
                return lambda: (lengths, pairs)
            if not self.job.spec.logits:
                none = np.empty((len(batch.rows), 0), np.float32)
                states_alone = pooled(encoder_states(self.model, batch.inputs), batch.inputs["attention_mask"], layout)
                return lambda: (none, states_alone())
            logits, hidden, mask, *_ = forward(self.model, batch.inputs, hidden=bool(layout.layers))
            if layout.part == "tokens":
                states = positions(hidden, batch, layout)
                return lambda: (lengths, states)
            order = self.job.spec.label_order
            heads = copied_to_host((logits if order is None else logits[..., list(order)]).float())
            coming = pooled(hidden, mask, layout)
            if layout.entries:
                counts = self.rows.entry_counts(batch.rows).tolist()
                return lambda: ([row[:count] for row, count in zip(heads(), counts, strict=True)], coming())
            return lambda: (heads(), coming())

    def _lengths(self, rows: Rows) -> npt.NDArray[np.int32]:
        return self.rows.costs[rows].astype(np.int32)


def arrived(outputs: Iterator[tuple[Rows, ComingOutputs]]) -> Iterator[tuple[Rows, Outputs]]:
    """The same batches, once their outputs are in host memory: up to ``COPIES`` batches are on their way while the next
    one is computed."""
    waiting: deque[tuple[Rows, ComingOutputs]] = deque()
    for places, coming in outputs:
        waiting.append((places, coming))
        if len(waiting) > COPIES:
            first, ready = waiting.popleft()
            yield first, ready()
    for places, coming in waiting:
        yield places, coming()


def copied_to_host(values: Tensor) -> Callable[[], npt.NDArray[Any]]:
    """Begins to copy a tensor to host memory; the result waits for the copy and returns it. From a GPU it goes to
    pinned memory, while the GPU goes on computing; what is in host memory already is not copied."""
    if not values.is_cuda:
        return values.numpy
    target = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    target.copy_(values, non_blocking=True)
    copied = torch.cuda.Event()
    copied.record(torch.cuda.current_stream(values.device))

    def wait() -> npt.NDArray[Any]:
        copied.synchronize()
        found: npt.NDArray[Any] = target.numpy()
        return found

    return wait


def pooled(
    hidden: tuple[Tensor, ...], mask: Tensor | None, layout: Layout
) -> Callable[[], Mapping[str, npt.NDArray[Any]]]:
    """[B, width] for each column, in the number type in which the worker keeps it. All columns leave the device in one
    copy, which is waited for where the result is called."""
    if not layout.states:
        return dict
    joined = torch.cat([pooled_state(hidden[state.layer], mask, state.pooling) for state in layout.states], -1)
    whole = copied_to_host(joined.half() if state_type(layout) is np.float16 else joined)
    ends = np.cumsum([state.width for state in layout.states])[:-1]
    return lambda: dict(zip([state.column for state in layout.states], np.split(whole(), ends, -1), strict=True))


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

"""The teacher in a worker: rows in, shards out."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from cluster.resources import Worker
from stages.batches import Rows, sorted_batches
from stages.data import distinct, read_rowset
from stages.models import forward, load, pool
from stages.outputs import column, shard_name, write_shard
from stages.predict import finite_or_raise
from stages.teach import Dump, Shard

Floats = npt.NDArray[np.float32]

TOKENS = {"cpu": 4096, "cuda": 65536}


class Teacher:
    """A loaded teacher and its corpus."""

    def __init__(self, dump: Dump, worker: Worker) -> None:
        torch.set_num_threads(worker.threads)
        self.dump = dump
        self.worker = worker
        model: nn.Module = load(dump.model)
        self.model = model.to(worker.device).eval()
        self.rows = distinct([read_rowset(dump.corpus, split) for split in dump.spec.splits])
        self.tokens = TOKENS[worker.device.split(":")[0]]
        self.halvings = 0

    def write(self, shard: Shard) -> int:
        """Compute and write one shard. Returns how often the token budget was halved for lack of memory."""
        layout = self.dump.layout
        count, before = shard.end - shard.start, self.halvings
        logits = np.empty((count, layout.outputs), np.float32)
        states = {layer: np.empty((count, layout.width), np.dtype(layout.precision)) for layer in layout.layers}
        for places, found, hidden in self._outputs(np.arange(shard.start, shard.end)):
            logits[places] = found
            for layer, values in hidden.items():
                with np.errstate(over="ignore"):  # what overflows is refused below
                    states[layer][places] = values
            self.worker.advance(len(places))
        keys = self.rows.row_keys[shard.start : shard.end]
        finite_or_raise(logits, keys, "the teacher's logits")
        for layer, values in states.items():
            finite_or_raise(values, keys, f"the teacher's {column(layer)} in {layout.precision} (store.precision)")
        write_shard(self.dump.out / shard_name(shard.number), layout, keys, logits, states)
        return self.halvings - before

    def _outputs(self, rows: Rows) -> Iterator[tuple[Rows, Floats, dict[int, Floats]]]:
        """(places among ``rows``, logits, pooled states), in batches of like length. When memory runs out the
        token budget is halved and what is left is cut anew."""
        left = np.arange(len(rows))
        while len(left):
            batches = [left[batch] for batch in sorted_batches(self.rows.tokens.lengths[rows[left]], self.tokens)]
            left = left[:0]
            for number, places in enumerate(batches):
                found = self._try(rows[places])
                if found is None:
                    self.tokens, self.halvings = max(1, self.tokens // 2), self.halvings + 1
                    left = np.concatenate(batches[number:])
                    break
                yield places, *found

    def _try(self, rows: Rows) -> tuple[Floats, dict[int, Floats]] | None:
        """What the model says about ``rows``; None when memory did not suffice for them."""
        try:
            return self._run(rows)
        except RuntimeError as error:
            if len(rows) == 1 or not _out_of_memory(error):
                raise
            return None

    def _run(self, rows: Rows) -> tuple[Floats, dict[int, Floats]]:
        batch = self.rows.batch(rows, self.worker.device)
        spec, layers = self.dump.spec, self.dump.layout.layers
        with torch.inference_mode():
            logits, hidden = forward(self.model, batch.inputs, hidden=bool(layers))
            if spec.label_order is not None:
                logits = logits[:, list(spec.label_order)]
            mask = batch.inputs["attention_mask"]
            pooled = {layer: pool(hidden[layer], mask, spec.pooling).cpu().numpy() for layer in layers}
        return logits.float().cpu().numpy(), pooled


def _out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)

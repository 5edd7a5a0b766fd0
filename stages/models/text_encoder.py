"""A sentence encoder in a worker: texts -> vectors of length 1. Used for the texts of a bank and for those of train
that are searched in it.

Weights load from safetensors only, and no code from a model's repository ever runs.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from stages.corpus.batches import Rows, sorted_batches
from stages.corpus.examples.token_rows import TokenRows, encode
from stages.corpus.row_key import row_key
from stages.corpus.tokenizer import Tokenizer, load_tokenizer
from stages.device_turn import TURN
from stages.freed_memory import keep_freed_memory
from stages.models.adapters.text import tokens_per_pass
from stages.models.forward import pooled_state
from stages.models.loading import load_encoder
from stages.models.positions import position_limit
from stages.models.predict import out_of_memory
from stages.models.shape import config_of
from stages.saved_rows import SavedRows
from stages.specs.retrieval import ModelEncoder

Vectors = npt.NDArray[np.float32]


class TextEncoder:
    """A model with its tokenizer. A batch has at most ``tokens`` padded tokens; the bound is halved when memory runs
    out (``halvings`` counts how often)."""

    def __init__(self, spec: ModelEncoder, model: nn.Module, tokenizer: Tokenizer, device: str, tokens: int) -> None:
        self.spec = spec
        self.model = model
        self.tokenizer = tokenizer
        self.device = device
        self.tokens = tokens
        self.halvings = 0

    @property
    def width(self) -> int:
        """The dimensions of a vector."""
        return int(self.model.config.hidden_size)  # type: ignore[union-attr, arg-type]

    def encode(self, texts: Sequence[Sequence[str]]) -> Vectors:
        """[len(texts), width]: a unit vector for each text. Each item is (text,) or (text, text2); a pair is encoded as
        one sequence."""
        found = np.zeros((len(texts), self.width), np.float32)
        for rows, vectors in self.batches(texts):
            found[rows] = vectors
        return found

    def batches(
        self, texts: Sequence[Sequence[str]], known: npt.NDArray[np.bool_] | None = None
    ) -> Iterator[tuple[Rows, Vectors]]:
        """(places among ``texts``, unit vectors for them), batch by batch. Batches of which all texts are ``known``
        are left out; the others are the same as without ``known``, and so are the bits of their vectors."""
        if texts:
            yield from self._batches(encode(self.tokenizer, texts, self.spec.max_length), known)

    def encode_saving(self, texts: Sequence[Sequence[str]], saved: SavedRows) -> Vectors:
        """The same as ``encode``, going on from the vectors that ``saved`` holds, and saving further ones."""
        keys = [row_key(tuple(row)) for row in texts]
        found = np.zeros((len(texts), self.width), np.float32)
        known = np.array([key in saved.found for key in keys], np.bool_)
        for row in np.flatnonzero(known):
            found[row] = saved.found[keys[row]]["vector"]
        unsaved: list[int] = []
        for rows, vectors in self.batches(texts, known):
            found[rows] = vectors
            unsaved += rows.tolist()
            if saved.due:
                saved.save([keys[row] for row in unsaved], {"vector": found[unsaved]})
                unsaved = []
        return found

    def _batches(self, encoded: TokenRows, known: npt.NDArray[np.bool_] | None) -> Iterator[tuple[Rows, Vectors]]:
        """(rows, their vectors), in batches of similar length, but for those that are all ``known``. When a batch does
        not fit in memory, the remaining rows are divided again into batches of half the size."""
        remaining = np.arange(len(encoded))
        while len(remaining):
            batches = [remaining[batch] for batch in sorted_batches(encoded.costs[remaining], self.tokens)]
            remaining = remaining[:0]
            for number, rows in enumerate(batches):
                if known is not None and known[rows].all():
                    continue
                vectors = self._try(encoded, rows)
                if vectors is None:
                    self.tokens, self.halvings = max(1, self.tokens // 2), self.halvings + 1
                    remaining = np.concatenate(batches[number:])
                    break
                yield rows, vectors

    def _try(self, encoded: TokenRows, rows: Rows) -> Vectors | None:
        """The vectors of these rows; None if memory did not suffice. With a single row the error is raised."""
        try:
            return self._run(encoded, rows)
        except RuntimeError as error:
            if len(rows) == 1 or not out_of_memory(error):
                raise
            return None

    def _run(self, encoded: TokenRows, rows: Rows) -> Vectors:
        """[len(rows), width]: one forward pass."""
        arrays = encoded.collate(rows)
        inputs: dict[str, Tensor] = {name: torch.from_numpy(one).to(self.device) for name, one in arrays.items()}
        with torch.inference_mode():
            with TURN:
                states = self.model(**inputs).last_hidden_state
                pooled = pooled_state(states, inputs["attention_mask"], self.spec.pooling)
                normalized = nn.functional.normalize(pooled, dim=1)
            vectors: Vectors = normalized.cpu().numpy()
        return vectors


def open_encoder(spec: ModelEncoder, directory: Path, device: str, threads: int) -> TextEncoder:
    """Load an encoder on ``device``. Raises ValueError if it does not load, or accepts fewer than ``max_length``
    tokens."""
    keep_freed_memory()
    torch.set_num_threads(threads)
    try:
        model = load_encoder(directory).model
    except ValueError as error:
        raise ValueError(f"encoder: {error}") from error
    tokenizer = load_tokenizer(directory)
    limit = position_limit(config_of(directory))
    if limit is not None and spec.max_length > limit:
        raise ValueError(
            f"max_length: {spec.max_length}, but the encoder in {directory} accepts at most {limit} tokens"
        )
    module: nn.Module = model
    return TextEncoder(spec, module.to(device).eval(), tokenizer, device, tokens_per_pass(device, threads))

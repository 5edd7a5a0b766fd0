"""A sentence encoder with what comes after its last layer: texts -> vectors, as sentence-transformers computes them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from stages.corpus.batches import Rows
from stages.corpus.examples.token_rows import TokenRows, encode
from stages.corpus.tokenizer import Tokenizer
from stages.device_turn import TURN
from stages.models.adapters.text import tokens_per_pass
from stages.models.forward import count_parameters, pooled_state
from stages.models.sentences.modules import WEIGHTS, Pooling, SentenceModules, sentence_modules
from stages.models.text_encoder import TextEncoder, Vectors, open_encoder
from stages.specs.retrieval import ModelEncoder


class SentenceEncoder(TextEncoder):
    """An encoder with its tokenizer and the modules after it. ``dense`` is its linear map, None for none."""

    def __init__(
        self,
        spec: ModelEncoder,
        model: nn.Module,
        tokenizer: Tokenizer,
        device: str,
        tokens: int,
        modules: SentenceModules,
    ) -> None:
        super().__init__(spec, model, tokenizer, device, tokens)
        self.modules = modules
        self.dense = None if modules.dense is None else load_dense(modules.dense).to(device).eval()

    @property
    def width(self) -> int:
        """The dimensions of a vector."""
        return super().width if self.dense is None else self.dense.out_features

    @property
    def parameters(self) -> int:
        """The number of parameters, those of the linear map included."""
        return count_parameters(self.model) + (0 if self.dense is None else count_parameters(self.dense))

    def encoded(self, texts: Sequence[str]) -> TokenRows:
        """Texts as tokens, as training makes them."""
        return encode(self.tokenizer, [(text,) for text in texts], self.spec.max_length)

    def vectors(self, inputs: dict[str, Tensor]) -> Tensor:
        """[B, width]: the vectors of a batch on the encoder's device."""
        states = self.model(**inputs).last_hidden_state
        pooled = pooled_state(states, inputs["attention_mask"], self.spec.pooling)
        mapped = pooled if self.dense is None else self.dense(pooled)
        return nn.functional.normalize(mapped, dim=1) if self.modules.normalize else mapped

    def _run(self, encoded: TokenRows, rows: Rows) -> Vectors:
        arrays = encoded.collate(rows)
        inputs = {name: torch.from_numpy(one).to(self.device) for name, one in arrays.items()}
        with torch.inference_mode():
            with TURN:
                found = self.vectors(inputs)
            vectors: Vectors = found.cpu().numpy()
        return vectors


def load_dense(folder: Path) -> nn.Linear:
    """The linear map of a module Dense, in float32."""
    weights = {name.removeprefix("linear."): value.float() for name, value in load_file(folder / WEIGHTS).items()}
    outputs, inputs = weights["weight"].shape
    with torch.device("meta"):  # draws no initial weights
        dense = nn.Linear(inputs, outputs, bias="bias" in weights)
    dense.load_state_dict(weights, assign=True)
    return dense


def open_sentence_encoder(
    directory: Path, pooling: Pooling, max_length: int, device: str, threads: int
) -> SentenceEncoder:
    """The sentence encoder in ``directory`` on ``device``; ``pooling`` is that of a model whose files name none. Raises
    ValueError if it does not load, or accepts fewer than ``max_length`` tokens."""
    modules = sentence_modules(directory, pooling)
    plain = open_encoder(ModelEncoder(pooling=modules.pooling, max_length=max_length), directory, device, threads)
    tokens = tokens_per_pass(device, threads)
    return SentenceEncoder(plain.spec, plain.model, plain.tokenizer, device, tokens, modules)


def cosines(one_ND: Vectors, other_ND: Vectors) -> Vectors:
    """[N]: the cosine of each vector with the one in its place, in float32; 0 where one of the two is 0."""
    lengths = np.linalg.norm(one_ND.astype(np.float64), axis=1) * np.linalg.norm(other_ND.astype(np.float64), axis=1)
    products = np.einsum("nd,nd->n", one_ND.astype(np.float64), other_ND.astype(np.float64))
    found: Vectors = np.divide(products, lengths, out=np.zeros(len(products)), where=lengths > 0).astype(np.float32)
    return found

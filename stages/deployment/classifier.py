"""A model that is ready to compute logits, in PyTorch or in ONNX Runtime, behind one interface."""

import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from stages.corpus.batches import sorted_batches
from stages.corpus.examples.token_rows import encode
from stages.corpus.tokenizer import load_tokenizer
from stages.deployment.description import EXPORT_REPORT, ONNX_MODEL, is_onnx
from stages.models.sentences import is_sentence_encoder

Inputs = Mapping[str, npt.NDArray[np.int64]]
"""A batch: ``input_ids``, ``attention_mask`` and, for pairs, ``token_type_ids``, each [B, T]."""

FloatLogits = npt.NDArray[np.float32]

LEAST_TEXT = 4
"""A length of texts that every model reads: they are cut before they reach the model."""

INSTALL_ONNX = "pip install -c constraints.txt -e '.[onnx]'"


class Classifier(Protocol):
    """A loaded model. ``kind`` names what computes it; ``parameters`` is the number of its parameters."""

    kind: str
    parameters: int

    def logits(self, inputs: Inputs) -> FloatLogits:
        """[B, outputs]: the logits of a batch."""
        ...


class PytorchClassifier:
    """A model in PyTorch, on ``device``, in float32. ``threads`` of a CPU; None for PyTorch's default."""

    def __init__(self, directory: Path, device: str, threads: int | None = None) -> None:
        import torch

        from stages.models.forward import count_parameters
        from stages.models.loading import load

        if threads is not None:
            torch.set_num_threads(threads)
        self.kind, self.device = "PyTorch", device
        self.model: Any = load(directory).to(device).eval()  # type: ignore[arg-type]
        self.parameters = count_parameters(self.model)

    def logits(self, inputs: Inputs) -> FloatLogits:
        """[B, outputs]: the logits of a batch."""
        import torch

        from stages.models.forward import forward

        with torch.inference_mode():
            tensors = {name: torch.from_numpy(values).to(self.device) for name, values in inputs.items()}
            found: FloatLogits = forward(self.model, tensors).logits.float().cpu().numpy()
        return found


class PytorchSentenceEncoder:
    """A sentence encoder in PyTorch, on ``device``, in float32, whose ``logits`` are its embeddings: what
    ``stillhouse latency`` measures. ``threads`` as for ``PytorchClassifier``."""

    def __init__(self, directory: Path, device: str, threads: int | None = None) -> None:
        from stages.models.sentences.encoder import open_sentence_encoder

        self.kind, self.device = "PyTorch", device
        self.encoder = open_sentence_encoder(directory, "mean", LEAST_TEXT, device, threads or os.cpu_count() or 1)
        self.parameters = self.encoder.parameters

    def logits(self, inputs: Inputs) -> FloatLogits:
        """[B, width]: the embeddings of a batch."""
        import torch

        with torch.inference_mode():
            tensors = {name: torch.from_numpy(values).to(self.device) for name, values in inputs.items()}
            found: FloatLogits = self.encoder.vectors(tensors).cpu().numpy()
        return found


class OnnxClassifier:
    """An exported model in ONNX Runtime, on the CPU. ``threads``: None for ONNX Runtime's default. Raises ValueError
    without the package onnxruntime, and for a file that does not load."""

    def __init__(self, directory: Path, threads: int | None = None) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise ValueError(
                f"{directory}: an ONNX model needs onnxruntime, which is not installed: {INSTALL_ONNX}"
            ) from error
        options = onnxruntime.SessionOptions()
        if threads is not None:
            options.intra_op_num_threads = threads
        try:
            self.session = onnxruntime.InferenceSession(
                directory / ONNX_MODEL, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime's errors have no base class of their own
            reason = str(error).splitlines()[0]
            raise ValueError(f"{directory / ONNX_MODEL}: does not load ({reason}); export the model again") from error
        self.kind = "ONNX int8" if _stated(directory, "to") == "onnx-int8" else "ONNX"
        self.parameters = int(_stated(directory, "parameters") or 0)
        self._names = [given.name for given in self.session.get_inputs()]

    def logits(self, inputs: Inputs) -> FloatLogits:
        """[B, outputs]: the logits of a batch."""
        ids = inputs["input_ids"]
        given = {name: inputs[name] if name in inputs else np.zeros_like(ids) for name in self._names}
        found: FloatLogits = self.session.run(None, given)[0]
        return found


def open_classifier(directory: Path, device: str = "cpu", threads: int | None = None) -> Classifier:
    """The model in ``directory``: by ONNX Runtime if it was exported, else by PyTorch on ``device``. Raises ValueError
    for a model that does not load."""
    if is_onnx(directory):
        return OnnxClassifier(directory, threads)
    if is_sentence_encoder(directory):
        return PytorchSentenceEncoder(directory, device, threads)
    return PytorchClassifier(directory, device, threads)


def best_device() -> str:
    """The device for predictions: a GPU where PyTorch finds one, else the CPU."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _stated(directory: Path, field: str) -> Any:
    """A field of the ``export.json`` beside an ONNX model; None where there is none."""
    try:
        return json.loads((directory / EXPORT_REPORT).read_text("utf-8")).get(field)
    except (OSError, ValueError):
        return None


class RowClassifier:
    """A model with its tokenizer. Raises ValueError for a directory without one that loads."""

    def __init__(self, classifier: Classifier, directory: Path, max_length: int, tokens: int, passes: int = 1) -> None:
        """``tokens``: those of a pass, with padding, at most; ``passes``: how many are computed at a time."""
        self._passes = passes
        self.classifier = classifier
        self.tokenizer = load_tokenizer(directory)
        self.max_length = max_length
        self._tokens = tokens

    def logits(self, texts: Sequence[tuple[str, ...]]) -> FloatLogits:
        """[rows, outputs]: the logits of rows of one text or two, in their order. Passes have rows of similar length,
        and at most the number of padded tokens with which the classifier was opened."""
        rows = encode(self.tokenizer, texts, self.max_length)
        found: FloatLogits | None = None
        chosen = sorted_batches(rows.costs, self._tokens)

        def compute(one: npt.NDArray[np.int64]) -> FloatLogits:
            return self.classifier.logits(rows.collate(one))

        with ThreadPoolExecutor(self._passes) as pool:
            for own, logits in zip(chosen, pool.map(compute, chosen), strict=True):
                if found is None:
                    found = np.zeros((len(rows), logits.shape[1]), np.float32)
                found[own] = logits
        assert found is not None, "there is a row"
        return found

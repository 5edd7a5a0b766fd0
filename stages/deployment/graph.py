"""Writes a model as an ONNX graph, and its int8 version. torch, onnx and onnxruntime are imported where they are
used."""

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from stages.deployment.classifier import INSTALL_ONNX
from stages.models.bilstm import BILSTM

if TYPE_CHECKING:
    import torch

OPSET = 20
"""The version of ONNX's operators in exported models. ONNX Runtime 1.17 and later run it."""

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
OUTPUT = "logits"
QUANTISED = ("MatMul", "Gemm", "Gather")
"""Operators whose weights become int8: linear layers and tables of embeddings. LSTMs stay in float32."""
PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def check_packages() -> None:
    """Raise ValueError, with the command that installs them, if the packages of an export are not installed."""
    lacking = [name for name in PACKAGES if find_spec(name) is None]
    if lacking:
        raise ValueError(f"it needs {', '.join(lacking)}, which is not installed: {INSTALL_ONNX}")


def write_graph(model: Any, names: Sequence[str], rows: Mapping[str, npt.NDArray[np.int64]], path: Path) -> None:
    """Write a classifier of transformers or of this project to ``path``, in float32: inputs ``names`` [batch, length],
    output ``logits`` [batch, outputs], both sizes variable. ``rows`` are an example, of at least two rows and two
    tokens. Raises ValueError with the reason if PyTorch's exporter cannot export it."""
    import torch

    batch, length = torch.export.Dim("batch"), torch.export.Dim("length")
    examples = tuple(torch.from_numpy(rows[name]) for name in names)
    try:
        with torch.no_grad(), _quiet():
            program: Any = torch.onnx.export(
                _traceable(model, names),
                examples,
                dynamo=True,
                input_names=list(names),
                output_names=[OUTPUT],
                opset_version=OPSET,
                dynamic_shapes={"inputs": tuple({0: batch, 1: length} for _ in names)},
                verbose=False,
            )
            program.save(path)
    except Exception as error:  # the exporter raises errors of several unrelated classes
        reason = " ".join((str(error).strip().splitlines() or [type(error).__name__])[0].split())
        raise ValueError(
            f"PyTorch cannot export a model of the type {model.config.model_type} ({reason}); use --to safetensors"
        ) from error


def _traceable(model: Any, names: Sequence[str]) -> "torch.nn.Module":
    """The model as a module that takes the inputs by position and returns its logits alone."""
    from torch import Tensor, nn

    if model.config.model_type == BILSTM:
        from stages.deployment.bilstm_graph import ExportableBilstm

        return ExportableBilstm(model, names).eval()

    class LogitsOnly(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *inputs: Tensor) -> Any:
            return self.model(**dict(zip(names, inputs, strict=True))).logits

    return LogitsOnly().eval()


def write_int8(source: Path, target: Path) -> None:
    """Write the ONNX model ``source`` with int8 weights to ``target``: matrices with a scale for each column, the
    tables of embeddings with one scale; activations are quantised while the model runs."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _quiet():
        quantize_dynamic(
            source, target, op_types_to_quantize=list(QUANTISED), per_channel=True, weight_type=QuantType.QInt8
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the notices of the exporter and of the quantiser off the terminal."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)

"""Exports a model into a folder that holds all that it needs, and checks it against the original.

    model.onnx (or the weights as they were)   config.json   tokenizer files   stillhouse.json
    README.md   example.py   export.json

No file with texts of the training is copied.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Literal

import numpy as np

from stages.cards.exported import Evaluations, exported_card
from stages.corpus.examples.token_rows import encode
from stages.corpus.tokenizer import load_tokenizer
from stages.deployment.checked_rows import ReferenceRows, comparison, describe_comparison, logits_of
from stages.deployment.description import DESCRIPTION, EXPORT_REPORT, ONNX_MODEL, ModelDescription, write_description
from stages.deployment.example import example_code
from stages.deployment.graph import INPUTS, OPSET, write_graph, write_int8
from stages.files.tokenizer_files import TOKENIZER_PATTERNS
from stages.models.heads import head_of, is_own_class
from stages.models.shape import config_of

Form = Literal["onnx", "onnx-int8", "safetensors"]

WEIGHTS = ("*.safetensors", "*.safetensors.index*.json")

EXAMPLE_ROWS = 4
"""Rows of the example by which a graph is traced: more than one, or the batch would be taken for a constant."""

CLOSE = 1e-3
"""The largest difference of a float32 export's logits from PyTorch's, relative to the largest logit or to 1."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export came to: the content of ``export.json``, and whether the model computes what the original does
    (an int8 model: always, its difference is reported)."""

    report: Mapping[str, object]
    faithful: bool


def export(
    source: Path,
    form: Form,
    out: Path,
    description: ModelDescription,
    rows: ReferenceRows,
    title: str,
    evaluations: Evaluations | None = None,
    identity: str | None = None,
) -> Exported:
    """Export the model in ``source`` into the new folder ``out``, with its check on ``rows``. ``title`` heads the
    README, which also has the ``evaluations`` of the model and its teacher, where they are known. ``identity`` is that
    of the model in keys, by which ``export.json`` names it. Raises ValueError for a model that does not load or cannot
    be exported."""
    from stages.models.forward import count_parameters
    from stages.models.loading import load

    out.mkdir()
    model = load(source)
    model.eval()
    copy_files(source, out, ("config.json", *TOKENIZER_PATTERNS, *(WEIGHTS if form == "safetensors" else ())))
    write_description(out, description.task, description.max_length)
    names: tuple[str, ...] = INPUTS
    if form != "safetensors":
        tokenizer = load_tokenizer(source)
        names = INPUTS if "token_type_ids" in tokenizer.model_input_names else INPUTS[:2]
        example = (rows.texts * EXAMPLE_ROWS)[:EXAMPLE_ROWS]
        inputs = encode(tokenizer, example, description.max_length).collate(np.arange(EXAMPLE_ROWS))
        inputs.setdefault("token_type_ids", np.zeros_like(inputs["input_ids"]))
        plain = out / ONNX_MODEL if form == "onnx" else out / "float32.onnx"
        write_graph(model, names, inputs, plain)
        if form == "onnx-int8":
            write_int8(plain, out / ONNX_MODEL)
            plain.unlink()
    config = config_of(source)
    report: dict[str, object] = {
        "to": form,
        "model": identity,
        "parameters": count_parameters(model),
        "labels": list(description.task.labels or ()),
        "max_length": description.max_length,
        **({} if form == "safetensors" else {"opset": OPSET, "inputs": list(names), "outputs": ["logits"]}),
    }
    write_report(out, report)
    own_class = is_own_class(str(config["model_type"]), head_of(config))
    pad = int(load_tokenizer(out).pad_token_id)
    (out / "example.py").write_text(example_code(form, description, pad, own_class), "utf-8")
    before, after = logits_of(source, description, rows), logits_of(out, description, rows)
    report |= {"bytes": folder_bytes(out), "check": comparison(description.task, before, after, rows)}
    write_report(out, report)
    card = source / "README.md"
    before_text = card.read_text("utf-8") if card.is_file() else ""
    checked = describe_comparison(comparison(description.task, before, after, rows))
    text = exported_card(title, form, report, checked, before_text, description.task, evaluations)
    (out / "README.md").write_text(text, "utf-8")
    bound = CLOSE * max(1.0, float(np.abs(before).max()))
    return Exported(report, form == "onnx-int8" or bool(np.abs(before - after).max() <= bound))


def copy_files(source: Path, out: Path, patterns: tuple[str, ...]) -> None:
    """Copy the files of a folder whose names fit one of the patterns; none of its sub-folders."""
    for path in sorted(source.iterdir()):
        if path.is_file() and any(fnmatch(path.name, pattern) for pattern in patterns):
            shutil.copyfile(path, out / path.name)


def folder_bytes(directory: Path) -> int:
    """Bytes of the weights and of the tokenizer in a model's directory."""
    patterns = (ONNX_MODEL, f"{ONNX_MODEL}*", *WEIGHTS, *TOKENIZER_PATTERNS)
    return sum(
        path.stat().st_size
        for path in directory.iterdir()
        if path.is_file() and any(fnmatch(path.name, pattern) for pattern in patterns)
    )


def write_report(out: Path, report: Mapping[str, object]) -> None:
    """Write ``export.json``."""
    (out / EXPORT_REPORT).write_text(json.dumps(report, indent=1) + "\n", "utf-8")


def exported_names(out: Path) -> list[str]:
    """The files of an exported folder that are pushed: all of them, which hold no texts of the training. Raises
    ValueError for a folder with any other file."""
    known = ("config.json", DESCRIPTION, EXPORT_REPORT, "README.md", "example.py", ONNX_MODEL, f"{ONNX_MODEL}.data")
    patterns = (*known, *WEIGHTS, *TOKENIZER_PATTERNS)
    names = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    strange = [name for name in names if not any(fnmatch(name, pattern) for pattern in patterns)]
    if strange:
        raise ValueError(f"{out / strange[0]} is no file of an export; remove it")
    return names

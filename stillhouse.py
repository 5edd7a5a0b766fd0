"""Load a model that Stillhouse trained, whatever its classification head: ``stillhouse.load_model(directory)``."""

import os
from pathlib import Path

from transformers import PreTrainedModel


def load_model(directory: str | os.PathLike[str]) -> PreTrainedModel:
    """The classifier in a directory that Stillhouse or ``save_pretrained`` wrote, in float32 and in evaluation mode.

    Its call returns logits, and its ``config.id2label`` names them. The tokenizer in the same directory loads with
    ``transformers.AutoTokenizer``. Raises ValueError if there is no model, or if it lacks weights.
    """
    from stages.models.loading import load

    if not (Path(directory) / "config.json").is_file():
        raise ValueError(f"{os.fspath(directory)}: no config.json here; give the directory of a model")
    model = load(Path(directory))
    model.eval()
    return model

"""``stillhouse predict`` with a sentence encoder: the embeddings of the rows of a file."""

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from pipeline.cli.models.find_model import FoundModel
from pipeline.cli.report import check_folder_of
from pipeline.errors import RequestError, refused
from stages.atomic import replacing
from stages.deployment.description import ModelDescription
from stages.deployment.embeddings import check_embeddings_file, embed_file
from stages.deployment.rows import count_rows
from stages.images.networks import NETWORK_TYPES
from stages.models.architectures import CLASSIFIES_IMAGES
from stages.models.heads import has_token_labels
from stages.models.sentences import is_sentence_encoder
from stages.models.shape import config_of

Progress = Callable[[int], AbstractContextManager[Callable[[int], None]]]
"""A bar for a number of rows: a context whose value is called with the number of rows done."""


def check_is_classifier(model: FoundModel, command: str) -> None:
    """Raise RequestError for a sentence encoder, and for a model of images or of labels on words, for which there is no
    such ``command``."""
    check_reads_texts(model)
    if has_token_labels(model.directory):
        raise RequestError(
            f"MODEL: {model.name} labels words, for which there is no {command}; its model card says how it is loaded"
        )
    if is_sentence_encoder(model.directory):
        raise RequestError(
            f"MODEL: {model.name} is a sentence encoder, for which there is no {command}; "
            f'sentence_transformers.SentenceTransformer("{model.directory}") loads it as it is'
        )


def check_reads_texts(model: FoundModel) -> None:
    """Raise RequestError for a model of images, whose inputs no command but ``predict`` makes."""
    if reads_images(model):
        raise RequestError(
            f"MODEL: {model.name} reads images, and this command gives models texts; "
            f'load it with stillhouse.load_model("{model.directory}"), and give it pixel_values'
        )


def reads_images(model: FoundModel) -> bool:
    """Whether a model reads images. Raises RequestError for a damaged configuration."""
    with refused("MODEL"):
        return config_of(model.directory)["model_type"] in (*NETWORK_TYPES, *CLASSIFIES_IMAGES)


def check_embeddings_out(out: Path | None) -> Path:
    """``out``, a Parquet file that does not exist yet. Raises RequestError."""
    with refused("--out"):
        found = check_embeddings_file(out)
    check_folder_of(found)
    return found


def embed_rows(model: FoundModel, file: Path, description: ModelDescription, out: Path, progress: Progress) -> None:
    """Write the embedding of each row of ``file``, of which ``description`` names the column of text, to ``out``.
    Raises RequestError."""
    columns = description.task.text
    if len(columns) != 1:
        raise RequestError(
            f"--text: {', '.join(columns)}, but a sentence encoder reads one text a row; give one column"
        )
    with refused("FILE"):
        rows = count_rows(file, description)
    with progress(rows) as advance, replacing(out) as draft, refused("MODEL"):
        width = embed_file(model.directory, file, description, draft, advance)
    print(f"{rows:,} embeddings of {width} dimensions: {out}", file=sys.stderr)

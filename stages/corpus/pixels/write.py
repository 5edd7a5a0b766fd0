"""The stage ``corpus`` for images: the images of a task -> decoded pixels for each split, each row with its key.

    <split>/part-00000.npy, .parquet, pixels.json   as ``stages/images/pixel_shards.py`` writes them
    processor/preprocessor_config.json              how pixels are normalised, as transformers reads it
    corpus.json                                     the task, the splits; written last

Pixels are normalised by the statistics of train, or as the image processor in the input ``tokenizer`` says.
"""

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa

from cluster.resources import On
from stages.atomic import replacing
from stages.corpus.pixels.labels import parsed_labels
from stages.corpus.reader import META, PROCESSOR, PROCESSOR_FILE
from stages.corpus.token_shards import SplitRows
from stages.images.pixel_reader import read_pixel_meta
from stages.images.pixel_shards import part_count, write_images
from stages.images.processor import normalisation_in, processor_document
from stages.images.rows import SHAPE, read_images
from stages.images.sources.find import images_at
from stages.specs.corpus import CorpusSpec
from stages.specs.tasks import TRAIN, Task


def image_table(task: Task, split: str, place: Path) -> pa.Table:
    """The rows of a split: index, row_key, label, pixels; the images' shape is in the schema's metadata. ValueError for
    images and labels that cannot be used."""
    source = images_at(place, split, str(task.image), task.label)
    found = read_images(source, task.channels)
    labels = pa.array(parsed_labels(found, source.origin, task, split), pa.int64())
    table = found.table.append_column("label", labels)
    return table.replace_schema_metadata({SHAPE: json.dumps(found.shape).encode()})


def write_image_corpus(
    spec: CorpusSpec, splits: Mapping[str, SplitRows], processor: Path | None, out: Path, on: On
) -> dict[str, Any]:
    """Write the splits that were chosen. Goes on from the parts that ``out`` holds. ``processor`` is the directory of a
    model whose image processor says how pixels are normalised. Returns for each split its rows, and as many tokens, as
    each image costs the same. ValueError for a processor that does what is not done here."""
    tables = {name: split.rows for name, split in splits.items()}
    shapes = {tuple(json.loads(table.schema.metadata[SHAPE])) for table in tables.values()}
    if len(shapes) > 1:
        raise ValueError(f"images of several sizes: {sorted(shapes)}; resize or crop them to one size")
    channels, height, width = next(iter(shapes))
    shape = (channels, height, width)
    on.expect(sum(table.num_rows for table in tables.values()), "rows")
    given = None if processor is None else normalisation_in(processor / PROCESSOR_FILE, channels)
    rows = write_images(tables, shape, out, on, TRAIN, given)
    used = read_pixel_meta(out).normalisation
    (out / PROCESSOR).mkdir(exist_ok=True)
    document = processor_document(used, height, width)
    with replacing(out / PROCESSOR / PROCESSOR_FILE) as draft:
        draft.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    content = {
        "task": spec.task.document(),
        "splits": {
            name: {"role": split.role, "rows": rows[name], "parts": part_count(rows[name], shape), "tokens": rows[name]}
            for name, split in splits.items()
        },
        "pad_token_id": 0,
        "max_length": 1,
        # Outputs of a model for an image depend on how it is normalised.
        "tokenizer_sha256": sha256(json.dumps([shape, used.mean, used.std]).encode()).hexdigest(),
        "augmentation": None if spec.augmentation is None else spec.augmentation.model_dump(),
    }
    with replacing(out / META) as draft:
        draft.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return {"rows": rows, "truncated": dict.fromkeys(rows, 0), "tokens": rows}

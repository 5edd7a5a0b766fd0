"""Rows of images as a training reads them: pixels on the disk, augmented and normalised when a batch is formed."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from stages.images.decode import Pixels
from stages.images.pixel_key import PIXEL_KEY_BYTES
from stages.images.pixel_reader import MappedPixels, Numbers, StoredImages
from stages.images.statistics import Normalisation
from stages.images.views import augmented, draws_of, view_key
from stages.specs.axes.augmentation import Augmentation

if TYPE_CHECKING:
    from torch import Tensor

PIXEL_VALUES = "pixel_values"
"""The name of a batch's images among the inputs of a model, as in transformers."""


@dataclass(frozen=True, slots=True)
class PixelRows:
    """N rows of images, which are the ``Examples`` of a task on images. Row i is view ``views[i]`` of the image
    ``numbers[i]`` of ``pixels``, whose row key is ``row_keys[i]``."""

    pixels: MappedPixels
    numbers: Numbers  # (N,)
    views: Numbers  # (N,)
    row_keys: npt.NDArray[np.uint8]  # (N, 16)
    normalisation: Normalisation
    augmentation: Augmentation

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def costs(self) -> Numbers:
        """The cost of each row in a forward pass, [N]: 1, since all images have one size."""
        return np.ones(len(self), np.int64)

    def images(self, rows: Numbers) -> Pixels:
        """The pixels [B, C, H, W] of these rows."""
        pixels, views = self.pixels.gather(self.numbers[rows]), self.views[rows]
        for view in np.unique(views[views > 0]).tolist():
            here = np.flatnonzero(views == view)
            draws = draws_of(_keys(self.row_keys[rows[here]]), view, self.augmentation)
            found = augmented(pixels[here], draws)
            if len(here) == len(rows):
                return found
            pixels[here] = found
        return pixels

    def collate(self, rows: Numbers) -> dict[str, npt.NDArray[np.float32]]:
        """The inputs of a batch of these rows: the normalised images, [B, C, H, W]."""
        return {PIXEL_VALUES: self.normalisation.applied(self.images(rows))}

    def keys(self, rows: Numbers) -> list[bytes]:
        """The keys of these rows, under which a store has a teacher's outputs for them: those of image and view."""
        views = self.views[rows].tolist()
        pairs = zip(_keys(self.row_keys[rows]), views, strict=True)
        return [view_key(key, view, self.augmentation) for key, view in pairs]

    def take(self, rows: Numbers) -> "PixelRows":
        """These rows, in this order. No pixels are copied."""
        return replace(self, numbers=self.numbers[rows], views=self.views[rows], row_keys=self.row_keys[rows])

    def followed_by(self, other: "PixelRows") -> "PixelRows":
        """These rows, then the other's, which are normalised and augmented as these are. Raises ValueError for images
        of another shape."""
        if self.pixels.shape != other.pixels.shape:
            shapes = f"{list(self.pixels.shape)} and {list(other.pixels.shape)}"
            raise ValueError(f"images: of the shapes {shapes}; resize or convert them to one")
        return replace(
            self,
            pixels=self.pixels.followed_by(other.pixels),
            numbers=np.concatenate([self.numbers, other.numbers + len(self.pixels)]),
            views=np.concatenate([self.views, other.views]),
            row_keys=np.concatenate([self.row_keys, other.row_keys]),
        )

    def fitted(self, inputs: "Mapping[str, Tensor]", _longest: int | None) -> "dict[str, Tensor]":
        """The inputs as they are: images have no length that could be filled up."""
        return dict(inputs)


def pixel_rows(stored: StoredImages, normalisation: Normalisation, augmentation: Augmentation) -> PixelRows:
    """All n rows of a split in each of their views: row v * n + i is view v of row i."""
    count, views = len(stored), augmentation.views
    return PixelRows(
        stored.pixels,
        np.tile(np.arange(count, dtype=np.int64), views),
        np.repeat(np.arange(views, dtype=np.int64), count),
        np.tile(stored.row_keys, (views, 1)),
        normalisation,
        augmentation,
    )


def _keys(row_keys: npt.NDArray[np.uint8]) -> list[bytes]:
    data = row_keys.tobytes()
    return [data[start : start + PIXEL_KEY_BYTES] for start in range(0, len(data), PIXEL_KEY_BYTES)]

"""Rows of images as a training reads them: pixels on the disk, augmented and normalised when a batch is formed."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from stages.images.decode import Pixels
from stages.images.pixel_key import PIXEL_KEY_BYTES
from stages.images.pixel_reader import MappedPixels, Numbers, StoredImages
from stages.images.statistics import Normalisation
from stages.images.views import augmented, draws_of, view_key
from stages.specs.axes.augmentation import Augmentation

PIXEL_VALUES = "pixel_values"
"""The name of a batch's images among the inputs of a model, as in transformers."""


@dataclass(frozen=True, slots=True)
class PixelRows:
    """N rows of images. Row i is the image ``numbers[i]`` of ``pixels``, and its key is ``row_keys[i]``."""

    pixels: MappedPixels
    numbers: Numbers  # (N,)
    row_keys: npt.NDArray[np.uint8]  # (N, 16)
    normalisation: Normalisation
    augmentation: Augmentation

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def costs(self) -> Numbers:
        """The cost of each row in a forward pass, [N]: 1, since all images have one size."""
        return np.ones(len(self), np.int64)

    def images(self, rows: Numbers, epoch_view: int = 0) -> Pixels:
        """The pixels [B, C, H, W] of a view of these rows. Raises ValueError for a view that there is not."""
        if not 0 <= epoch_view < self.augmentation.views:
            raise ValueError(
                f"views: view {epoch_view} is not one of 0 to {self.augmentation.views - 1}; take epoch modulo views"
            )
        pixels = self.pixels.gather(self.numbers[rows])
        if epoch_view == 0:
            return pixels
        return augmented(pixels, draws_of(_keys(self.row_keys[rows]), epoch_view, self.augmentation))

    def collate(self, rows: Numbers, epoch_view: int = 0) -> dict[str, npt.NDArray[np.float32]]:
        """The inputs of a batch of these rows: the normalised images of a view, [B, C, H, W]. Raises ValueError for a
        view that there is not."""
        return {PIXEL_VALUES: self.normalisation.applied(self.images(rows, epoch_view))}

    def view_keys(self, rows: Numbers, epoch_view: int = 0) -> list[bytes]:
        """The keys of a view of these rows, under which a store has a teacher's outputs for them."""
        return [view_key(key, epoch_view, self.augmentation) for key in _keys(self.row_keys[rows])]

    def take(self, rows: Numbers) -> "PixelRows":
        """These rows, in this order. No pixels are copied."""
        return replace(self, numbers=self.numbers[rows], row_keys=self.row_keys[rows])

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
            row_keys=np.concatenate([self.row_keys, other.row_keys]),
        )

    def fit(self, inputs: dict[str, npt.NDArray[np.float32]], _longest: int) -> dict[str, npt.NDArray[np.float32]]:
        """The inputs as they are: images have no length that could be filled up."""
        return inputs


def pixel_rows(stored: StoredImages, normalisation: Normalisation, augmentation: Augmentation) -> PixelRows:
    """All rows of a split."""
    return PixelRows(
        stored.pixels, np.arange(len(stored), dtype=np.int64), stored.row_keys, normalisation, augmentation
    )


def _keys(row_keys: npt.NDArray[np.uint8]) -> list[bytes]:
    data = row_keys.tobytes()
    return [data[start : start + PIXEL_KEY_BYTES] for start in range(0, len(data), PIXEL_KEY_BYTES)]

"""Mean and standard deviation of each channel of the images of a split, by which batches are normalised."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stages.images.decode import Pixels

VALUES = 256
BLOCK_IMAGES = 512


@dataclass(frozen=True, slots=True)
class Normalisation:
    """The mean and the standard deviation of each channel, where black is 0 and white is 1."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def applied(self, pixels: Pixels) -> npt.NDArray[np.float32]:
        """(x / 255 - mean) / std of ``pixels`` [B, C, H, W]."""
        scale_C, shift_C = np.array(
            [(1 / (255 * std), -mean / std) for mean, std in zip(self.mean, self.std, strict=True)], np.float32
        ).T
        values = pixels.astype(np.float32)
        values *= scale_C[:, None, None]
        values += shift_C[:, None, None]
        return values


def normalisation_of(pixels: Pixels) -> Normalisation:
    """The statistics of the images [N, C, H, W], N at least 1, over all images and positions. They are counted, so that
    the order of the images changes no bit. A channel with one value alone has the standard deviation 1, with which it
    becomes 0."""
    counts_CV = np.zeros((pixels.shape[1], VALUES), np.int64)
    for start in range(0, len(pixels), BLOCK_IMAGES):
        block = pixels[start : start + BLOCK_IMAGES]
        counts_CV += [np.bincount(block[:, channel].ravel(), minlength=VALUES) for channel in range(pixels.shape[1])]
    values_V, total = np.arange(VALUES) / 255, counts_CV[0].sum()
    mean_C = (counts_CV * values_V).sum(1) / total
    variance_C = (counts_CV * (values_V - mean_C[:, None]) ** 2).sum(1) / total
    single_C = (counts_CV > 0).sum(1) == 1
    std_C = np.where(single_C, 1.0, np.sqrt(variance_C))
    return Normalisation(tuple(map(float, mean_C)), tuple(map(float, std_C)))

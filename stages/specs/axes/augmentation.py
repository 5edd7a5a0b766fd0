"""How images are augmented: crops and flips, in a fixed number of views of each row. Needs pydantic only."""

from pydantic import Field

from stages.specs.base import Frozen


class Augmentation(Frozen):
    """Each image has `views` views. The first, number 0, is the image as it is. Any other is cropped at random from
    the image with `padding` black rows and columns on each side, to the size that it has, and with `flip` mirrored from
    left to right with probability 1/2 (He et al. 2016, section 4.2). Views follow from the image's row key, their
    number and `seed`, so that a teacher's outputs for them can be stored once; epoch e trains on view e modulo
    `views`."""

    views: int = Field(1, ge=1, le=1_000_000)
    padding: int = Field(4, ge=0, le=1024)
    flip: bool = True
    seed: int = Field(0, ge=-(2**63), lt=2**63)

    def view_in(self, epoch: int) -> int:
        """The number of the view that is trained on in an epoch, which counts from 0 over all phases."""
        return epoch % self.views

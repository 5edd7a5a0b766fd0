"""The blocks of a recipe file about images: views, and networks by name."""

import re
from typing import Literal

from pipeline.recipe.schema.scalars import Block, Flag, Seed, Text, Whole, key
from stages.images.networks.description import blocks_of_depth, plain_stack
from stages.specs.axes.augmentation import Augmentation
from stages.specs.student import Network

AUGMENTATION, NETWORK = Augmentation.model_fields, Network.model_fields
NAME = re.compile(r"(resnet|cnn)-([0-9]{1,4})")


class ViewsBlock(Block):
    """In how many [views](#images) each image of train is read, and how views are made."""

    count: Whole = key(
        "The number of views. View 0 is the image as it is; epoch e is trained on view e modulo this number. A teacher "
        "runs over all views once.",
        4,
        of=AUGMENTATION["views"],
    )
    padding: Whole = key(
        "Other views are crops, as large as the image, of the image with so many black rows and columns on each side.",
        2,
        of=AUGMENTATION["padding"],
    )
    flip: Flag = key("Whether half of them are mirrored.", False, of=AUGMENTATION["flip"])
    seed: Seed = key("Seed of crops and flips.", 1, of=AUGMENTATION["seed"])

    @staticmethod
    def spec(block: "ViewsBlock") -> Augmentation:
        """The augmentation that the block describes."""
        return Augmentation(views=block.count, padding=block.padding, flip=block.flip, seed=block.seed)


class NetworkBlock(Block):
    """A network for small [images](#images) with random weights. A plain text is `name`."""

    short = "name"
    name: Text = key(
        "`resnet-8`, -14, -20, -26, -32, -44, -56, -110 (6n + 2 layers): the residual networks of He et al. 2016 for "
        "CIFAR. `cnn-2`, -4, -6, -8, -10: the plain CNNs of Mirzadeh et al. 2020.",
        "resnet-20",
    )
    shortcut: Literal["padded", "projected"] = key(
        "Of a residual network, where the size of maps changes: zeros for the new channels, or a 1x1 convolution.",
        "projected",
        of=NETWORK["shortcut"],
    )
    stack: Literal["cifar10", "cifar100"] = key(
        "Of a plain CNN: the data set whose widths it has.", "cifar100", of=NETWORK["stack"]
    )

    @staticmethod
    def spec(block: "NetworkBlock") -> Network:
        """The network that the block describes. Raises ValueError for a name of none."""
        found = NAME.fullmatch(block.name)
        if found is None:
            raise ValueError("name: must be resnet-DEPTH or cnn-DEPTH, such as resnet-20 or cnn-6")
        depth = int(found[2])
        if found[1] == "resnet":
            blocks_of_depth(depth)
        else:
            plain_stack(depth, block.stack)
        family: Literal["resnet", "cnn"] = "resnet" if found[1] == "resnet" else "cnn"
        return Network(family=family, depth=depth, shortcut=block.shortcut, stack=block.stack)


def network_name(network: Network) -> str:
    """The name of a network in recipes and reports."""
    return f"{network.family}-{network.depth}"

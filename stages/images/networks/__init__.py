"""Networks for small images: what planning knows of them (``description``, which imports no torch), and the models."""

from stages.images.networks.description import NETWORK_TYPES, NETWORK_VARIANT, PLAIN_CNN, RESNET, NetworkShape, shape_in

__all__ = ["NETWORK_TYPES", "NETWORK_VARIANT", "PLAIN_CNN", "RESNET", "NetworkShape", "shape_in"]

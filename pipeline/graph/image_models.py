"""The models of a task on images: networks by name, which start from random weights, and models in directories."""

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.errors import refused
from pipeline.graph.context import FLOAT32_BYTES, GraphContext, Model
from pipeline.graph.external.inputs import processor_identity
from pipeline.graph.nodes import NO_INPUT, ExternalInput, ModelKind
from pipeline.graph.row_counts import TaskRows
from stages.images.networks.description import NETWORK_TYPES, PLAIN_CNN, RESNET, network_shape
from stages.models.architectures import CLASSIFIES_IMAGES
from stages.models.shape import config_of, shape_of, shape_of_network
from stages.specs.student import Network
from stages.specs.tasks import Task


def image_model(rows: TaskRows, network: Network | None, name: str, where: str) -> Model:
    """The ``network``, or else the model in the directory ``name``, which field ``where`` gives, for the images of
    ``rows``. Raises RequestError."""
    return _ImageModels(rows.context, rows.recipe.task, rows).given(network, name, where)


@dataclass(frozen=True)
class _ImageModels:
    """The models that read the images of one task."""

    context: GraphContext
    task: Task
    rows: TaskRows

    def given(self, network: Network | None, name: str, where: str) -> Model:
        """See ``image_model``."""
        if network is None:
            return self.context.image_model(name, where, lambda source: self._loaded(source, name))
        channels, height, width = self.rows.image_shape()
        with refused(where.removesuffix(".model").removesuffix(": model")):
            found = network_shape(
                network.family,
                network.depth,
                network.shortcut,
                network.stack,
                channels,
                self.task.outputs,
                (height, width),
            )
        kind = ModelKind(RESNET if network.family == "resnet" else PLAIN_CNN, None)
        return Model(NO_INPUT, NO_INPUT, shape_of_network(found), kind, FLOAT32_BYTES * found.parameters)

    def _loaded(self, source: ExternalInput, name: str) -> Model:
        """A model in a directory. Raises ValueError for one that does not read the images of the task."""
        config = config_of(source.path)
        kind = str(config["model_type"])
        channels, *size = self.rows.image_shape()
        if kind not in (*NETWORK_TYPES, *CLASSIFIES_IMAGES):
            raise ValueError(f"{name} ({kind}) reads no images; give a network, or a model that classifies images")
        own, reads = config.get("num_channels", 3), _image_size(config)
        if own != channels:
            raise ValueError(f"{name} reads images of {own} channels, those of {self.task.name} have {channels}")
        if reads is not None and list(reads) != size:
            raise ValueError(
                f"{name} reads images of {reads[0]} x {reads[1]}, those of {self.task.name} have {size[0]} x "
                f"{size[1]}; resize the images, or give another model"
            )
        identity = processor_identity(source.path, self.context.digests)
        processor = ExternalInput(identity, source.path, f"image processor of {name}")
        size_on_disk = sum(path.stat().st_size for path in source.path.glob("*.safetensors"))
        return Model(source, processor, shape_of(config, name), ModelKind(kind, None), size_on_disk)


def _image_size(config: Mapping[str, object]) -> tuple[int, int] | None:
    size = config.get("image_size")
    if isinstance(size, int):
        return size, size
    if isinstance(size, list | tuple) and len(size) == 2:
        return int(size[0]), int(size[1])
    return None

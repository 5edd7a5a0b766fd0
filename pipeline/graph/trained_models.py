"""The models that a training keeps: the final one, and those after its epochs."""

from dataclasses import replace

from pipeline.graph.context import Model
from pipeline.graph.nodes import MODEL, Edge, Node
from stages.models.shape import started_shape
from stages.specs.student import DistilSpec, Train


def epochs_kept(train: Train) -> int:
    """The number of models that a training keeps beside the best one."""
    return train.epochs if train.keep == "epochs" else 0


def trained_model(node: Node, base: Model) -> Model:
    """The final model of a training that starts from ``base``."""
    assert isinstance(node.spec, DistilSpec) and node.model_kind is not None
    shape = started_shape(node.spec.start, base.shape)
    return Model(Edge(node, MODEL), base.tokenizer, shape, node.model_kind, base.size, base.positions)


def after_epoch(model: Model, epoch: int) -> Model:
    """A trained model as it was after epoch ``epoch``."""
    assert isinstance(model.source, Edge)
    return replace(model, source=Edge(model.source.source, f"epochs/{epoch:02d}"))

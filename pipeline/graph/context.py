"""What the tasks of a recipe share while they are composed: models from outside, each looked at once; nodes by
name; rows by task."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from pipeline.errors import RequestError, refused
from pipeline.graph.external_inputs import (
    Digests,
    generating_identity,
    model_directory,
    model_identity,
    tokenizer_identity,
    weights,
)
from pipeline.graph.hub import Pins, fetched_model
from pipeline.graph.nodes import Edge, ExternalInput, Node
from pipeline.recipe import TaskRecipe
from stages.models.shape import Shape, config_of, shape_of


@dataclass(frozen=True, slots=True)
class Model:
    """A model that is, or will be: where it comes from, whose tokenizer it uses, how deep and wide it is."""

    source: Edge | ExternalInput
    tokenizer: ExternalInput
    shape: Shape
    size: int
    label_order: tuple[int, ...] | None = None


@dataclass
class GraphContext:
    """What composing a recipe shares between tasks. ``digests`` and ``pins`` are the storage's."""

    digests: Digests
    pins: Pins
    tasks: Mapping[str, TaskRecipe]
    models: dict[str, Model] = field(default_factory=dict)
    nodes: dict[str, Node] = field(default_factory=dict)
    rows: dict[str, Mapping[str, int]] = field(default_factory=dict)

    def outside(self, name: str, where: str) -> Model:
        """The model from outside behind a name, looked at once."""
        if name not in self.models:
            with refused(where):
                self.models[name] = self._outside(name, where)
        return self.models[name]

    def _outside(self, name: str, where: str) -> Model:
        source = self._found(name, where)
        directory = source.path
        return Model(
            source,
            ExternalInput(tokenizer_identity(directory, self.digests), directory, f"tokenizer of {name}"),
            shape_of(config_of(directory), name),
            sum(path.stat().st_size for path in weights(directory)),
        )

    def weights(self, name: str, where: str) -> ExternalInput:
        """A model from outside that is neither taught nor teaches: whatever its shape, and how it generates."""
        with refused(where):
            found = self._found(name, where)
            return replace(found, identity=generating_identity(found.identity, found.path))

    def _found(self, name: str, where: str) -> ExternalInput:
        directory = model_directory(name)
        if directory is None:
            if Path(name).is_absolute() or name.startswith(".") or name.count("/") > 1:
                raise RequestError(
                    f"{where}: {name} holds no config.json; name a model directory, or a model on the hub"
                )
            directory = fetched_model(name, self.pins.commit(name, "model", where), where)
        return ExternalInput(model_identity(directory, self.digests), directory, name)

    def once(self, name: str, make: Callable[[], Node]) -> Node:
        """The node of that name, made on first use."""
        if name not in self.nodes:
            self.nodes[name] = make()
        return self.nodes[name]

"""What the tasks of a recipe share while its graph is built: external models, nodes by name, row counts by task."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path

from pipeline.errors import RequestError, refused
from pipeline.graph.external.digests import Digests
from pipeline.graph.external.hub import Pins, download_model
from pipeline.graph.external.inputs import (
    generating_identity,
    model_directory,
    model_identity,
    tokenizer_identity,
    weight_files,
)
from pipeline.graph.external.model_configs import Changes, check_changes, check_classifier, check_config, check_rewriter
from pipeline.graph.nodes import Edge, ExternalInput, ModelKind, Node, SplitSizes
from pipeline.recipe import TaskRecipe
from stages.models.config_fields import with_defaults
from stages.models.heads import head_of
from stages.models.parameters import parameter_bound
from stages.models.positions import position_limit
from stages.models.shape import Shape, config_of, shape_of, started_shape
from stages.models.weights_header import check_shapes, check_token_count, weight_shapes
from stages.specs.corpus import Source
from stages.specs.student import Bilstm, Cut, Fresh, Network, Start

FLOAT32_BYTES = 4

LEAST_LENGTH = 4
"""The fewest tokens that a recipe may cut rows to (train.max_length, bank.max_length)."""


@dataclass(frozen=True, slots=True)
class Model:
    """A model, external or to be trained: its source, tokenizer, shape and kind. ``size`` is the bytes of its weights;
    ``positions`` the most tokens that it reads, None for no bound; ``label_order`` maps the task's labels to its
    outputs, None if they agree."""

    source: Edge | ExternalInput
    tokenizer: ExternalInput
    shape: Shape
    kind: ModelKind
    size: int
    positions: int | None = None
    label_order: tuple[int, ...] | None = None


def float32_bytes(model: Model) -> int:
    """The bytes of a model's weights in memory, where they are float32 whatever its files have."""
    if not isinstance(model.source, ExternalInput):
        return model.size
    return FLOAT32_BYTES * sum(prod(shape) for shape in weight_shapes(model.source.path).values()) or model.size


def uncut_bytes(base: Model, start: Start) -> int:
    """A bound on the bytes of the float32 weights of a model that starts from ``base`` as ``start`` says: those of all
    its layers, also of those that it leaves out. The size of a model with random weights is its own, not that of the
    files of its source."""
    return base.size if isinstance(start, Fresh | Bilstm | Network) else float32_bytes(base)


def started_bytes(base: Model, start: Start) -> int:
    """About the bytes of the float32 weights of a model that starts from ``base`` as ``start`` says: those of its base
    without the layers that it leaves out, each of which has 12 times the square of its width in weights (four
    projections of attention, and a feed-forward network of four times the width)."""
    left_out = base.shape.layers - started_shape(start, base.shape).layers if isinstance(start, Cut) else 0
    return max(uncut_bytes(base, start) - left_out * 12 * base.shape.width**2 * FLOAT32_BYTES, 0)


def check_length(model: Model, what: str, field: str, longest: int) -> None:
    """Raise RequestError for a model that does not read as many tokens as ``field`` allows. ``what`` names it."""
    most = model.positions
    if most is not None and most < LEAST_LENGTH:
        raise RequestError(
            f"{field}: {longest}, but {what} reads at most {most} tokens, and a row has {LEAST_LENGTH} or more; give "
            "the model more positions (max_position_embeddings)"
        )
    if most is not None and longest > most:
        raise RequestError(f"{field}: {longest}, but {what} reads at most {most} tokens; give {most} or less")


@dataclass
class GraphContext:
    """Shared state of building a graph. ``digests`` and ``pins`` are kept in the storage; ``tasks`` has the recipe of
    each task by name; ``reads_data`` says whether data of tasks that are not known yet are read. ``models``,
    ``classifiers``, ``fresh_models``, ``masked_models`` (by task and name), ``nodes``, ``sources`` (of a task's rows,
    with the file of each split), ``sizes`` (rows by split) and ``image_shapes`` (by task) hold what has been built or
    checked so far. ``warnings`` are lines for the user about things that are allowed, but probably unintended."""

    digests: Digests
    pins: Pins
    tasks: Mapping[str, TaskRecipe]
    reads_data: bool = True
    models: dict[str, Model] = field(default_factory=dict)
    classifiers: set[str] = field(default_factory=set)
    fresh_models: dict[tuple[str, Changes, bool], Model] = field(default_factory=dict)
    masked_models: dict[tuple[str, str], Model] = field(default_factory=dict)
    nodes: dict[str, Node] = field(default_factory=dict)
    sources: dict[str, tuple[Source, Mapping[str, Path]]] = field(default_factory=dict)
    sizes: dict[str, SplitSizes | None] = field(default_factory=dict)
    image_shapes: dict[str, tuple[int, int, int] | None] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def warn(self, line: str) -> None:
        """Add a line to the warnings, unless it is there already."""
        if line not in self.warnings:
            self.warnings.append(line)

    def external_model(self, name: str, where: str) -> Model:
        """The external model that a recipe names in field ``where``; read once. Raises RequestError."""
        if name not in self.models:
            with refused(where):
                self.models[name] = self._load_model(name, where)
        return self.models[name]

    def _load_model(self, name: str, where: str) -> Model:
        source = self._external_input(name, where)
        directory = source.path
        config = config_of(directory)
        return Model(
            source,
            ExternalInput(tokenizer_identity(directory, self.digests), directory, f"tokenizer of {name}"),
            shape_of(config, name),
            ModelKind(str(config["model_type"]), head_of(config)),
            sum(path.stat().st_size for path in weight_files(directory)),
            position_limit(config),
        )

    def classifier(self, name: str, where: str) -> Model:
        """As ``external_model``, for a model that is to get a classification head or has one. Raises RequestError."""
        found = self.external_model(name, where)
        if name not in self.classifiers:
            assert isinstance(found.source, ExternalInput)
            with refused(where):
                check_classifier(config_of(found.source.path), name)
            self.classifiers.add(name)
        return found

    def fresh_model(self, name: str, changes: Changes, pairs: bool, where: str) -> Model:
        """The external model that field ``where`` names, for a student that takes its configuration with ``changes``,
        and its tokenizer. The size and the positions are the student's; ``pairs`` is whether the rows of its task are
        pairs of texts. Raises RequestError."""
        found = self.classifier(name, f"{where}: config.model")
        if (name, changes, pairs) not in self.fresh_models:
            assert isinstance(found.source, ExternalInput)
            config, changed = config_of(found.source.path), dict(changes)
            with refused(where):
                check_changes(config, changed, found.source.path, pairs)
            size = FLOAT32_BYTES * parameter_bound(with_defaults(config, changed))
            positions = position_limit({**config, **changed})
            kind = replace(found.kind, head=head_of({**config, **changed}))
            self.fresh_models[name, changes, pairs] = replace(found, size=size, positions=positions, kind=kind)
        return self.fresh_models[name, changes, pairs]

    def image_model(self, name: str, where: str, load: Callable[[ExternalInput], Model]) -> Model:
        """An external model of images that a recipe names in field ``where``, as ``load`` reads it from its directory;
        read once. Raises RequestError."""
        if name not in self.models:
            with refused(where):
                self.models[name] = load(self._external_input(name, where))
        return self.models[name]

    def rewriting_model(self, name: str, by: str, where: str) -> ExternalInput:
        """An external model that rewrites texts in the way ``by``: of any shape, identified with its settings for
        generation. Raises RequestError."""
        with refused(where):
            found = self._external_input(name, where)
            check_rewriter(by, str(config_of(found.path)["model_type"]), weight_shapes(found.path), name)
            return replace(found, identity=generating_identity(found.identity, found.path))

    def _external_input(self, name: str, where: str) -> ExternalInput:
        with refused(where):
            directory = model_directory(name)
        if directory is None:
            if Path(name).is_absolute() or name.startswith(".") or name.count("/") > 1:
                raise RequestError(
                    f"{where}: {name} has no config.json; give a model directory, or the name of a model on the hub"
                )
            directory = download_model(name, self.pins.commit(name, "model", where), where)
        identity = model_identity(directory, self.digests)
        with refused(where):
            self._check_files(directory, name)
        return ExternalInput(identity, directory, name)

    def _check_files(self, directory: Path, name: str) -> None:
        """Raise ValueError if the configuration, the weights and the tokenizer of a model are damaged, or do not fit
        each other. The weights' values are not read."""
        config, tokenizer = config_of(directory), directory / "tokenizer.json"
        check_config(config, name)
        check_shapes(weight_shapes(directory), config, str(directory))
        if tokenizer.exists():
            check_token_count(self.digests.token_count(tokenizer), config, tokenizer)

    def get_or_create(self, name: str, make: Callable[[], Node]) -> Node:
        """The node called ``name``, made by ``make`` on first use."""
        if name not in self.nodes:
            self.nodes[name] = make()
        return self.nodes[name]

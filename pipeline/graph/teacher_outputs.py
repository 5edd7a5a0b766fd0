"""Nodes for the outputs of models on a task's rows: teacher-output stores, calibrations, probes, evaluations."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from pipeline.errors import refused
from pipeline.graph.artifact_sizes import outputs_of_row, store_bytes
from pipeline.graph.context import Model
from pipeline.graph.external.model_configs import check_scores
from pipeline.graph.nodes import Edge, ExternalInput, Node, Quantity, ReportedModel, ScoreGate
from pipeline.graph.starting_points import StartingPoints
from pipeline.recipe import TEACHER, Reference, TaskRecipe
from pipeline.recipe.references import training_of
from stages.outputs.sizes import Extent, chosen_layers, present_layers, row_bytes
from stages.specs.axes.structures import LayerStructure
from stages.specs.evaluation import EnsembleSpec, EvaluateSpec
from stages.specs.input_names import MEMBERS, numbered
from stages.specs.layer_map import teacher_layers
from stages.specs.layers import EveryToken
from stages.specs.teacher import CalibrateSpec, ProbeSpec, TeachSpec

WantedLayers = Literal["all"] | tuple[int, ...]


@dataclass(frozen=True)
class ModelOutputs:
    """The stores, calibrations, probes and evaluations of one task. ``name`` is what the names of a model's nodes
    contain."""

    starting_points: StartingPoints

    # --- stores ---

    def store(self, name: str, model: Model) -> Node:
        """The store of a model's outputs on the task's train split: logits and pooled states."""
        return self._store(name, model, "pooled", self.layers(name, model))

    def layers(self, name: str, model: Model) -> WantedLayers:
        """The layers in a model's store: those of ``store.layers``, but of a model other than the teacher only those
        that it has, and of a BiLSTM none."""
        if not model.shape.layers:
            return ()
        wanted = self.starting_points.recipe.store.layers
        return wanted if name.partition(":")[0] == TEACHER else present_layers(wanted, model.shape.layers)

    def extra_stores(self) -> Iterator[Node]:
        """Stores of the teacher's tokens and attention scores, where the recipe wants them for any use."""
        block = self.starting_points.recipe.store
        for part, layers in (("tokens", block.tokens), ("scores", block.attention)):
            if layers is not None:
                yield self._store(TEACHER, self.starting_points.teacher(), part, layers)

    def every_token(self, name: str, model: Model, structure: EveryToken) -> dict[str, Node]:
        """Part -> the store of a model's states, or of its attention scores, at every token, for a resolved structure.
        It holds the layers that are needed, unless the recipe has a store of the teacher's with these and others."""
        block, found = self.starting_points.recipe.store, {}
        needed = {"tokens": teacher_layers(structure.layer_groups()), "scores": structure.score_layers}
        for part, layers in needed.items():
            given = {"tokens": block.tokens, "scores": block.attention}[part] if name == TEACHER else None
            if given is not None and set(layers) <= set(chosen_layers(given, model.shape.layers, part)):
                found[part] = self._store(name, model, part, given)
            elif layers:
                found[part] = self._store(name, model, part, layers, ":" + "+".join(map(str, layers)))
        return found

    def _store(self, name: str, model: Model, part: str, wanted: WantedLayers, which: str = "") -> Node:
        """The store of a part of a model's outputs. ``which`` tells it from other stores of this part."""
        starting_points, block = self.starting_points, self.starting_points.recipe.store
        full = self._node_name({"pooled": "teach", "scores": "attention"}.get(part, part) + which, name)
        if full in starting_points.context.nodes:
            return starting_points.context.nodes[full]
        corpus = starting_points.corpus(model.tokenizer)
        # int8 scales each dimension of a state; attention scores have no such dimensions.
        precision = "float16" if part == "scores" and block.precision == "int8" else block.precision
        with refused(f"task {starting_points.task}"):
            layers = chosen_layers(wanted, model.shape.layers, part)
            if part == "scores":
                check_scores(model.kind.architecture, "store.attention", "leave it out")
            spec = block.as_spec(
                TeachSpec,
                part=part,
                pooling=block.pooling if part == "pooled" else "mean",
                layers=wanted,
                precision=precision,
                label_order=model.label_order if part == "pooled" else None,
            )
        shape, rows = model.shape, starting_points.rows.distinct()
        extent = Extent(
            len(layers),
            shape.width,
            outputs_of_row(starting_points.recipe),
            shape.heads,
            starting_points.recipe.max_length,
        )
        known = None if rows.value is None else store_bytes(spec, extent, rows.value)
        size = Quantity.unknown(corpus.name) if known is None else Quantity.at_most(known)
        inputs = {"corpus": Edge(corpus), "model": model.source}
        gate, task = self.gate(name), starting_points.task
        return starting_points.context.get_or_create(
            full, lambda: Node(full, "teach", task, spec, inputs, rows=rows, bytes=size, extent=extent, gate=gate)
        )

    def gate(self, name: str) -> ScoreGate | None:
        """What the recipe's teacher must score before its outputs, or those of one of its epochs, are computed; None
        for other models, and where the recipe has no ``teacher.least``."""
        recipe = self.starting_points.recipe
        if recipe.teacher.least is None or name.partition(":")[0] != TEACHER:
            return None
        subject = reported_model(recipe, Reference(name=TEACHER))
        evaluation = self.evaluation(TEACHER, self.starting_points.teacher(), subject)
        task = recipe.task
        return ScoreGate(evaluation, subject.student, task.primary, task.dev_splits, recipe.teacher.least)

    def _node_name(self, stage: str, name: str) -> str:
        return (
            f"{stage}@{self.starting_points.task}" if name == TEACHER else f"{stage}/{name}@{self.starting_points.task}"
        )

    # --- calibrations ---

    def calibration(self, name: str, model: Model) -> Node:
        """The temperature of a model on the task's held-out rows."""
        starting_points, full = self.starting_points, self._node_name("calibrate", name)
        if name.partition(":")[0] == TEACHER and starting_points.recipe.teacher.finetune is None:
            starting_points.context.warn(
                f"task {starting_points.task}: targets.calibrated: true, but teacher.model is given fine-tuned; if it "
                "was trained on the rows that are held out here, its temperature comes out too low"
            )
        spec = CalibrateSpec(compute=starting_points.recipe.store.compute, label_order=model.label_order)
        inputs = {"corpus": Edge(starting_points.corpus(model.tokenizer)), "model": model.source}
        rows, gate, task = starting_points.rows.held_out(), self.gate(name), starting_points.task
        return starting_points.context.get_or_create(
            full, lambda: Node(full, "teach", task, spec, inputs, rows=rows, gate=gate)
        )

    # --- probes ---

    def probe(self, name: str, model: Model, structure: LayerStructure) -> Node:
        """Linear classifiers on those layers of a model that ``structure`` names, and their outputs."""
        store, layers = self.store(name, model), teacher_layers(structure.layer_groups())
        spec = ProbeSpec(layers=layers, pooling=structure.stored_pooling)
        # The name says which layers and pooling, unless it is all layers with the recipe's pooling.
        usual = layers == tuple(range(1, model.shape.layers + 1))
        which = [] if usual else ["+".join(map(str, layers))]
        which += (
            ["cls"] if self.starting_points.recipe.store.pooling == "both" and structure.stored_pooling == "cls" else []
        )
        full = self._node_name(":".join(("probe", *which)), name)
        outputs, rows = self.starting_points.recipe.task.outputs, store.rows
        each = row_bytes(len(layers), outputs, outputs, "float32")
        size = Quantity.unknown(rows.until) if rows.value is None else Quantity.at_most(rows.value * each)
        inputs = {"corpus": store.inputs["corpus"], "outputs": Edge(store)}
        return self.starting_points.context.get_or_create(
            full, lambda: Node(full, "teach", self.starting_points.task, spec, inputs, rows=rows, bytes=size)
        )

    # --- evaluations ---

    def evaluation(self, name: str, model: Model, subject: ReportedModel) -> Node:
        """The scores of a model on the dev and test splits."""
        full = f"evaluate/{name}@{self.starting_points.task}"
        inputs = {"corpus": Edge(self.starting_points.corpus(model.tokenizer)), "model": model.source}
        spec, rows = EvaluateSpec(label_order=model.label_order), self.starting_points.rows.evaluated()
        task, kind = self.starting_points.task, model.kind
        return self.starting_points.context.get_or_create(
            full, lambda: Node(full, "evaluate", task, spec, inputs, subject, rows=rows, model_kind=kind)
        )

    def ensemble(self, name: str, members: Sequence[Node], shares: tuple[float, ...] | None) -> Node:
        """The scores of an ensemble, computed from the evaluations of its ``members``. ``shares``: their weights."""
        full = f"ensemble/{name}@{self.starting_points.task}"
        # The members' corpora may be tokenised differently; their rows and labels are the same.
        inputs: dict[str, Edge | ExternalInput] = {"corpus": members[0].inputs["corpus"]}
        inputs |= numbered(MEMBERS, map(Edge, members))
        spec, subject = EnsembleSpec(shares=shares), ReportedModel(f"model:{name}", name, 0)
        rows = self.starting_points.rows.evaluated()
        return Node(full, "evaluate", self.starting_points.task, spec, inputs, subject, rows=rows)


def reported_model(recipe: TaskRecipe, reference: Reference) -> ReportedModel:
    """The method, student and seed under which a report lists the teacher or a further model."""
    train = training_of(recipe, reference.name)
    student = recipe.teacher.model.rsplit("/", 1)[-1] if reference.name == TEACHER else reference.name
    method = TEACHER if reference == Reference(name=TEACHER) else f"model:{reference}"
    return ReportedModel(method, student, train.seed if train else 0)

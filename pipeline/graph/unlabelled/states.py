"""Nodes of general distillation: models that are trained on the bank's or a task's texts to give the pooled states that
their teacher gives.

The texts are tokenised once for each tokenizer, and a teacher's states are stored once, for all models that follow it.
Student and teacher may have different tokenizers, since rows are joined by their texts.
"""

from dataclasses import dataclass, replace

from pipeline.errors import RequestError, bounded, refused
from pipeline.graph.artifact_sizes import store_bytes, tokenised_bytes
from pipeline.graph.context import GraphContext, Model, check_length, started_bytes, uncut_bytes
from pipeline.graph.external.model_configs import check_classifier
from pipeline.graph.nodes import MODEL, Edge, ExternalInput, HeldModels, Node, Quantity
from pipeline.graph.unlabelled.pretraining import (
    FILE_BYTES,
    Texts,
    depends_on_task,
    entry_node,
    trained_texts,
    used_texts,
    warn_of_large_batch,
    without_classifier,
)
from pipeline.recipe import MaskedModel
from pipeline.recipe.reference import BASE, TEACHER
from pipeline.recipe.schema.file import StoreSettings
from stages.models.architectures import WITHOUT_TOKEN_STATES
from stages.models.shape import started_shape
from stages.outputs.sizes import Extent, chosen_layers, present_layers
from stages.specs.pretraining import PooledStates, TextsSpec
from stages.specs.student import Start
from stages.specs.tasks import HOLDOUT, TRAIN
from stages.specs.teacher import TeachSpec


@dataclass(frozen=True)
class StateTeacher:
    """A model whose states are followed: the ``name`` by which the recipe calls it, and the texts for its tokenizer."""

    name: str
    model: Model
    texts: Texts


def state_student(
    context: GraphContext,
    given: MaskedModel,
    base: Model,
    start: Start,
    texts: Texts,
    teacher: StateTeacher,
    stored: StoreSettings,
    task: str,
) -> Model:
    """The model of an entry of ``models`` with ``states``, which starts from ``base`` changed as ``start`` says.
    ``task`` is the task for which it is wanted. Raises RequestError for models that do not read as many tokens as texts
    may have or have no state for each token, and for layers that one of them or the store lacks."""
    where = f"models.{given.name}.pretrain"
    for model, what in ((base, f"the model of models.{given.name}"), (teacher.model, f"{where}.taught_by")):
        check_states(model, what)
        check_length(model, what, f"{where}.max_length", given.spec.max_length)
    shape = started_shape(start, base.shape)
    layers = _stored_layers(teacher, stored, f"{where}.taught_by: {teacher.name}")
    states = _resolved(given, shape.layers, teacher, layers, stored, where)
    spec = given.spec.model_copy(update={"start": start, "states": states})
    warn_of_large_batch(context, spec, texts, where)
    inputs = {
        "start": base.source,
        "texts": Edge(tokenised(context, spec.texts, texts, base.tokenizer, task)),
        "outputs": Edge(state_store(context, spec.texts, teacher, layers, stored, task)),
    }
    size = uncut_bytes(base, start)
    node = Node(
        f"pretrain/{given.name}",
        "pretrain",
        "",
        spec,
        inputs,
        rows=trained_texts(spec, texts.rows),
        bytes=Quantity.at_most(size + FILE_BYTES),
        held=HeldModels(started_bytes(base, start)),
    )
    found = entry_node(context, node, task)
    return Model(Edge(found, MODEL), base.tokenizer, shape, without_classifier(base.kind), size, base.positions)


def check_states(model: Model, what: str) -> None:
    """Raise RequestError for a model whose layers have no state for each token of a text."""
    architecture = model.kind.architecture
    with refused(what):
        check_classifier({"model_type": architecture}, what)
    if architecture in WITHOUT_TOKEN_STATES or not model.shape.layers:
        reason = WITHOUT_TOKEN_STATES.get(architecture, "has no layers")
        raise RequestError(f"{what}: {architecture} {reason}, so that its states cannot be compared; name an encoder")


def _stored_layers(teacher: StateTeacher, stored: StoreSettings, where: str) -> tuple[int, ...]:
    """The layers in the store of a teacher's states: those of ``store.layers``, but of a model other than the recipe's
    teacher only those that it has."""
    depth = teacher.model.shape.layers
    wanted = stored.layers if teacher.name in (TEACHER, BASE) else present_layers(stored.layers, depth)
    with refused(where):
        return chosen_layers(wanted, depth)


def _resolved(
    given: MaskedModel,
    own: int,
    teacher: StateTeacher,
    layers: tuple[int, ...],
    stored: StoreSettings,
    where: str,
) -> PooledStates:
    """The states to follow with the layers written out. ``own`` is the student's depth, ``layers`` are those that the
    store has. Raises RequestError for a layer that a model or the store lacks."""
    assert given.states is not None
    try:
        states = given.states.resolved(own, teacher.model.shape.layers, given.spec.seed)
        states.check_store(layers, stored.pooling)
    except ValueError as error:  # whose message begins with the key of a method, structure
        raise RequestError(f"{where}.states{bounded(str(error)).removeprefix('structure')}") from error
    return states


def tokenised(context: GraphContext, spec: TextsSpec, texts: Texts, tokenizer: ExternalInput, task: str) -> Node:
    """The node of the texts as tokens: one for a bank (or a task) and a tokenizer."""
    name = f"texts/{'bank' if texts.name == 'bank' else TRAIN}"
    rows = used_texts(spec, texts.rows)
    size = Quantity.unknown(texts.node.name)
    if rows.value is not None:
        known = texts.node.bytes.value if texts.name == "bank" else None
        size = Quantity.about(tokenised_bytes(rows.value, spec.max_length, known, texts.rows.value))
    inputs: dict[str, Edge | ExternalInput] = {"tokenizer": tokenizer, texts.name: Edge(texts.node)}
    return _shared(context, Node(name, "corpus", "", spec, inputs, rows=rows, bytes=size), task)


def state_store(
    context: GraphContext,
    spec: TextsSpec,
    teacher: StateTeacher,
    layers: tuple[int, ...],
    stored: StoreSettings,
    task: str,
) -> Node:
    """The node of a teacher's states for the texts, without logits."""
    model = teacher.model
    corpus = tokenised(context, spec, teacher.texts, model.tokenizer, task)
    whole = layers == chosen_layers("all", model.shape.layers)
    teach = stored.as_spec(TeachSpec, layers="all" if whole else layers, splits=(TRAIN, HOLDOUT), logits=False)
    extent = Extent(len(layers), model.shape.width, 0, model.shape.heads)
    known = corpus.rows.value
    size = Quantity.unknown(corpus.name) if known is None else Quantity.at_most(store_bytes(teach, extent, known))
    label = teacher.name.rstrip("/").rsplit("/", 1)[-1]
    name = f"teach/{label}:{corpus.name.partition('/')[2].partition('@')[0]}"  # such as teach/base:bank
    inputs = {"corpus": Edge(corpus), "model": model.source}
    return _shared(context, Node(name, "teach", "", teach, inputs, rows=corpus.rows, bytes=size, extent=extent), task)


def _shared(context: GraphContext, node: Node, task: str) -> Node:
    """``node``, or the node that has its name and key already. Its name gets the suffix of ``task`` if it depends on
    one, and before it digits of its key if a node of another key has its name."""
    own = depends_on_task(node)
    for name in (node.name, f"{node.name}:{node.key[:8]}"):
        one = replace(node, name=f"{name}@{task}", task=task) if own else replace(node, name=name)
        found = context.nodes.setdefault(one.name, one)
        if found.key == node.key:
            return found
    raise AssertionError("a name with digits of the key is that of one node")

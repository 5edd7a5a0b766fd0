"""Nodes of masked language models: encoders that are trained to predict tokens of the bank's or a task's texts.

One that is trained on the bank, and does not start from a model of a task, is shared by all tasks of a recipe. So are
those that follow states (``states.py``).
"""

from dataclasses import dataclass, replace

from pipeline.errors import RequestError, refused
from pipeline.graph.context import (
    FLOAT32_BYTES,
    GraphContext,
    Model,
    check_length,
    float32_bytes,
    started_bytes,
    uncut_bytes,
)
from pipeline.graph.external.model_configs import is_masked_model
from pipeline.graph.nodes import MODEL, Edge, ExternalInput, HeldModels, ModelKind, Node, Quantity
from pipeline.recipe import MaskedModel
from stages.models.architectures import WITHOUT_TOKEN_STATES
from stages.models.config_fields import library, predicts_masked_words
from stages.models.embeddings.vocabulary import vocabulary_difference
from stages.models.heads import head_of, is_own_class
from stages.models.shape import config_of, started_shape
from stages.models.weights_header import lacks_mask_token, weight_shapes
from stages.specs.pretraining import PretrainSpec, TextsSpec
from stages.specs.student import Start

FILE_BYTES = 2_000_000
"""A bound on the bytes of a masked language model's artifact beside its weights: tokenizer, history, curves, card."""


@dataclass(frozen=True)
class Texts:
    """The texts of a pretraining: the name of the input, the node that holds them, and how many they are."""

    name: str
    node: Node
    rows: Quantity


def masked_model(
    context: GraphContext,
    masked: MaskedModel,
    base: Model,
    start: Start,
    texts: Texts,
    task: str,
    teacher: Model | None = None,
) -> Model:
    """The masked language model of an entry of ``models``, which starts from ``base`` changed as ``start`` says, and is
    taught by ``teacher`` if there is one. ``task`` is the task for which it is wanted. Raises RequestError."""
    where = f"models.{masked.name}.pretrain"
    _check_start(base, masked.name, where)
    check_length(base, f"the model of models.{masked.name}", f"{where}.max_length", masked.spec.max_length)
    spec = masked.spec.model_copy(update={"start": start})
    shape, kind = started_shape(start, base.shape), without_classifier(base.kind)
    if teacher is not None:
        check_length(teacher, f"the model of {where}.taught_by", f"{where}.max_length", spec.max_length)
        _check_teacher(teacher, base, shape.width, spec, f"{where}.taught_by: {masked.taught_by}")
    warn_of_large_batch(context, spec, texts, where)
    size = uncut_bytes(base, start) + _head_bytes(base)
    node = _node(context, masked.name, spec, base, texts, size, task, teacher)
    return Model(Edge(node, MODEL), base.tokenizer, shape, kind, size, base.positions)


def depends_on_task(node: Node) -> bool:
    """Whether an input of ``node`` belongs to a task."""
    return any(source.task for source in node.sources)


def entry_node(context: GraphContext, shared: Node, task: str) -> Node:
    """The node of an entry of ``models``: ``shared`` by all tasks, or with the suffix of the task for which it is
    wanted where it depends on one, or where overrides give the task another model of its name."""
    of_task = replace(shared, name=f"{shared.name}@{task}", task=task)
    if depends_on_task(shared):
        return context.get_or_create(of_task.name, lambda: of_task)
    found = context.get_or_create(shared.name, lambda: shared)
    return found if found.key == shared.key else context.get_or_create(of_task.name, lambda: of_task)


def trained_texts(spec: PretrainSpec, texts: Quantity) -> Quantity:
    """The number of texts that are trained on, of so many distinct texts."""
    return texts if texts.value is None else replace(texts, value=spec.texts_of(texts.value)[0])


def used_texts(spec: TextsSpec, texts: Quantity) -> Quantity:
    """The number of texts that are used, of so many distinct texts: those that are trained on and those held out."""
    return texts if texts.value is None else replace(texts, value=sum(spec.texts_of(texts.value)))


def _node(
    context: GraphContext,
    name: str,
    spec: PretrainSpec,
    base: Model,
    texts: Texts,
    size: int,
    task: str,
    teacher: Model | None,
) -> Node:
    inputs: dict[str, Edge | ExternalInput] = {
        "start": base.source,
        "tokenizer": base.tokenizer,
        texts.name: Edge(texts.node),
    }
    if teacher is not None:
        inputs["teacher"] = teacher.source
    rows, most = trained_texts(spec, texts.rows), Quantity.at_most(size + FILE_BYTES)
    student = started_bytes(base, spec.start) + _head_bytes(base)
    held = HeldModels(student, 0 if teacher is None else float32_bytes(teacher))
    return entry_node(
        context, Node(f"pretrain/{name}", "pretrain", "", spec, inputs, rows=rows, bytes=most, held=held), task
    )


def _check_start(base: Model, name: str, where: str) -> None:
    """Raise RequestError for a model that cannot become a masked language model."""
    architecture = base.kind.architecture
    if not predicts_masked_words(architecture) or architecture in WITHOUT_TOKEN_STATES:
        raise RequestError(
            f"{where}: {library()} has no masked language model of the architecture {architecture} whose encoder has a "
            f"state for each token; start models.{name} from an encoder, such as bert-base-uncased"
        )
    with refused(where):
        lacks = lacks_mask_token(base.tokenizer.path)
    if lacks:
        raise RequestError(
            f"{where}: the {base.tokenizer.about} has no mask token; start models.{name} from a model whose tokenizer "
            "has one (mask_token in its tokenizer_config.json)"
        )


def _check_teacher(teacher: Model, base: Model, width: int, spec: PretrainSpec, where: str) -> None:
    """Raise RequestError for a model that cannot teach a masked language model of this width with the tokenizer of
    ``base``: one without a head that predicts tokens, with another vocabulary, or with states of another width where
    these are compared. ``where`` names the field and its value."""
    if isinstance(teacher.source, ExternalInput):
        with refused(where):
            predicts = is_masked_model(teacher.kind.architecture, weight_shapes(teacher.source.path))
        if not predicts:
            raise RequestError(
                f"{where}, which has no head that predicts masked tokens; name a masked language model, or give an "
                "entry of models pretrain, and name that"
            )
    difference = None
    if teacher.tokenizer.identity != base.tokenizer.identity:
        with refused(where):
            difference = vocabulary_difference(base.tokenizer.path, teacher.tokenizer.path)
    if difference is not None:
        raise RequestError(
            f"{where}, whose vocabulary is another ({difference}); name a model with the same vocabulary"
        )
    assert spec.distillation is not None
    if spec.distillation.cosine and teacher.shape.width != width:
        raise RequestError(
            f"{where}, whose states are {teacher.shape.width} wide and the student's {width}, so that they have no "
            "cosine; give distillation: {cosine: 0}, or models of one width"
        )


def warn_of_large_batch(context: GraphContext, spec: PretrainSpec, texts: Texts, where: str) -> None:
    """Add a warning if one batch holds all texts, so that an epoch is a single step."""
    rows = trained_texts(spec, texts.rows).value
    if rows is not None and 0 < rows < spec.batch_size:
        context.warn(
            f"{where}.batch_size: {spec.batch_size}, but {rows} texts are trained on, so that an epoch is one step; "
            "give a smaller batch"
        )


def _head_bytes(base: Model) -> int:
    """A bound on the bytes of a head that predicts tokens, beside the word embeddings to which it is tied."""
    width = base.shape.width
    tokens = config_of(base.tokenizer.path).get("vocab_size")
    return FLOAT32_BYTES * (2 * width * width + 8 * width + (tokens if isinstance(tokens, int) else 0))


def without_classifier(kind: ModelKind) -> ModelKind:
    """The kind of a model whose classification head is taken off: a classifier made of it has the architecture's own
    head."""
    own = is_own_class(kind.architecture, kind.head)
    return replace(kind, head=head_of({"model_type": kind.architecture})) if own else kind

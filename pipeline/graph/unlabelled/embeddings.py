"""Nodes of sentence encoders that follow the sentence embeddings of another one on the bank's texts.

As in general distillation (``states.py``), the texts are tokenised once for each tokenizer, and the teacher's
embeddings are stored once for all students.
"""

from dataclasses import dataclass

from pipeline.errors import RequestError, refused
from pipeline.graph.context import GraphContext, Model, check_length, started_bytes, uncut_bytes
from pipeline.graph.nodes import MODEL, Edge, ExternalInput, HeldModels, Node, Quantity, ReportedModel
from pipeline.graph.unlabelled.pretraining import FILE_BYTES, Texts, trained_texts, warn_of_large_batch
from pipeline.graph.unlabelled.states import StateTeacher, check_states, state_store, tokenised
from pipeline.recipe import MethodUse, Student
from pipeline.recipe.schema.file import StoreSettings
from stages.models.sentences import SentenceModules, sentence_modules
from stages.models.shape import Shape, started_shape
from stages.specs.pretraining import PretrainSpec, SentenceEmbedding
from stages.specs.student import Start


@dataclass(frozen=True)
class EmbeddingTeacher:
    """A sentence encoder whose embeddings are followed, with the texts for its tokenizer and what its files say of what
    comes after its last layer."""

    followed: StateTeacher
    modules: SentenceModules

    @property
    def model(self) -> Model:
        return self.followed.model


@dataclass(frozen=True)
class EmbeddingStart:
    """What a student starts from: a ``base``, changed as ``start`` says, and the texts for its tokenizer."""

    base: Model
    start: Start
    texts: Texts


def modules_of(model: Model, stored: StoreSettings, where: str) -> SentenceModules:
    """What comes after the last layer of a teacher. Its files decide; of a model whose files name no pooling,
    ``store.pooling`` does. Raises RequestError for modules that are not supported, and for a linear map, behind which
    nothing is stored."""
    assert isinstance(model.source, ExternalInput)
    with refused(where):
        found = sentence_modules(model.source.path, "cls" if stored.pooling == "cls" else "mean")
    if found.dense is not None:
        raise RequestError(
            f"{where}: {model.source.about} has a linear map after its pooling ({found.dense.name}), and embeddings "
            "are stored as they are before it; name a sentence encoder without one"
        )
    return found


def embedding_student(
    context: GraphContext,
    name: str,
    task: str,
    use: MethodUse,
    student: Student,
    given: EmbeddingStart,
    teacher: EmbeddingTeacher,
    stored: StoreSettings,
    max_length: int,
    seed: int,
) -> Node:
    """The training ``name`` of a student by a method with a seed. Raises RequestError for models that do not read as
    many tokens as texts may have or have no state for each token, and for widths that need a projection."""
    where, base, followed = f"student {student.label}", given.base, teacher.followed
    for model, what in ((base, where), (teacher.model, f"the teacher {followed.name}")):
        check_states(model, what)
        check_length(model, what, "train.max_length", max_length)
    shape = started_shape(given.start, base.shape)
    assert use.embedding is not None
    embedding = use.embedding.model_copy(
        update={
            "pooling": teacher.modules.pooling,
            "normalize": teacher.modules.normalize,
            "layer": teacher.model.shape.layers,
        }
    )
    _check_widths(task, use, student, shape, teacher.model.shape, embedding)
    optimisation = {key: value for key, value in use.train if key in PretrainSpec.model_fields}
    changed = {"start": given.start, "embedding": embedding, "max_length": max_length, "seed": seed}
    spec = PretrainSpec.model_validate({**optimisation, **changed})
    warn_of_large_batch(context, spec, given.texts, f"task {task}: train")
    layers, pooled = (embedding.layer,), stored.pooling if stored.pooling == "both" else embedding.pooling
    store = state_store(context, spec.texts, followed, layers, stored.model_copy(update={"pooling": pooled}), task)
    inputs: dict[str, Edge | ExternalInput] = {
        "start": base.source,
        "texts": Edge(tokenised(context, spec.texts, given.texts, base.tokenizer, task)),
        "outputs": Edge(store),
    }
    projection = shape.width * teacher.model.shape.width * 4 if embedding.projection != "none" else 0
    return Node(
        name,
        "pretrain",
        task,
        spec,
        inputs,
        ReportedModel(use.label, student.label, seed),
        rows=trained_texts(spec, given.texts.rows),
        bytes=Quantity.at_most(uncut_bytes(base, given.start) + projection + FILE_BYTES),
        held=HeldModels(started_bytes(base, given.start) + projection),
    )


def trained_encoder(node: Node, given: EmbeddingStart) -> Model:
    """The model of a training of a sentence encoder."""
    base = given.base
    shape = started_shape(given.start, base.shape)
    return Model(Edge(node, MODEL), base.tokenizer, shape, base.kind, base.size, base.positions)


def _check_widths(
    task: str, use: MethodUse, student: Student, own: Shape, teacher: Shape, embedding: SentenceEmbedding
) -> None:
    """Raise RequestError where embeddings of two widths are compared without a projection."""
    if embedding.projection == "none" and embedding.loss != "similarities" and own.width != teacher.width:
        raise RequestError(
            f"task {task}, method {use.label}: embedding.projection: none, but the embeddings of student "
            f"{student.label} are {own.width} wide and the teacher's {teacher.width}; give projection: kept or "
            "dropped, or use embedding-similarities"
        )

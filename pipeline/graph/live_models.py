"""The models that run in a training beside the student: its teachers, and a generator of rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.graph.context import Model, check_length
from pipeline.graph.external.model_configs import check_embeddings, check_masked_model
from pipeline.graph.nodes import Edge, ExternalInput, HeldModels
from pipeline.graph.starting_points import StartingPoints
from stages.models.embeddings.vocabulary import vocabulary_difference
from stages.models.shape import config_of
from stages.models.weights_header import weight_shapes
from stages.specs.input_names import LIVE, one_or_numbered
from stages.specs.method import Method

GENERATOR = "generator"
"""The input of a training that is the model which writes its generated rows."""

Inputs = Mapping[str, Edge | ExternalInput]


@dataclass(frozen=True, slots=True)
class LiveModels:
    """The inputs of a training that are models which run in it, and their bytes."""

    inputs: Inputs
    held: HeldModels


def live_models(
    starting_points: StartingPoints,
    method: Method,
    generator: str | None,
    student: Model,
    teachers: Sequence[tuple[str, Model]],
) -> LiveModels:
    """What a training by ``method`` runs beside its student, whose weights come from ``student``.

    Raises ValueError for models whose vocabularies differ, for a teacher that does not take word embeddings, and for a
    generator that predicts no tokens; RequestError for one that reads fewer tokens than a row may have, and for an
    entry of ``models`` that is refused.
    """
    if generator is None or not method.needs_live_teacher:
        return LiveModels({}, HeldModels(0))
    longest = f"task {starting_points.task}: train.max_length"
    for name, model in teachers:
        check_embeddings("generated", model.kind.architecture, model.kind.head, f"the teacher {name}")
        _check_vocabulary("taught_by", name, model, student)
        check_length(model, f"the teacher {name}", longest, starting_points.recipe.max_length)
    writer = _generator(starting_points, generator)
    _check_vocabulary(GENERATOR, generator, writer, student)
    check_length(writer, f"the generator {generator}", longest, starting_points.recipe.max_length)
    inputs = {**one_or_numbered(LIVE, [model.source for _, model in teachers]), GENERATOR: writer.source}
    weights = sum({id(model): model.size for _, model in teachers}.values())
    return LiveModels(inputs, HeldModels(0, weights, writer.size))


def _generator(starting_points: StartingPoints, name: str) -> Model:
    """The masked language model of an entry of ``models``, or an external one."""
    if name in starting_points.recipe.masked_models:
        return starting_points.masked_model(name)
    found = starting_points.context.external_model(name, GENERATOR)
    assert isinstance(found.source, ExternalInput)
    directory = found.source.path
    check_masked_model(str(config_of(directory)["model_type"]), weight_shapes(directory), f"{GENERATOR}: {name}")
    return found


def _check_vocabulary(field: str, name: str, model: Model, student: Model) -> None:
    """Raise ValueError if a model reads other tokens than the student, whose ids it is given."""
    if model.tokenizer.identity == student.tokenizer.identity:
        return
    difference = vocabulary_difference(model.tokenizer.path, student.tokenizer.path)
    if difference is not None:
        raise ValueError(
            f"{field}: {name} reads generated rows as token ids of the student, but has another vocabulary "
            f"({difference}); give models of one vocabulary"
        )

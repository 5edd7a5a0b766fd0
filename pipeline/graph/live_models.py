"""The models that run in a training beside the student: its teachers, and a generator of rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.errors import RequestError
from pipeline.graph.context import Model, check_length, float32_bytes
from pipeline.graph.external.model_configs import check_embeddings, check_masked_model
from pipeline.graph.external.text_kinds import text_kinds
from pipeline.graph.nodes import Edge, ExternalInput, HeldModels
from pipeline.graph.starting_points import StartingPoints
from stages.models.embeddings.vocabulary import vocabulary_difference
from stages.models.shape import config_of
from stages.models.weights_header import lacks_mask_token, weight_shapes
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
    if generator is None or not method.has_generated_rows:
        return LiveModels({}, HeldModels(0))
    if lacks_mask_token(student.tokenizer.path):
        raise ValueError(
            f"{GENERATOR}: the {student.tokenizer.about} has no mask token; start the student from another"
        )
    longest = f"task {starting_points.task}: train.max_length"
    for name, model in teachers:
        check_embeddings("generated", model.kind.architecture, model.kind.head, f"the teacher {name}")
        _check_vocabulary("taught_by", name, model, student)
        if starting_points.recipe.task.pair:
            _check_text_kinds(name, model, student)
        check_length(model, f"the teacher {name}", longest, starting_points.recipe.max_length)
    found = _generator(starting_points, generator)
    _check_vocabulary(GENERATOR, generator, found, student)
    check_length(found, f"the generator {generator}", longest, starting_points.recipe.max_length)
    inputs = {**one_or_numbered(LIVE, [model.source for _, model in teachers]), GENERATOR: found.source}
    held = HeldModels(0, sum(float32_bytes(model) for _, model in teachers), float32_bytes(found))
    return LiveModels(inputs, held)


def _generator(starting_points: StartingPoints, name: str) -> Model:
    """The masked language model of an entry of ``models``, or an external one."""
    if name in starting_points.recipe.masked_models:
        try:
            return starting_points.masked_model(name)
        except RequestError as error:
            raise RequestError(f"{error} (models.{name} is the generator; generator: NAME names another)") from error
    found = starting_points.context.external_model(name, GENERATOR)
    assert isinstance(found.source, ExternalInput)
    directory = found.source.path
    check_masked_model(str(config_of(directory)["model_type"]), weight_shapes(directory), f"{GENERATOR}: {name}")
    return found


def _check_text_kinds(name: str, model: Model, student: Model) -> None:
    """Raise ValueError if the student's tokenizer does not mark the texts of a pair as the teacher's does: on generated
    rows, the teacher reads the student's marks."""
    if model.tokenizer.identity == student.tokenizer.identity:
        return
    kinds, own = (text_kinds(one.tokenizer.path) or 1 for one in (model, student))
    if kinds != own:
        raise ValueError(
            f"taught_by: the tokenizer of {name} marks the texts of a pair in another way than the student's "
            f"(by {kinds} and {own} numbers in token_type_ids), and generated rows have the student's; give models "
            "whose tokenizers agree"
        )


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

"""The entries of ``models`` with ``pretrain``, resolved to masked language models and to models that follow the states
of another one; and what starts from them.

A PlacedError's place is within the block, unless the docstring says otherwise.
"""

from collections.abc import Container, Mapping, Sequence
from typing import Literal, cast

from pipeline.recipe.errors import ABSENT, PlacedError, placed, unknown
from pipeline.recipe.frozen import FrozenMapping
from pipeline.recipe.model import MaskedModel
from pipeline.recipe.reference import BASE, ITSELF, TEACHER, Reference
from pipeline.recipe.resolve.methods import value_of_kind
from pipeline.recipe.schema.file import RecipeFile
from pipeline.recipe.schema.learners import ModelBlock, Student
from pipeline.recipe.schema.pretraining import DistillationBlock, PretrainBlock
from pipeline.recipe.schema.scalars import kinds
from pipeline.recipe.schema.starts import LayerCut, StartBlock
from stages.specs.axes.data import WithGenerator
from stages.specs.layers import Pick
from stages.specs.method import Method
from stages.specs.pretraining import STATE_KINDS, MaskedDistillation, Masking, PooledStates, PretrainSpec

STARTS = ("model", "cut", "config", "bilstm", "network")
OF_A_METHOD = ("taught_by", "candidates", "generator", "train", "head")
"""The keys of an entry of ``models`` that have a meaning beside ``method`` alone."""

OF_MASKED_MODELS = ("share", "masked", "random", "distillation")
"""The keys of ``pretrain`` that have no meaning beside ``states``."""

DEFAULT_STATES = Pick(pairs="spread")
"""The setting of ``states`` that a block changes: all layers of the student follow layers of the teacher, from the
embeddings to the last."""

Blocks = Mapping[str, ModelBlock]


def is_masked_alone(block: ModelBlock) -> bool:
    """Whether an entry of ``models`` is a pretrained model and nothing else."""
    return block.pretrain is not None and block.method is None and block.members is None


GENERATOR = "generator"
"""The entry of ``models`` that writes the rows of ``data: generated``, where a method names none."""

GENERATOR_LAYERS = (1, 2)
GENERATOR_SPEC = PretrainSpec(masking=Masking(share=0.3, masked=1.0, random=0.0), steps=2000, learning_rate=3.0e-4)
"""How the generator of a recipe without an entry of that name is made. All of the tokens that it learns to predict are
masked, as all are that it will be given to fill."""


def masked_models(file: RecipeFile, generators: Container[str | None]) -> FrozenMapping[MaskedModel]:
    """The pretrained models of a recipe by name. ``generators`` are those that its methods name: if the entry
    ``generator`` is among them and the recipe has none, it is made here. A PlacedError's place is from the file's
    root."""
    found = {}
    if GENERATOR in generators and GENERATOR not in file.models:
        found[GENERATOR] = _own_generator(file)
    for name, block in file.models.items():
        with placed("models", name):
            if block.pretrain is not None and block.members is None:
                found[name] = _masked_model(name, block, block.pretrain, file)
    return FrozenMapping(found)


def _own_generator(file: RecipeFile) -> MaskedModel:
    """The first layers of the teacher's model, before its fine-tuning if it has one, to be trained on the bank's texts
    or on the task's."""
    cut = LayerCut(of="teacher" if file.teacher.finetune is None else "base", layers=GENERATOR_LAYERS)
    length, precision = file.train.max_length, file.train.precision
    spec = GENERATOR_SPEC.model_copy(update={"max_length": length, "precision": precision})
    texts: Literal["bank", "task"] = "task" if file.bank is None else "bank"
    student = Student(label=GENERATOR, cut=cut)
    return MaskedModel(name=GENERATOR, student=student, texts=texts, spec=spec, alone=True, taught_by=None)


def generator_of(name: str | None, method: Method, models: Blocks) -> str | None:
    """What writes the generated rows of a method: the entry of ``models`` or the model that is given, or else the entry
    ``generator``; None for a method without such rows. A PlacedError's place is within the method's block."""
    if not isinstance(method.data, WithGenerator):
        if name is not None:
            problem = "but the method has no generated rows; leave it out, or give data: generated"
            raise PlacedError(("generator",), name, problem)
        return None
    chosen = name or GENERATOR
    if chosen in models and models[chosen].pretrain is None:
        problem = (
            f"the generator is models.{chosen}, which has no pretrain, and so no masked language model; give it "
            "one, or name another (generator: NAME)"
        )
        raise PlacedError(("generator",), ABSENT, problem)
    if chosen in models and follows_states(models[chosen]):
        problem = (
            f"the generator is models.{chosen}, which follows states, and so has no head that predicts tokens; name "
            "another (generator: NAME)"
        )
        raise PlacedError(("generator",), ABSENT, problem)
    return chosen


def follows_states(block: ModelBlock) -> bool:
    """Whether an entry of ``models`` is pretrained on the states of another model."""
    return block.pretrain is not None and block.pretrain.states is not None


def _masked_model(name: str, block: ModelBlock, pretrain: PretrainBlock, file: RecipeFile) -> MaskedModel:
    alone = is_masked_alone(block)
    if block.bilstm is not None:
        lacks = "has no layers that could follow others" if follows_states(block) else "predicts no masked tokens"
        raise PlacedError(("bilstm",), ABSENT, f"{lacks}; leave out pretrain, or give another model")
    for key in OF_A_METHOD if alone else ():
        if getattr(block, key) is not None:
            problem = "is of a model that is trained by a method; leave it out, or give method"
            raise PlacedError((key,), ABSENT, problem)
    with placed("pretrain"):
        if pretrain.texts == "bank" and file.bank is None:
            problem = "but the recipe has no bank; give bank: {files: [...]}, or texts: task"
            raise PlacedError(("texts",), "bank", problem)
        states = None if pretrain.states is None else _states(pretrain)
        if states is None:
            _check_masked_teacher(pretrain, file)
        else:
            _check_followed(pretrain, file)
        masking = pretrain.as_spec(Masking)
        length = pretrain.max_length or file.train.max_length
        with placed("distillation"):
            masked_teacher = pretrain.taught_by is not None and states is None
            taught = (pretrain.distillation or DistillationBlock()) if masked_teacher else None
            distillation = None if taught is None else taught.as_spec(MaskedDistillation)
        given = {"masking": masking, "distillation": distillation, "states": None, "max_length": length}
        spec = pretrain.as_spec(PretrainSpec, **given)
    start = Student(label=name, model=block.model, cut=block.cut, config=block.config, start=block.start)
    return MaskedModel(
        name=name,
        student=start,
        texts=pretrain.texts,
        taught_by=pretrain.taught_by,
        spec=spec,
        alone=alone,
        states=states,
    )


def _states(pretrain: PretrainBlock) -> PooledStates:
    """The structure that the key ``states`` describes. A PlacedError's place is within the block ``pretrain``."""
    for key in OF_MASKED_MODELS:
        if key in pretrain.model_fields_set and getattr(pretrain, key) is not None:
            problem = "is of masked language models, and no token is masked beside states; leave one of the two out"
            raise PlacedError((key,), ABSENT, problem)
    known = {name: kind for name, kind in kinds("structure").items() if name in STATE_KINDS}
    states = cast(PooledStates, value_of_kind("states", known, pretrain.states, DEFAULT_STATES))
    if states.has_measured_weight:
        problem = "but that is measured against the labels' loss, and texts have no labels; give a number"
        raise PlacedError(("states", "weight"), "auto", problem)
    return states


def _check_followed(pretrain: PretrainBlock, file: RecipeFile) -> None:
    """Raise where ``taught_by`` names no model whose states could be stored. A name that is no entry of ``models`` is
    looked for as an external model in the graph."""
    given, place = pretrain.taught_by, ("taught_by",)
    if given is None:
        problem = "missing, and needed with states; name base, an entry of models with pretrain, or a model"
        raise PlacedError(place, ABSENT, problem)
    if given == ITSELF:
        raise PlacedError(place, given, "is the student of a method; name base, an entry of models, or a model")
    if given == TEACHER and file.teacher.least is not None:
        problem = (
            "but its score is checked (teacher.least) for each task before it teaches, and these states are of no "
            "task; write base, or leave teacher.least out"
        )
        raise PlacedError(place, given, problem)
    if given == BASE and file.teacher.finetune is None:
        raise PlacedError(place, given, "but the teacher is given fine-tuned, without teacher.finetune; write teacher")
    if given in file.models and file.models[given].pretrain is None:
        problem = f"but models.{given} has no pretrain: it is trained for a task; name base, teacher or a model"
        raise PlacedError(place, given, problem)


def _check_masked_teacher(pretrain: PretrainBlock, file: RecipeFile) -> None:
    """Raise where ``taught_by`` names what is no masked language model. A name that is no entry of ``models`` is looked
    for as an external model in the graph."""
    given = pretrain.taught_by
    if given is None and pretrain.distillation is not None:
        raise PlacedError(("distillation",), ABSENT, "has no effect without taught_by; give it, or leave this out")
    if given in (TEACHER, ITSELF):
        problem = "is a classifier, which predicts no masked tokens; write base, or an entry of models with pretrain"
        raise PlacedError(("taught_by",), given, problem)
    if given == BASE and file.teacher.finetune is None:
        problem = "but the teacher is given fine-tuned, without teacher.finetune; name a masked language model"
        raise PlacedError(("taught_by",), given, problem)
    if given in file.models and file.models[given].pretrain is None:
        problem = f"but models.{given} has no pretrain, and so no masked language model that could teach; give it one"
        raise PlacedError(("taught_by",), given, problem)
    if given in file.models and follows_states(file.models[given]):
        problem = (
            f"but models.{given} follows states, and has no head that predicts tokens; give states, or name another"
        )
        raise PlacedError(("taught_by",), given, problem)


# --- what starts from them ------------------------------------------------------------------------


def check_one_is_given(block: StartBlock, names: Sequence[str]) -> None:
    """Raise unless exactly one of the keys ``names`` is given."""
    given = [name for name in names if getattr(block, name) is not None]
    if len(given) != 1:
        found = "none of them is given" if not given else f"{' and '.join(given)} are given"
        raise PlacedError((), ABSENT, f"needs exactly one of {', '.join(names[:-1])} and {names[-1]}; {found}")


def check_student_start(student: Student, models: Blocks, tasks: Container[str]) -> None:
    """Raise unless a student has exactly one model to start from. Whether another task that ``start`` names trains such
    a student is checked later."""
    start = student.start
    if start not in models or start is None:
        if start is not None and start not in tasks and not any(getattr(student, name) for name in STARTS):
            known = [name for name, block in models.items() if block.pretrain is not None]
            raise unknown(("start",), start, "model with pretrain of this recipe", known)
        check_one_is_given(student, STARTS)
        return
    if start in tasks:
        raise PlacedError(("start",), start, "is the name of a task and of a model; give the model another name")
    _check_has_masked_model(start, models)
    given = [name for name in STARTS if getattr(student, name) is not None]
    if given:
        problem = f"is a model of this recipe, which stands in the place of {given[0]}; leave out one of the two"
        raise PlacedError(("start",), start, problem)


def check_model_start(name: str, models: Blocks) -> None:
    """Raise where the ``start`` of the entry ``name`` of ``models`` names no other entry with ``pretrain``, or where
    what it starts from and is taught by leads back to an entry on the way."""
    start = models[name].start
    if start is not None:
        if start not in models:
            known = [other for other, block in models.items() if block.pretrain is not None and other != name]
            raise unknown(("start",), start, "model with pretrain of this recipe", known)
        _check_has_masked_model(start, models)
    for place, other in _other_entries(models[name], models):
        circle = _circle((name, other), models)
        if circle:
            problem = f"runs in a circle ({' <- '.join(circle)}); let one of them start from a model"
            raise PlacedError(place, other, problem)


def _other_entries(block: ModelBlock, models: Blocks) -> Sequence[tuple[tuple[str, ...], str]]:
    """The entries of ``models`` whose pretrained models an entry needs, each with the place of its name."""
    named = [
        (("start",), block.start),
        (("cut", "of"), None if block.cut is None else block.cut.of),
        (("pretrain", "taught_by"), None if block.pretrain is None else block.pretrain.taught_by),
    ]
    return [(place, name) for place, name in named if name in models and name not in (None, TEACHER, BASE)]


def _circle(chain: tuple[str, ...], models: Blocks) -> tuple[str, ...]:
    """``chain``, continued by what its last entry needs until an entry comes again; () if none does."""
    if chain[-1] in chain[:-1]:
        return chain
    for _, other in _other_entries(models[chain[-1]], models):
        found = _circle((*chain, other), models)
        if found:
            return found
    return ()


def _check_has_masked_model(start: str, models: Blocks) -> None:
    if models[start].pretrain is None:
        problem = f"but models.{start} has no pretrain, and so no masked language model to start from; give it one"
        raise PlacedError(("start",), start, problem)


def check_teaches(key: str, references: Sequence[Reference], models: Blocks) -> None:
    """Raise where a reference under ``key`` names an entry of ``models`` that is a pretrained model alone."""
    for index, one in enumerate(references):
        if one.name in models and is_masked_alone(models[one.name]):
            what = "follows states" if follows_states(models[one.name]) else "is a masked language model"
            problem = f"{what}, which has no outputs for a task; give it a method, or name another"
            raise PlacedError((key, index), str(one), problem)

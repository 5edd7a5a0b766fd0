"""A recipe file, merged for one task -> the TaskRecipe: short forms written out, defaults filled in.

A PlacedError's place is in the merged file, with a number for each item of what may be a list.
"""

from collections.abc import Mapping, Sequence

from pipeline.methods import NamedMethod, check_taught_by, default_teacher, find
from pipeline.recipe.errors import ABSENT, PlacedError, placed, unknown
from pipeline.recipe.frozen import FrozenMapping
from pipeline.recipe.model import Ensemble, MethodUse, ModelNode, TaskRecipe
from pipeline.recipe.reference import BASE, ITSELF, TEACHER, Reference, reference
from pipeline.recipe.resolve.candidates import candidates_of, check_bank, makers_of
from pipeline.recipe.resolve.data import data_of, hub_of, select_metric, task_of
from pipeline.recipe.resolve.embeddings import check_embedding_task, embedding_method
from pipeline.recipe.resolve.images import check_kind_of_task
from pipeline.recipe.resolve.masked_models import (
    STARTS,
    check_model_start,
    check_one_is_given,
    check_student_start,
    check_teaches,
    generator_of,
    is_masked_alone,
    masked_models,
)
from pipeline.recipe.resolve.methods import method_of
from pipeline.recipe.schema.file import RecipeFile, TeacherSettings
from pipeline.recipe.schema.images import network_name
from pipeline.recipe.schema.learners import MethodBlock, ModelBlock, OptimisationBlock, Student
from pipeline.recipe.schema.starts import StartBlock
from stages.specs.method import Method
from stages.specs.student import Train
from stages.specs.tasks import Metric, Task


def task_recipe(file: RecipeFile, index: int) -> TaskRecipe:
    """The values of the task at ``index`` of ``file.task``, in a file whose overrides for it are merged."""
    block = file.task[index]
    with placed("task", index):
        task, hub = task_of(block), hub_of(block)
        metric = select_metric(block, task)
    if not file.teacher.model and file.teacher.network is None:
        raise PlacedError(("teacher", "model"), ABSENT, "missing, and needed")
    if file.teacher.model and file.teacher.network is not None:
        raise PlacedError(("teacher", "network"), ABSENT, "is given beside model; leave one of them out")
    check_kind_of_task(file, block, task)
    check_bank(file.bank)
    if block.kind == "embedding":
        check_embedding_task(file, index, task)
    _check_rates(file)
    data = data_of(file.data, block, task)
    _check_labels(file.teacher, task)
    for place, student in enumerate(file.student):
        with placed("student", place):
            check_student_start(student, file.models, [other.name for other in file.task])
            _check_cut(student, file)
            _check_bilstm(student, file.teacher)
    models = {name: _model(name, block, file, metric) for name, block in file.models.items()}
    methods = tuple(
        embedding_method(method, place, file, task)
        if block.kind == "embedding"
        else _method(method, place, file, metric)
        for place, method in enumerate(file.method)
    )
    generators = [use.generator for use in methods]
    generators += [model.generator for model in models.values() if isinstance(model, ModelNode)]
    return TaskRecipe(
        task=task,
        kind="embedding" if block.kind == "embedding" else None,
        files=block.files,
        hub=hub,
        data=data,
        teacher=_teacher(file.teacher, metric),
        store=file.store,
        students=file.student,
        methods=methods,
        models=FrozenMapping({name: model for name, model in models.items() if model is not None}),
        masked_models=masked_models(file, generators),
        bank=file.bank,
        makers=makers_of(file.candidates, file.bank, task),
        train=_train(metric, file.train),
        max_length=file.train.max_length,
        seeds=file.seeds,
        sweep_seed=_sweep_seed(file),
    )


def _check_labels(teacher: TeacherSettings, task: Task) -> None:
    labels, place = teacher.labels, ("teacher", "labels")
    if labels is None:
        return
    if teacher.finetune is not None:
        raise PlacedError(place, ABSENT, "is for a model that is fine-tuned already; leave out labels or finetune")
    if task.kind.has_entries:
        problem = f"cannot be given for {task.name}, whose tags are known by the names in the model's config.json"
        raise PlacedError(place, ABSENT, f"{problem}; rename them there (id2label)")
    if task.labels is None:
        raise PlacedError(place, ABSENT, f"{task.name} is a regression and has no labels; leave it out")
    if sorted(labels) != sorted(task.labels):
        problem = f"must be the labels of {task.name} in the order of the model's outputs: {', '.join(task.labels)}"
        raise PlacedError(place, list(labels), problem)


def _teacher(teacher: TeacherSettings, metric: Metric | None) -> TeacherSettings:
    """The teacher, which is fine-tuned with ``metric`` as the metric that selects its epoch; a network has its name as
    ``model``."""
    if teacher.network is not None:
        teacher = teacher.model_copy(update={"model": network_name(teacher.network)})
    if teacher.finetune is None:
        return teacher
    finetune = teacher.finetune.model_copy(update={"select_metric": metric})
    return teacher.model_copy(update={"finetune": finetune})


def _train(metric: Metric | None, *blocks: OptimisationBlock | None) -> Train:
    """Each block's explicit keys over those of the blocks before it; the rest at their defaults. ``metric`` is
    ``select_metric``."""
    keys: dict[str, object] = {"select_metric": metric}
    for block in blocks:
        keys.update(block.explicit() if block is not None else {})
    for name in ("max_length", "rates"):
        keys.pop(name, None)
    return Train.model_validate(keys)


def _gives_rate(block: OptimisationBlock | None) -> bool:
    """Whether a block of the file gives a learning rate."""
    return block is not None and "learning_rate" in block.explicit()


def _rates(file: RecipeFile, block: MethodBlock) -> tuple[float, ...]:
    """The learning rates that a method compares, in rising order; () where it has a single one."""
    if block.rates is not None and _gives_rate(block.train):
        raise PlacedError(("rates",), list(block.rates), "but train.learning_rate is given beside it; leave one out")
    if block.rates is None and _gives_rate(block.train):
        return ()
    return tuple(sorted(block.rates or file.train.rates or ()))


def _sweep_seed(file: RecipeFile) -> int:
    """The seed of the trainings that choose a learning rate. PlacedError where it is one of ``seeds``."""
    if file.sweep_seed in file.seeds:
        problem = "is one of seeds, whose students are reported; give a number that is none of them"
        raise PlacedError(("sweep_seed",), file.sweep_seed, problem)
    return file.sweep_seed


def _check_rates(file: RecipeFile) -> None:
    """Raise where the recipe's own ``train`` gives both one learning rate and several."""
    if file.train.rates is not None and _gives_rate(file.train):
        problem = "but train.learning_rate is given beside it; leave one out (null takes a key out)"
        raise PlacedError(("train", "rates"), list(file.train.rates), problem)


def _check_cut(block: StartBlock, file: RecipeFile) -> None:
    of = TEACHER if block.cut is None else block.cut.of
    if of == BASE and file.teacher.finetune is None:
        problem = "but the teacher is given fine-tuned, without teacher.finetune; write of: teacher"
        raise PlacedError(("cut", "of"), of, problem)
    if of not in (TEACHER, BASE) and (of not in file.models or file.models[of].pretrain is None):
        raise PlacedError(("cut", "of"), of, "must be teacher, base or an entry of models with pretrain")


def _check_bilstm(block: StartBlock, teacher: TeacherSettings) -> None:
    if block.bilstm is None:
        return
    if block.head is not None:
        problem = "but a bilstm has no such head: it reads the last states of both directions; leave head out"
        raise PlacedError(("head",), block.head, problem)
    if block.bilstm.embeddings == "base" and teacher.finetune is None:
        problem = "but the teacher is given fine-tuned, without teacher.finetune; write embeddings: teacher"
        raise PlacedError(("bilstm", "embeddings"), "base", problem)


def _method(block: MethodBlock, index: int, file: RecipeFile, metric: Metric | None) -> MethodUse:
    with placed("method", index):
        if block.embedding is not None:
            problem = "is of methods of tasks of the kind embedding; leave it out, or give the task kind: embedding"
            raise PlacedError(("embedding",), ABSENT, problem)
        method = method_of(block)
        taught_by = _taught_by(block.taught_by, method, find(block.use), file.models, ITSELF)
        rates, train = _rates(file, block), _train(metric, file.train, block.train)
        if rates:  # the key of a student must not depend on a rate that is not used
            train = train.model_copy(update={"learning_rate": Train().learning_rate})
        return MethodUse(
            label=block.label or block.use,
            method=method,
            taught_by=taught_by,
            candidates=_candidates(block.candidates, method, find(block.use), file),
            train=train,
            generator=generator_of(block.generator, method, file.models),
            rates=rates,
        )


def _candidates(name: str | None, method: Method, named: NamedMethod, file: RecipeFile) -> str | None:
    """The maker of a method's candidates: the one that is given, or else that of the method's name."""
    return candidates_of(name, method, file.candidates, file.bank is not None, named.candidates)


def _model(name: str, block: ModelBlock, file: RecipeFile, metric: Metric | None) -> ModelNode | Ensemble | None:
    """The trained model or ensemble of an entry of ``models``; None for one that is a masked language model alone."""
    with placed("models", name):
        check_one_is_given(block, (*STARTS, "start", "members"))
        if block.members is not None:
            return _ensemble(name, block, block.members, file.models)
        check_model_start(name, file.models)
        _check_cut(block, file)
        _check_bilstm(block, file.teacher)
        if block.shares is not None:
            raise PlacedError(("shares",), ABSENT, "is of an ensemble's members; leave it out, or name members")
        if is_masked_alone(block):
            return None
        if block.method is None:
            raise PlacedError(("method",), ABSENT, "missing, and needed")
        if file.train.rates is not None and not _gives_rate(block.train):
            problem = "missing, and needed: train.rates is for methods, while a model is trained once, at one rate"
            raise PlacedError(("train", "learning_rate"), ABSENT, problem)
        with placed("method"):
            method = method_of(block.method)
        return ModelNode(
            name=name,
            student=_student(name, block),
            method=method,
            taught_by=_taught_by(block.taught_by, method, find(block.method.use), file.models),
            candidates=_candidates(block.candidates, method, find(block.method.use), file),
            train=_train(metric, file.train, block.train),
            generator=generator_of(block.generator, method, file.models),
        )


def _student(name: str, block: ModelBlock) -> Student:
    """What a trained model starts from: with ``pretrain``, from its own masked language model."""
    if block.pretrain is not None:
        return Student(label=name, start=name, head=block.head)
    return Student(
        label=name,
        model=block.model,
        cut=block.cut,
        config=block.config,
        bilstm=block.bilstm,
        network=block.network,
        start=block.start,
        head=block.head,
    )


def _ensemble(
    name: str, block: ModelBlock, members: tuple[Reference, ...], models: Mapping[str, ModelBlock]
) -> Ensemble:
    for other in ("method", "taught_by", "candidates", "generator", "train", "head", "pretrain"):
        if getattr(block, other) is not None:
            raise PlacedError((other,), ABSENT, "an ensemble is not trained; leave this out, or leave out members")
    _check_known("members", members, (TEACHER, *models))
    check_teaches("members", members, models)
    return Ensemble(name=name, members=members, shares=block.shares)


def _taught_by(
    given: tuple[Reference, ...] | None,
    method: Method,
    named: NamedMethod,
    models: Mapping[str, ModelBlock],
    *more: str,
) -> tuple[Reference, ...]:
    """The teachers that are given, or else those that the method's name implies; () where it needs none."""
    default = default_teacher(named, method)
    if given is None and default is not None:
        return (reference(default),)
    references = given or ()
    if method.needs_teacher:
        _check_known("taught_by", references, (TEACHER, *more, *models))
        check_teaches("taught_by", references, models)
    ensembles = [name for name, model in models.items() if model.members is not None]
    names = [str(one) for one in references]
    wrong = check_taught_by(named, method, names, ensembles)
    # A method whose axes are of other kinds than its name's may have any teacher.
    if wrong and (not names or not method.needs_teacher or _same_kinds(method, named.method)):
        raise PlacedError(("taught_by",), ", ".join(names) if names else ABSENT, wrong)
    return references


def _check_known(key: str, references: Sequence[Reference], names: Sequence[str]) -> None:
    for index, one in enumerate(references):
        # `itself` where it means nothing is refused later, in teacher_checks, with a reason of its own.
        if one.name not in (*names, ITSELF):
            raise unknown((key, index), one.name, "model of this recipe", names)


def _same_kinds(one: Method, other: Method) -> bool:
    """Whether two methods have the same kind on each axis, whatever the settings."""
    return all(getattr(one, axis).kind == getattr(other, axis).kind for axis in Method.model_fields)

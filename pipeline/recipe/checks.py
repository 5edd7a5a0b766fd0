"""Checks of keys against each other, and of tasks against each other: every error that reading alone can find.

A PlacedError's place is in the file as merged for the task, with a number for each item of what may be a list.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import count

from pipeline.recipe.errors import ABSENT, Place, PlacedError, unknown
from pipeline.recipe.model import MethodUse, TaskRecipe
from pipeline.recipe.reference import BASE, ITSELF, TEACHER
from pipeline.recipe.references import teachers
from pipeline.recipe.resolve.candidates import check_k
from pipeline.recipe.resolve.images import check_images
from pipeline.recipe.schema.learners import Student
from pipeline.recipe.schema.resources import ResourceBlock
from pipeline.recipe.teacher_checks import check_references
from pipeline.recipe.word_checks import check_words
from stages.specs.axes.data import WithCandidates
from stages.specs.axes.optimizers import Sgd
from stages.specs.axes.targets import Hard, Smoothed, Virtual, sum_to_one
from stages.specs.axes.training import Annealing, OnePhase, Progressive, Training, TwoPhases
from stages.specs.method import Method
from stages.specs.schedule import NO_CANDIDATE_EPOCH, any_epoch_uses_candidates, generated_epochs
from stages.specs.student import Train
from stages.specs.tasks import Task

FINETUNE: Place = ("teacher", "finetune")
SHARED_WORKERS = ("finetune", "distil")
"""The stages of which several trainings may share a worker."""


def check_resources(blocks: Mapping[str, ResourceBlock]) -> None:
    """Raise a PlacedError for the first stage whose trainings are to share a worker and cannot. A worker without a GPU
    cannot be shared, because its trainings would share one random generator and one pool of threads."""
    for stage, block in blocks.items():
        if block.trainings_per_worker == 1:
            continue
        if stage not in SHARED_WORKERS:
            problem = f"but only {' and '.join(SHARED_WORKERS)} have trainings that can share a worker; leave it out"
        elif block.workers not in (None, 1):
            problem = (
                f"but workers is {block.workers}, and such a training takes its workers whole; leave one of them out"
            )
        elif block.gpus_per_worker == 0:
            problem = "but gpus_per_worker is 0, and trainings can share a worker on a GPU only; leave one of them out"
        else:
            continue
        raise PlacedError(("resources", stage, "trainings_per_worker"), block.trainings_per_worker, problem)


def check_task(recipe: TaskRecipe) -> None:
    """Raise a PlacedError for the first error in one task."""
    _check_labels_distinct("student", [student.label for student in recipe.students])
    _check_labels_distinct("method", [use.label for use in recipe.methods])
    _check_reserved_names(recipe)
    if recipe.kind == "embedding":  # whose methods have no axes, and whose trainings select no epoch
        return
    check_references(recipe)
    check_images(recipe)
    check_words(recipe)
    for place, learner in recipe.learners():
        method, train = learner.method, learner.train
        _check_method((*place, *learner.axes), method, recipe.task)
        _check_phases(place, method, train)
        _check_candidate_epochs((*place, *learner.axes), method, train)
        _check_generated_epochs((*place, *learner.axes), method, train)
        _check_turns(place, method, train, len(teachers(recipe, learner.taught_by)))
        _check_micro_batch(place, method, train, recipe)
    _check_weight_decay(recipe)
    _check_selection(recipe)
    _check_sweeps(recipe)
    check_k(recipe)


def _check_labels_distinct(what: str, labels: Sequence[str]) -> None:
    for index, label in enumerate(labels):
        first = labels.index(label)
        if first < index:
            raise PlacedError(
                (what, index, "label"), label, f"is the label of {what}.{first} too; give one of them another"
            )


def _check_reserved_names(recipe: TaskRecipe) -> None:
    for index, use in enumerate(recipe.methods):
        if use.label == TEACHER:
            raise PlacedError(
                ("method", index, "label"), TEACHER, "is what reports call the teacher itself; choose another"
            )
    names = {*recipe.models, *recipe.masked_models}
    if TEACHER in names:
        raise PlacedError(("models", TEACHER), ABSENT, "is the name of the teacher itself; choose another")
    if ITSELF in names:
        raise PlacedError(("models", ITSELF), ABSENT, "is what taught_by calls the student itself; choose another")
    if BASE in recipe.masked_models:
        problem = "is what cut.of and taught_by call the teacher's model before its fine-tuning; choose another name"
        raise PlacedError(("models", BASE), ABSENT, problem)


def _check_method(place: Place, method: Method, task: Task) -> None:
    if isinstance(method.targets, Smoothed | Virtual) and task.labels is None:
        what = "label smoothing" if isinstance(method.targets, Smoothed) else "a virtual teacher"
        problem = f"{what} cannot be defined for {task.name}, a regression; give {task.name} its own list of methods: "
        raise PlacedError(place, ABSENT, f"{problem}overrides: {{{task.name}: {{method: [...]}}}}")
    if isinstance(method.targets, Smoothed):
        _check_distribution(place, method.targets, task)
    without = isinstance(method.targets, Hard | Smoothed)
    if isinstance(method.training, OnePhase) and without and method.training != OnePhase():
        problem = (
            "temperature and teacher_weight have no effect without a teacher; leave them out or use targets: teacher"
        )
        raise PlacedError((*place, "training"), ABSENT, problem)


def _check_distribution(place: Place, targets: Smoothed, task: Task) -> None:
    shares = targets.distribution
    if shares is None:
        return
    if len(shares) != task.outputs or min(shares) < 0 or not sum_to_one(shares):
        problem = f"must be {task.outputs} shares that sum to 1, one for each label of {task.name}"
        raise PlacedError((*place, "targets", "distribution"), list(shares), problem)


def _check_phases(place: Place, method: Method, train: Train) -> None:
    if isinstance(method.training, TwoPhases) and train.epochs < 2:
        kind = method.training.kind
        raise PlacedError(place, ABSENT, f"{kind} has two phases and needs at least 2 epochs; it has {train.epochs}")


def _check_candidate_epochs(place: Place, method: Method, train: Train) -> None:
    if isinstance(method.data, WithCandidates) and not any_epoch_uses_candidates(method, train.epochs):
        where = (*place, "data", "warmup_epochs") if method.data.warmup_epochs else (*place, "data")
        value = method.data.warmup_epochs or method.data.kind
        raise PlacedError(where, value, f"but of {train.epochs} epochs {NO_CANDIDATE_EPOCH}")


def _check_generated_epochs(place: Place, method: Method, train: Train) -> None:
    if method.has_generated_rows and not generated_epochs(method, train.epochs):
        problem = (
            f"but the teacher's logits have no weight in any of {train.epochs} epochs, so that no generated row is "
            "used; give them a weight, or data: original"
        )
        raise PlacedError((*place, "data"), "generated", problem)


def _check_turns(place: Place, method: Method, train: Train, teacher_count: int) -> None:
    """Teachers that are followed in turn need an epoch each: otherwise one would be left out without a word."""
    if not isinstance(method.training, Progressive):
        return
    turns = method.training.phases(train.epochs)[0].epochs
    if turns < teacher_count:
        problem = (
            f"{teacher_count} teachers are followed in turn, an epoch each at least, and the first phase has {turns}; "
            "name fewer, or train for more epochs"
        )
        raise PlacedError((*place, "taught_by"), ABSENT, problem)


def schedule_warnings(recipe: TaskRecipe) -> list[str]:
    """A line for each way in which phases of a task's methods and trained models are probably shorter than intended. It
    begins with ``method LABEL`` or ``models.NAME``. [] if there is none."""
    found = []
    for _, learner in recipe.learners():
        where = f"method {learner.label}" if isinstance(learner, MethodUse) else f"models.{learner.name}"
        found += [f"{where}: {line}" for line in short_phases(learner.method.training, learner.train.epochs)]
    return found


def short_phases(training: Training, epochs: int) -> Iterator[str]:
    """A line for each way in which the phases of a training of ``epochs`` epochs are probably shorter than intended,
    with the number of epochs that would be enough. There are two: the first phase of an annealing has fewer epochs than
    temperatures, and the second phase has a single epoch. Nothing for a training of one phase."""
    if not isinstance(training, TwoPhases):
        return
    first, second = (phase.epochs for phase in training.phases(epochs))
    share = f"training.first_phase: {training.first_phase:g}"
    if isinstance(training, Annealing) and first < training.max_temperature:
        enough = next(more for more in count(epochs) if training.phases(more)[0].epochs >= training.max_temperature)
        yield (
            f"training.max_temperature: {training.max_temperature}, but of {epochs} epochs the first phase has {first} "
            f"({share}), so that temperatures are skipped; give {first} or less, or train for {enough} epochs"
        )
    if second == 1:
        enough = next(more for more in count(epochs) if training.phases(more)[1].epochs > 1)
        yield (
            f"{share}, but of {epochs} epochs that leaves 1 for the {training.second_name}; give a smaller share, or "
            f"train for {enough} epochs"
        )


def _check_micro_batch(place: Place, method: Method, train: Train, recipe: TaskRecipe) -> None:
    if method.needs_whole_batch and train.micro_batch is not None:
        name = recipe.methods[place[1]].label if isinstance(place[1], int) else place[1]
        own = () if train.micro_batch == recipe.train.micro_batch else place
        problem = f"but {name} compares all rows of a batch; leave it out"
        raise PlacedError((*own, "train", "micro_batch"), train.micro_batch, problem)


def _check_weight_decay(recipe: TaskRecipe) -> None:
    """Raise where a training has a weight decay of its own beside an optimizer that has another."""
    finetune = recipe.teacher.finetune
    trained = [(place, learner.train) for place, learner in recipe.learners()]
    trained += [] if finetune is None else [(FINETUNE, finetune)]
    for place, train in trained:
        if isinstance(train.optimizer, Sgd) and train.weight_decay != Train().weight_decay:
            own = (*place, "train") if place != FINETUNE else place
            own = ("train",) if train.weight_decay == recipe.train.weight_decay and place != FINETUNE else own
            problem = "is AdamW's, but the optimizer is sgd; give optimizer.weight_decay, and leave this one out"
            raise PlacedError((*own, "weight_decay"), train.weight_decay, problem)


def _check_selection(recipe: TaskRecipe) -> None:
    finetune = recipe.teacher.finetune
    trained = [learner.train for _, learner in recipe.learners()] + ([] if finetune is None else [finetune])
    if recipe.data.holdout == 0 and any(train.select == "holdout" for train in trained):
        students = any(learner.train.select == "holdout" for _, learner in recipe.learners())
        problem = (
            f"but {'train' if students else 'teacher.finetune'}.select: holdout picks the best epoch on what is held "
            "out; hold some out, or select: dev or last"
        )
        raise PlacedError(("data", "holdout"), 0, problem)
    for place, learner in recipe.learners():
        calibrated = learner.method.needs_calibration and not recipe.task.regression
        if calibrated and recipe.data.holdout == 0:
            problem = "but data.holdout is 0, and the temperature is found on what is held out; hold some out"
            raise PlacedError((*place, *learner.axes, "targets", "calibrated"), True, problem)
    places = [(*place, "train") for place, _ in recipe.learners()] + ([] if finetune is None else [FINETUNE])
    for place, train in zip(places, trained, strict=True):
        if train.select == "last" and train.select_by != "metric":
            own = place if train.select_by != recipe.train.select_by or place == FINETUNE else ("train",)
            problem = "selects the best epoch, but select: last keeps the last one; leave one of the two out"
            raise PlacedError((*own, "select_by"), train.select_by, problem)


def _check_sweeps(recipe: TaskRecipe) -> None:
    for index, use in enumerate(recipe.methods):
        if use.rates and use.train.select == "last" and recipe.data.holdout == 0:
            problem = "are compared on held-out rows, but data.holdout is 0; hold some out, or give one learning_rate"
            raise PlacedError(("method", index, "rates"), list(use.rates), problem)


def check_equal_steps(recipe: TaskRecipe) -> None:
    """Methods are compared at equal optimizer steps: raise for one that would take more or fewer than the others."""
    steps = [(use.train.epochs, use.train.batch_size) for use in recipe.methods]
    if len(set(steps)) < 2:
        return
    usual = (recipe.train.epochs, recipe.train.batch_size)
    index = next(place for place, there in enumerate(steps) if there != usual)
    own, other = steps[index], next(place for place, there in enumerate(steps) if there != steps[index])
    problem = (
        f"{own[0]} epochs of batches of {own[1]}, but {recipe.methods[other].label} takes {steps[other][0]} of "
        f"{steps[other][1]}; compare methods at equal steps, or set equal_steps: false"
    )
    raise PlacedError(("method", index, "train"), ABSENT, problem)


def check_starts(recipe: TaskRecipe, tasks: Mapping[str, TaskRecipe]) -> None:
    """Raise where a student starts from that of another task, and this recipe does not train it."""
    for index, student in enumerate(recipe.students):
        start = recipe.start_task(student)
        if start is None:
            continue
        place, others = ("student", index, "start"), [name for name in tasks if name != recipe.task.name]
        if start not in others:
            raise unknown(place, start, "other task of this recipe", others)
        _check_source_trains(place, student, recipe, tasks[start])
        _check_start_circle(place, student, recipe.task.name, tasks)


def _check_source_trains(place: Place, student: Student, recipe: TaskRecipe, source: TaskRecipe) -> None:
    wanted: tuple[tuple[str, set[str], set[str]], ...] = (
        ("student", {student.label}, {other.label for other in source.students}),
        ("method", {use.label for use in recipe.methods}, {use.label for use in source.methods}),
        ("seed", set(map(str, recipe.seeds)), set(map(str, source.seeds))),
    )
    for what, needed, there in wanted:
        if needed - there:
            problem = f"has no {what} {', '.join(sorted(needed - there))}, from which {recipe.task.name} would start"
            raise PlacedError(place, student.start, problem)


def _check_start_circle(place: Place, student: Student, task: str, tasks: Mapping[str, TaskRecipe]) -> None:
    chain, current = [task], student.start
    while current is not None:
        chain.append(current)
        if current in chain[:-1]:
            raise PlacedError(
                place, student.start, f"runs in a circle ({' <- '.join(chain)}); let one of them start by itself"
            )
        there = tasks[current]
        current = next((there.start_task(other) for other in there.students if other.label == student.label), None)

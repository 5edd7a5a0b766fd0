"""The trainings of a task (its students and further models) and their edges from teachers."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.errors import RequestError, refused
from pipeline.graph.candidates import CandidateNodes
from pipeline.graph.context import Model
from pipeline.graph.external.model_configs import check_embeddings, check_scores, check_unpadded
from pipeline.graph.live_models import LiveModels, live_models
from pipeline.graph.nodes import Edge, ExternalInput, Node, ReportedModel
from pipeline.graph.starting_points import StartingPoints
from pipeline.graph.teacher_outputs import ModelOutputs, reported_model
from pipeline.graph.trained_models import after_epoch, trained_model
from pipeline.recipe import ITSELF, TEACHER, Ensemble, MethodUse, Reference, Student
from pipeline.recipe.references import teachers, weighed
from stages.corpus.batches import steps_of
from stages.models.bilstm import BILSTM
from stages.models.heads import changed_head
from stages.models.shape import Shape, started_shape
from stages.outputs.sizes import chosen_layers
from stages.specs.axes.data import MovedEmbeddings, WithGenerator
from stages.specs.axes.structures import LayerStructure
from stages.specs.input_names import CALIBRATION, CANDIDATE_OUTPUTS, OUTPUTS, RATES, numbered, one_or_numbered
from stages.specs.layer_map import check_one_width
from stages.specs.layers import Concatenate, EveryToken, Outputs
from stages.specs.method import Method, without_idle_settings
from stages.specs.student import Bilstm, DistilSpec, Pretrained, Train, rate_text

Teacher = tuple[str, Model]
"""A model that teaches, and the name that its nodes contain."""


@dataclass(frozen=True)
class StudentNodes:
    """The trainings of one task."""

    starting_points: StartingPoints
    outputs: ModelOutputs

    # --- models by name ---

    def model(self, reference: Reference) -> Model:
        """The teacher or a further model: its final state, or after an epoch. Raises RequestError."""
        model = self.starting_points.teacher() if reference.name == TEACHER else self._further_model(reference.name)
        assert reference.epoch != "all", "teachers() has replaced it by the epochs"
        return model if reference.epoch is None else after_epoch(model, reference.epoch)

    def subject(self, reference: Reference) -> ReportedModel:
        """The method, student and seed under which a report lists such a model."""
        return reported_model(self.starting_points.recipe, reference)

    def _further_model(self, name: str) -> Model:
        node, starting_points = self.starting_points.recipe.models[name], self.starting_points
        assert not isinstance(node, Ensemble), "an ensemble is replaced by its members"
        base, full = starting_points.base(node.student), f"distil/{name}@{starting_points.task}"
        if full not in starting_points.context.nodes:
            teacher_models = [(str(one), self.model(one)) for one in teachers(starting_points.recipe, node.taught_by)]
            with refused(f"task {starting_points.task}, models.{name}"):
                spec = self._spec(node.method, node.taught_by, teacher_models, node.student, node.train, base)
                live = live_models(starting_points, spec.method, node.generator, base, teacher_models)
            inputs = self._inputs(spec.method, node.candidates, base, teacher_models, live)
            starting_points.context.get_or_create(
                full, lambda: starting_points.trained(full, "distil", base, spec, inputs, beside=live.held)
            )
        return trained_model(starting_points.context.nodes[full], base)

    # --- students ---

    def student(self, use: MethodUse, student: Student, seed: int) -> Node:
        """The training of a student by one method with one seed. Raises RequestError."""
        return self._of_seed(use, student, seed, ReportedModel(use.label, student.label, seed))

    def _of_seed(self, use: MethodUse, student: Student, seed: int, subject: ReportedModel | None) -> Node:
        """As ``student``; for a method with ``rates``, the training reads those of its sweep."""
        train = use.train.model_copy(update={"seed": seed})
        return self._training(str(seed), use, student, seed, train, use.rates, subject)

    def _at_rate(self, use: MethodUse, student: Student, rate: float) -> Node:
        """The training of a method's sweep at one rate. Its seed is not reported; the models of this recipe that it
        starts from or is taught by are those of the first reported seed, so that a sweep needs no further ones."""
        recipe = self.starting_points.recipe
        train = use.train.model_copy(update={"seed": recipe.sweep_seed, "learning_rate": rate})
        return self._training(f"sweep-{rate_text(rate)}", use, student, recipe.seeds[0], train)

    def trial(self, use: MethodUse, student: Student, seed: int) -> Node:
        """The training of a trial of a search. ``seed`` is not reported; the models of this recipe that the trial
        starts from or is taught by are those of the first reported seed, so that a search needs no further ones."""
        train = use.train.model_copy(update={"seed": seed})
        return self._training("trial", use, student, self.starting_points.recipe.seeds[0], train, use.rates)

    def _training(
        self,
        name: str,
        use: MethodUse,
        student: Student,
        seed: int,
        train: Train,
        rates: tuple[float, ...] = (),
        subject: ReportedModel | None = None,
    ) -> Node:
        """The node ``name`` of a method and a student. ``seed`` is that of the students of this recipe that it starts
        from or that teach it. With ``rates``, it reads the trainings of the sweep."""
        starting_points, task = self.starting_points, self.starting_points.task
        full = f"distil/{use.label}/{student.label}/{name}@{task}"
        if full in starting_points.context.nodes:
            return starting_points.context.nodes[full]
        base = self._base(use, student, seed)
        references = teachers(starting_points.recipe, use.taught_by)
        teacher_models = [self._teacher_of(one, use, student, seed) for one in references]
        with refused(f"task {task}, method {use.label}"):
            spec = self._spec(use.method, use.taught_by, teacher_models, student, train, base, rates)
            live = live_models(starting_points, spec.method, use.generator, base, teacher_models)
        inputs = self._inputs(spec.method, use.candidates, base, teacher_models, live)
        inputs |= numbered(RATES, (Edge(self._at_rate(use, student, rate)) for rate in rates))
        return starting_points.context.get_or_create(
            full, lambda: starting_points.trained(full, "distil", base, spec, inputs, subject, live.held)
        )

    def trained_student(self, node: Node, student: Student) -> Model:
        """The final model of a student's training."""
        return trained_model(node, self.starting_points.base(student))

    def _teacher_of(self, reference: Reference, use: MethodUse, student: Student, seed: int) -> Teacher:
        if reference.name != ITSELF:
            return str(reference), self.model(reference)
        name, node = self.first_generation(use, student, seed)
        return name, self.trained_student(node, student)

    def first_generation(self, use: MethodUse, student: Student, seed: int) -> tuple[str, Node]:
        """Name and node of the first generation of a student that teaches itself: trained alike, without a teacher. If
        a method of the recipe does just that, its student is used. With ``rates`` it has a sweep of its own."""
        starting_points, plain = self.starting_points, Method()
        for other in starting_points.recipe.methods:
            from_model = starting_points.recipe.start_task(student) is None
            if from_model and other.method == plain and (other.train, other.rates) == (use.train, use.rates):
                return f"{other.label}/{student.label}/{seed}", self.student(other, student, seed)
        label = f"{use.label}:{ITSELF}"
        alone = use.model_copy(update={"label": label, "method": plain, "taught_by": (), "candidates": None})
        return f"{label}/{student.label}/{seed}", self._of_seed(alone, student, seed, None)

    def _base(self, use: MethodUse, student: Student, seed: int) -> Model:
        """The model that a student, or its first generation, starts from: its own base, or the student of another task.
        Raises RequestError."""
        base, start = self.starting_points.base(student), self.starting_points.recipe.start_task(student)
        if start is None:
            return base
        task, context = self.starting_points.task, self.starting_points.context
        other = student_nodes(StartingPoints(context, context.tasks[start]))
        uses = {found.label: found for found in other.starting_points.recipe.methods}
        students = {found.label: found for found in other.starting_points.recipe.students}
        label = use.label.removesuffix(f":{ITSELF}")
        if label not in uses or student.label not in students:
            raise RequestError(
                f"overrides.{task}.student.start: {start} has no student {student.label} by {label}; "
                "give that task the same methods and students"
            )
        if seed not in other.starting_points.recipe.seeds:
            raise RequestError(f"overrides.{task}.student.start: {start} has no seed {seed}; use the same seeds")
        return trained_model(other.student(uses[label], students[student.label], seed), base)

    # --- specs, and edges from teachers ---

    def _spec(
        self,
        method: Method,
        references: Sequence[Reference],
        teacher_models: Sequence[Teacher],
        student: Student,
        train: Train,
        base: Model,
        rates: tuple[float, ...] = (),
    ) -> DistilSpec:
        """The spec of a training from ``base``, with the layers to match written out. Raises ValueError if a layer does
        not exist or is not stored, or if an adversary cannot change the student's word embeddings."""
        start = self.starting_points.start(student)
        method = weighed(self.starting_points.recipe, method, references)
        method = without_idle_settings(method, self.starting_points.recipe.task.kind)
        if isinstance(method.data, MovedEmbeddings | WithGenerator):
            check_embeddings(method.data.kind, base.kind.architecture, student.head or base.kind.head)
        check_unpadded(train, BILSTM if isinstance(start, Bilstm) else base.kind.architecture, "train")
        own = started_shape(start, self.starting_points.base(student).shape)
        if method.structure.follows != "nothing":
            if not own.layers:
                raise ValueError(
                    f"structure: {method.structure.kind}, but the student {student.label} is a BiLSTM, which has no "
                    "layers to match; use structure: none, or a student with model, cut or config"
                )
            method = self._resolved(method, own.layers, teacher_models, train.seed)
            if isinstance(method.structure, EveryToken):
                check_every_token(method.structure, student.label, base, own, teacher_models)
                if method.structure.scores and train.unpadded:
                    raise ValueError(
                        "train.unpadded: true, but structure.scores needs the padded attention of the model; give "
                        "train: {unpadded: false} for this method, or scores: false"
                    )
        if method.needs_contrast:
            check_contrast(student.label, own, teacher_models)
        if isinstance(method.data, WithGenerator):
            self._check_turns(method.data, train)
        if self.starting_points.recipe.start_task(student) is not None:  # with the head that the other student has
            start = Pretrained(head=changed_head(student.head, base.kind.head))
        orders = tuple(model.label_order for _, model in teacher_models) if method.needs_live_teacher else ()
        return DistilSpec(
            start=start, method=method, train=train, rates=rates, live_label_orders=orders if any(orders) else ()
        )

    def _check_turns(self, data: WithGenerator, train: Train) -> None:
        """Raise ValueError if all steps of a training are its generator's, as far as its rows are known."""
        sizes = self.starting_points.rows.sizes()
        steps = 0 if sizes is None else train.epochs * steps_of(sizes.trained, train.batch_size)
        if 0 < steps <= data.generator_steps:
            raise ValueError(
                f"data.generator_steps: {data.generator_steps}, but {train.epochs} epochs are {steps} steps, so that "
                "none trains the student; give fewer, or more epochs"
            )

    def _resolved(self, method: Method, own: int, teacher_models: Sequence[Teacher], seed: int) -> Method:
        """The method with the layers to match written out. ``own`` is the student's depth."""
        depths = {name: model.shape.layers for name, model in teacher_models}
        if len(set(depths.values())) > 1:
            listed = ", ".join(f"{name} {depth}" for name, depth in depths.items())
            raise ValueError(
                f"structure: the same layers of each teacher are matched, but the teachers differ in depth ({listed}); "
                "name teachers of one depth, or structure: none"
            )
        (depth,) = set(depths.values())
        if not depth:
            raise ValueError(
                f"structure: {method.structure.kind}, but {teacher_models[0][0]} is a BiLSTM, which has no layers to "
                "follow; use structure: none, or name another teacher"
            )
        structure = method.structure.resolved(own, depth, seed)
        for name, model in teacher_models:
            stored = chosen_layers(self.outputs.layers(name, model), depth)
            structure.check_store(stored, self.starting_points.recipe.store.pooling)
            if model.shape.widths and not isinstance(structure, Concatenate | Outputs):
                check_one_width(structure.layer_groups(), model.shape.widths)
        return method.model_copy(update={"structure": structure})

    def _inputs(
        self,
        method: Method,
        candidates: str | None,
        base: Model,
        teacher_models: Sequence[Teacher],
        live: LiveModels,
    ) -> dict[str, Edge | ExternalInput]:
        """The inputs of a training beside its corpus and its start."""
        return {
            **self._teacher_edges(method, teacher_models),
            **self._candidate_edges(method, candidates, base, teacher_models),
            **live.inputs,
        }

    def _candidate_edges(
        self, method: Method, candidates: str | None, base: Model, teacher_models: Sequence[Teacher]
    ) -> dict[str, Edge]:
        """The inputs of a training for candidates: the table, its texts, and the teachers' outputs on them."""
        if candidates is None or not method.needs_candidates:
            return {}
        check_entries_agree(self.starting_points, candidates, base, teacher_models)
        nodes = CandidateNodes(self.starting_points)
        table, rows, stores = nodes.inputs(candidates, base.tokenizer, teacher_models)
        return {"candidates": table, "candidate_rows": rows, **one_or_numbered(CANDIDATE_OUTPUTS, stores)}

    def _teacher_edges(self, method: Method, teacher_models: Sequence[Teacher]) -> dict[str, Edge]:
        """The inputs of a training from its teachers: their stores, and their calibrations and probes if the method
        needs them."""
        stores = [Edge(self.outputs.store(name, model)) for name, model in teacher_models]
        edges = one_or_numbered(OUTPUTS, stores)
        if method.needs_calibration:
            calibrations = [Edge(self.outputs.calibration(name, model)) for name, model in teacher_models]
            edges |= one_or_numbered(CALIBRATION, calibrations)
        if isinstance(method.structure, EveryToken):
            ((name, model),) = teacher_models
            edges |= {part: Edge(one) for part, one in self.outputs.every_token(name, model, method.structure).items()}
        if method.needs_probes:
            assert isinstance(method.structure, LayerStructure)
            ((name, model),) = teacher_models
            edges["probes"] = Edge(self.outputs.probe(name, model, method.structure))
        return edges


def check_entries_agree(
    starting_points: StartingPoints, candidates: str, base: Model, teacher_models: Sequence[Teacher]
) -> None:
    """Raise RequestError if a student that starts from ``base`` and a teacher would divide candidates into other
    entries: plain texts are divided by a tokenizer."""
    if not starting_points.recipe.task.kind.has_entries:
        return
    for name, model in teacher_models:
        if base.tokenizer.identity != model.tokenizer.identity:
            raise RequestError(
                f"task {starting_points.task}, candidates {candidates}: the student and {name} have different "
                "tokenizers, which divide texts into other words; use models of one tokenizer"
            )


def check_contrast(student: str, own: Shape, teacher_models: Sequence[Teacher]) -> None:
    """Raise ValueError for a student of shape ``own``, or a teacher, without layers, which cannot be contrasted."""
    depths = {f"the student {student}": own.layers, **{name: one.shape.layers for name, one in teacher_models}}
    for name, depth in depths.items():
        if not depth:
            raise ValueError(
                f"data.contrast: {name} is a BiLSTM, which has no layers to contrast; give contrast: null, or name "
                "another model"
            )


def check_every_token(
    structure: EveryToken, student: str, base: Model, own: Shape, teacher_models: Sequence[Teacher]
) -> None:
    """Raise ValueError if a student of shape ``own``, which starts from ``base``, cannot be compared with each teacher
    token by token."""
    for name, model in teacher_models:
        if base.tokenizer.identity != model.tokenizer.identity:
            raise ValueError(
                f"structure: tokens, but the student {student} and {name} have different tokenizers; use a student "
                "with the teacher's tokenizer, or another structure"
            )
        if not structure.scores:
            continue
        for label, one in ((f"student {student}", base), (name, model)):
            check_scores(one.kind.architecture, f"structure.scores ({label})", "set scores: false")
        if own.heads != model.shape.heads:
            raise ValueError(
                f"structure.scores: true, but the student {student} has {own.heads} attention heads and {name} has "
                f"{model.shape.heads}; set scores: false, or give the student as many"
            )


def student_nodes(starting_points: StartingPoints) -> StudentNodes:
    """The builder of a task's trainings."""
    return StudentNodes(starting_points, ModelOutputs(starting_points))

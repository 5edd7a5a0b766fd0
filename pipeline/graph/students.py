"""Who is trained and who teaches: the students and further models of a task, after any epoch of their training."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.errors import RequestError, refused
from pipeline.graph.candidates import CandidateNodes
from pipeline.graph.context import Model
from pipeline.graph.nodes import Edge, Node, ReportedModel
from pipeline.graph.starting_points import StartingPoints, after_epoch, made
from pipeline.graph.teacher_outputs import ModelOutputs
from pipeline.recipe import ITSELF, TEACHER, Ensemble, MethodUse, Reference, Student
from pipeline.recipe.references import teachers, training_of, weighed
from stages.models.shape import started_shape
from stages.outputs.sizes import chosen_layers
from stages.specs.input_names import CANDIDATE_OUTPUTS, OUTPUTS, one_or_numbered
from stages.specs.layer_map import check_store, resolved
from stages.specs.layers import NoLayers, Outputs
from stages.specs.method import Method, without_idle_settings
from stages.specs.student import DistilSpec, Pretrained, Train

Teacher = tuple[str, Model]
"""A model that teaches, with the name under which its nodes stand."""


@dataclass(frozen=True)
class StudentNodes:
    """Trainings of one task."""

    starting_points: StartingPoints
    outputs: ModelOutputs

    # --- models by name ---

    def model(self, reference: Reference) -> Model:
        """The teacher or a further model that is trained, as it ends or after an epoch."""
        model = self.starting_points.teacher() if reference.name == TEACHER else self._further(reference.name)
        assert reference.epoch != "all", "teachers() writes it out"
        return model if reference.epoch is None else after_epoch(model, reference.epoch)

    def subject(self, reference: Reference) -> ReportedModel:
        """What reports call such a model."""
        train = training_of(self.starting_points.recipe, reference.name)
        student = reference.name
        if reference.name == TEACHER:
            student = self.starting_points.recipe.teacher.model.rsplit("/", 1)[-1]
        alone = reference == Reference(name=TEACHER)
        return ReportedModel(TEACHER if alone else f"model:{reference.said}", student, train.seed if train else 0)

    def _further(self, name: str) -> Model:
        node, starting_points = self.starting_points.recipe.models[name], self.starting_points
        assert not isinstance(node, Ensemble), "it teaches as its members"
        base, full = starting_points.base(node.student), f"distil/{name}@{starting_points.task}"
        if full not in starting_points.context.nodes:
            by = [(one.said, self.model(one)) for one in teachers(starting_points.recipe, node.taught_by)]
            with refused(f"task {starting_points.task}, models.{name}"):
                spec = self._spec(node.method, node.taught_by, by, node.student, node.train)
            said = self._said(spec.method, by) | self._beside(spec.method, node.candidates, base, by)
            starting_points.context.once(full, lambda: starting_points.trained(full, "distil", base, spec, said))
        return made(starting_points.context.nodes[full], base)

    # --- students ---

    def student(self, use: MethodUse, student: Student, seed: int) -> Node:
        """A student by one method with one seed."""
        starting_points = self.starting_points
        full = f"distil/{use.label}/{student.label}/{seed}@{starting_points.task}"
        if full in starting_points.context.nodes:
            return starting_points.context.nodes[full]
        train = use.train.model_copy(update={"seed": seed})
        base = self._base(use, student, seed)
        by = [self._teacher_of(one, use, student, seed) for one in teachers(starting_points.recipe, use.taught_by)]
        with refused(f"task {starting_points.task}, method {use.label}"):
            spec = self._spec(use.method, use.taught_by, by, student, train)
        subject = ReportedModel(use.label, student.label, seed)
        said = self._said(spec.method, by) | self._beside(spec.method, use.candidates, base, by)
        return starting_points.context.once(
            full, lambda: starting_points.trained(full, "distil", base, spec, said, subject)
        )

    def made(self, node: Node, student: Student) -> Model:
        """What the training of a student ends with."""
        return made(node, self.starting_points.base(student))

    def _teacher_of(self, reference: Reference, use: MethodUse, student: Student, seed: int) -> Teacher:
        if reference.name != ITSELF:
            return reference.said, self.model(reference)
        name, node = self.first_generation(use, student, seed)
        return name, self.made(node, student)

    def first_generation(self, use: MethodUse, student: Student, seed: int) -> tuple[str, Node]:
        """A student as it teaches itself: trained alike, without a teacher. Where a method of the recipe does just
        that, it is that method's."""
        starting_points, plain = self.starting_points, Method()
        for other in starting_points.recipe.methods:
            if student.start is None and other.method == plain and other.train == use.train:
                return f"{other.label}/{student.label}/{seed}", self.student(other, student, seed)
        name = f"{use.label}:{ITSELF}/{student.label}/{seed}"
        full = f"distil/{name}@{starting_points.task}"
        if full not in starting_points.context.nodes:
            train, base = use.train.model_copy(update={"seed": seed}), self._base(use, student, seed)
            with refused(f"task {starting_points.task}, method {use.label}"):
                spec = self._spec(plain, (), (), student, train)
            starting_points.context.once(full, lambda: starting_points.trained(full, "distil", base, spec))
        return name, starting_points.context.nodes[full]

    def _base(self, use: MethodUse, student: Student, seed: int) -> Model:
        """What a student starts from: its own base, or the student of another task."""
        base = self.starting_points.base(student)
        if student.start is None:
            return base
        task, context = self.starting_points.task, self.starting_points.context
        other = student_nodes(StartingPoints(context, context.tasks[student.start]))
        uses = {found.label: found for found in other.starting_points.recipe.methods}
        students = {found.label: found for found in other.starting_points.recipe.students}
        if use.label not in uses or student.label not in students:
            raise RequestError(
                f"overrides.{task}.student.start: {student.start} has no student {student.label} by {use.label}; "
                "give that task the same methods and students"
            )
        if seed not in other.starting_points.recipe.seeds:
            raise RequestError(
                f"overrides.{task}.student.start: {student.start} has no seed {seed}; use the same seeds"
            )
        return made(other.student(uses[use.label], students[student.label], seed), base)

    # --- what is learned from whom ---

    def _spec(
        self, method: Method, references: Sequence[Reference], by: Sequence[Teacher], student: Student, train: Train
    ) -> DistilSpec:
        """The training, with every layer named that it matches. ValueError where a layer is not there or not stored."""
        start = self.starting_points.start(student)
        method = weighed(self.starting_points.recipe, method, references)
        method = without_idle_settings(method, self.starting_points.recipe.task.regression)
        if not isinstance(method.structure, NoLayers):
            own = started_shape(start, self.starting_points.base(student).shape).layers
            method = self._resolved(method, own, by, train.seed)
        return DistilSpec(start=Pretrained() if student.start is not None else start, method=method, train=train)

    def _resolved(self, method: Method, own: int, by: Sequence[Teacher], seed: int) -> Method:
        """``own`` is the student's depth."""
        depths = {name: model.shape.layers for name, model in by}
        if len(set(depths.values())) > 1:
            said = ", ".join(f"{name} {depth}" for name, depth in depths.items())
            raise ValueError(
                f"structure: the same layers of each teacher are followed, and they differ in depth ({said}); "
                "name teachers of one depth, or structure: none"
            )
        (depth,) = set(depths.values())
        structure = resolved(method.structure, own, depth, seed)
        for name, model in by:
            stored = chosen_layers(self.outputs.layers(name, model), depth)
            check_store(structure, stored, self.starting_points.recipe.store.pooling)
        return method.model_copy(update={"structure": structure})

    def _beside(self, method: Method, candidates: str | None, base: Model, by: Sequence[Teacher]) -> dict[str, Edge]:
        """The candidates that a training reads, and what its teachers say of them."""
        if candidates is None or not method.needs_candidates:
            return {}
        nodes = CandidateNodes(self.starting_points)
        table, rows, stores = nodes.inputs(candidates, base.tokenizer, by)
        return {"candidates": table, "candidate_rows": rows, **one_or_numbered(CANDIDATE_OUTPUTS, stores)}

    def _said(self, method: Method, by: Sequence[Teacher]) -> dict[str, Edge]:
        """What a training reads of its teachers."""
        stores = [Edge(self.outputs.store(name, model)) for name, model in by]
        said = one_or_numbered(OUTPUTS, stores)
        if isinstance(method.structure, Outputs):
            ((name, model),) = by
            said["probes"] = Edge(self.outputs.probe(name, model, method.structure))
        return said


def student_nodes(starting_points: StartingPoints) -> StudentNodes:
    return StudentNodes(starting_points, ModelOutputs(starting_points))

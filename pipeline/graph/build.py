"""A recipe -> its graph. External inputs are resolved to the digests of their contents, and whatever can be found wrong
before work starts is refused.

A student's teachers are edges: the recipe's teacher, further models, either of them after an epoch, or the student
itself in an earlier generation.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from pipeline.graph.context import GraphContext
from pipeline.graph.embedding_tasks import EmbeddingGraph
from pipeline.graph.external.digests import Digests
from pipeline.graph.external.hub import Pins
from pipeline.graph.nodes import Edge, Graph, Node, ReportedModel
from pipeline.graph.starting_points import StartingPoints
from pipeline.graph.students import StudentNodes, student_nodes
from pipeline.recipe import ITSELF, TEACHER, Ensemble, MethodUse, Recipe, Reference, Student, TaskRecipe
from pipeline.recipe.checks import schedule_warnings
from pipeline.recipe.references import teachers


def build_graph(recipe: Recipe, digests: Digests, pins: Pins, reads_data: bool = True) -> Graph:
    """The graph of all tasks, methods, students and seeds of ``recipe``. Without ``reads_data``, rows of data that were
    not read before are unknown, and what is wrong with them is not noticed. Raises RequestError."""
    context = GraphContext(digests, pins, {task.task.name: task for task in recipe.tasks}, reads_data)
    wanted: list[Node] = []
    for task in recipe.tasks:
        for line in schedule_warnings(task):
            context.warn(line)
        starting_points = StartingPoints(context, task)
        if task.kind == "embedding":
            wanted += EmbeddingGraph(starting_points).wanted()
        else:
            wanted += TaskGraph(task, student_nodes(starting_points)).wanted()
    return replace(Graph.of(wanted), warnings=tuple(context.warnings))


@dataclass(frozen=True)
class TaskGraph:
    """The wanted nodes of one task: the students, and the evaluations of all models."""

    recipe: TaskRecipe
    student_nodes: StudentNodes

    def wanted(self) -> list[Node]:
        """The teacher's evaluation and stores that the recipe wants in any case, then further models, then masked
        language models, then students."""
        nodes = [self._evaluation(Reference(name=TEACHER)), *self.student_nodes.outputs.extra_stores()]
        for epoch in self._epochs(TEACHER):
            nodes.append(self._evaluation(epoch))
        for name, model in self.recipe.models.items():
            if isinstance(model, Ensemble):
                members = [self._evaluation(member) for member in teachers(self.recipe, model.members)]
                nodes += [*members, self.student_nodes.outputs.ensemble(name, members, model.shares)]
            else:
                nodes += [self._evaluation(Reference(name=name)), *map(self._evaluation, self._epochs(name))]
        nodes += [self._masked_model(name) for name in self.recipe.masked_models]
        for use in self.recipe.methods:
            for student in self.recipe.students:
                for seed in self.recipe.seeds:
                    nodes += self._student(use, student, seed)
        return nodes

    def _masked_model(self, name: str) -> Node:
        """The training of a masked language model. No evaluation or student need depend on it."""
        source = self.student_nodes.starting_points.masked_model(name).source
        assert isinstance(source, Edge)
        return source.source

    def _student(self, use: MethodUse, student: Student, seed: int) -> Iterator[Node]:
        """A student and its evaluation; before them, for one that teaches itself, the evaluation of its first
        generation."""
        node = self.student_nodes.student(use, student, seed)
        assert node.subject is not None
        if Reference(name=ITSELF) in use.taught_by:
            name, first = self.student_nodes.first_generation(use, student, seed)
            subject = first.subject or ReportedModel(f"model:{use.label}:{ITSELF}", student.label, seed)
            yield self.student_nodes.outputs.evaluation(
                name, self.student_nodes.trained_student(first, student), subject
            )
        yield node
        name = f"{use.label}/{student.label}/{seed}"
        yield self.student_nodes.outputs.evaluation(
            name, self.student_nodes.trained_student(node, student), node.subject
        )

    def _evaluation(self, reference: Reference) -> Node:
        model, subject = self.student_nodes.model(reference), self.student_nodes.subject(reference)
        return self.student_nodes.outputs.evaluation(str(reference), model, subject)

    def _epochs(self, name: str) -> Iterator[Reference]:
        """The epochs after which a model is a teacher or a member of an ensemble. Each is evaluated, for the report."""
        found: dict[Reference, None] = {}
        for use in self.recipe.methods:
            found |= dict.fromkeys(teachers(self.recipe, use.taught_by))
        for model in self.recipe.models.values():
            given = model.members if isinstance(model, Ensemble) else model.taught_by
            found |= dict.fromkeys(teachers(self.recipe, given))
        epochs = [one for one in found if one.name == name and isinstance(one.epoch, int)]
        yield from sorted(epochs, key=lambda one: one.epoch or 0)

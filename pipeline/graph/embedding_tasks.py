"""The nodes of a task of the kind ``embedding``: sentence encoders that follow the teacher's embeddings of the bank's
texts, and the scores of all on the task's pairs."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from pipeline.graph.context import Model, check_length
from pipeline.graph.nodes import Edge, Node, ReportedModel
from pipeline.graph.starting_points import StartingPoints
from pipeline.graph.teacher_outputs import reported_model
from pipeline.graph.unlabelled.embeddings import (
    EmbeddingStart,
    EmbeddingTeacher,
    embedding_student,
    modules_of,
    trained_encoder,
)
from pipeline.graph.unlabelled.states import StateTeacher
from pipeline.recipe import TEACHER, MethodUse, Reference, Student
from stages.models.sentences import SentenceModules
from stages.specs.evaluation import SimilaritySpec
from stages.specs.student import Cut


@dataclass(frozen=True)
class EmbeddingGraph:
    """The wanted nodes of one task: the students, and the scores of all models."""

    starting_points: StartingPoints

    def wanted(self) -> list[Node]:
        """The teacher's scores, then models that are pretrained, then students with theirs."""
        recipe = self.starting_points.recipe
        subject = reported_model(recipe, Reference(name=TEACHER))
        nodes = [self._scores(TEACHER, self.teacher.model, subject)]
        for name in recipe.masked_models:
            source = self.starting_points.masked_model(name).source
            assert isinstance(source, Edge)
            nodes.append(source.source)
        for use in recipe.methods:
            for student in recipe.students:
                for seed in recipe.seeds:
                    nodes += self._student(use, student, seed)
        return nodes

    @cached_property
    def teacher(self) -> EmbeddingTeacher:
        """The teacher with what comes after its last layer. Raises RequestError."""
        starting_points = self.starting_points
        model, recipe = starting_points.teacher(), starting_points.recipe
        check_length(model, f"the teacher {recipe.teacher.model}", "train.max_length", recipe.max_length)
        modules: SentenceModules = modules_of(model, recipe.store, "teacher.model")
        return EmbeddingTeacher(StateTeacher(TEACHER, model, starting_points.texts("bank", model.tokenizer)), modules)

    def _student(self, use: MethodUse, student: Student, seed: int) -> Iterator[Node]:
        """A student and its scores."""
        starting_points, recipe = self.starting_points, self.starting_points.recipe
        given, name = self._start(student), f"{use.label}/{student.label}/{seed}"
        full = f"pretrain/{name}@{starting_points.task}"
        node = starting_points.context.get_or_create(
            full,
            lambda: embedding_student(
                starting_points.context,
                full,
                starting_points.task,
                use,
                student,
                given,
                self.teacher,
                recipe.store,
                recipe.max_length,
                seed,
            ),
        )
        assert node.subject is not None
        yield node
        yield self._scores(name, trained_encoder(node, given), node.subject)

    def _start(self, student: Student) -> EmbeddingStart:
        """What a student starts from: layers of the teacher, another model, a pretrained one, or random weights."""
        starting_points, where = self.starting_points, f"student {student.label}"
        named = starting_points.recipe.start_model(student)
        base = starting_points.given_base(student, where) if named is None else starting_points.masked_model(named)
        start = starting_points.weights(student, base, where)
        if isinstance(start, Cut):  # no outputs stand for labels
            start = start.model_copy(update={"label_order": None})
        return EmbeddingStart(base, start, starting_points.texts("bank", base.tokenizer))

    def _scores(self, name: str, model: Model, subject: ReportedModel) -> Node:
        """The scores of a sentence encoder on the dev and test splits."""
        starting_points, full = self.starting_points, f"evaluate/{name}@{self.starting_points.task}"
        inputs = {"corpus": Edge(starting_points.corpus(model.tokenizer)), "model": model.source}
        spec, rows = SimilaritySpec(pooling=self.teacher.modules.pooling), starting_points.rows.evaluated()
        return starting_points.context.get_or_create(
            full, lambda: Node(full, "evaluate", starting_points.task, spec, inputs, subject, rows=rows)
        )

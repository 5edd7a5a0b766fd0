"""What everything of a task starts from: its rows in tokens, the teacher, and whose weights a student begins with."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from pipeline.errors import RequestError, refused
from pipeline.graph.context import GraphContext, Model
from pipeline.graph.external_inputs import data_file
from pipeline.graph.nodes import MODEL, Edge, ExternalInput, Node, Quantity, ReportedModel
from pipeline.graph.row_counts import TaskRows
from pipeline.recipe import Student, TaskRecipe
from stages.models.label_order import label_order
from stages.models.shape import config_of, started_shape
from stages.specs.corpus import CorpusSpec
from stages.specs.student import Cut, DistilSpec, Fresh, Pretrained, Start, Train

BESIDE_WEIGHTS = 2_000_000
"""Bytes that a saved model has beside its weights, at most: tokenizer, configuration, card."""


@dataclass(frozen=True)
class StartingPoints:
    """Corpora and starts of one task."""

    context: GraphContext
    recipe: TaskRecipe

    @property
    def task(self) -> str:
        return self.recipe.task.name

    @property
    def rows(self) -> TaskRows:
        return TaskRows(self.context, self.recipe)

    # --- the corpus ---

    def corpus(self, tokenizer: ExternalInput) -> Node:
        """The task's rows in the tokens of ``tokenizer``."""
        known = f"corpus@{self.task}"
        first = self.context.nodes.get(known)
        other = first is not None and first.inputs["tokenizer"] != tokenizer
        name = f"corpus/{tokenizer.identity[:8]}@{self.task}" if other else known
        return self.context.once(name, lambda: self._corpus(name, tokenizer))

    def _corpus(self, name: str, tokenizer: ExternalInput) -> Node:
        recipe, data = self.recipe, self.recipe.data
        source, files = self.rows.source()
        with refused(f"task {self.task}"):
            spec = CorpusSpec(
                task=recipe.task,
                source=source,
                max_length=recipe.max_length,
                train_rows=data.train_rows,
                eval_rows=data.eval_rows,
                sample_seed=data.sample_seed,
                holdout=data.holdout,
            )
            rows = self.rows.by_split()
            inputs: dict[str, Edge | ExternalInput] = {"tokenizer": tokenizer}
            inputs |= {f"data/{split}": data_file(path, self.context.digests) for split, path in files.items()}
        total = Quantity.exact(sum(rows.values())) if rows else Quantity.unknown("it has run")
        return Node(name, "corpus", self.task, spec, inputs, rows=total)

    # --- models ---

    def teacher(self) -> Model:
        """The teacher: as it is given, or fine-tuned first."""
        teacher, finetune = self.recipe.teacher, self.recipe.teacher.finetune
        base = self.context.outside(teacher.model, "teacher.model")
        if finetune is None:
            assert isinstance(base.source, ExternalInput)
            with refused(f"task {self.task}"):
                order = label_order(config_of(base.source.path), self.recipe.task, teacher.labels)
            return Model(base.source, base.tokenizer, base.shape, base.size, order)
        name = f"finetune@{self.task}"
        return made(self.context.once(name, lambda: self._finetuned(name, base, finetune)), base)

    def _finetuned(self, name: str, base: Model, finetune: Train) -> Node:
        return self.trained(name, "finetune", base, DistilSpec(start=Pretrained(), train=finetune))

    def base(self, student: Student) -> Model:
        """Whose weights, configuration and tokenizer a student starts with."""
        if student.from_teacher is not None:
            return self.teacher()
        if student.config is not None:
            return self.context.outside(student.config.model, f"student {student.label}: config.model")
        assert student.model is not None
        return self.context.outside(student.model, f"student {student.label}: model")

    def start(self, student: Student) -> Start:
        """What a student takes of its base. RequestError for a layer that the teacher lacks."""
        if student.from_teacher is not None:
            teacher = self.teacher()
            wrong = [layer for layer in student.from_teacher if layer >= teacher.shape.layers]
            if wrong:
                raise RequestError(
                    f"student.from_teacher: {list(student.from_teacher)}, the teacher has no layer {wrong[0]}; "
                    f"it has 0 to {teacher.shape.layers - 1}"
                )
            return Cut(layers=student.from_teacher, label_order=teacher.label_order)
        if student.config is not None:
            return Fresh(changes=student.config.changes)
        return Pretrained()

    def trained(
        self,
        name: str,
        role: str,
        base: Model,
        spec: DistilSpec,
        said: Mapping[str, Edge] | None = None,
        subject: ReportedModel | None = None,
    ) -> Node:
        """A training from ``base``. ``said`` is what it reads of teachers."""
        corpus = self.corpus(base.tokenizer)
        inputs: dict[str, Edge | ExternalInput] = {"corpus": Edge(corpus), "start": base.source, **(said or {})}
        size = Quantity.at_most((base.size + BESIDE_WEIGHTS) * (1 + epochs_kept(spec.train)))
        return Node(name, role, self.task, spec, inputs, subject, self.rows.train(corpus), size)


def epochs_kept(train: Train) -> int:
    """How many models are kept beside the best."""
    return train.epochs if train.keep == "epochs" else 0


def made(node: Node, base: Model) -> Model:
    """The model that a training from ``base`` ends with."""
    assert isinstance(node.spec, DistilSpec)
    return Model(Edge(node, MODEL), base.tokenizer, started_shape(node.spec.start, base.shape), base.size)


def after_epoch(model: Model, epoch: int) -> Model:
    """A trained model as it was after that epoch."""
    assert isinstance(model.source, Edge)
    return replace(model, source=Edge(model.source.source, f"epochs/{epoch:02d}"))

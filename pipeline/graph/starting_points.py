"""What the models of a task start from: the corpus, the teacher, and the model whose weights a student is given."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from pipeline.errors import RequestError, refused
from pipeline.graph.context import GraphContext, Model
from pipeline.graph.data_size import corpus_bytes
from pipeline.graph.external_inputs import data_file
from pipeline.graph.nodes import MODEL, Edge, ExternalInput, Node, Quantity, ReportedModel
from pipeline.graph.row_counts import TaskRows
from pipeline.recipe import Student, TaskRecipe
from stages.models.label_order import label_order
from stages.models.shape import config_of, started_shape
from stages.specs.corpus import CorpusSpec
from stages.specs.student import Cut, DistilSpec, Fresh, Pretrained, Start, Train

EXTRA_BYTES = 2_000_000
"""A bound on the bytes of a saved model beside its weights: tokenizer, configuration, model card."""


@dataclass(frozen=True)
class StartingPoints:
    """The corpora of one task, its teacher, and the starts of its students."""

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
        """The node of the task's rows, tokenised by ``tokenizer``."""
        known = f"corpus@{self.task}"
        first = self.context.nodes.get(known)
        other = first is not None and first.inputs["tokenizer"] != tokenizer
        name = f"corpus/{tokenizer.identity[:8]}@{self.task}" if other else known
        return self.context.get_or_create(name, lambda: self._corpus(name, tokenizer))

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
            sizes = self.rows.sizes()
            inputs: dict[str, Edge | ExternalInput] = {"tokenizer": tokenizer}
            inputs |= {f"data/{split}": data_file(path, self.context.digests) for split, path in files.items()}
        # Without a dev split, all rows of the source are in the corpus unless it is sampled.
        sampled = not recipe.task.dev and (data.train_rows is not None or data.eval_rows is not None)
        total = sizes.quantity(sizes.rows) if sampled else Quantity.exact(sizes.rows)
        size = Quantity.about(corpus_bytes(files.values(), sizes.rows, recipe, self.context.digests))
        return Node(name, "corpus", self.task, spec, inputs, rows=total, bytes=size, splits=sizes)

    # --- models ---

    def teacher(self) -> Model:
        """The teacher: the external model, or that model fine-tuned on the task. Raises RequestError."""
        teacher, finetune = self.recipe.teacher, self.recipe.teacher.finetune
        base = self.context.external_model(teacher.model, "teacher.model")
        if finetune is None:
            assert isinstance(base.source, ExternalInput)
            with refused(f"task {self.task}"):
                order = label_order(config_of(base.source.path), self.recipe.task, teacher.labels)
            return Model(base.source, base.tokenizer, base.shape, base.size, order)
        name = f"finetune@{self.task}"
        return trained_model(self.context.get_or_create(name, lambda: self._finetuned(name, base, finetune)), base)

    def _finetuned(self, name: str, base: Model, finetune: Train) -> Node:
        return self.trained(name, "finetune", base, DistilSpec(start=Pretrained(), train=finetune))

    def base(self, student: Student) -> Model:
        """The model that a student's weights, configuration and tokenizer come from. Raises RequestError."""
        if student.from_teacher is not None:
            return self.teacher()
        if student.config is not None:
            return self.context.external_model(student.config.model, f"student {student.label}: config.model")
        assert student.model is not None
        return self.context.external_model(student.model, f"student {student.label}: model")

    def start(self, student: Student) -> Start:
        """How a student is made from its base. Raises RequestError for a layer that the teacher does not have."""
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
        teacher_edges: Mapping[str, Edge] | None = None,
        subject: ReportedModel | None = None,
    ) -> Node:
        """A training that starts from ``base``. ``teacher_edges`` are its inputs from teachers and candidates."""
        corpus = self.corpus(base.tokenizer)
        inputs: dict[str, Edge | ExternalInput] = {
            "corpus": Edge(corpus),
            "start": base.source,
            **(teacher_edges or {}),
        }
        size = Quantity.at_most((base.size + EXTRA_BYTES) * (1 + epochs_kept(spec.train)))
        return Node(name, role, self.task, spec, inputs, subject, self.rows.train(), size)


def epochs_kept(train: Train) -> int:
    """The number of models that a training keeps beside the best one."""
    return train.epochs if train.keep == "epochs" else 0


def trained_model(node: Node, base: Model) -> Model:
    """The final model of a training that starts from ``base``."""
    assert isinstance(node.spec, DistilSpec)
    return Model(Edge(node, MODEL), base.tokenizer, started_shape(node.spec.start, base.shape), base.size)


def after_epoch(model: Model, epoch: int) -> Model:
    """A trained model as it was after epoch ``epoch``."""
    assert isinstance(model.source, Edge)
    return replace(model, source=Edge(model.source.source, f"epochs/{epoch:02d}"))

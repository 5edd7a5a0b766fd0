"""A recipe -> its graph. Everything outside is resolved to content here, and everything that can be known
to be wrong before work starts is refused.

Who teaches is an edge: the teacher, or any further model of the recipe.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from pipeline.composer import Composer, Model, refused
from pipeline.errors import RequestError
from pipeline.graph import Edge, Figure, Graph, Node, Outside, Subject
from pipeline.outside import Digests, Pins, data_file
from pipeline.recipe import TEACHER, MethodUse, Recipe, Student, TaskRecipe
from pipeline.task_rows import TaskRows
from pipeline.tiers import store_bytes
from stages.cost import Extent, chosen_layers
from stages.groups import check_store, resolved
from stages.heads import label_order
from stages.method import Method
from stages.shape import config_of, started_shape
from stages.specs import CorpusSpec, Cut, DistilSpec, EvaluateSpec, Fresh, Pretrained, Start, TeachSpec


def compose(recipe: Recipe, digests: Digests, pins: Pins) -> Graph:
    """The graph of all tasks, methods, students and seeds of ``recipe``. Raises RequestError."""
    composer = Composer(digests, pins, {task.task.name: task for task in recipe.tasks})
    wanted: list[Node] = []
    for task in recipe.tasks:
        wanted += TaskGraph(composer, task).wanted()
    return Graph.of(wanted)


@dataclass(frozen=True)
class TaskGraph:
    """The nodes of one task."""

    composer: Composer
    recipe: TaskRecipe

    @property
    def task(self) -> str:
        return self.recipe.task.name

    @property
    def rows(self) -> TaskRows:
        return TaskRows(self.composer, self.recipe)

    def wanted(self) -> list[Node]:
        """Students and evaluations: what the recipe is run for. The teacher's evaluation comes first."""
        teacher = Subject(TEACHER, self.recipe.teacher.model.rsplit("/", 1)[-1], self._teacher_seed())
        nodes = [self._evaluation(TEACHER, self.teacher(), teacher), *self._parts()]
        for name in self.recipe.models:
            model, subject = self._model(name), Subject(f"model:{name}", name, self.recipe.models[name].train.seed)
            nodes.append(self._evaluation(name, model, subject))
        for use in self.recipe.methods:
            for student in self.recipe.students:
                for seed in self.recipe.seeds:
                    node = self.student(use, student, seed)
                    made = self._made(node, self._student_base(student))
                    assert node.subject is not None
                    nodes += [node, self._evaluation(f"{use.label}/{student.label}/{seed}", made, node.subject)]
        return nodes

    def _teacher_seed(self) -> int:
        finetune = self.recipe.teacher.finetune
        return finetune.seed if finetune else 0

    # --- the corpus ---

    def corpus(self, tokenizer: Outside) -> Node:
        """The task's rows in the tokens of ``tokenizer``."""
        known = f"corpus@{self.task}"
        first = self.composer.nodes.get(known)
        other = first is not None and first.inputs["tokenizer"] != tokenizer
        name = f"corpus/{tokenizer.identity[:8]}@{self.task}" if other else known
        return self.composer.once(name, lambda: self._corpus(name, tokenizer))

    def _corpus(self, name: str, tokenizer: Outside) -> Node:
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
            inputs: dict[str, Edge | Outside] = {"tokenizer": tokenizer}
            inputs |= {f"data/{split}": data_file(path, self.composer.digests) for split, path in files.items()}
        total = Figure.exact(sum(rows.values())) if rows else Figure.unknown("it has run")
        return Node(name, "corpus", self.task, spec, inputs, rows=total)

    # --- models ---

    def teacher(self) -> Model:
        """The teacher: as it is given, or fine-tuned first."""
        teacher = self.recipe.teacher
        base = self.composer.outside(teacher.model, "teacher.model")
        if teacher.finetune is None:
            assert isinstance(base.source, Outside)
            with refused(f"task {self.task}"):
                order = label_order(config_of(base.source.path), self.recipe.task, teacher.labels)
            return Model(base.source, base.tokenizer, base.shape, base.size, order)
        spec = DistilSpec(start=Pretrained(), train=teacher.finetune)
        name = f"finetune@{self.task}"
        return self._made(self.composer.once(name, lambda: self._distil(name, "finetune", base, spec, None)), base)

    def _model(self, name: str) -> Model:
        """A further model of the recipe: ``teacher`` or one of ``models``."""
        if name == TEACHER:
            return self.teacher()
        node = self.recipe.models[name]
        base = self._student_base(node.student)
        with refused(f"task {self.task}, models.{name}"):
            method = self._resolved(node.method, node.student, node.taught_by)
            spec = DistilSpec(start=self._start(node.student), method=method, train=node.train)
        full = f"distil/{name}@{self.task}"
        return self._made(
            self.composer.once(full, lambda: self._distil(full, "distil", base, spec, node.taught_by)), base
        )

    def student(self, use: MethodUse, student: Student, seed: int) -> Node:
        """A student by one method with one seed."""
        name = f"distil/{use.label}/{student.label}/{seed}@{self.task}"
        if name in self.composer.nodes:
            return self.composer.nodes[name]
        with refused(f"task {self.task}, method {use.label}"):
            train = use.train.model_copy(update={"seed": seed})
            method = self._resolved(use.method, student, use.taught_by)
            spec = DistilSpec(start=self._start(student), method=method, train=train)
        base = self._student_base(student)
        if student.start is not None:
            base = self._started_from(use, student, seed, base)
            spec = spec.model_copy(update={"start": Pretrained()})
        taught_by = use.taught_by if use.method.needs_teacher else None
        subject = Subject(use.label, student.label, seed)
        return self.composer.once(name, lambda: self._distil(name, "distil", base, spec, taught_by, subject))

    def _started_from(self, use: MethodUse, student: Student, seed: int, base: Model) -> Model:
        """The student of another task that this one starts from."""
        assert student.start is not None
        other = TaskGraph(self.composer, self.composer.tasks[student.start])
        uses = {found.label: found for found in other.recipe.methods}
        students = {found.label: found for found in other.recipe.students}
        if use.label not in uses or student.label not in students:
            raise RequestError(
                f"overrides.{self.task}.student.start: {student.start} has no student {student.label} by {use.label}; "
                "give that task the same methods and students"
            )
        if seed not in other.recipe.seeds:
            raise RequestError(
                f"overrides.{self.task}.student.start: {student.start} has no seed {seed}; use the same seeds"
            )
        return self._made(other.student(uses[use.label], students[student.label], seed), base)

    def _student_base(self, student: Student) -> Model:
        """Whose weights, configuration and tokenizer a student starts with."""
        if student.from_teacher is not None:
            return self.teacher()
        if student.config is not None:
            return self.composer.outside(student.config.model, f"student {student.label}: config.model")
        assert student.model is not None
        return self.composer.outside(student.model, f"student {student.label}: model")

    def _start(self, student: Student) -> Start:
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

    def _resolved(self, method: Method, student: Student, taught_by: str | None) -> Method:
        """The method with every layer named that it matches. ValueError where a layer is not there or not stored."""
        if not method.needs_layers:
            return method
        depth = self._model(taught_by or TEACHER).shape.layers
        own = started_shape(self._start(student), self._student_base(student).shape).layers
        structure, store = resolved(method.structure, own, depth), self.recipe.store
        check_store(structure, chosen_layers(store.layers, depth), store.pooling)
        return method.model_copy(update={"structure": structure})

    def _distil(
        self, name: str, role: str, base: Model, spec: DistilSpec, taught_by: str | None, subject: Subject | None = None
    ) -> Node:
        corpus = self.corpus(base.tokenizer)
        inputs: dict[str, Edge | Outside] = {"corpus": Edge(corpus), "start": base.source}
        if taught_by is not None:
            inputs["outputs"] = Edge(self.store(taught_by))
        rows, size = self.rows.train(corpus), Figure.at_most(base.size + 2_000_000)
        return Node(name, role, self.task, spec, inputs, subject, rows, size)

    def _made(self, node: Node, base: Model) -> Model:
        assert isinstance(node.spec, DistilSpec)
        return Model(Edge(node, "model"), base.tokenizer, started_shape(node.spec.start, base.shape), base.size)

    # --- what models say ---

    def store(self, teacher: str) -> Node:
        """The outputs of a model of the recipe over the task's train split: logits and pooled states."""
        return self._store(teacher, "pooled", self.recipe.store.layers)

    def _parts(self) -> Iterator[Node]:
        """What the recipe wants stored of the teacher whether or not a method asks for it."""
        for part, layers in (("tokens", self.recipe.store.tokens), ("attention", self.recipe.store.attention)):
            if layers is not None:
                yield self._store(TEACHER, part, layers)

    def _store(self, teacher: str, part: str, wanted: Literal["all"] | tuple[int, ...]) -> Node:
        model, block = self._model(teacher), self.recipe.store
        corpus = self.corpus(model.tokenizer)
        # Attention maps have no dimensions that int8 could scale.
        precision = "float16" if part == "attention" and block.precision == "int8" else block.precision
        with refused(f"task {self.task}"):
            layers = chosen_layers(wanted, model.shape.layers, part)
            if part == "attention" and not model.shape.heads:
                raise ValueError("store.attention: the teacher's config.json names no attention heads; leave it out")
            spec = TeachSpec.model_validate(
                {
                    "part": part,
                    "pooling": block.pooling if part == "pooled" else "mean",
                    "layers": wanted,
                    "precision": precision,
                    "compute": block.compute,
                    "label_order": model.label_order if part == "pooled" else None,
                }
            )
        shape, rows = model.shape, self.rows.train(corpus)
        extent = Extent(len(layers), shape.width, self.recipe.task.outputs, shape.heads, self.recipe.max_length)
        known = None if rows.value is None else store_bytes(spec, extent, rows.value)
        size = Figure.unknown(corpus.name) if known is None else Figure.at_most(known)
        own = "teach" if part == "pooled" else part
        name = f"{own}@{self.task}" if teacher == TEACHER else f"{own}/{teacher}@{self.task}"
        inputs = {"corpus": Edge(corpus), "model": model.source}
        return self.composer.once(
            name, lambda: Node(name, "teach", self.task, spec, inputs, rows=rows, bytes=size, extent=extent)
        )

    def _evaluation(self, name: str, model: Model, subject: Subject) -> Node:
        corpus = self.corpus(model.tokenizer)
        spec = EvaluateSpec(label_order=model.label_order)
        inputs = {"corpus": Edge(corpus), "model": model.source}
        return Node(
            f"evaluate/{name}@{self.task}", "evaluate", self.task, spec, inputs, subject, rows=self.rows.evaluated()
        )

"""What the models of a task start from: the corpus, the teacher, and the model whose weights a student is given."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from pipeline.errors import RequestError, refused
from pipeline.graph.artifact_sizes import outputs_of_row
from pipeline.graph.context import FLOAT32_BYTES, GraphContext, Model, check_length, started_bytes
from pipeline.graph.external.inputs import data_input
from pipeline.graph.external.model_configs import check_classifier, check_cut, check_unpadded
from pipeline.graph.image_models import image_model
from pipeline.graph.nodes import (
    NO_INPUT,
    Edge,
    ExternalInput,
    HeldModels,
    ModelKind,
    Node,
    Quantity,
    ReportedModel,
)
from pipeline.graph.row_counts import TaskRows
from pipeline.graph.trained_models import epochs_kept, trained_model
from pipeline.graph.unlabelled.bank import BankNodes
from pipeline.graph.unlabelled.pretraining import Texts, masked_model
from pipeline.graph.unlabelled.states import StateTeacher, state_student
from pipeline.recipe import BASE, TEACHER, Student, TaskRecipe
from pipeline.recipe.schema.starts import BilstmBlock
from stages.models.bilstm import BILSTM, bilstm_parameters, separates_texts
from stages.models.config_fields import with_defaults
from stages.models.heads import POOLING_FIELD, changed_head, check_head, trained_with_mean_pooling
from stages.models.label_order import label_order
from stages.models.shape import config_of
from stages.models.weights_header import weight_shapes, word_embedding_width
from stages.specs.corpus import CorpusSpec
from stages.specs.student import Bilstm, Cut, DistilSpec, Fresh, Head, Network, Pretrained, Start, Train

EXTRA_BYTES = 2_000_000
"""A bound on the bytes of a saved model beside its weights: tokenizer, configuration, model card."""

RANDOM_WIDTH = 300
"""The width of random word embeddings of a BiLSTM where the recipe gives none."""

PREDICTION_BYTES = 48
"""A bound on the bytes of a row's prediction without its logits: number, key, label, predicted label."""


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
        other = first is not None and first.inputs.get("tokenizer", NO_INPUT) != tokenizer
        name = f"corpus/{tokenizer.identity[:8] or 'own'}@{self.task}" if other else known
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
                holdout_min_rows=data.holdout_min_rows if data.holdout else 0,
                augmentation=data.views,
            )
            sizes = self.rows.sizes()
            inputs: dict[str, Edge | ExternalInput] = {} if tokenizer == NO_INPUT else {"tokenizer": tokenizer}
            inputs |= {f"data/{split}": data_input(path, self.context.digests) for split, path in files.items()}
        # Without a dev split, all rows of the source are in the corpus unless it is sampled.
        sampled = not recipe.task.dev and (data.train_rows is not None or data.eval_rows is not None)
        if sizes is None:
            return Node(name, "corpus", self.task, spec, inputs)
        total = sizes.quantity(sizes.rows) if sampled else Quantity.exact(sizes.rows)
        size = Quantity.about(self.rows.corpus_bytes(sizes.rows))
        return Node(name, "corpus", self.task, spec, inputs, rows=total, bytes=size, splits=sizes)

    # --- models ---

    def teacher(self) -> Model:
        """The teacher: the external model, or that model fine-tuned on the task. A sentence encoder has no head, and is
        taken as it is. Raises RequestError."""
        if self.recipe.kind == "embedding":
            return self.context.external_model(self.recipe.teacher.model, "teacher.model")
        teacher, finetune = self.recipe.teacher, self.recipe.teacher.finetune
        base = self.teacher_base()
        if finetune is None:
            assert isinstance(base.source, ExternalInput)
            if teacher.head is not None and teacher.head != base.kind.head:
                raise RequestError(
                    f"teacher.head: {teacher.head}, but {teacher.model} is given fine-tuned with "
                    f"{_named(base.kind.head)}; leave head out, or add teacher.finetune, which trains a new head"
                )
            with refused(f"task {self.task}"):
                order = label_order(config_of(base.source.path), self.recipe.task, teacher.labels)
            return replace(base, label_order=order)
        name = f"finetune@{self.task}"
        return trained_model(self.context.get_or_create(name, lambda: self._finetuned(name, base, finetune)), base)

    def teacher_base(self) -> Model:
        """The teacher's model as the recipe gives it, before any fine-tuning. Raises RequestError."""
        name = self.recipe.teacher.model
        if self.recipe.task.image is not None:
            return image_model(self.rows, self.recipe.teacher.network, name, "teacher.model")
        base = self.context.classifier(name, "teacher.model")
        self._check_length(base, f"the teacher {name}")
        head = self.recipe.teacher.head
        if head is not None:
            with refused("teacher"):
                check_head(base.kind.architecture, head)
        elif self.recipe.teacher.finetune is not None:
            self._warn_of_mean_pooling(base, name, "teacher")
        return base

    def _check_length(self, model: Model, what: str) -> None:
        """Raise RequestError for a model that does not read as many tokens as rows may have."""
        check_length(model, what, f"task {self.task}: train.max_length", self.recipe.max_length)

    def _finetuned(self, name: str, base: Model, finetune: Train) -> Node:
        start: Start = Pretrained(head=changed_head(self.recipe.teacher.head, base.kind.head))
        start = self.recipe.teacher.network or start
        with refused(f"task {self.task}"):
            check_unpadded(finetune, base.kind.architecture, "teacher.finetune")
        return self.trained(name, "finetune", base, DistilSpec(start=start, train=finetune))

    def base(self, student: Student) -> Model:
        """The model that a student's weights, configuration and tokenizer come from. Raises RequestError."""
        where, masked = f"student {student.label}", self.recipe.start_model(student)
        if masked is None:
            base = self.given_base(student, where)
        else:
            base = self.masked_model(masked)
            with refused(where):
                check_classifier({"model_type": base.kind.architecture}, f"models.{masked}")
        if student.cut is None or masked is not None:
            self._check_length(base, where)
        origin = self._origin(student)
        if self.recipe.task.image is not None:
            return base
        if origin.model is not None and student.head is None and self.recipe.start_task(student) is None:
            self._warn_of_mean_pooling(self.context.external_model(origin.model, where), origin.model, where)
        return base

    def given_base(self, student: Student, where: str) -> Model:
        """As ``base``, for a student that does not start from a masked language model. ``where`` names it in
        messages."""
        if self.recipe.task.image is not None:
            return image_model(self.rows, student.network, student.model or "", f"{where}: model")
        if student.cut is not None:
            return self.teacher_base() if student.cut.of == BASE else self.teacher()
        if student.bilstm is not None:
            return self._bilstm_base(student, student.bilstm)
        given = student.config
        if given is None:
            assert student.model is not None
            return self.context.classifier(student.model, f"{where}: model")
        pooling = dict(given.changes).get(POOLING_FIELD)
        if student.head is not None and pooling is not None:
            raise RequestError(
                f"{where}: config.{POOLING_FIELD}: {pooling}, but head: {student.head} is given too; leave one of "
                "them out"
            )
        return self.context.fresh_model(given.model, given.changes, self.recipe.task.pair, where)

    def _origin(self, student: Student) -> Student:
        """The block whose ``model``, ``cut`` or ``config`` a student's weights come from: its own, or that of the first
        of the masked language models on the way to it."""
        masked = self.recipe.start_model(student)
        return student if masked is None else self._origin(self.recipe.masked_models[masked].student)

    def _bilstm_base(self, student: Student, block: BilstmBlock) -> Model:
        """The teacher, or its base model, as what a BiLSTM's tokenizer and word embeddings come from; the kind and the
        size are the BiLSTM's. Raises RequestError."""
        given, task = self.teacher_base(), self.recipe.task
        assert isinstance(given.source, ExternalInput)
        directory, where = given.source.path, f"student {student.label}: bilstm"
        fields = with_defaults(config_of(directory))
        tokens, narrow = fields.get("vocab_size"), fields.get("embedding_size")
        if not isinstance(tokens, int):
            raise RequestError(
                f"{where}: {given.source.about} ({given.kind.architecture}) has no vocabulary of tokens with an "
                "embedding each; use a teacher that has one, or another student"
            )
        if task.pair and not separates_texts(directory):
            raise RequestError(
                f"{where}: the tokenizer of {given.source.about} puts no token between the texts of a pair, so that "
                f"those of {task.name} cannot be read one by one; use another teacher, or another student"
            )
        width = word_embedding_width(weight_shapes(directory))
        width = width or (narrow if isinstance(narrow, int) else given.shape.width)
        size = FLOAT32_BYTES * bilstm_parameters(bilstm_start(block), tokens, width, task.outputs, task.pair)
        source = self.teacher().source if block.embeddings == "teacher" else given.source
        return Model(source, given.tokenizer, given.shape, ModelKind(BILSTM, None), size)

    def start(self, student: Student) -> Start:
        """How a student is made from its base. Raises RequestError for a layer that the teacher does not have, and for
        a head that the architecture cannot have."""
        base, where = self.base(student), f"student {student.label}"
        wanted = self._wanted_head(student)
        if student.head is not None:
            with refused(where):
                check_head(base.kind.architecture, student.head)
        head = changed_head(wanted, base.kind.head)
        start = self.weights(student, base, where)
        return start if isinstance(start, Bilstm | Network) else start.model_copy(update={"head": head})

    def weights(self, student: Student, base: Model, where: str) -> Start:
        """How the weights of a student are made from its base, with the base's kind of head. ``where`` names it in
        messages. Raises RequestError."""
        if student.cut is not None:
            layers = student.cut.layers
            if layers[-1] > base.shape.layers:
                raise RequestError(
                    f"{where}: cut.layers: {list(layers)}, but {self._cut_model(student.cut.of)} has no layer "
                    f"{layers[-1]}; its layers are 1 to {base.shape.layers}"
                )
            with refused(where):
                check_cut(base.kind.architecture, layers)
            return Cut(layers=tuple(layer - 1 for layer in layers), label_order=base.label_order)
        if student.bilstm is not None:
            return bilstm_start(student.bilstm)
        if student.network is not None:
            return student.network
        if student.config is not None:
            return Fresh(changes=student.config.changes)
        return Pretrained()

    def _wanted_head(self, student: Student) -> Head | None:
        """The head that a student is to get: its own, or for layers of the teacher's base model the teacher's; None for
        that of its base. A masked language model of the teacher's layers has lost their head, so that a student which
        starts from it gets one of the teacher's kind, too."""
        origin = self._origin(student)
        if student.head is not None or origin.cut is None:
            return student.head
        if origin.cut.of == BASE:
            return self.recipe.teacher.head
        return self.teacher().kind.head if self.recipe.start_model(student) is not None else None

    def _cut_model(self, of: str) -> str:
        """The model that the key ``cut.of`` names, in words."""
        return f"models.{of}" if of in self.recipe.masked_models else "the teacher"

    # --- models of unlabelled texts ---

    def masked_model(self, name: str) -> Model:
        """The pretrained model of the entry ``name`` of the recipe's ``models``. Raises RequestError."""
        known = self.context.masked_models
        if (self.task, name) not in known:
            known[self.task, name] = self._masked_model(name)
        return known[self.task, name]

    def _masked_model(self, name: str) -> Model:
        masked, where = self.recipe.masked_models[name], f"models.{name}"
        given = masked.student
        other = self.recipe.start_model(given)
        if other is not None:
            base = self.masked_model(other)
        elif given.model is not None:
            base = self.context.external_model(given.model, f"{where}.model")
        else:
            base = self.given_base(given, where)
        start = self.weights(given, base, where)
        if isinstance(start, Cut):  # a masked language model has no outputs that stand for labels
            start = start.model_copy(update={"label_order": None})
        teacher = None if masked.taught_by is None else self._text_teacher(masked.taught_by, f"{where}.pretrain")
        texts = self.texts(masked.texts, base.tokenizer)
        if masked.states is not None:
            assert teacher is not None, "states without taught_by are refused when the recipe is read"
            followed = StateTeacher(str(masked.taught_by), teacher, self.texts(masked.texts, teacher.tokenizer))
            stored = self.recipe.store
            return state_student(self.context, masked, base, start, texts, followed, stored, self.task)
        return masked_model(self.context, masked, base, start, texts, self.task, teacher)

    def _text_teacher(self, name: str, where: str) -> Model:
        """The model that ``taught_by`` of a block ``pretrain`` names. Raises RequestError."""
        if name in self.recipe.masked_models:
            return self.masked_model(name)
        if name == TEACHER:
            return self.teacher()
        return self.teacher_base() if name == BASE else self.context.external_model(name, f"{where}.taught_by")

    def texts(self, kind: str, tokenizer: ExternalInput) -> Texts:
        """The texts that a model is pretrained on: those of the bank, or of the task's rows of train."""
        if kind == "bank":
            assert self.recipe.bank is not None, "a recipe without one is refused when it is read"
            bank = BankNodes(self.context, self.recipe.bank).bank()
            return Texts("bank", bank, bank.rows)
        corpus = self.corpus(tokenizer)
        return Texts("corpus", corpus, self.rows.distinct())

    # --- trainings ---

    def _warn_of_mean_pooling(self, base: Model, name: str, where: str) -> None:
        """Add a warning if a model that was trained with mean pooling gets a head that reads the first token, which
        the recipe has not chosen."""
        assert isinstance(base.source, ExternalInput)
        if self.recipe.task.kind.has_entries:  # whose head reads the state of each entry
            return
        if base.kind.head == "cls" and trained_with_mean_pooling(base.source.path):
            field = "teacher.head" if where == "teacher" else "head"
            self.context.warn(
                f"{where}: {name} was trained with mean pooling, and its head would read the first token; give "
                f"{field}: mean, or {field}: cls to keep it"
            )

    def trained(
        self,
        name: str,
        role: str,
        base: Model,
        spec: DistilSpec,
        teacher_edges: Mapping[str, Edge | ExternalInput] | None = None,
        subject: ReportedModel | None = None,
        beside: HeldModels | None = None,
    ) -> Node:
        """A training that starts from ``base``. ``teacher_edges`` are its inputs from teachers, candidates and a
        generator; ``beside`` has the models that a worker holds beside the student."""
        corpus = self.corpus(base.tokenizer)
        self._warn_of_large_batch(spec.train, "teacher.finetune" if role == "finetune" else "train")
        inputs: dict[str, Edge | ExternalInput] = {
            "corpus": Edge(corpus),
            **({} if base.source == NO_INPUT else {"start": base.source}),
            **(teacher_edges or {}),
        }
        models = (base.size + EXTRA_BYTES) * (1 + epochs_kept(spec.train))
        size = Quantity.at_most(models + self._prediction_bytes())
        # Without a head in the spec, the model keeps that of the one that it starts from.
        kind = base.kind if spec.start.head is None else replace(base.kind, head=spec.start.head)
        held = replace(beside or HeldModels(0), student=started_bytes(base, spec.start))
        rows = self.rows.train()
        return Node(name, role, self.task, spec, inputs, subject, rows, size, model_kind=kind, held=held)

    def _prediction_bytes(self) -> int:
        """A bound on the bytes of the last epoch's predictions: those for all rows of dev and test splits, if the
        number of these is known."""
        sizes = self.rows.sizes()
        return 0 if sizes is None else sizes.evaluated * (PREDICTION_BYTES + 4 * outputs_of_row(self.recipe))

    def _warn_of_large_batch(self, train: Train, where: str) -> None:
        """Add a warning if one batch holds all rows that are trained on, so that an epoch is a single step."""
        sizes = self.rows.sizes()
        left = 0 if sizes is None else sizes.trained
        if 0 < left < train.batch_size:
            self.context.warn(
                f"task {self.task}: {where}.batch_size: {train.batch_size}, but {left} rows are trained on, so that an "
                "epoch is one step; give a smaller batch"
            )


def bilstm_start(block: BilstmBlock) -> Bilstm:
    """The start that a block of a recipe describes."""
    random = block.embeddings == "random"
    return Bilstm(
        hidden=block.hidden,
        layers=block.layers,
        fc=block.fc,
        embeddings="random" if random else "copied",
        width=RANDOM_WIDTH if random and block.width is None else block.width,
        dropout=block.dropout,
    )


def _named(head: Head | None) -> str:
    """A kind of head, in words."""
    return "a head of another kind" if head is None else f"head: {head}"

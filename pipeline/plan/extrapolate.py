"""The time of a plan's steps, extrapolated from measurements of short stretches of their work (``plan --probe``).

A step takes a fixed time (a worker's answer, loading a model, saving one) and a time for each row and epoch. The first
step of each kind of worker also takes the time to start that worker and to import what the stages need.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from cluster.resources import Capacity, Resources
from pipeline.graph.nodes import Edge, Node, SplitSizes
from pipeline.plan.measurements import Figures, Measurements, Topics, origin, trained_origin
from pipeline.plan.planner import Plan, Step
from pipeline.plan.quantities import encoder_width, sizes_of_splits, source_of
from pipeline.plan.resources import runs_a_model
from stages.retrieval.index_plan import planned
from stages.specs.axes.data import Minimax, MovedEmbeddings, WithCandidates
from stages.specs.candidates import NeighboursSpec, RerankSpec, TransferSpec, UnlabelledSpec
from stages.specs.corpus import CorpusSpec
from stages.specs.input_names import LIVE
from stages.specs.pretraining import PretrainSpec
from stages.specs.retrieval import EmbedSpec, IndexSpec, ModelEncoder
from stages.specs.schedule import generated_epochs
from stages.specs.student import DistilSpec
from stages.specs.teacher import ATTENTION_PARTS, CalibrateSpec, TeachSpec

SMALL_ROW = 5e-5
"""Seconds for a row of a stage that runs no model and joins or draws rows, about."""
Kind = TypeVar("Kind")

LATENCY_ROWS = 24
"""Rows of each split over which ``evaluate`` measures the latency of a model."""
CLUSTERING_ROUNDS = 10
"""Rounds in which FAISS moves the centres of an index's lists, by default."""
SEARCHED_SHARE = 0.05
"""The share of an index with lists that a search compares with a row, about."""


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """A plan, the resources that each node gets of the machine's ``capacity``, and whether all runs in one process
    (``inline``)."""

    plan: Plan
    resources: Callable[[Node], Resources]
    capacity: Capacity
    inline: bool = False

    def splits(self, corpus: Node) -> SplitSizes | None:
        """The rows of a corpus's splits."""
        records = [step.record for step in self.plan.steps if step.record is not None and step.node == corpus]
        return sizes_of_splits(corpus, {record.key: record for record in records})


def extrapolated(run: PlannedRun, measured: Measurements, topics: Topics) -> dict[str, float]:
    """Key -> seconds of each step that is to be built and whose work was measured."""
    costs = _Costs(run, measured, topics)
    starts = _Starts(run, measured.figures(topics.place(run.inline)) or {})
    found: dict[str, float] = {}
    for step in run.plan.builds:
        seconds = costs.seconds(step)
        if seconds is not None:
            found[step.node.key] = seconds + starts.seconds(step.node)
    return found


@dataclass
class _Starts:
    """The workers that a run has started so far. Those of one kind are kept and serve one stage after another; as many
    as fit on the machine are started at once. A training group of one worker also serves the other stages."""

    run: PlannedRun
    place: Figures
    groups: Counter[Resources] = field(default_factory=Counter)
    workers: Counter[tuple[Resources, bool]] = field(default_factory=Counter)

    def seconds(self, node: Node) -> float:
        """Seconds that a stage waits for its workers: to start them, to import what the stage needs, and for their
        answer."""
        wanted, heavy = self.run.resources(node), runs_a_model(node)
        answer, imports = self.place.get("answer", 0.0), self.place.get("imports", 0.0)
        if self.run.inline:
            return answer + imports * (heavy and self._starts(self.workers, (Resources(), heavy), 1))
        # Trainings that share a worker and begin together all wait for its start.
        most = max(1, self.run.capacity.room(wanted.each) // wanted.workers) * wanted.trainings_per_worker
        if isinstance(node.spec, DistilSpec | PretrainSpec):
            return answer + (self.place.get("group", 0.0) + imports) * self._starts(self.groups, wanted, most)
        if wanted.workers == 1 and self.groups[wanted]:
            return answer
        started = self._starts(self.workers, (wanted, heavy), most)
        return answer + (self.place.get("worker", 0.0) + imports * heavy) * started

    @staticmethod
    def _starts(started: Counter[Kind], kind: Kind, most: int) -> bool:
        """Whether a worker of a kind has to be started, which is then counted."""
        if started[kind] >= most:
            return False
        started[kind] += 1
        return True


@dataclass(frozen=True, slots=True)
class _Costs:
    run: PlannedRun
    measured: Measurements
    topics: Topics

    def seconds(self, step: Step) -> float | None:
        """Seconds of a step once its worker runs; None where something that it needs was not measured."""
        rows = step.rows.value
        if rows is None:
            return None
        node = step.node
        match node.spec:
            case DistilSpec():
                return self._training(node, node.spec, rows)
            case TeachSpec():
                return None if node.spec.part in ATTENTION_PARTS else self._outputs(node, node.spec.compute, rows)
            case CalibrateSpec():
                return self._outputs(node, node.spec.compute, rows)
            case EmbedSpec() | IndexSpec() | NeighboursSpec():
                return self._retrieval(node, rows)
            case UnlabelledSpec():
                return self._tokenised(node, rows)
            case TransferSpec() | RerankSpec():
                return SMALL_ROW * rows
        match node.spec.stage:
            case "corpus":
                return self._corpus(node, rows)
            case "bank":
                figures = self._bank_figures(node)
                return None if figures is None or "clean_row" not in figures else figures["clean_row"] * rows
            case "evaluate":
                return self._evaluation(node, rows)
            case "ensemble":
                return SMALL_ROW * rows
            case _:
                return None

    # --- rows of a task ---

    def _corpus(self, node: Node, rows: int) -> float | None:
        figures = self.measured.figures(self.topics.corpus(node))
        if figures is None:
            return None
        return figures["sample"] + figures["token_row"] * max(0.0, rows - figures["sample_rows"])

    def _tokenised(self, node: Node, rows: int) -> float | None:
        corpus = source_of(node, "corpus")
        figures = self.measured.figures(self.topics.corpus(corpus)) if corpus is not None else None
        return None if figures is None else (figures["token_row"] + SMALL_ROW) * rows

    # --- models ---

    def _model(self, node: Node, name: str) -> Figures | None:
        """The figures of the model that is the input ``name`` of a node, or of the model that a training makes."""
        corpus = task_corpus(node)
        if corpus is None:
            return None
        found = trained_origin(node) if isinstance(node.spec, DistilSpec) else origin(node.inputs[name])
        return self.measured.figures(self.topics.model(found, corpus, self.run.resources(node)))

    def _training(self, node: Node, spec: DistilSpec, rows: int) -> float | None:
        corpus, figures = task_corpus(node), self._model(node, "start")
        if corpus is None or figures is None:
            return None
        topic = self.topics.training(trained_origin(node), corpus, spec.train, self.run.resources(node))
        steps, sizes = self.measured.figures(topic), self.run.splits(corpus)
        if steps is None or sizes is None:
            return None
        forward, each = figures["forward_row"], steps["train_row"] + candidate_cost(spec, steps, figures)
        if spec.method.has_generated_rows:
            beside = self._generated_row(node, steps)
            if beside is None:
                return None
            each += beside * generated_epochs(spec.method, spec.train.epochs) / spec.train.epochs
        on_holdout = spec.train.select == "holdout" or (spec.train.select == "last" and sizes.held_out > 0)
        selection = sizes.held_out if on_holdout else sizes.evaluated
        epoch = rows * each + selection * forward + figures["keep"]
        saves = 1 + (spec.train.epochs if spec.train.keep == "epochs" else 0)
        scored = sizes.evaluated * forward
        return figures["load"] + steps["first"] + spec.train.epochs * epoch + scored + saves * figures["save"]

    def _generated_row(self, node: Node, steps: Figures) -> float | None:
        """Seconds that the generated row beside a row of train takes: a step of the student, and the forward passes of
        its teachers. The generator's are left out, which nothing measures."""
        teachers = [name for name in node.inputs if name == LIVE.rstrip("/") or name.startswith(LIVE)]
        figures = [self._live_model(node, name) for name in teachers]
        known = [one["forward_row"] for one in figures if one is not None]
        return steps["train_row"] + sum(known) if len(known) == len(teachers) else None

    def _live_model(self, node: Node, name: str) -> Figures | None:
        """The figures of a teacher that runs in a training."""
        corpus = task_corpus(node)
        if corpus is None:
            return None
        return self.measured.figures(self.topics.model(origin(node.inputs[name]), corpus, self.run.resources(node)))

    def _outputs(self, node: Node, compute: str, rows: int) -> float | None:
        """Seconds to load a model and to compute its outputs in the number type ``compute``."""
        figures = self._model(node, "model")
        if figures is None:
            return None
        return figures["load"] + rows * figures.get(f"store_{compute}_row", figures["forward_row"])

    def _evaluation(self, node: Node, rows: int) -> float | None:
        figures, corpus = self._model(node, "model"), task_corpus(node)
        if figures is None or corpus is None:
            return None
        splits = evaluated_splits(corpus)
        return figures["load"] + rows * figures["forward_row"] + splits * LATENCY_ROWS * figures["single"]

    # --- banks ---

    def _bank_figures(self, node: Node) -> Figures | None:
        embeddings = self._embeddings_of(node)
        bank = source_of(embeddings, "bank") if embeddings is not None else None
        if embeddings is None or bank is None:
            return None
        return self.measured.figures(self.topics.bank(bank, embeddings, self.run.resources(embeddings)))

    def _embeddings_of(self, node: Node) -> Node | None:
        """The embeddings that a node is, reads, or is read by."""
        if isinstance(node.spec, EmbedSpec):
            return node
        found = source_of(node, "embeddings")
        if found is not None:
            return found
        reading = (step.node for step in self.run.plan.steps if isinstance(step.node.spec, EmbedSpec))
        return next((one for one in reading if node in one.sources), None)

    def _retrieval(self, node: Node, rows: int) -> float | None:
        figures, embeddings = self._bank_figures(node), self._embeddings_of(node)
        if figures is None or embeddings is None or not isinstance(embeddings.spec, EmbedSpec):
            return None
        if not isinstance(embeddings.spec.encoder, ModelEncoder) or "embed_row" not in figures:
            return None
        if isinstance(node.spec, EmbedSpec):
            return figures["load"] + figures["embed_row"] * rows
        width, known = encoder_width(embeddings), {step.node.key: step.rows.value for step in self.run.plan.steps}
        if isinstance(node.spec, IndexSpec):
            kind = planned(node.spec, rows, width)
            return kind.lists * (CLUSTERING_ROUNDS * kind.train_rows + rows) * figures["compare"]
        index, texts = source_of(node, "index"), known.get(embeddings.key)
        if texts is None or index is None or not isinstance(index.spec, IndexSpec):
            return None
        share = SEARCHED_SHARE if planned(index.spec, texts, width).lists else 1.0
        return figures["load"] + rows * (figures["embed_row"] + share * texts * figures["compare"])


def candidate_cost(spec: DistilSpec, steps: Figures, model: Figures) -> float:
    """Seconds that candidates or an adversary add for each row of train: a step on the candidates that are trained on,
    and for minimax a forward pass of all; a step on each further form of the row that an adversary makes."""
    data = spec.method.data
    if isinstance(data, MovedEmbeddings):
        return (data.forms - 1) * steps["train_row"]
    if not isinstance(data, WithCandidates):
        return 0.0
    if not isinstance(data, Minimax):
        return data.trained_on * steps["train_row"]
    scored = 1.0 if data.every == "step" else 1.0 / data.every
    return data.keep * steps["train_row"] + data.k * scored * model["forward_row"]


def evaluated_splits(corpus: Node) -> int:
    """The number of dev and test splits of a corpus."""
    assert isinstance(corpus.spec, CorpusSpec)
    task = corpus.spec.task
    there = [name.removeprefix("data/") for name in corpus.inputs if name.startswith("data/")]
    return len(task.dev_splits) + sum(not there or split in there for split in task.test)


def task_corpus(node: Node) -> Node | None:
    """The corpus of the task's rows that a node reads: for tokenised candidates, the corpus of their task; None for
    tokenised texts of a pretraining."""
    given = node.inputs.get("corpus")
    if not isinstance(given, Edge):
        return None
    if isinstance(given.source.spec, UnlabelledSpec):
        return task_corpus(given.source)
    return given.source if isinstance(given.source.spec, CorpusSpec) else None

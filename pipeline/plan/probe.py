"""``plan --probe``: measure on this machine, in a few seconds for each model, what the work of a plan costs.

Measured are: starting a run and its workers; reading a task's rows and tokenising a sample of them; for each distinct
shape of a model its loading, its steps at the recipe's batch size and number type on rows of that sample, its forward
passes, and its saving; and a sample of a bank's texts. The figures are kept in the storage (``measurements.py``).
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cluster.resources import On, Place, Resources, SilentListener
from pipeline.artifacts.record import fetch_artifact
from pipeline.graph.nodes import ExternalInput, Node
from pipeline.plan.extrapolate import PlannedRun, task_corpus
from pipeline.plan.measurements import Measurements, ModelOrigin, Topics, origin, trained_origin
from pipeline.plan.quantities import source_of
from stages.corpus.corpus import corpus as read_corpus
from stages.specs.bank import BankSpec, HubTexts
from stages.specs.corpus import CorpusSpec
from stages.specs.evaluation import EvaluateSpec
from stages.specs.retrieval import EmbedSpec, ModelEncoder
from stages.specs.student import DistilSpec, Train
from stages.specs.teacher import CalibrateSpec, TeachSpec
from stages.timing.job import BankTiming, ModelTiming, TokenizerTiming
from stages.timing.start import open_bank_timing, open_nothing, open_tokenizer_timing, time_model, time_nothing

SAMPLE_ROWS = 1024
"""Rows of train that are tokenised, and from which batches are drawn."""
SAMPLE_EVALUATED = 64
LOOP_SECONDS = 1.5
"""Seconds that a measured loop lasts, about."""
TOTAL_SECONDS = 30.0
"""Once measuring has taken so long, no further measurement begins. The time that a run and its workers take to start
does not count."""


@dataclass(frozen=True, slots=True)
class ModelToTime:
    """A shape of a model to measure on a corpus: the settings of its trainings, and the number type of its stores."""

    origin: ModelOrigin
    corpus: Node
    resources: Resources
    trainings: tuple[Train, ...]
    computes: tuple[str, ...]


@dataclass
class ProbeReport:
    """What a probe has measured, in words; and what it left out because its time was up."""

    measured: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def __str__(self) -> str:
        line = f"probed in {self.seconds:.0f} s: {', '.join(self.measured)}"
        if self.left_out:
            line += f"; not probed, as {TOTAL_SECONDS:.0f} s were up: {', '.join(self.left_out)} (probe again)"
        return line


def probe(
    run: PlannedRun,
    open_place: Callable[[], Place],
    measured: Measurements,
    topics: Topics,
    unknown: Callable[[Node], bool],
    folder: Path,
) -> ProbeReport:
    """Measure the work of the steps that are to be built, and keep the figures. Only what nodes need that are
    ``unknown`` (without comparable records) is measured, what was never measured first. What the measured stages write
    goes to ``folder``, which the caller removes. Raises what the measured stages raise for data or models that cannot
    be used."""
    began = time.monotonic()
    place = open_place()
    opened = time.monotonic() - began
    try:
        work = _Probe(run, place, measured, topics, folder)
        work.measure([step.node for step in run.plan.builds if unknown(step.node)])
    finally:
        closing = time.monotonic()
        place.close()
        closed = time.monotonic() - closing
    figures = {**(measured.figures(topics.place(run.inline)) or {}), **work.place_figures}
    measured.keep(topics.place(run.inline), {**figures, "open": opened, "close": closed})
    work.report.seconds = time.monotonic() - began
    return work.report


class _Probe:
    """A probe in progress."""

    def __init__(self, run: PlannedRun, place: Place, measured: Measurements, topics: Topics, folder: Path) -> None:
        self.run = run
        self.place = place
        self.measured = measured
        self.topics = topics
        self.folder = folder
        self.measuring = 0.0
        self.report = ProbeReport(["the start of a run and of its workers"])
        self.place_figures: dict[str, float] = {}
        self.corpora: dict[str, Path] = {}

    def measure(self, nodes: list[Node]) -> None:
        """Measure what these nodes need."""
        corpora = {node.key: node for node in map(corpus_of, nodes) if node is not None}
        for corpus in corpora.values():
            with self._in_time(f"rows of {corpus.task}") as allowed:
                if allowed:
                    self.corpora[corpus.key] = self._corpus(corpus)
        for model in sorted(models_to_time(nodes, self.run), key=self._was_measured):
            with self._in_time(f"{model.origin.label} on {model.corpus.task}") as allowed:
                if allowed and model.corpus.key in self.corpora:
                    self._model(model)
        for node in nodes:
            if isinstance(node.spec, EmbedSpec):
                with self._in_time("texts of the bank") as allowed:
                    if allowed:
                        self._bank(node)

    def _was_measured(self, model: ModelToTime) -> bool:
        """Whether an earlier probe measured a model and its trainings. Those that none measured come first."""
        topics = [self.topics.model(model.origin, model.corpus, model.resources)]
        topics += [
            self.topics.training(model.origin, model.corpus, train, model.resources) for train in model.trainings
        ]
        return None not in map(self.measured.figures, topics)

    @contextmanager
    def _in_time(self, what: str) -> Iterator[bool]:
        """Whether there is time left to measure ``what``, which the block then does."""
        allowed = self.measuring < TOTAL_SECONDS
        (self.report.measured if allowed else self.report.left_out).append(what)
        began, starting = time.monotonic(), self._starting()
        yield allowed
        self.measuring += time.monotonic() - began - (self._starting() - starting)

    def _starting(self) -> float:
        """Seconds in which workers have been started so far."""
        return sum(self.place_figures.get(name, 0.0) for name in ("worker", "group", "imports"))

    def _start_worker(self, on: On) -> None:
        """Start a worker of a map, if that was not measured yet."""
        if "worker" not in self.place_figures:
            before = time.monotonic()
            for _ in on.map(open_nothing, None, [0]):
                pass
            self.place_figures["worker"] = time.monotonic() - before

    def _start_group(self, on: On) -> None:
        """Start a training group, if that was not measured yet, and measure how long it takes to answer."""
        if "group" not in self.place_figures:
            before = time.monotonic()
            on.train(time_nothing, None)
            self.place_figures["group"] = time.monotonic() - before
            before = time.monotonic()
            on.train(time_nothing, None)
            self.place_figures["answer"] = time.monotonic() - before

    # --- rows -------------------------------------------------------------------------------------

    def _corpus(self, node: Node) -> Path:
        """A directory with the corpus, or with a sample of it if it is not built; measures making it."""
        record = next((step.record for step in self.run.plan.steps if step.node == node), None)
        storage = self.measured.storage
        if record is not None:
            return fetch_artifact(storage, record)
        assert isinstance(node.spec, CorpusSpec)
        spec = node.spec.model_copy(
            update={
                "train_rows": min(node.spec.train_rows or SAMPLE_ROWS, SAMPLE_ROWS),
                "eval_rows": min(node.spec.eval_rows or SAMPLE_EVALUATED, SAMPLE_EVALUATED),
            }
        )
        on = self.place.on(self.run.resources(node), SilentListener())
        self._start_worker(on)
        out, before = self.folder / node.key, time.monotonic()
        facts = read_corpus(spec, paths_of(node), out, on)
        seconds = time.monotonic() - before
        ((_, figures),) = on.map(open_tokenizer_timing, TokenizerTiming(out, LOOP_SECONDS / 3), [0])
        rows = float(sum(facts["rows"].values()))
        self.measured.keep(self.topics.corpus(node), {"sample": seconds, "sample_rows": rows, **figures})
        return out

    # --- models -----------------------------------------------------------------------------------

    def _model(self, model: ModelToTime) -> None:
        on = self.place.on(model.resources, SilentListener())
        job = ModelTiming(
            model.origin.model.path,
            model.origin.starts,
            self.corpora[model.corpus.key],
            model.trainings,
            model.computes,
            self.folder / model.origin.model.identity[:12],
            LOOP_SECONDS,
        )
        self._start_group(on)
        found = on.train(time_model, job)
        self.place_figures["imports"] = max(found.imports, self.place_figures.get("imports", 0.0))
        self.measured.keep(self.topics.model(model.origin, model.corpus, model.resources), found.forward)
        for train, figures in zip(model.trainings, found.steps, strict=True):
            self.measured.keep(self.topics.training(model.origin, model.corpus, train, model.resources), figures)

    # --- banks ------------------------------------------------------------------------------------

    def _bank(self, node: Node) -> None:
        bank = source_of(node, "bank")
        assert bank is not None and isinstance(bank.spec, BankSpec) and isinstance(node.spec, EmbedSpec)
        record = next((step.record for step in self.run.plan.steps if step.node == bank), None)
        if record is None and isinstance(bank.spec.source, HubTexts):
            return
        encoder, resources = node.spec.encoder, self.run.resources(node)
        model = node.inputs.get("encoder")
        job = BankTiming(
            bank.spec,
            tuple(paths_of(bank).items()),
            None if record is None else fetch_artifact(self.measured.storage, record),
            encoder if isinstance(encoder, ModelEncoder) else None,
            model.path if isinstance(model, ExternalInput) else None,
            LOOP_SECONDS,
        )
        ((_, figures),) = self.place.on(resources, SilentListener()).map(open_bank_timing, job, [0])
        self.measured.keep(self.topics.bank(bank, node, resources), figures)


def paths_of(node: Node) -> dict[str, Path]:
    """The paths of the external inputs of a node."""
    return {name: given.path for name, given in node.inputs.items() if isinstance(given, ExternalInput)}


def corpus_of(node: Node) -> Node | None:
    """The corpus that a node is, or whose rows it reads; None for a node of the bank."""
    return node if isinstance(node.spec, CorpusSpec) else task_corpus(node)


def models_to_time(nodes: list[Node], run: PlannedRun) -> list[ModelToTime]:
    """The distinct shapes of models that nodes train or run, with the settings of all their trainings."""
    found: dict[str, ModelToTime] = {}
    topics = Topics({})
    for node in nodes:
        corpus = task_corpus(node)
        if corpus is None or not isinstance(node.spec, DistilSpec | TeachSpec | CalibrateSpec | EvaluateSpec):
            continue
        trains = isinstance(node.spec, DistilSpec)
        own = trained_origin(node) if trains else origin(node.inputs["model"])
        resources = run.resources(node)
        name = topics.model(own, corpus, resources).name
        before = found.get(name, ModelToTime(own, corpus, resources, (), ()))
        trainings = list(before.trainings)
        if isinstance(node.spec, DistilSpec):
            known = {topics.training(own, corpus, train, resources).name for train in trainings}
            if topics.training(own, corpus, node.spec.train, resources).name not in known:
                trainings.append(node.spec.train)
        computes = dict.fromkeys(before.computes)
        if isinstance(node.spec, TeachSpec | CalibrateSpec):
            computes[node.spec.compute] = None
        found[name] = ModelToTime(own, corpus, resources, tuple(trainings), tuple(computes))
    return list(found.values())

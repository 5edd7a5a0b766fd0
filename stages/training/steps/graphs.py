"""Steps that a GPU runs as CUDA graphs: the whole step of a student, from the forward pass to the new weights, is
captured once for each shape of a batch and then replayed, so that the host launches one graph in place of hundreds of
kernels. A small student's step otherwise takes as long as its launches. Where candidates join a step, the passes on
each of their batches are a graph of their own, which adds to the gradients; those on the rows end the step.

What is replayed is the step as Python ran it during the capture, with tensors at the same addresses and with the same
numbers. So batches are copied into tensors that stay, the learning rate is a tensor, dropout has a generator of its own
that is seeded before each replay, and all graphs are dropped when an epoch has another plan than the one before. The
first part of each shape runs kernel by kernel. It is part of an ordinary step, and the warm-up that a capture needs.
Where a capture fails, the training goes on kernel by kernel.
"""

import gc
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from stages.corpus.examples.protocol import Examples
from stages.corpus.rowset import Batch
from stages.device_turn import TURN
from stages.models.embeddings.words import unwrapped
from stages.models.positions import position_limit
from stages.specs.axes.training import Position
from stages.specs.layers import EveryToken
from stages.specs.schedule import EpochPlan
from stages.specs.seeds import seed_of
from stages.training.candidates import CandidateBatch
from stages.training.objective.trained_parts import TrainedParts
from stages.training.participants.protocol import Participant, View
from stages.training.setup import LoopWorker, StepWork, TrainingSetup
from stages.training.steps.student_step import StudentStep

CAPTURED = ("bert", "camembert", "distilbert", "electra", "modernbert", "roberta", "xlm-roberta")
"""Architectures whose forward pass neither waits for the GPU nor copies to it. DeBERTa's copies its table of relative
positions, MPNet's the numbers of its mask, and an LSTM's reads the lengths of rows on the host."""

MOST_CAPTURED = 96
"""The most graphs of a training. Parts of further shapes run kernel by kernel."""

Shapes = tuple[tuple[str, tuple[int, ...], torch.dtype], ...]
"""The name, shape and type of each tensor of a batch."""
Joined = Batch | CandidateBatch
Part = tuple[str, int, Shapes]
"""A part of a step that is captured: the participant whose pass it is, '' for the rows' passes and the update; the rows
of the global batch; and the shapes of the batch that it reads."""


class Graphs(Protocol):
    """Captures steps, and runs them again."""

    def running(self) -> AbstractContextManager[None]:
        """A context for all that runs or captures steps."""
        ...

    def capture(self, body: Callable[[], Tensor]) -> Callable[[int], Tensor]:
        """A function that runs ``body`` as it would run now, with random numbers that follow from a seed, and returns
        its result, which is the same tensor each time. ``body`` itself is not run."""
        ...

    def drop(self) -> None:
        """Give back what the captured functions hold. None of them is called again."""
        ...


class CudaGraphs:
    """Captures on a stream of its own of one GPU. The graphs share their memory, as one runs at a time; tensors that
    outlive a graph's run, its results and its static inputs, keep theirs."""

    def __init__(self, device: str) -> None:
        self.device = torch.device(device)
        self.stream = torch.cuda.Stream(self.device)
        self.generator = torch.Generator(self.device)
        self.pool: Any = torch.cuda.graph_pool_handle()
        self.graphs: list[torch.cuda.CUDAGraph] = []

    @contextmanager
    def running(self) -> Any:
        before = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(before)
        try:
            with torch.cuda.stream(self.stream), without_autocast_cache():
                yield
        finally:
            before.wait_stream(self.stream)

    def capture(self, body: Callable[[], Tensor]) -> Callable[[int], Tensor]:
        graph, generator = torch.cuda.CUDAGraph(), self.generator
        default = torch.cuda.default_generators[self.device.index or 0]
        others = default.graphsafe_get_state()
        # A graph remembers the state of the default generator, which dropout draws from: it gets one of its own, so
        # that two students in a process do not seed each other's graphs.
        default.graphsafe_set_state(generator)
        collecting = gc.isenabled()
        gc.disable()  # a graph that is collected during a capture would end it
        try:
            # Other threads may pin memory meanwhile, as the one that makes batches does.
            with torch.cuda.graph(graph, pool=self.pool, stream=self.stream, capture_error_mode="thread_local"):
                result = body()
        finally:
            default.graphsafe_set_state(others)
            if collecting:
                gc.enable()
        self.graphs.append(graph)

        def replay(seed: int) -> Tensor:
            generator.manual_seed(seed)
            graph.replay()
            return result

        return replay

    def drop(self) -> None:
        self.stream.synchronize()
        for graph in self.graphs:
            graph.reset()
        self.graphs.clear()
        self.pool = torch.cuda.graph_pool_handle()


@contextmanager
def without_autocast_cache() -> Any:
    """Autocast without its cache of cast weights, within which a captured cast would be mistaken for one of the next
    step."""
    before = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(before)


def graphs_problem(model_type: str, setup: TrainingSetup, worker: LoopWorker) -> str | None:
    """Why the steps of this training on a GPU cannot be captured, in the words that follow "because"; None if they
    can."""
    if worker.world_size > 1:
        return "several workers train together"
    if setup.spec.train.micro_batch is not None:
        return "train.micro_batch divides a step"
    if setup.spec.train.unpadded:
        return "train.unpadded gives each batch a shape of its own"
    if model_type not in CAPTURED:
        return f"the forward pass of {model_type} waits for the GPU or copies to it"
    if isinstance(setup.spec.method.structure, EveryToken):
        return "the method follows the states of every token"
    return None


@dataclass(frozen=True, slots=True)
class CapturedPart:
    """A part of a step for batches of one shape: the tensors that it reads, and the function that runs it."""

    inputs: Mapping[str, Tensor]
    replay: Callable[[int], Tensor]

    def run(self, batch: Joined, seed: int) -> Tensor:
        """The part on ``batch``, from pinned memory."""
        with TURN:
            for name, value in tensors_of(batch).items():
                self.inputs[name].copy_(value, non_blocking=True)
            return self.replay(seed)


class GraphedStep(StudentStep):
    """The steps of one training on a GPU, captured where only the rows of the task are read, in one batch, and what
    joins them are passes on batches of candidates.

    Batches of ``examples`` are enlarged to a few sizes, at most ``longest``, so that there are few shapes.
    """

    def __init__(self, step: StudentStep, graphs: Graphs, longest: int | None, examples: Examples) -> None:
        super().__init__(step.parts, step.participants, step.layout)
        self.rate_on = self.worker.device
        self.graphs = graphs
        self.longest = longest
        self.examples = examples
        self.plan: EpochPlan | None = None
        self.optimizer: torch.optim.Optimizer | None = None
        self.reached: set[Part] = set()
        self.captured: dict[Part, CapturedPart] = {}
        self.noted = 0
        self.impossible = False

    def running(self) -> AbstractContextManager[None]:
        return self.graphs.running()

    def fitted(self, batch: Batch) -> Batch:
        return replace(batch, inputs=self.examples.fitted(batch.inputs, self.longest))

    def run(self, work: StepWork, rows: int, plan: EpochPlan, optimizer: torch.optim.Optimizer, seed: int) -> Tensor:
        joining = self.joining(work)
        if self.impossible or len(work.batches) != 1 or len(joining) != len(work.prepared):
            return super().run(work, rows, plan, optimizer, seed)
        if optimizer is not self.optimizer or without_position(plan) != self.plan:
            self.close()
            self.plan, self.optimizer = without_position(plan), optimizer
        self.keeps_gradients = bool(joining)  # graphs that add to one gradient need it at one address
        row_part = partial(self._rows, rows, plan, optimizer)
        if not joining:
            return self._part("", rows, work.batches[0], row_part, seed)
        total = self.sums()

        def run_pass(participant: Participant, number: int, batch: Joined) -> Tensor:
            body = partial(participant.run_pass, rows=rows, plan=plan)
            return self._part(participant.name, rows, batch, body, seed_of(seed, number))

        self.add_passes(total, work, plan, run_pass)
        total += self._part("", rows, work.batches[0], row_part, seed)
        return total

    def _rows(self, rows: int, plan: EpochPlan, optimizer: torch.optim.Optimizer, batch: Batch) -> Tensor:
        """The passes on the rows of the task, and the update. Returns their part of the sums."""
        total = self.row_pass(batch, View(batch.inputs), rows, 1.0, plan, True)
        self.update(optimizer)
        return total

    def _part(self, name: str, rows: int, batch: Joined, body: Callable[[Any], Tensor], seed: int) -> Tensor:
        """Run a part of a step, from a graph where its shapes were reached before. The result is valid until the next
        part is run."""
        part = (name, rows, shapes_of(batch))
        if part in self.reached and part not in self.captured and len(self.captured) < MOST_CAPTURED:
            self._capture(part, batch, body)
        self.reached.add(part)
        if part in self.captured:
            return self.captured[part].run(batch, seed)
        with TURN:
            torch.manual_seed(seed)
            return body(batch.to(self.worker.device))

    def _capture(self, part: Part, batch: Joined, body: Callable[[Any], Tensor]) -> None:
        """Capture a part of a step, or give up: where a capture fails, it has changed nothing but gradients that only
        the graph would have had."""
        if self.impossible:
            return
        try:
            with TURN:
                static = batch.to(self.worker.device)
                replay = self.graphs.capture(lambda: body(static))
                self.captured[part] = CapturedPart(tensors_of(static), replay)
        except (RuntimeError, ValueError) as error:
            reason = str(error).partition("\n")[0]
            self.worker.note(f"train.graphs: on, but steps run kernel by kernel, because a capture failed: {reason}")
            self.impossible = True
            self._drop()

    def end_epoch(self) -> str:
        """What was captured since the last call, for the log; '' if nothing was."""
        if len(self.captured) == self.noted:
            return ""
        self.noted = len(self.captured)
        sizes = sorted({tuple(next(iter(part.inputs.values())).shape) for part in self.captured.values()})
        return "steps run as CUDA graphs for batches of " + ", ".join(" x ".join(map(str, size)) for size in sizes)

    def close(self) -> None:
        self._drop()
        if self.optimizer is not None:
            self.optimizer.zero_grad(set_to_none=True)

    def _drop(self) -> None:
        """Drop all graphs. Gradients that are kept from pass to pass stay."""
        self.captured.clear()
        self.reached.clear()
        self.noted = 0
        self.graphs.drop()
        if self.optimizer is not None and not self.keeps_gradients:
            self.optimizer.zero_grad(set_to_none=True)


def tensors_of(batch: Joined) -> dict[str, Tensor]:
    """The tensors of a batch by name. What was read from stores has names that no input of a model has."""
    if isinstance(batch, CandidateBatch):
        return {**tensors_of(batch.batch), "share": batch.share}
    read = {f"read {name}": value for name, value in batch.read.items()}
    return {**batch.inputs, **read, "labels": batch.labels}


def shapes_of(batch: Joined) -> Shapes:
    """The shapes of a batch's tensors, by which what was captured for them is found."""
    return tuple((name, tuple(value.shape), value.dtype) for name, value in tensors_of(batch).items())


def without_position(plan: EpochPlan) -> EpochPlan:
    """What the steps of an epoch take from its plan, beside the phase."""
    return replace(plan, position=Position(plan.position.phase))


def step_of(step: StudentStep, parts: TrainedParts, note: Callable[[str], None]) -> StudentStep:
    """The steps of a training as ``train.graphs`` wants them: ``step`` itself, or captured as CUDA graphs. ``note`` is
    called with a line where they are wanted on a GPU and cannot be captured."""
    setup, worker = parts.setup, parts.worker
    if setup.spec.train.graphs == "off" or not worker.device.startswith("cuda"):
        return step
    config = unwrapped(parts.model).config
    problem = graphs_problem(config.model_type, setup, worker)
    if problem is not None:
        note(f"train.graphs: on, but steps run kernel by kernel, because {problem}")
        return step
    return GraphedStep(step, CudaGraphs(worker.device), position_limit(config.to_dict()), setup.train.examples)

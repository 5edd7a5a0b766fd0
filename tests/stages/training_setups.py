"""Small trainings for tests: rows of random tokens, a BERT with some thousand weights, teacher outputs, candidates, and
workers that can interrupt a run."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import count
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import BertConfig, BertForMaskedLM, BertForSequenceClassification

from cluster.inline import Inline
from cluster.resources import On, Resources
from stages.corpus.batches import Ragged, Rows
from stages.corpus.corpus import corpus
from stages.corpus.examples.token_rows import TokenRows
from stages.corpus.rowset import Rowset
from stages.models.forward import attention_scores, forward
from stages.models.loading import quieten
from stages.models.masked.language_model import PlacePredictor
from stages.models.masked.token_ids import TokenIds
from stages.specs.axes.data import Minimax, Neighbours, WithGenerator
from stages.specs.axes.targets import Smoothed, TeacherTargets
from stages.specs.axes.training import Annealing, LayersFirst, OnePhase
from stages.specs.corpus import CorpusSpec, Files
from stages.specs.layer_map import score_name, token_state_name
from stages.specs.layers import EveryToken
from stages.specs.method import Method
from stages.specs.student import DistilSpec, Fresh, Train
from stages.specs.tasks import Task
from stages.training.candidates import CandidatePool
from stages.training.checkpoint import Progress
from stages.training.live_teachers import LiveTeachers, frozen
from stages.training.setup import Generator, TrainingSetup
from stages.training.signal import NoTeacher, Signal, StoredSignal

WORDS = 40
CLASSES = Task(name="classes", text=("text",), labels=("a", "b", "c"))
NUMBER = Task(name="number", text=("text",), metrics=("pearson",))

HARD = Method()
SMOOTHED = Method(targets=Smoothed(epsilon=0.2))
SKEWED = Method(targets=Smoothed(epsilon=0.2, distribution=(0.5, 0.3, 0.2)))
VANILLA = Method(targets=TeacherTargets(), training=OnePhase(temperature=3.0, teacher_weight=0.7))
ANNEALING = Method(targets=TeacherTargets(), training=Annealing(max_temperature=3, first_phase=0.5))
KNN = Method(targets=TeacherTargets(), training=VANILLA.training, data=Neighbours(k=4))
DRAWN = Method(targets=TeacherTargets(), training=VANILLA.training, data=Neighbours(k=4, draw=2))
MINIMAX = Method(targets=TeacherTargets(), training=VANILLA.training, data=Minimax(k=4, keep=2))
EVERY_OTHER = Method(
    targets=TeacherTargets(), training=VANILLA.training, data=Minimax(k=4, keep=2, every=2, warmup_epochs=1)
)

GENERATED = Method(
    targets=TeacherTargets(),
    training=OnePhase(temperature=1.0, teacher_weight=0.5),
    data=WithGenerator(mask=0.5, generator_steps=2, student_steps=3, learning_rate=1e-3),
)

TINYBERT = Method(
    targets=TeacherTargets(),
    training=LayersFirst(first_phase=0.5),
    structure=EveryToken(pairs=((0, 0), (1, 2), (2, 4))),
)

Weights = Mapping[str, Tensor]

FORKSERVER = get_context("forkserver")
"""Starts further processes. Each is forked from a server that has imported torch and transformers once for all tests:
these imports take seconds, the work of such a process only tenths of a second."""
FORKSERVER.set_forkserver_preload(
    [corpus.__module__, TrainingSetup.__module__, BertForSequenceClassification.__module__]
)


class Interrupted(RuntimeError):
    """Raised by a test to interrupt a run."""


@dataclass(frozen=True)
class InMemoryColumns:
    """The columns of a store, whole, in memory."""

    columns: Mapping[str, np.ndarray]

    def gather(self, name: str, rows: Rows) -> np.ndarray:
        return self.columns[name][rows]


@dataclass(frozen=True)
class InMemoryPositions:
    """The columns of a store that keeps positions, padded to the longest of all rows, in memory."""

    columns: Mapping[str, np.ndarray]
    lengths: np.ndarray

    def padded(self, name: str, rows: Rows) -> np.ndarray:
        longest, values = self.lengths[rows].max(), self.columns[name][rows]
        return values[:, :longest] if name.startswith("tokens") else values[:, :, :longest, :longest]


@dataclass
class LocalWorker:
    """The only worker of a run, unless ``world_size`` says otherwise. It records its progress and its notes.

    ``before_advance`` and ``before_note`` are called with the number of calls so far, and may raise.
    """

    before_advance: Callable[[int], None] = lambda _: None
    before_note: Callable[[int], None] = lambda _: None
    rank: int = 0
    world_size: int = 1
    device: str = "cpu"
    threads: int = 1
    advanced: list[float] = field(default_factory=list)
    restored: float = 0.0
    notes: list[str] = field(default_factory=list)

    def advance(self, amount: float) -> None:
        self.advanced.append(amount)
        self.before_advance(len(self.advanced))

    def restore(self, amount: float) -> None:
        self.restored += amount

    def note(self, text: str) -> None:
        self.notes.append(text)
        self.before_note(len(self.notes))


def small_bert(task: Task, seed: int = 0, layers: int = 2, dropout: float = 0.0) -> BertForSequenceClassification:
    """A random BERT of width 16 with a head for ``task``."""
    quieten()
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=WORDS,
        hidden_size=16,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=16,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        initializer_range=0.2,
        num_labels=task.outputs,
    )
    return BertForSequenceClassification(config)


def random_rows(task: Task, rows: int, seed: int = 0) -> Rowset:
    """Rows of 3 to 10 random tokens, their labels decided by their first token."""
    generator = np.random.Generator(np.random.PCG64(seed))
    lengths = generator.integers(3, 11, rows)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    tokens = generator.integers(1, WORDS, offsets[-1]).astype(np.int32)
    first = tokens[offsets[:-1]]
    labels = torch.from_numpy(first / 10 if task.regression else first % task.outputs)
    return Rowset(
        TokenRows(Ragged(tokens, offsets), None, 0),
        labels.to(torch.float32 if task.regression else torch.int64),
        np.ones(rows, np.bool_),
        [row.to_bytes(16, "little") for row in range(rows)],
        np.arange(rows),
    )


def spec_of(method: Method, **train: object) -> DistilSpec:
    """A spec with 3 epochs of batches of 4 rows, unless ``train`` has other settings."""
    return DistilSpec(
        start=Fresh(), method=method, train=Train(**{"epochs": 3, "batch_size": 4, "learning_rate": 3e-3, **train})
    )


def setup_of(
    spec: DistilSpec, task: Task, checkpoint: Path, signal: Signal | None = None, checkpoint_seconds: float = 0.5
) -> TrainingSetup:
    """A training on 26 rows, with 12 to select the best epoch, and a clock that advances by a second whenever it is
    read."""
    ticks = count()
    return TrainingSetup(
        spec,
        task,
        random_rows(task, 26, seed=1),
        random_rows(task, 12, seed=2),
        signal or NoTeacher(),
        checkpoint,
        checkpoint_seconds,
        lambda: float(next(ticks)),
        teacher_widths=dict.fromkeys(range(9), 16) if spec.method.needs_tokens else {},
        candidate_pool=random_pool(task, spec.method.data.k) if spec.method.needs_candidates else None,
        live_teachers=live_teachers(task) if spec.method.needs_live_teacher else None,
        generator=small_generator() if spec.method.needs_live_teacher else None,
    )


def live_teachers(task: Task) -> LiveTeachers:
    """The teacher of ``stored_outputs``, as a model that runs."""
    return LiveTeachers([frozen(small_bert(task, seed=99), "cpu")], "float32", "cpu")


SPECIAL = (0, 1, 2)
"""The ids of ``small_generator`` that it neither masks nor writes."""


def small_generator(seed: int = 7, dropout: float = 0.0) -> Generator:
    """A random masked language model of the vocabulary of ``small_bert``, of width 8, whose last token is the mask."""
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=WORDS,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=16,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        initializer_range=0.5,
    )
    tokens = TokenIds(WORDS - 1, np.array(SPECIAL), np.arange(len(SPECIAL), WORDS))
    return Generator(PlacePredictor(BertForMaskedLM(config)), tokens)


def random_pool(task: Task, k: int, rows: int = 26, texts: int = 30) -> CandidatePool:
    """Candidates of random tokens with a teacher's logits. Most rows have ``k`` candidates, some fewer or none."""
    generator = np.random.Generator(np.random.PCG64(17))
    table = np.stack([generator.permutation(texts)[:k] for _ in range(rows)])
    for row in range(0, rows, 5):
        table[row, row % (k + 1) :] = -1
    distances = np.sort(generator.random((rows, k)).astype(np.float32), axis=1)
    return CandidatePool(
        random_rows(task, texts, seed=3), outputs_on(random_rows(task, texts, seed=3), task), table, distances
    )


def outputs_on(rows: Rowset, task: Task) -> Signal:
    """The logits for ``rows`` of the teacher of ``stored_outputs``."""
    return StoredSignal([InMemoryColumns({"logits": logits_of(small_bert(task, seed=99), rows).numpy()})])


def logits_of(model: torch.nn.Module, rows: Rowset) -> Tensor:
    """[rows, C]: the logits of ``model``, computed one row at a time."""
    model.eval()
    with torch.no_grad():
        found = [forward(model, rows.batch(np.array([row]), "cpu").inputs)[0] for row in range(len(rows))]
    return torch.cat(found)


def stored_outputs(task: Task, rows: int = 26) -> Signal:
    """The stored logits of a teacher for the rows of train of ``setup_of``."""
    return outputs_on(random_rows(task, rows, seed=1), task)


def signal_for(method: Method, task: Task) -> Signal:
    """Stored logits if the method needs a teacher, and its states and scores at every token if these are matched; none
    otherwise."""
    if not method.needs_teacher:
        return NoTeacher()
    found = stored_outputs(task)
    assert isinstance(found, StoredSignal)
    return replace(found, positions=positions_on(random_rows(task, 26, seed=1), task)) if method.needs_tokens else found


def positions_on(rows: Rowset, task: Task) -> Mapping[str, InMemoryPositions]:
    """The states and the attention scores of a teacher of four layers at every token of ``rows``."""
    model = small_bert(task, seed=99, layers=4).eval()
    model.set_attn_implementation("eager")
    batch = rows.batch(np.arange(len(rows)), "cpu")
    with torch.no_grad():
        hidden = forward(model, batch.inputs, hidden=True)[1]
        scores = attention_scores(model, batch.inputs)
    columns = {token_state_name(layer): states.numpy() for layer, states in enumerate(hidden)}
    columns |= {score_name(layer): values.numpy() for layer, values in enumerate(scores, 1)}
    found = InMemoryPositions(columns, np.asarray(rows.costs))
    return dict.fromkeys(columns, found)


def equal_weights(one: Weights, other: Weights) -> bool:
    """Whether both have the same weights, bit for bit."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def max_difference(one: Weights, other: Weights) -> float:
    """The greatest absolute difference of two weights. The biases of attention keys are left out: softmax does not
    depend on them, so that their gradients are rounding errors, which AdamW scales up to full steps."""
    return max(float((one[name] - other[name]).abs().max()) for name in one if not name.endswith("key.bias"))


def epoch_results(progress: Progress) -> list[tuple[str, int, float, float, float]]:
    """(phase, epoch, loss, score, selection loss) of each epoch: the history without its seconds, which an
    interruption may change."""
    return [(epoch.phase, epoch.epoch, epoch.loss, epoch.score, epoch.selection_loss) for epoch in progress.history]


@dataclass
class RecordingListener:
    """A ``Listener`` that records what a stage reports: what it has ``done``, and what it has ``restored`` from an
    earlier attempt. ``before_advance`` is called with the total done so far, and may raise."""

    before_advance: Callable[[float], None] = lambda _: None
    done: float = 0.0
    restored: float = 0.0
    expected: list[float] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    def expect(self, total: float, unit: str) -> None:
        self.expected.append(total)

    def advance(self, amount: float) -> None:
        self.done += amount
        self.before_advance(self.done)

    def restore(self, amount: float) -> None:
        self.restored += amount

    def note(self, text: str) -> None: ...

    def log(self, line: str) -> None:
        self.lines.append(line)


def inline(listener: RecordingListener | None = None, threads: int = 1) -> On:
    """The resources to run a stage in this process, on so many threads."""
    return Inline().on(Resources(cpus_per_worker=threads), listener or RecordingListener())


def write_corpus(task: Task, folder: Path, tokenizer: Path, out: Path, kind: str = "parquet") -> Path:
    """Write the corpus of ``task``, whose splits are files of this kind in ``folder``, to ``out``."""
    splits = (task.train, *task.dev, *task.test)
    inputs = {"tokenizer": tokenizer, **{f"data/{split}": folder / f"{split}.{kind}" for split in splits}}
    out.mkdir()
    corpus(CorpusSpec(task=task, source=Files(), max_length=16, holdout=0.2), inputs, out, inline())
    return out


# --- two workers ----------------------------------------------------------------------------------------------

Trained = Callable[[Path, LocalWorker], tuple[nn.Module, Progress]]
"""A function of a test module that trains a model on 26 rows, with this checkpoint and by this worker."""


def work_together(rank: int, directory: str, trained: Trained) -> None:
    """One of two workers, which leaves its model and its epochs in ``directory``."""
    torch.set_num_threads(1)
    meeting = f"file://{directory}/meeting"
    torch.distributed.init_process_group("gloo", meeting, timedelta(seconds=200), rank=rank, world_size=2)
    model, progress = trained(Path(directory) / f"{rank}.pt", LocalWorker(rank=rank, world_size=2))
    torch.save((model.state_dict(), epoch_results(progress)), f"{directory}/results-{rank}.pt")
    torch.distributed.destroy_process_group()


def assert_two_workers_train_as_one_does(trained: Trained, folder: Path) -> None:
    """Train in two processes and in this one alone, and compare the weights and the epochs."""
    other = FORKSERVER.Process(target=work_together, args=(1, str(folder), trained))
    other.start()
    work_together(0, str(folder), trained)
    other.join()
    assert other.exitcode == 0
    (one, results), (two, _) = (torch.load(folder / f"results-{rank}.pt") for rank in range(2))
    assert equal_weights(one, two), "the workers end with the same weights"
    model, progress = trained(folder / "alone.pt", LocalWorker())
    assert max_difference(one, model.state_dict()) < 1e-5
    for together, single in zip(results, epoch_results(progress), strict=True):
        assert together[2:] == pytest.approx(single[2:], rel=1e-5)

"""Steps as CUDA graphs, as far as a machine without a GPU can tell: a stand-in for the GPU's graphs runs the captured
step again, on the tensors that it was captured with."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from training_setups import (
    ANNEALING,
    CLASSES,
    DRAWN,
    HARD,
    KNN,
    MINIMAX,
    TINYBERT,
    VANILLA,
    Interrupted,
    LocalWorker,
    epoch_results,
    equal_weights,
    max_difference,
    setup_of,
    signal_for,
    small_bert,
    spec_of,
)

from stages.corpus.rowset import Batch
from stages.models.embeddings.words import unwrapped
from stages.models.passes.cast_weights import CastWeights
from stages.specs.method import Method
from stages.training.loop import Training
from stages.training.setup import TrainingSetup
from stages.training.steps.graphs import GraphedStep, Joined, Part, graphs_problem
from stages.training.steps.student_step import StudentStep

LONGEST = 16


class RunAgain:
    """In place of the GPU's graphs: a captured function is called at each replay, and its result is copied to the
    tensor of the first one. It counts captures and replays."""

    def __init__(self) -> None:
        self.captures = self.replays = self.drops = 0

    def running(self) -> AbstractContextManager[None]:
        return nullcontext()

    def capture(self, body: Callable[[], Tensor]) -> Callable[[int], Tensor]:
        self.captures += 1
        kept: list[Tensor] = []

        def replay(seed: int) -> Tensor:
            self.replays += 1
            torch.manual_seed(seed)
            kept.append(body()) if not kept else kept[0].copy_(body())
            return kept[0]

        return replay

    def drop(self) -> None:
        self.drops += 1


class PaddedStep(StudentStep):
    """Steps kernel by kernel on batches that are padded as those of graphs, with the learning rate in a tensor."""

    rate_on = "cpu"

    def fitted(self, batch: Batch) -> Batch:
        return replace(batch, inputs=self.parts.setup.train.examples.fitted(batch.inputs, LONGEST))


def graphed(training: Training, graphs: RunAgain) -> Training:
    training.step = GraphedStep(training.step, graphs, LONGEST, training.setup.train.examples)
    return training


def padded(training: Training) -> Training:
    training.step = PaddedStep(training.parts, training.participants, training.layout)
    return training


def training_of(method: Method, path: Path, worker: LocalWorker | None = None, dropout: float = 0.1) -> Training:
    setup = setup_of(spec_of(method, epochs=4), CLASSES, path, signal_for(method, CLASSES))
    return Training(small_bert(CLASSES, dropout=dropout), setup, worker or LocalWorker())


@pytest.mark.parametrize("method", [HARD, VANILLA, ANNEALING], ids=["hard", "vanilla", "annealing"])
def test_captured_steps_train_the_weights_of_steps_that_run_kernel_by_kernel(method: Method, tmp_path: Path) -> None:
    one, other, graphs = (
        training_of(method, tmp_path / "one.pt"),
        training_of(method, tmp_path / "other.pt"),
        RunAgain(),
    )
    graphed(one, graphs).run()
    padded(other).run()
    assert equal_weights(one.model.state_dict(), other.model.state_dict())
    assert epoch_results(one.progress) == epoch_results(other.progress)
    assert graphs.replays > 0


@pytest.mark.parametrize("method", [KNN, DRAWN, MINIMAX], ids=["all", "drawn", "minimax"])
def test_captured_passes_on_candidates_train_the_weights_of_passes_that_run_kernel_by_kernel(
    method: Method, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With dropout beside parts that are never captured, as each part of a step has a seed of its own; without dropout
    beside steps kernel by kernel."""
    captured_names: set[str] = set()
    capture = GraphedStep._capture

    def watched(step: GraphedStep, part: Part, batch: Joined, body: Callable[[Any], Tensor]) -> None:
        captured_names.add(part[0])
        capture(step, part, batch, body)

    monkeypatch.setattr(GraphedStep, "_capture", watched)
    one = graphed(training_of(method, tmp_path / "one.pt"), RunAgain())
    plain_one = graphed(training_of(method, tmp_path / "plain one.pt", dropout=0.0), RunAgain())
    for training in (one, plain_one):
        training.run()
    monkeypatch.setattr("stages.training.steps.graphs.MOST_CAPTURED", 0)
    never, others = RunAgain(), training_of(method, tmp_path / "other.pt")
    graphed(others, never).run()
    plain_other = padded(training_of(method, tmp_path / "plain other.pt", dropout=0.0))
    plain_other.run()
    for captured, other in ((one, others), (plain_one, plain_other)):
        assert equal_weights(captured.model.state_dict(), other.model.state_dict())
        assert epoch_results(captured.progress) == epoch_results(other.progress)
    assert never.captures == 0
    assert captured_names == {"", "candidates"}, "the passes on candidates, and those on the rows"


def test_each_shape_runs_once_kernel_by_kernel_and_is_then_captured_once(tmp_path: Path) -> None:
    training, graphs = training_of(HARD, tmp_path / "checkpoint.pt"), RunAgain()
    graphed(training, graphs).run()
    steps, shapes = 4 * 7, 4
    assert 0 < graphs.captures <= shapes, "26 rows in batches of 4 and 2, of at most 16 tokens"
    assert steps - shapes <= graphs.replays < steps


class OneThenNone(RunAgain):
    """Captures one step; the second capture fails half way."""

    def capture(self, body: Callable[[], Tensor]) -> Callable[[int], Tensor]:
        if self.captures == 1:
            body_so_far(body)
        return super().capture(body)


def body_so_far(body: Callable[[], Tensor]) -> None:
    """Run ``body`` up to its optimizer step, which raises as a copy from the host does within a capture."""

    def fail(*_: object) -> None:
        raise RuntimeError("cannot copy\nduring a capture")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", fail)
        body()


def test_a_capture_that_fails_changes_no_weight_and_is_noted_once(tmp_path: Path) -> None:
    worker, graphs = LocalWorker(), OneThenNone()
    one, other = training_of(VANILLA, tmp_path / "one.pt", worker), training_of(VANILLA, tmp_path / "other.pt")
    graphed(one, graphs).run()
    padded(other).run()
    assert equal_weights(one.model.state_dict(), other.model.state_dict())
    assert [note for note in worker.notes if "capture" in note] == [
        "train.graphs: on, but steps run kernel by kernel, because a capture failed: cannot copy"
    ]
    assert graphs.captures == 1 and graphs.replays > 0


def test_another_plan_drops_what_was_captured(tmp_path: Path) -> None:
    """Each of the first two epochs of annealing has a temperature of its own; the third starts another phase."""
    training, graphs = training_of(ANNEALING, tmp_path / "checkpoint.pt"), RunAgain()
    graphed(training, graphs).run()
    assert graphs.drops == 3 + 1, "with the one at the end"
    training, graphs = training_of(VANILLA, tmp_path / "vanilla.pt"), RunAgain()
    graphed(training, graphs).run()
    assert graphs.drops == 1 + 1


def test_a_training_goes_on_with_graphs_from_a_checkpoint_without_and_the_other_way_round(tmp_path: Path) -> None:
    whole = padded(training_of(VANILLA, tmp_path / "whole.pt"))
    whole.run()

    def stop(reached: int) -> None:
        if reached == 10:
            raise Interrupted

    for number, (first, second) in enumerate([(True, False), (False, True)]):
        path, ends = tmp_path / f"{number}.pt", training_of(VANILLA, tmp_path / f"{number}.pt")
        begun = training_of(VANILLA, path, LocalWorker(stop))
        with pytest.raises(Interrupted):
            (graphed(begun, RunAgain()) if first else padded(begun)).run()
        (graphed(ends, RunAgain()) if second else padded(ends)).run()
        assert equal_weights(ends.model.state_dict(), whole.model.state_dict())


def test_padding_changes_no_loss_beyond_rounding(tmp_path: Path) -> None:
    plain, other = (training_of(VANILLA, tmp_path / f"{name}.pt", dropout=0.0) for name in ("plain", "padded"))
    plain.run()
    padded(other).run()
    assert max_difference(plain.model.state_dict(), other.model.state_dict()) < 1e-4


def test_what_cannot_be_captured_is_named(tmp_path: Path) -> None:
    setup = setup_of(spec_of(VANILLA), CLASSES, tmp_path / "checkpoint.pt", signal_for(VANILLA, CLASSES))
    gpu = LocalWorker(device="cuda:0")

    def with_train(given: TrainingSetup, **changes: object) -> TrainingSetup:
        train = given.spec.train.model_copy(update=changes)
        return replace(given, spec=given.spec.model_copy(update={"train": train}))

    assert graphs_problem("bert", setup, gpu) is None
    assert graphs_problem("bert", setup, LocalWorker(device="cuda:0", world_size=2)) is not None
    assert "micro_batch" in (graphs_problem("bert", with_train(setup, micro_batch=2), gpu) or "")
    assert "deberta-v2" in (graphs_problem("deberta-v2", setup, gpu) or "")
    tokens = setup_of(spec_of(TINYBERT), CLASSES, tmp_path / "checkpoint.pt", signal_for(TINYBERT, CLASSES))
    assert "every token" in (graphs_problem("bert", tokens, gpu) or "")


def test_without_a_gpu_graphs_change_and_note_nothing(tmp_path: Path) -> None:
    trained = {}
    for graphs in ("on", "off"):
        worker = LocalWorker()
        setup = setup_of(spec_of(HARD, graphs=graphs), CLASSES, tmp_path / f"{graphs}.pt")
        model = small_bert(CLASSES, dropout=0.1)
        Training(model, setup, worker).run()
        trained[graphs] = model.state_dict()
        assert not [note for note in worker.notes if "graphs" in note]
    assert equal_weights(trained["on"], trained["off"])


def test_trainings_in_threads_of_one_process_end_with_the_weights_of_each_alone(tmp_path: Path) -> None:
    """Their steps draw dropout masks from the same default generator, one step at a time."""
    methods = {"hard": HARD, "annealing": ANNEALING, "drawn": DRAWN}
    alone = {name: padded(training_of(method, tmp_path / f"{name} alone.pt")) for name, method in methods.items()}
    for training in alone.values():
        training.run()
    beside = {name: padded(training_of(method, tmp_path / f"{name}.pt")) for name, method in methods.items()}
    with ThreadPoolExecutor(len(beside)) as threads:
        for done in [threads.submit(training.run) for training in beside.values()]:
            done.result()
    for name, training in beside.items():
        assert equal_weights(training.model.state_dict(), alone[name].model.state_dict()), name


@pytest.mark.parametrize("inputs", ["ids", "embeddings"])
def test_weights_that_are_cast_at_once_give_the_losses_and_gradients_of_autocast_bit_for_bit(inputs: str) -> None:
    model = small_bert(CLASSES, dropout=0.1).train()
    model.classifier.bias.requires_grad_(False)
    ids = torch.randint(model.config.vocab_size, (4, 9), generator=torch.Generator().manual_seed(1))
    found = []
    for wrapped in (model, CastWeights(model)):
        assert unwrapped(wrapped) is model
        model.zero_grad()
        torch.manual_seed(3)
        leaf = model.get_input_embeddings()(ids).detach().requires_grad_()
        given = {"input_ids": ids} if inputs == "ids" else {"inputs_embeds": leaf}
        with torch.autocast("cpu", torch.bfloat16):
            logits = wrapped(**given, attention_mask=torch.ones_like(ids)).logits
        logits.float().square().sum().backward()
        gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
        found.append((logits.detach(), gradients, leaf.grad))
    (logits, gradients, leaf_gradient), (again, others, other_leaf) = found
    assert logits.dtype == torch.bfloat16 and torch.equal(logits, again)
    for name, gradient in gradients.items():
        assert (gradient is None) == (others[name] is None), name
        assert gradient is None or (gradient.dtype == torch.float32 and torch.equal(gradient, others[name])), name
    assert inputs == "ids" or torch.equal(leaf_gradient, other_leaf)
    with torch.no_grad():
        assert wrapped(input_ids=ids).logits.dtype == torch.float32, "without autocast nothing is cast"

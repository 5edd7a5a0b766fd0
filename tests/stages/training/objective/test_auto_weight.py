"""``structure.weight: auto``: the measured weight against gradients computed by hand, refusals, resuming, and two
workers."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
from layered_trainings import layered
from torch import nn
from torch.nn import functional
from training_setups import (
    CLASSES,
    FORKSERVER,
    NUMBER,
    InMemoryColumns,
    Interrupted,
    LocalWorker,
    epoch_results,
    equal_weights,
    max_difference,
    small_bert,
)

from stages.corpus.batches import epoch_batches
from stages.models.forward import forward, pooled_state
from stages.specs.axes.targets import Smoothed, TeacherTargets
from stages.specs.axes.training import Annealing, Continuation, OnePhase
from stages.specs.layers import Attend, Concatenate, Outputs, Pick, Random, Relational, Structure
from stages.specs.method import Method
from stages.specs.seeds import seed_of
from stages.specs.tasks import Task
from stages.training.checkpoint import LayerWeight, Progress
from stages.training.loop import fit
from stages.training.objective.auto_weight import BATCHES
from stages.training.setup import TrainingSetup
from stages.training.signal import StoredSignal

PICK = Pick(pairs=((1, 2), (2, 3)), weight="auto")
ATTEND = Attend(groups=((1, 2, 3), (2, 3)), weight="auto")
RELATED = Relational(pair=(2, 3), weight="auto")
JOIN = Concatenate(groups=((1,), (3, 2)), weight="auto")
DRAWN = Random(layers=(1, 2, 3), student_layers=(1, 2), width=5, weight="auto")
TEACHER = TeacherTargets()


def measured(progress: Progress) -> LayerWeight:
    assert progress.layer_weight is not None
    return progress.layer_weight


def trained(setup: TrainingSetup, task: Task = CLASSES, dropout: float = 0.0) -> tuple[nn.Module, Progress]:
    model = small_bert(task, dropout=dropout)
    return model, fit(model, setup, LocalWorker())


# --- the value ----------------------------------------------------------------------------------------


def by_hand(setup: TrainingSetup, task: Task, labels: str, scale: float = 1.0) -> tuple[float, float]:
    """The mean lengths, over the first batches, of the gradients of the labels' term and of the squared error between
    the states of the pairs of ``PICK``, on the embeddings and layers of the student, in plain torch."""
    model, train = small_bert(task), setup.spec.train
    reached = [*model.bert.embeddings.parameters(), *model.bert.encoder.parameters()]
    lengths = []
    for rows in epoch_batches(setup.train.costs, train.batch_size, seed_of(train.seed, 0, 0))[:BATCHES]:
        batch = setup.train.batch(rows, "cpu")
        assert isinstance(setup.signal, StoredSignal)
        (source,) = setup.signal.logits
        stored = {name: torch.from_numpy(source.gather(name, rows)) for name in ("logits", "hidden_02", "hidden_03")}
        logits, hidden, *_ = forward(model, batch.inputs, hidden=True)
        own = [pooled_state(states, batch.inputs["attention_mask"], "mean") for states in hidden]
        layers = (own[1] - stored["hidden_02"]).square().mean(1) + (own[2] - stored["hidden_03"]).square().mean(1)
        term = {
            "hard": lambda z=logits, y=batch.labels: functional.cross_entropy(z, y),
            "smoothed": lambda z=logits, y=batch.labels: functional.cross_entropy(z, y, label_smoothing=0.2),
            "number": lambda z=logits, y=batch.labels: functional.mse_loss(z[:, 0], y),
            "match": lambda z=logits, t=stored["logits"]: functional.mse_loss(z, scale * t),
        }[labels]()
        lengths.append([length(loss, reached) for loss in (term, layers.mean() / 2)])
    mean = np.mean(lengths, axis=0)
    return float(mean[0]), float(mean[1])


def length(loss: torch.Tensor, parameters: list[nn.Parameter]) -> float:
    found = torch.autograd.grad(loss, parameters, retain_graph=True)
    return float(torch.cat([one.flatten() for one in found]).double().norm())


ONE_PHASE = Method(targets=TEACHER, training=OnePhase(temperature=3.0, teacher_weight=0.7), structure=PICK)
METHODS: Mapping[str, tuple[Method, Task, str, float]] = {
    "one phase": (ONE_PHASE, CLASSES, "hard", 1.0),
    "the teacher alone": (
        ONE_PHASE.model_copy(update={"training": OnePhase(teacher_weight=1.0)}),
        CLASSES,
        "hard",
        1.0,
    ),
    "a regression": (ONE_PHASE, NUMBER, "number", 1.0),
    "smoothed labels": (Method(targets=Smoothed(epsilon=0.2), structure=PICK), CLASSES, "smoothed", 1.0),
    "continuation": (
        Method(targets=TEACHER, training=Continuation(max_temperature=2), structure=PICK),
        CLASSES,
        "hard",
        1.0,
    ),
    "annealing": (
        Method(targets=TEACHER, training=Annealing(max_temperature=4, first_phase=0.7), structure=PICK),
        CLASSES,
        "match",
        0.5,
    ),
}


@pytest.mark.parametrize("name", METHODS)
def test_the_weight_is_the_ratio_of_the_gradients_computed_by_hand(name: str, tmp_path: Path) -> None:
    method, task, labels, scale = METHODS[name]
    setup = layered(PICK, task, tmp_path / "checkpoint.pt", method)
    expected = by_hand(setup, task, labels, scale)
    found = measured(trained(setup, task)[1])
    assert (found.labels_gradient, found.layers_gradient) == pytest.approx(expected, rel=1e-5)
    assert found.weight == found.labels_gradient / found.layers_gradient
    assert found.as_json() == {
        "weight": found.weight,
        "labels_gradient": found.labels_gradient,
        "layers_gradient": found.layers_gradient,
        "batches": 4,
        "ratio": pytest.approx(1 / found.weight),
    }


@pytest.mark.parametrize("structure", [PICK, ATTEND, RELATED, JOIN, DRAWN], ids=lambda structure: structure.kind)
def test_a_training_with_auto_equals_one_with_the_number_that_was_measured(
    structure: Structure, tmp_path: Path
) -> None:
    """Bit for bit: the measurement leaves the random numbers, the gradients and the modes of a training alone."""
    model, progress = trained(layered(structure, CLASSES, tmp_path / "auto.pt"), dropout=0.1)
    given = structure.model_copy(update={"weight": measured(progress).weight})
    other, plain = trained(layered(given, CLASSES, tmp_path / "number.pt"), dropout=0.1)
    assert plain.layer_weight is None
    assert epoch_results(progress) == epoch_results(plain)
    assert equal_weights(model.state_dict(), other.state_dict())


def test_the_share_of_a_schedule_multiplies_the_measured_weight(tmp_path: Path) -> None:
    """Continuation: (1 - psi) times the weight, as with a number."""
    method = METHODS["continuation"][0]
    model, progress = trained(layered(PICK, CLASSES, tmp_path / "auto.pt", method))
    number = PICK.model_copy(update={"weight": measured(progress).weight})
    other, _ = trained(
        layered(number, CLASSES, tmp_path / "number.pt", method.model_copy(update={"structure": number}))
    )
    assert equal_weights(model.state_dict(), other.state_dict())


def test_dropout_precision_and_micro_batches_do_not_change_what_is_measured(tmp_path: Path) -> None:
    trainings: list[tuple[float, dict[str, object]]] = [
        (0.0, {}),
        (0.3, {}),
        (0.0, {"precision": "bfloat16"}),
        (0.0, {"micro_batch": 3}),
    ]
    found = []
    for number, (dropout, train) in enumerate(trainings):
        setup = layered(PICK, CLASSES, tmp_path / f"{number}.pt", epochs=1, **train)
        found.append(measured(trained(setup, dropout=dropout)[1]))
    assert found[1] == found[0]
    assert [one.weight for one in found[2:]] == pytest.approx([found[0].weight] * 2, rel=1e-5)


def test_classifiers_on_layers_can_have_the_weight_auto(tmp_path: Path) -> None:
    structure = Outputs(groups=((1, 2), (3,)), weight="auto")
    setup = layered(structure, CLASSES, tmp_path / "checkpoint.pt")
    assert isinstance(setup.signal, StoredSignal)
    logits = {f"hidden_{layer:02d}": np.random.default_rng(layer).normal(size=(26, 3)) for layer in (1, 2, 3)}
    source = [InMemoryColumns({name: values.astype(np.float32) for name, values in logits.items()})]
    setup = replace(setup, signal=replace(setup.signal, layers=source))
    assert 0 < measured(trained(setup)[1]).weight < np.inf


# --- refusals -----------------------------------------------------------------------------------------


def with_states(setup: TrainingSetup, states: np.ndarray) -> TrainingSetup:
    assert isinstance(setup.signal, StoredSignal)
    source = [InMemoryColumns(dict.fromkeys(("hidden_01", "hidden_02", "hidden_03"), states))]
    return replace(setup, signal=replace(setup.signal, layers=source))


def test_layers_that_equal_the_teachers_stop_the_training_in_one_line(tmp_path: Path) -> None:
    structure = Pick(pairs=((1, 1),), weight="auto")
    setup = layered(structure, CLASSES, tmp_path / "checkpoint.pt")
    model = small_bert(CLASSES).eval()
    batch = setup.train.batch(np.arange(26), "cpu")
    with torch.no_grad():
        _, hidden, *_ = forward(model, batch.inputs, hidden=True)
    own = pooled_state(hidden[1], batch.inputs["attention_mask"], "mean").numpy()
    with pytest.raises(ValueError, match=r"structure\.weight: auto, but .* match other layers, or") as error:
        trained(with_states(setup, own))
    assert "\n" not in str(error.value)


def test_states_that_are_not_finite_stop_the_training_in_one_line(tmp_path: Path) -> None:
    setup = layered(PICK, CLASSES, tmp_path / "checkpoint.pt")
    states = np.full((26, 16), np.inf, np.float32)
    with pytest.raises(ValueError, match=r"structure\.weight: auto, but .* layers' nan, which gives no weight"):
        trained(with_states(setup, states))


# --- resuming, and several workers --------------------------------------------------------------------


def test_a_resumed_training_keeps_the_weight_and_ends_with_the_same_bits(tmp_path: Path) -> None:
    whole, progress = trained(layered(PICK, CLASSES, tmp_path / "whole.pt"), dropout=0.1)

    def cut(reached: int) -> None:
        if reached == 11:
            raise Interrupted

    setup = layered(PICK, CLASSES, tmp_path / "cut.pt")
    with pytest.raises(Interrupted):
        fit(small_bert(CLASSES, dropout=0.1), setup, LocalWorker(cut))
    worker, again = LocalWorker(), small_bert(CLASSES, seed=5, dropout=0.1)
    resumed = fit(again, setup, worker)
    assert not any("get the weight" in note for note in worker.notes), "it is not measured again"
    assert measured(resumed) == measured(progress)
    assert epoch_results(resumed) == epoch_results(progress)
    assert equal_weights(again.state_dict(), whole.state_dict())


TOGETHER: Mapping[str, tuple[Structure, int | None]] = {"pick": (PICK, 2), "relational": (RELATED, None)}


def work_together(rank: int, directory: str) -> None:
    """One of two workers, which trains a student of each structure in ``TOGETHER``: 26 rows in batches of 5."""
    torch.set_num_threads(1)
    meeting = f"file://{directory}/meeting"
    torch.distributed.init_process_group("gloo", meeting, timedelta(seconds=200), rank=rank, world_size=2)
    for name, (structure, most) in TOGETHER.items():
        model = small_bert(CLASSES)
        checkpoint = Path(directory) / f"{name}-{rank}.pt"
        setup = layered(structure, CLASSES, checkpoint, batch_size=5, epochs=1, micro_batch=most)
        progress = fit(model, setup, LocalWorker(rank=rank, world_size=2))
        torch.save((model.state_dict(), measured(progress).as_json()), f"{directory}/{name}-results-{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_workers_measure_the_weight_that_one_does(tmp_path: Path) -> None:
    other = FORKSERVER.Process(target=work_together, args=(1, str(tmp_path)))
    other.start()
    work_together(0, str(tmp_path))
    other.join()
    assert other.exitcode == 0
    for name, (structure, _) in TOGETHER.items():
        one, two = (torch.load(tmp_path / f"{name}-results-{rank}.pt") for rank in range(2))
        assert one[1] == two[1], "the workers use the same number"
        assert equal_weights(one[0], two[0])
        model, alone = trained(layered(structure, CLASSES, tmp_path / f"{name}.pt", batch_size=5, epochs=1))
        assert one[1] == pytest.approx(measured(alone).as_json(), rel=1e-4)
        assert max_difference(one[0], model.state_dict()) < 1e-4

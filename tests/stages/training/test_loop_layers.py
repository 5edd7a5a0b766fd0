"""The training loop with layers: the loss, what is read from stores, and the projections."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
from layered_trainings import NAMES, layer_columns, layered
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
    random_rows,
    setup_of,
    small_bert,
    spec_of,
)

from stages.corpus.batches import epoch_batches
from stages.models.forward import forward, pooled_state
from stages.specs.axes.targets import TeacherTargets
from stages.specs.axes.training import Annealing
from stages.specs.layers import (
    AnnealedTemperature,
    Attend,
    Concatenate,
    Pick,
    Random,
    Relational,
    Structure,
    state_name,
)
from stages.specs.method import Method
from stages.specs.schedule import OutputRequest
from stages.specs.seeds import seed_of
from stages.training.loop import fit
from stages.training.objective.matching import Widths, matcher_of
from stages.training.setup import TrainingSetup
from stages.training.signal import LiveSignal, NoTeacher, StoredSignal

PICK = Pick(pairs=((1, 2), (2, 3)), weight=5.0)
UNIT = Pick(pairs=((1, 2),), normalised=True, pooling="cls", weight=5.0)
JOIN = Concatenate(groups=((1,), (3, 2)), weight=5.0)
ATTEND = Attend(groups=((1, 2, 3), (2, 3)), weight=5.0)
LEARNED = Attend(groups=((1, 2, 3), (2, 3)), weight=5.0, temperature="learned")
DRAWN = Random(layers=(1, 2, 3), student_layers=(1, 2), width=5)
RELATED = Relational(pair=(2, 3), distance=5.0)

EVERYTHING = OutputRequest(((0, 1.0),), tuple(NAMES))


def by_hand(model: nn.Module, setup: TrainingSetup, structure: Structure) -> float:
    """The mean loss of the first epoch, in plain torch, by the formulas of PKD and CKD."""
    train, rows = setup.spec.train, np.arange(len(setup.train))
    outputs = {name: values.float() for name, values in setup.signal.read(rows, EVERYTHING).items()}
    torch.manual_seed(seed_of(train.seed))
    lifts = matcher_of(structure, Widths((16,) * 5, dict.fromkeys(range(5), 16), 3)).student
    everything = nn.ModuleList([model, lifts])
    matrices = [one for one in everything.parameters() if one.ndim >= 2]
    vectors = [one for one in everything.parameters() if one.ndim < 2]
    optimizer = torch.optim.AdamW([{"params": matrices}, {"params": vectors, "weight_decay": 0.0}], foreach=False)
    batches = epoch_batches(setup.train.costs, train.batch_size, seed_of(train.seed, 0, 0))
    steps, total = len(batches), 0.0
    for step, chosen in enumerate(batches):
        batch = setup.train.batch(chosen, "cpu")
        logits, hidden, *_ = forward(model, batch.inputs, hidden=True)
        here = {name: values[torch.from_numpy(chosen)] for name, values in outputs.items()}
        hard = functional.cross_entropy(logits, batch.labels)
        soft = functional.kl_div(
            functional.log_softmax(logits / 3, -1), functional.softmax(here["logits"] / 3, -1), reduction="batchmean"
        )
        follows = structure.pairs if isinstance(structure, Pick) else tuple(enumerate(structure.groups, 1))
        errors = []
        for lift, (layer, group) in zip(lifts, follows, strict=True):
            mask = batch.inputs["attention_mask"].float()[:, :, None]
            mean = (hidden[layer] * mask).sum(1) / mask.sum(1)
            own = lift(hidden[layer][:, 0] if structure.pooling == "cls" else mean)
            layers = group if isinstance(group, tuple) else (group,)
            target = torch.cat([here[state_name(one)] for one in layers], -1)
            if structure.normalised:
                own, target = own / own.norm(dim=-1, keepdim=True), target / target.norm(dim=-1, keepdim=True)
            errors.append(functional.mse_loss(own, target))
        loss = 0.3 * hard + 0.7 * 9 * soft + structure.weight * sum(errors) / len(errors)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(everything.parameters(), train.max_grad_norm)
        for group_of in optimizer.param_groups:
            group_of["lr"] = train.learning_rate * (steps - step) / steps
        optimizer.step()
        total += float(loss.detach()) * len(chosen)
    return total / len(setup.train)


@pytest.mark.parametrize("structure", [PICK, UNIT, JOIN], ids=["pick", "normalised cls", "concatenate"])
def test_the_layer_loss_is_that_of_a_loop_written_by_hand(structure: Structure, tmp_path: Path) -> None:
    setup = layered(structure, CLASSES, tmp_path / "checkpoint.pt", epochs=1, warmup=0.0)
    expected = by_hand(small_bert(CLASSES), setup, structure)
    found = fit(small_bert(CLASSES), setup, LocalWorker()).history[0].loss
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("structure", [UNIT, JOIN, ATTEND, DRAWN, RELATED], ids=lambda structure: structure.kind)
def test_layers_of_a_live_teacher_equal_those_of_its_store(structure: Structure, tmp_path: Path) -> None:
    stored = layered(structure, CLASSES, tmp_path / "stored.pt")
    live = layered(structure, CLASSES, tmp_path / "live.pt")
    teacher = small_bert(CLASSES, seed=99, layers=3).eval()
    live = replace(live, signal=LiveSignal(teacher, structure.pooling))
    models = [small_bert(CLASSES), small_bert(CLASSES)]
    found = [fit(model, setup, LocalWorker()) for model, setup in zip(models, (stored, live), strict=True)]
    np.testing.assert_allclose(*([epoch.loss for epoch in progress.history] for progress in found), rtol=1e-4)
    assert max_difference(models[0].state_dict(), models[1].state_dict()) < 1e-4


def test_layers_can_be_matched_in_a_regression_and_without_logits(tmp_path: Path) -> None:
    alone = Method(structure=JOIN)
    setup = layered(JOIN, NUMBER, tmp_path / "checkpoint.pt", alone)
    losses = [epoch.loss for epoch in fit(small_bert(NUMBER), setup, LocalWorker()).history]
    assert losses[-1] < losses[0]
    plain = replace(setup, spec=spec_of(Method()), signal=NoTeacher(), checkpoint=tmp_path / "plain.pt")
    assert fit(small_bert(NUMBER), plain, LocalWorker()).history[0].loss < losses[0]


def test_annealing_matches_layers_only_in_its_first_phase(tmp_path: Path) -> None:
    """In the second phase neither teacher outputs nor the student's own states are requested."""
    request: list[tuple[str, bool]] = []
    method = Method(targets=TeacherTargets(), training=Annealing(max_temperature=2, first_phase=0.5), structure=JOIN)
    setup = layered(JOIN, CLASSES, tmp_path / "checkpoint.pt", method, epochs=2)
    model, place = small_bert(CLASSES), LocalWorker()

    def see(module: nn.Module, _args: object, given: dict[str, object]) -> None:
        if module is model and module.training:
            request.append(("anneal" if not place.notes else "labels", bool(given["output_hidden_states"])))

    hook = model.register_forward_pre_hook(see, with_kwargs=True)
    fit(model, setup, place)
    hook.remove()
    assert request == [("anneal", True)] * 7 + [("labels", False)] * 7


def test_without_layers_the_students_hidden_states_are_not_computed(tmp_path: Path) -> None:
    request: list[object] = []
    model = small_bert(CLASSES)
    hook = model.register_forward_pre_hook(
        lambda _, __, given: request.append(given["output_hidden_states"]), with_kwargs=True
    )
    fit(model, setup_of(spec_of(Method()), CLASSES, tmp_path / "checkpoint.pt"), LocalWorker())
    hook.remove()
    assert not any(request)


def test_projections_are_not_saved_with_the_student(tmp_path: Path) -> None:
    model = small_bert(CLASSES)
    names = set(model.state_dict())
    progress = fit(model, layered(JOIN, CLASSES, tmp_path / "checkpoint.pt"), LocalWorker())
    assert set(model.state_dict()) == set(progress.best_weights) == names
    parts = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["parts"]
    assert set(parts["student"]) == names
    assert set(parts["projections"]) == {
        f"student.{number}.{part}" for number in range(2) for part in ("weight", "bias")
    }


def test_projections_are_trained(tmp_path: Path) -> None:
    setup = layered(JOIN, CLASSES, tmp_path / "checkpoint.pt")
    torch.manual_seed(seed_of(setup.spec.train.seed))
    before = matcher_of(JOIN, Widths((16,) * 5, dict.fromkeys(range(5), 16), 3)).state_dict()
    fit(small_bert(CLASSES), setup, LocalWorker())
    projections = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["parts"]["projections"]
    assert all(not torch.equal(projections[name], value) for name, value in before.items())


def test_a_learned_temperature_is_trained_and_kept_with_the_projections(tmp_path: Path) -> None:
    setup = layered(LEARNED, CLASSES, tmp_path / "checkpoint.pt")
    fit(small_bert(CLASSES), setup, LocalWorker())
    projections = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["parts"]["projections"]
    assert set(projections) == {"log_temperatures"}
    assert bool((projections["log_temperatures"] != 0).all())


def test_the_history_has_the_means_of_the_largest_and_of_all_weights_of_attention(tmp_path: Path) -> None:
    """At a learning rate of almost 0, so that it is that of the student as it starts."""
    setup = layered(ATTEND, CLASSES, tmp_path / "checkpoint.pt", epochs=1, learning_rate=1e-12)
    model, batch = small_bert(CLASSES).eval(), setup.train.batch(np.arange(26), "cpu")
    with torch.no_grad():
        _, hidden, *_ = forward(model, batch.inputs, hidden=True)
    columns, expected, weights = layer_columns(setup), [], []
    for layer, group in enumerate(ATTEND.groups, 1):
        assert not isinstance(group, str)
        own = pooled_state(hidden[layer], batch.inputs["attention_mask"], "mean").numpy()
        products = np.stack([(own * columns[NAMES[other]]).sum(1) for other in group], 1)
        powers = np.exp(products - products.max(1, keepdims=True))
        shares = powers / powers.sum(1, keepdims=True)
        expected.append(shares.max(1).mean())
        weights.append(shares.mean(0))
    (epoch,) = fit(small_bert(CLASSES), setup, LocalWorker()).history
    assert epoch.attention == pytest.approx(expected, rel=1e-5)
    assert epoch.attention_weights is not None
    for found, wanted in zip(epoch.attention_weights, weights, strict=True):
        assert found == pytest.approx(wanted, rel=1e-4)
    assert epoch.as_json()["attention"] == epoch.attention
    assert epoch.as_json()["attention_weights"] == epoch.attention_weights


def test_only_epochs_with_attention_have_its_weights_in_the_history(tmp_path: Path) -> None:
    method = Method(targets=TeacherTargets(), training=Annealing(max_temperature=1, first_phase=0.5), structure=ATTEND)
    setup = layered(ATTEND, CLASSES, tmp_path / "annealing.pt", method, epochs=2)
    history = fit(small_bert(CLASSES), setup, LocalWorker()).history
    assert [epoch.attention is not None for epoch in history] == [True, False]
    assert {"attention", "attention_weights"}.isdisjoint(history[1].as_json())
    plain = fit(small_bert(CLASSES), layered(PICK, CLASSES, tmp_path / "pick.pt", epochs=1), LocalWorker()).history
    assert plain[0].attention is None


def test_an_annealed_temperature_is_that_of_its_epoch_in_the_loss(tmp_path: Path) -> None:
    """The only epoch of a training, and the first of two, which has another temperature and so another loss."""
    falling = Attend(groups=ATTEND.groups, weight=5.0, temperature=AnnealedTemperature(annealed=6.0))
    fixed = Attend(groups=ATTEND.groups, weight=5.0, temperature=6.0)
    losses = [
        fit(small_bert(CLASSES), layered(one, CLASSES, tmp_path / f"{number}.pt", epochs=2), LocalWorker()).history
        for number, one in enumerate((falling, fixed, ATTEND))
    ]
    first, second = ([history[epoch].loss for history in losses] for epoch in range(2))
    assert first[0] == first[1] != first[2]
    assert second[0] != second[1]


@pytest.mark.parametrize("structure", [JOIN, LEARNED], ids=lambda structure: structure.kind)
def test_an_interrupted_run_with_projections_ends_with_the_same_bits(structure: Structure, tmp_path: Path) -> None:
    whole = small_bert(CLASSES, dropout=0.1)
    progress = fit(whole, layered(structure, CLASSES, tmp_path / "whole.pt"), LocalWorker())

    def cut(reached: int) -> None:
        if reached == 11:
            raise Interrupted

    setup = layered(structure, CLASSES, tmp_path / "cut.pt")
    with pytest.raises(Interrupted):
        fit(small_bert(CLASSES, dropout=0.1), setup, LocalWorker(cut))
    again = small_bert(CLASSES, seed=5, dropout=0.1)
    resumed = fit(again, setup, LocalWorker())
    assert epoch_results(resumed) == epoch_results(progress)
    assert [epoch.attention for epoch in resumed.history] == [epoch.attention for epoch in progress.history]
    assert equal_weights(again.state_dict(), whole.state_dict())


TOGETHER: Mapping[str, tuple[Structure, int | None]] = {
    "concatenate": (JOIN, 2),
    "random": (DRAWN, 2),
    "relational": (RELATED, None),
    "attend, its temperature learned": (LEARNED, 2),
}
"""Structure and micro-batch. A relational loss compares all rows of a batch, so that it has none."""


def annealed(structure: Structure) -> Method:
    return Method(targets=TeacherTargets(), training=Annealing(max_temperature=2, first_phase=0.5), structure=structure)


def work_together(rank: int, name: str, directory: str) -> None:
    """One of two workers: 26 rows in batches of 5; the last batch's one row leaves the second none."""
    torch.set_num_threads(1)
    meeting = f"file://{directory}/meeting"
    torch.distributed.init_process_group("gloo", meeting, timedelta(seconds=200), rank=rank, world_size=2)
    structure, most = TOGETHER[name]
    checkpoint, train = Path(directory) / f"{rank}.pt", {"batch_size": 5, "epochs": 2, "micro_batch": most}
    model = small_bert(CLASSES)
    setup = layered(structure, CLASSES, checkpoint, annealed(structure), **train)
    progress = fit(model, setup, LocalWorker(rank=rank, world_size=2))
    attention = [epoch.attention for epoch in progress.history]
    torch.save((model.state_dict(), epoch_results(progress), attention), f"{directory}/results-{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("name", TOGETHER)
def test_two_workers_match_layers_as_one_does_and_share_their_projections(name: str, tmp_path: Path) -> None:
    """Annealing: in the second phase projections have no gradients to share."""
    other = FORKSERVER.Process(target=work_together, args=(1, name, str(tmp_path)))
    other.start()
    work_together(0, name, str(tmp_path))
    other.join()
    assert other.exitcode == 0
    one, two = (torch.load(tmp_path / f"results-{rank}.pt") for rank in range(2))
    assert equal_weights(one[0], two[0]), "the workers end with the same weights"
    structure, model = TOGETHER[name][0], small_bert(CLASSES)
    setup = layered(structure, CLASSES, tmp_path / "alone.pt", annealed(structure), batch_size=5, epochs=2)
    alone = fit(model, setup, LocalWorker())
    assert max_difference(one[0], model.state_dict()) < 1e-4
    for together, single in zip(one[1], epoch_results(alone), strict=True):
        assert together[2:] == pytest.approx(single[2:], rel=1e-4)
    for found, epoch in zip(one[2], alone.history, strict=True):
        assert found == (None if epoch.attention is None else pytest.approx(epoch.attention, rel=1e-4))


def test_only_the_rows_of_a_batch_are_read_and_each_once_an_epoch(tmp_path: Path) -> None:
    class Watched(InMemoryColumns):
        def gather(self, name: str, rows: np.ndarray) -> np.ndarray:
            seen.append((name, tuple(rows)))
            return super().gather(name, rows)

    seen: list[tuple[str, tuple[int, ...]]] = []
    setup = layered(PICK, CLASSES, tmp_path / "checkpoint.pt", epochs=2)
    source = Watched(layer_columns(setup))
    signal = StoredSignal([source], [source], NAMES)
    fit(small_bert(CLASSES), replace(setup, signal=signal), LocalWorker())
    assert {name for name, _ in seen} == {"logits", "hidden_02", "hidden_03"}
    rows = [row for name, chosen in seen if name == "hidden_02" for row in chosen]
    assert sorted(rows) == sorted([*range(26)] * 2)
    assert max(len(chosen) for _, chosen in seen) == 4


def test_float16_states_train_as_the_same_values_in_float32(tmp_path: Path) -> None:
    """A float16 value of the store is used as the float32 of the same value."""
    setup = layered(PICK, CLASSES, tmp_path / "half.pt")
    columns = layer_columns(setup)
    halves = {name: values.astype(np.float16) for name, values in columns.items()}
    models = []
    for name, held in (
        ("half", halves),
        ("whole", {name: values.astype(np.float32) for name, values in halves.items()}),
    ):
        models.append(small_bert(CLASSES))
        signal = StoredSignal([InMemoryColumns(held)], [InMemoryColumns(held)], NAMES)
        fit(models[-1], replace(setup, signal=signal, checkpoint=tmp_path / f"{name}.pt"), LocalWorker())
    assert equal_weights(models[0].state_dict(), models[1].state_dict())


def test_a_batch_is_moved_together_with_its_stored_outputs() -> None:
    rows = np.array([3, 1])
    batch = replace(random_rows(CLASSES, 5).batch(rows, "cpu"), read={"logits": torch.ones(2, 3)})
    moved = batch.to("meta")
    assert {value.device.type for value in (*moved.inputs.values(), moved.labels, *moved.read.values())} == {"meta"}
    assert moved.rows is rows

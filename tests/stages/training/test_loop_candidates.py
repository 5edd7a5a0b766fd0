"""Candidates beside the rows of train: their weight, how they are picked, the forward passes, and the statistics."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from training_setups import (
    CLASSES,
    DRAWN,
    EVERY_OTHER,
    KNN,
    MINIMAX,
    NUMBER,
    VANILLA,
    LocalWorker,
    Weights,
    equal_weights,
    logits_of,
    max_difference,
    random_pool,
    random_rows,
    setup_of,
    signal_for,
    small_bert,
    spec_of,
    stored_outputs,
)

from stages.specs.axes.data import Minimax, Neighbours
from stages.specs.axes.targets import TeacherTargets
from stages.specs.axes.training import Annealing, Continuation, OnePhase, Position
from stages.specs.method import Method
from stages.specs.tasks import Task
from stages.training.candidates import CandidatePool, usage_summary, usage_sums
from stages.training.checkpoint import Progress
from stages.training.loop import Training, fit
from stages.training.participants.neighbours import Candidates, drawn_at_random, most_divergent
from stages.training.setup import TrainingSetup


def setup(
    method: Method, folder: Path, pool: CandidatePool | None = None, task: Task = CLASSES, **train: object
) -> TrainingSetup:
    made = setup_of(spec_of(method, **train), task, folder / "checkpoint.pt", signal_for(method, task), 1e9)
    return made if pool is None else replace(made, candidate_pool=pool)


def trained(given: TrainingSetup, dropout: float = 0.0) -> tuple[Progress, Weights]:
    model = small_bert(given.task, dropout=dropout)
    return fit(model, given, LocalWorker()), model.state_dict()


def copies(task: Task, k: int, fewer: bool = False) -> CandidatePool:
    """A pool in which each candidate of a row is a copy of the row."""
    table = np.repeat(np.arange(26)[:, None], k, axis=1)
    if fewer:
        table[::2, 1:] = -1
    return CandidatePool(random_rows(task, 26, seed=1), stored_outputs(task), table, np.zeros((26, k), np.float32))


# --- their weight ------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", [CLASSES, NUMBER], ids=lambda task: task.name)
@pytest.mark.parametrize("fewer", [False, True], ids=["all", "fewer than K"])
@pytest.mark.parametrize("weight", [1.0, 0.5])
def test_copies_as_candidates_only_raise_the_weight_of_the_teachers_term(
    task: Task, fewer: bool, weight: float, tmp_path: Path
) -> None:
    """(1 - w) CE + w KL + g w KL is, but for its size, which Adam does not see, the loss with another w."""
    w = 0.4
    whole = Method(targets=TeacherTargets(), training=OnePhase(teacher_weight=w), data=Neighbours(k=3, weight=weight))
    same = Method(targets=TeacherTargets(), training=OnePhase(teacher_weight=w * (1 + weight) / (1 + w * weight)))
    settings = {"epochs": 2, "max_grad_norm": 1e9}
    (tmp_path / "one").mkdir(), (tmp_path / "two").mkdir()
    found = trained(setup(whole, tmp_path / "one", copies(task, 3, fewer), task, **settings))[1]
    expected = trained(setup(same, tmp_path / "two", task=task, **settings))[1]
    plain = trained(
        setup(Method(targets=TeacherTargets(), training=OnePhase(teacher_weight=w)), tmp_path, task=task, **settings)
    )
    assert max_difference(found, expected) < 2e-4 < 1e-3 < max_difference(found, plain[1])


@pytest.mark.parametrize(
    ("training", "phase", "epoch"),
    [
        (OnePhase(temperature=2.0), "train", 0),
        (Annealing(max_temperature=2, first_phase=0.5), "anneal", 0),
        (Continuation(max_temperature=2, together=0.6), "train", 0),
    ],
    ids=["one-phase", "annealing", "continuation"],
)
def test_candidates_are_used_in_every_epoch_in_which_the_teachers_logits_have_a_weight(
    training: OnePhase | Annealing | Continuation, phase: str, epoch: int, tmp_path: Path
) -> None:
    method = Method(targets=TeacherTargets(), training=training, data=Neighbours(k=4))
    history = trained(setup(method, tmp_path, epochs=4))[0].history
    used = [one.participants.get("candidates") is not None for one in history]
    expected = {"train": [True] * 4, "anneal": [True, True, False, False]}[phase]
    if isinstance(training, Continuation):
        expected = [True, True, False, False]  # psi is 1 from then on
    assert used == expected


def test_warm_up_epochs_equal_those_of_a_training_without_candidates(tmp_path: Path) -> None:
    late = Method(targets=TeacherTargets(), training=VANILLA.training, data=Neighbours(k=4, warmup_epochs=2))
    (tmp_path / "late").mkdir()
    found = trained(setup(late, tmp_path / "late", epochs=3), dropout=0.1)[0].history
    plain = trained(setup(VANILLA, tmp_path, epochs=3), dropout=0.1)[0].history
    assert [one.participants.get("candidates") is None for one in found] == [True, True, False]
    assert [(one.loss, one.score) for one in found[:2]] == [(one.loss, one.score) for one in plain[:2]]
    assert found[2].loss != plain[2].loss


# --- which are picked -----------------------------------------------------------------------------------


def test_the_most_divergent_candidates_are_picked_and_the_nearest_among_equals() -> None:
    divergences = np.array([[0.1, 0.4, 0.4, 0.2], [9.0, 9.0, 1.0, 9.0], [0.5, 0.0, 0.0, 0.0]], np.float32)
    ranks = np.array([[0, 1, 2, 3], [-1, -1, 2, 3], [-1, -1, -1, -1]], np.int16)
    assert most_divergent(divergences, ranks, 2).tolist() == [[1, 2], [3, 2], [-1, -1]]
    assert most_divergent(divergences, ranks, 1).tolist() == [[1], [3], [-1]]


def test_candidates_are_picked_by_the_current_student_without_dropout(tmp_path: Path) -> None:
    """In a single step over all rows, the picks are those of the untrained student's logits, computed row by row."""
    pool, tau = random_pool(CLASSES, 4), 3.0
    student = torch.log_softmax(logits_of(small_bert(CLASSES), pool.rows) / tau, -1)
    teacher = torch.log_softmax(logits_of(small_bert(CLASSES, seed=99), pool.rows) / tau, -1)
    divergence = (teacher.exp() * (teacher - student)).sum(-1).numpy()
    expected, total = Counter[int](), 0.0
    for row in pool.table:
        there = [rank for rank in range(4) if row[rank] >= 0]
        best = sorted(there, key=lambda rank: -divergence[row[rank]])[:2]
        expected.update(best)
        total += sum(divergence[row[rank]] for rank in best)
    (epoch,) = trained(setup(MINIMAX, tmp_path, epochs=1, batch_size=26), dropout=0.3)[0].history
    assert "candidates" in epoch.participants
    assert epoch.participants["candidates"]["by_rank"] == [expected[rank] for rank in range(4)]
    assert epoch.participants["candidates"]["used"] == sum(expected.values())
    # The recorded divergence is the loss term, which has the factor tau^2.
    assert epoch.participants["candidates"]["mean_divergence"] == pytest.approx(
        tau**2 * total / sum(expected.values()), rel=1e-4
    )
    assert (
        epoch.participants["candidates"]["mean_divergence_of_all"] < epoch.participants["candidates"]["mean_divergence"]
    )


def test_scoring_once_an_epoch_picks_what_scoring_its_first_step_picks(tmp_path: Path) -> None:
    at_once = MINIMAX.model_copy(update={"data": Minimax(k=4, keep=2, every=1)})
    usage = []
    for name, method in (("step", MINIMAX), ("epoch", at_once)):
        (tmp_path / name).mkdir()
        progress, weights = trained(setup(method, tmp_path / name, epochs=1, batch_size=26))
        usage.append((progress.history[0].participants.get("candidates"), progress.history[0].loss, weights))
    assert usage[0][0]["by_rank"] == usage[1][0]["by_rank"]
    assert usage[0][1] == pytest.approx(usage[1][1], rel=1e-6)
    assert max_difference(usage[0][2], usage[1][2]) < 1e-5


def test_with_equal_candidates_the_number_kept_changes_nothing(tmp_path: Path) -> None:
    """If all candidates of a row are equal, the step does not depend on which and how many are picked."""
    found = []
    for name, data in (("all", Neighbours(k=3)), ("two", Minimax(k=3, keep=2)), ("one", Minimax(k=3, keep=1, every=1))):
        (tmp_path / name).mkdir()
        method = Method(targets=TeacherTargets(), training=VANILLA.training, data=data)
        found.append(trained(setup(method, tmp_path / name, copies(CLASSES, 3)))[1])
    assert max_difference(found[0], found[1]) < 1e-4
    assert max_difference(found[0], found[2]) < 1e-4


# --- which are drawn ------------------------------------------------------------------------------------


def test_each_candidate_of_a_row_is_equally_likely_to_be_drawn_and_none_is_drawn_twice() -> None:
    ranks = np.tile(np.arange(4, dtype=np.int16), (4000, 1))
    ranks[:2000, 0] = -1
    drawn = drawn_at_random(ranks, 2, seed=1)
    assert all(len(set(row)) == 2 for row in drawn.tolist())
    # Each of n ranks is drawn in 2 of n draws; three standard deviations of 2,000 such draws are about 70.
    few = [int((drawn[:2000] == rank).sum()) for rank in range(4)]
    assert few[0] == 0 and few[1:] == pytest.approx([2000 * 2 / 3] * 3, abs=70)
    assert [int((drawn[2000:] == rank).sum()) for rank in range(4)] == pytest.approx([1000] * 4, abs=70)


def test_a_row_with_fewer_candidates_than_are_drawn_is_trained_with_them_all() -> None:
    ranks = np.array([[-1, 1, -1, -1], [-1, -1, -1, -1], [-1, 1, 2, -1]], np.int16)
    drawn = drawn_at_random(ranks, 2, seed=0)
    assert drawn[0].tolist() == [1, -1] and drawn[1].tolist() == [-1, -1] and sorted(drawn[2].tolist()) == [1, 2]


def test_the_draw_of_a_row_depends_on_seed_phase_epoch_and_row_alone() -> None:
    def drawn(seed: int, phase: int, epoch: int, step: int = 0, rows: int = 26) -> list[list[int]]:
        pool = random_pool(CLASSES, 4)
        pool = replace(pool, table=pool.table[:rows], distances=pool.distances[:rows])
        given = setup(DRAWN, Path("none"), pool, seed=seed)
        (candidates,) = Training(small_bert(CLASSES), given, LocalWorker()).participants
        assert isinstance(candidates, Candidates)
        found = candidates.draw_for_all_rows(Position(phase, epoch, step))
        assert found is not None
        return found.tolist()

    first = drawn(seed=3, phase=0, epoch=1)
    assert first == drawn(seed=3, phase=0, epoch=1, step=5), "a training that is resumed within the epoch"
    assert first[:10] == drawn(seed=3, phase=0, epoch=1, rows=10), "other rows have no influence"
    others = [drawn(seed=4, phase=0, epoch=1), drawn(seed=3, phase=1, epoch=1), drawn(seed=3, phase=0, epoch=2)]
    assert all(first != other for other in others)


def test_a_training_that_draws_uses_so_many_candidates_and_others_in_each_epoch(tmp_path: Path) -> None:
    given = setup(DRAWN, tmp_path, epochs=3)
    assert given.candidate_pool is not None
    there = (given.candidate_pool.table >= 0).sum(1)
    usage = [epoch.participants.get("candidates") for epoch in trained(given)[0].history]
    assert [epoch and epoch["used"] for epoch in usage] == [int(np.minimum(there, 2).sum())] * 3
    assert len({tuple(epoch["by_rank"]) for epoch in usage if epoch}) > 1
    assert forwards(setup(DRAWN, tmp_path / "again", epochs=1)) == {
        "trained": 26 + int(np.minimum(there, 2).sum()),
        "scored": 0,
    }


# --- forward passes --------------------------------------------------------------------------------------


def forwards(given: TrainingSetup) -> dict[str, int]:
    """Rows that go through the student, with gradients and without, less those on which epochs are selected."""
    rows = Counter[str]()
    model = small_bert(given.task)

    def count_rows(_: torch.nn.Module, arguments: tuple[object, ...], named: dict[str, torch.Tensor]) -> None:
        rows["trained" if torch.is_grad_enabled() else "scored"] += len(named["input_ids"])

    model.register_forward_pre_hook(count_rows, with_kwargs=True)
    progress = fit(model, given, LocalWorker())
    rows["scored"] -= len(progress.history) * len(given.select)
    return dict(rows)


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_picking_takes_k_forward_passes_a_row_whatever_the_number_kept(keep: int, tmp_path: Path) -> None:
    method = Method(targets=TeacherTargets(), training=VANILLA.training, data=Minimax(k=4, keep=keep))
    given = setup(method, tmp_path, epochs=2)
    assert given.candidate_pool is not None
    there = given.candidate_pool.table >= 0
    kept = int(np.minimum(there.sum(1), keep).sum())
    assert forwards(given) == {"scored": 2 * int(there.sum()), "trained": 2 * (26 + kept)}


def test_scoring_every_n_epochs_takes_one_forward_pass_for_each_distinct_text(tmp_path: Path) -> None:
    given = setup(EVERY_OTHER, tmp_path, epochs=4)
    assert given.candidate_pool is not None
    kept = int(np.minimum((given.candidate_pool.table >= 0).sum(1), 2).sum())
    # All texts are scored when epochs 1 and 3 begin; epoch 0 is a warm-up, epoch 2 uses the picks of epoch 1.
    assert forwards(given) == {"scored": 2 * len(given.candidate_pool.rows), "trained": 4 * 26 + 3 * kept}


def test_using_all_neighbours_takes_no_forward_pass_to_pick(tmp_path: Path) -> None:
    given = setup(KNN, tmp_path, epochs=1)
    assert given.candidate_pool is not None
    assert forwards(given) == {"trained": 26 + int((given.candidate_pool.table >= 0).sum()), "scored": 0}


def test_no_forward_pass_is_larger_than_the_micro_batch(tmp_path: Path) -> None:
    sizes = set[int]()
    model = small_bert(CLASSES)
    model.register_forward_pre_hook(
        lambda _module, _arguments, named: sizes.add(len(named["input_ids"])) if model.training else None,
        with_kwargs=True,
    )
    fit(model, setup(KNN, tmp_path, epochs=1, batch_size=8, micro_batch=3), LocalWorker())
    assert max(sizes) == 3


def test_a_step_with_micro_batches_equals_the_step_without(tmp_path: Path) -> None:
    found = []
    for name, most in (("whole", None), ("parts", 3)):
        (tmp_path / name).mkdir()
        found.append(trained(setup(MINIMAX, tmp_path / name, batch_size=8, micro_batch=most))[1])
    assert max_difference(found[0], found[1]) < 1e-5


def test_scoring_uses_no_random_number_and_no_dropout(tmp_path: Path) -> None:
    """Among copies the same are picked, whenever they are scored: then the steps are the same, including dropout."""
    found = []
    for name, every in (("step", "step"), ("epoch", 1)):
        (tmp_path / name).mkdir()
        method = Method(targets=TeacherTargets(), training=VANILLA.training, data=Minimax(k=3, keep=2, every=every))
        found.append(trained(setup(method, tmp_path / name, copies(CLASSES, 3)), dropout=0.2)[1])
    assert equal_weights(found[0], found[1])


# --- statistics ------------------------------------------------------------------------------------


def test_the_history_has_the_ranks_and_distances_of_the_candidates_used(tmp_path: Path) -> None:
    given = setup(KNN, tmp_path, epochs=2)
    pool = given.candidate_pool
    assert pool is not None
    there = pool.table >= 0
    for epoch in trained(given)[0].history:
        usage = epoch.participants.get("candidates")
        assert usage is not None
        assert usage["by_rank"] == there.sum(0).tolist()
        assert usage["used"] == there.sum()
        assert usage["mean_distance"] == pytest.approx(pool.distances[there].mean(), rel=1e-5)
        assert usage["mean_rank"] == pytest.approx(np.nonzero(there)[1].mean())
        assert usage["mean_divergence"] is None


def test_unknown_distances_are_left_out_of_the_mean() -> None:
    pool = random_pool(CLASSES, 4)
    unknown = replace(pool, distances=np.full_like(pool.distances, np.nan))
    rows = np.arange(26)
    assert usage_summary(usage_sums(unknown, rows, pool.all_ranks(rows), None).tolist(), 4)["mean_distance"] is None


def test_the_note_of_an_epoch_has_the_number_of_candidates(tmp_path: Path) -> None:
    place = LocalWorker()
    fit(small_bert(CLASSES), setup(KNN, tmp_path, epochs=1), place)
    assert "candidates, mean rank" in place.notes[-1]

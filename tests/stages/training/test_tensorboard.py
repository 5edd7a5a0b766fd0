"""The curves of a training: each step once, with the losses of the training, which they do not change."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from training_setups import (
    ANNEALING,
    CLASSES,
    FORKSERVER,
    HARD,
    MINIMAX,
    SMOOTHED,
    VANILLA,
    Interrupted,
    LocalWorker,
    equal_weights,
    setup_of,
    signal_for,
    small_bert,
    spec_of,
)

from stages.specs.method import Method
from stages.training.checkpoint import Progress
from stages.training.loop import fit
from stages.training.tensorboard import MAX_POINTS, CurveSampler, Point

METHODS = {"hard": HARD, "smoothed": SMOOTHED, "vanilla": VANILLA, "annealing": ANNEALING, "minimax": MINIMAX}


@dataclass
class RecordedCurves:
    """Records the points of each epoch; those of an epoch that is written again replace the earlier ones."""

    epochs: dict[int, list[Point]] = field(default_factory=dict)

    def __call__(self, epoch: int, points: Sequence[Point]) -> None:
        self.epochs[epoch] = list(points)

    @property
    def points(self) -> list[Point]:
        return [point for _, points in sorted(self.epochs.items()) for point in points]


def trained(method: Method, folder: Path, *cuts: LocalWorker) -> tuple[Progress, RecordedCurves]:
    """Train on 26 rows in batches of 4: 7 steps an epoch, 4 epochs. Each of ``cuts`` interrupts a run, and the next one
    resumes it."""
    curves = RecordedCurves()
    setup = setup_of(spec_of(method, epochs=4), CLASSES, folder / "checkpoint.pt", signal_for(method, CLASSES))
    setup = replace(setup, write_curves=curves)
    for place in cuts:
        with pytest.raises(Interrupted):
            fit(small_bert(CLASSES, dropout=0.1), setup, place)
    return fit(small_bert(CLASSES, dropout=0.1), setup, LocalWorker()), curves


def cut_at(number: int) -> LocalWorker:
    def check(reached: int) -> None:
        if reached == number:
            raise Interrupted

    return LocalWorker(check)


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_recording_curves_changes_no_bit_of_the_training(method: Method, tmp_path: Path) -> None:
    models = []
    for recorder in (None, RecordedCurves()):
        model = small_bert(CLASSES, dropout=0.1)
        setup = setup_of(spec_of(method), CLASSES, tmp_path / "none.pt", signal_for(method, CLASSES), 1e9)
        progress = fit(model, replace(setup, write_curves=recorder), LocalWorker())
        models.append((model.state_dict(), progress.history))
    assert equal_weights(models[0][0], models[1][0])
    assert models[0][1] == models[1][1]


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_the_losses_by_name_add_up_to_the_loss_with_their_weights(method: Method, tmp_path: Path) -> None:
    _, curves = trained(method, tmp_path)
    for epoch, points in curves.epochs.items():
        weights = {name[7:]: value for name, value in points[-1].values.items() if name.startswith("weight/")}
        for point in points:
            total = sum(weight * point.values.get(f"loss/{name}", 0.0) for name, weight in weights.items())
            assert point.values["loss/total"] == pytest.approx(total, rel=1e-5), epoch
        named = {name[5:] for point in points for name in point.values if name.startswith("loss/")}
        assert named - {"total"} == set(weights)


def test_the_points_of_an_epoch_average_to_its_loss(tmp_path: Path) -> None:
    progress, curves = trained(VANILLA, tmp_path)
    for epoch, points in curves.epochs.items():
        # 7 steps of which one has 2 rows: the mean over rows is that of all points only if each knows its rows.
        assert [point.step for point in points] == list(range(7 * epoch - 6, 7 * epoch + 1))
        assert points[-1].values["epoch/loss"] == progress.history[epoch - 1].loss
        pairs = zip(points, gaps(progress, points, epoch), strict=True)
        rows = [point.values["speed/rows_per_second"] * gap for point, gap in pairs]
        assert sum(rows) == pytest.approx(26)
        means = [point.values["loss/total"] * count for point, count in zip(points, rows, strict=True)]
        assert sum(means) / 26 == pytest.approx(progress.history[epoch - 1].loss)


def gaps(progress: Progress, points: Sequence[Point], epoch: int) -> Iterator[float]:
    last = progress.history[epoch - 2].seconds if epoch > 1 else 0.0
    for point in points:
        yield point.seconds - last
        last = point.seconds


def test_the_curves_of_an_interrupted_run_are_those_of_an_uninterrupted_one(tmp_path: Path) -> None:
    """Each step is recorded once, with the same losses; only times may differ."""
    _, whole = trained(ANNEALING, tmp_path / "whole")
    _, pieces = trained(ANNEALING, tmp_path / "pieces", cut_at(3), cut_at(9), cut_at(5))
    assert [point.step for point in pieces.points] == list(range(1, 29))

    def less_speed(curves: RecordedCurves) -> list[dict[str, float]]:
        return [
            {name: value for name, value in point.values.items() if not name.startswith("speed/")}
            for point in curves.points
        ]

    assert less_speed(pieces) == less_speed(whole)


def test_the_schedule_is_recorded(tmp_path: Path) -> None:
    progress, curves = trained(ANNEALING, tmp_path)
    ends = [points[-1].values for _, points in sorted(curves.epochs.items())]
    assert [end.get("schedule/scale") for end in ends] == [pytest.approx(2 / 3), 1.0, None, None]
    assert [("weight/match" in end, "weight/hard" in end) for end in ends] == [(True, False)] * 2 + [(False, True)] * 2
    rates = [point.values["schedule/learning_rate"] for point in curves.points]
    assert max(rates) <= 3e-3 and rates[13] < rates[6] and rates[14] > rates[13], "each phase has its own warm-up"
    assert [end["selection/accuracy"] for end in ends] == [epoch.score for epoch in progress.history]
    assert [end["selection/loss"] for end in ends] == [epoch.selection_loss for epoch in progress.history]


def test_the_use_of_candidates_is_recorded(tmp_path: Path) -> None:
    progress, curves = trained(MINIMAX, tmp_path)
    usage = progress.history[0].participants.get("candidates")
    assert usage is not None
    assert curves.epochs[1][-1].values["candidates/used"] == usage["used"]


def test_an_epoch_has_at_most_one_sample_more_than_the_number_of_points() -> None:
    sampler = CurveSampler(("hard", "soft"), 1001, [])
    for step in range(1, 1002):
        sampler.sample(step, float(step), torch.full((1 + 2 + 3,), float(step)))
    samples = sampler.samples()
    assert len(samples) <= MAX_POINTS + 1
    assert samples[-1][0] == 1001
    assert len(samples[0]) == 2 + 1 + 2
    assert sampler.samples() == samples


def in_two(rank: int, folder: Path) -> None:
    """One of two workers, which saves the points that it recorded."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2, timeout=timedelta(seconds=60)
    )
    curves = RecordedCurves()
    setup = setup_of(spec_of(VANILLA), CLASSES, folder / "none.pt", signal_for(VANILLA, CLASSES), 1e9)
    fit(small_bert(CLASSES), replace(setup, write_curves=curves), LocalWorker(rank=rank, world_size=2))
    torch.save([point.values["loss/soft"] for point in curves.points], folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def test_of_two_workers_the_first_records_the_losses_of_both(tmp_path: Path) -> None:
    workers = [FORKSERVER.Process(target=in_two, args=(rank, tmp_path)) for rank in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0, 0]
    curves = RecordedCurves()
    setup = setup_of(spec_of(VANILLA), CLASSES, tmp_path / "none.pt", signal_for(VANILLA, CLASSES), 1e9)
    fit(small_bert(CLASSES), replace(setup, write_curves=curves), LocalWorker())
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert second == []
    assert first == pytest.approx([point.values["loss/soft"] for point in curves.points], rel=1e-4)

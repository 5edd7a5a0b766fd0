"""The loop cut and taken up again, after other students, and in two processes: the same bits, or all but."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from lessons import (
    ANNEALING,
    CLASSES,
    EVERY_OTHER,
    FORKSERVER,
    HARD,
    KNN,
    MINIMAX,
    VANILLA,
    Alone,
    Cut,
    Weights,
    curve,
    equal,
    farthest,
    setup_of,
    signal_for,
    small_bert,
    spec_of,
    stored,
)

from stages.specs.method import Method
from stages.training.checkpoint import Progress
from stages.training.loop import fit

# --- cut and taken up ---------------------------------------------------------------------------------


def uncut(method: Method, directory: Path) -> tuple[Progress, Weights]:
    model = small_bert(CLASSES, dropout=0.1)
    setup = setup_of(spec_of(method, epochs=4), CLASSES, directory / "uncut.pt", signal_for(method, CLASSES), 1e9)
    return fit(model, setup, Alone()), model.state_dict()


def in_sittings(method: Method, checkpoint: Path, *places: Alone) -> tuple[Progress, Weights]:
    """Train a new model in each sitting; all but the last are cut."""
    setup = setup_of(spec_of(method, epochs=4), CLASSES, checkpoint, signal_for(method, CLASSES))
    for place in places:
        with pytest.raises(Cut):
            fit(small_bert(CLASSES, dropout=0.1), setup, place)
    model = small_bert(CLASSES, seed=5, dropout=0.1)
    return fit(model, setup, Alone()), model.state_dict()


def cut_at(number: int) -> Callable[[int], None]:
    def check(reached: int) -> None:
        if reached == number:
            raise Cut

    return check


CUT = {"one-phase": VANILLA, "annealing": ANNEALING, "knn": KNN, "minimax": MINIMAX, "every other epoch": EVERY_OTHER}


@pytest.mark.parametrize("method", CUT.values(), ids=CUT)
def test_a_run_that_was_cut_ends_with_the_same_bits_as_one_that_was_not(method: Method, tmp_path: Path) -> None:
    """26 rows in batches of 4: 7 steps an epoch, 4 epochs, annealing's second phase from step 15 on.

    The cuts: in the first epoch, at an epoch's last step, between its score and its checkpoint, in the first step
    of the second phase, late in it, in the last epoch's last moment, and four times in one run.
    """
    progress, weights = uncut(method, tmp_path)
    cuts = {
        "first epoch": [Alone(cut_at(3))],
        "last step of an epoch": [Alone(cut_at(7))],
        "after a score": [Alone(before_note=cut_at(1))],
        "at the turn": [Alone(cut_at(14))],
        "after the turn": [Alone(cut_at(15))],
        "after the first score of the second phase": [Alone(before_note=cut_at(3))],
        "late": [Alone(cut_at(26))],
        "at the very end": [Alone(before_note=cut_at(4))],
        # A sitting that goes on first says so, with one note, and counts what was done, with one advance.
        "often": [Alone(cut_at(5)), Alone(cut_at(9)), Alone(before_note=cut_at(3)), Alone(cut_at(7))],
    }
    for name, places in cuts.items():
        found, ends = in_sittings(method, tmp_path / f"{name}.pt", *places)
        assert curve(found) == curve(progress), name
        assert [epoch.candidates for epoch in found.history] == [epoch.candidates for epoch in progress.history], name
        assert found.best == progress.best, name
        assert equal(ends, weights), name
        assert equal(found.best_weights, progress.best_weights), name


def test_a_run_cut_before_its_first_checkpoint_starts_again(tmp_path: Path) -> None:
    progress, weights = uncut(HARD, tmp_path)
    setup = setup_of(spec_of(HARD, epochs=4), CLASSES, tmp_path / "checkpoint.pt")
    with pytest.raises(Cut):
        fit(small_bert(CLASSES, dropout=0.1), setup, Alone(cut_at(1)))
    assert not setup.checkpoint.exists()
    model = small_bert(CLASSES, dropout=0.1)
    assert curve(fit(model, setup, Alone())) == curve(progress)
    assert equal(model.state_dict(), weights)


def test_a_half_written_checkpoint_does_not_take_the_place_of_the_last_whole_one(tmp_path: Path) -> None:
    progress, weights = uncut(HARD, tmp_path)
    checkpoint = tmp_path / "checkpoint.pt"
    setup = setup_of(spec_of(HARD, epochs=4), CLASSES, checkpoint)
    with pytest.raises(Cut):
        fit(small_bert(CLASSES, dropout=0.1), setup, Alone(cut_at(9)))
    checkpoint.with_name("checkpoint.pt.tmp").write_bytes(checkpoint.read_bytes()[:1000])
    model = small_bert(CLASSES, seed=5, dropout=0.1)
    assert curve(fit(model, setup, Alone())) == curve(progress)
    assert equal(model.state_dict(), weights)


def test_a_finished_run_is_not_run_again(tmp_path: Path) -> None:
    setup = setup_of(spec_of(HARD), CLASSES, tmp_path / "checkpoint.pt")
    model = small_bert(CLASSES)
    first = fit(model, setup, Alone())
    again, place = small_bert(CLASSES, seed=7), Alone()
    assert curve(fit(again, setup, place)) == curve(first)
    assert equal(again.state_dict(), model.state_dict())
    assert place.advanced == [3 * 26], "all rows were trained on in an earlier sitting"


def test_a_run_that_goes_on_says_where_and_counts_what_was_done(tmp_path: Path) -> None:
    setup = setup_of(spec_of(HARD), CLASSES, tmp_path / "checkpoint.pt")
    with pytest.raises(Cut):
        fit(small_bert(CLASSES), setup, Alone(cut_at(10)))
    place = Alone()
    fit(small_bert(CLASSES), setup, place)
    assert place.notes[0] == "goes on from epoch 2, step 2"
    assert place.advanced[0] == 26 + 2 * 4
    assert sum(place.advanced) == 3 * 26


def test_a_checkpoint_of_another_format_is_started_over_with_a_line_that_says_so(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    torch.save({"position": {"phase": 0, "epoch": 1, "step": 2}, "model": {}, "optimizer": {}}, path)
    setup = setup_of(spec_of(HARD), CLASSES, path)
    place, model = Alone(), small_bert(CLASSES)
    progress = fit(model, setup, place)
    assert place.notes[0] == "starts over: checkpoint.pt is a checkpoint of format 1, this version has 2"
    again = small_bert(CLASSES)
    assert curve(fit(again, setup_of(spec_of(HARD), CLASSES, tmp_path / "none.pt"), Alone())) == curve(progress)
    assert equal(again.state_dict(), model.state_dict())


def test_a_checkpoint_whose_training_may_not_be_continued_is_started_over(tmp_path: Path) -> None:
    setup = setup_of(spec_of(HARD), CLASSES, tmp_path / "checkpoint.pt")
    with pytest.raises(Cut):
        fit(small_bert(CLASSES), setup, Alone(cut_at(10)))
    place, ended = Alone(), list[int]()
    refusing = replace(setup, resumable=lambda progress: bool(ended.append(len(progress.history))))
    fit(small_bert(CLASSES), refusing, place)
    assert ended == [1] and place.notes[0].startswith("starts over: ")
    assert sum(place.advanced) == 3 * 26, "every row is trained on again"


def test_training_time_is_added_up_over_the_sittings_and_leaves_checkpoints_out(tmp_path: Path) -> None:
    """The clock ticks at each look. A step is one look, an epoch two more; checkpoints look too, but do not count."""
    often = setup_of(spec_of(HARD), CLASSES, tmp_path / "often.pt", checkpoint_seconds=0.5)
    never = setup_of(spec_of(HARD), CLASSES, tmp_path / "never.pt", checkpoint_seconds=1e9)
    seconds = [fit(small_bert(CLASSES), setup, Alone()).seconds for setup in (often, never)]
    assert seconds[0] == seconds[1] == 3 * (7 + 1)
    assert (tmp_path / "often.pt").exists() and not (tmp_path / "never.pt").exists()


# --- alone, second, and in company --------------------------------------------------------------------


def test_a_student_trained_second_has_the_bits_of_one_trained_alone(tmp_path: Path) -> None:
    def student(name: str, seed: int) -> tuple[Progress, Weights]:
        spec = spec_of(HARD, seed=seed)
        model = small_bert(CLASSES, seed=seed, dropout=0.1)
        torch.seed()  # what came before left torch's generator anywhere
        return fit(model, setup_of(spec, CLASSES, tmp_path / name), Alone()), model.state_dict()

    progress, weights = student("alone", 3)
    student("another", 4)
    again, same = student("second", 3)
    assert equal(weights, same) and curve(progress) == curve(again)


def test_another_seed_is_another_student(tmp_path: Path) -> None:
    models = [small_bert(CLASSES, dropout=0.1) for _ in range(2)]
    for seed, model in enumerate(models):
        fit(model, setup_of(spec_of(HARD, seed=seed), CLASSES, tmp_path / f"{seed}.pt"), Alone())
    assert farthest(models[0].state_dict(), models[1].state_dict()) > 1e-3


def work_together(rank: int, directory: str, method: Method) -> None:
    """One of two workers: 26 rows in batches of 5, the last of one row, which leaves the second worker none."""
    torch.set_num_threads(1)
    patience = timedelta(seconds=200)
    torch.distributed.init_process_group("gloo", f"file://{directory}/meeting", patience, rank=rank, world_size=2)
    model, place = small_bert(CLASSES), Alone(rank=rank, world_size=2)
    setup = setup_of(spec_of(method, batch_size=5, epochs=4), CLASSES, Path(directory) / "checkpoint.pt")
    progress = fit(model, replace(setup, signal=signal_for(method, CLASSES)), place)
    candidates = [epoch.candidates for epoch in progress.history]
    torch.save((model.state_dict(), curve(progress), place.advanced, candidates), f"{directory}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize(
    "method", [VANILLA, ANNEALING, MINIMAX, EVERY_OTHER], ids=["vanilla", "annealing", "minimax", "every other"]
)
def test_two_workers_mean_what_one_means(method: Method, tmp_path: Path) -> None:
    other_process = FORKSERVER.Process(target=work_together, args=(1, str(tmp_path), method))
    other_process.start()
    work_together(0, str(tmp_path), method)
    other_process.join()
    assert other_process.exitcode == 0
    one, other = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert equal(one[0], other[0]), "the workers end with the same weights"
    assert sum(one[2]) == 4 * 26 and sum(other[2]) == 0, "rows are counted once"
    model = small_bert(CLASSES)
    setup = setup_of(spec_of(method, batch_size=5, epochs=4), CLASSES, tmp_path / "alone.pt", stored(CLASSES))
    progress = fit(model, setup, Alone())
    alone = curve(progress)
    for together, epoch in zip(one[3], progress.history, strict=True):
        assert (together is None) == (epoch.candidates is None)
        for name, value in (together or {}).items():
            assert epoch.candidates is not None
            other = epoch.candidates[name]
            assert value == (other if other is None else pytest.approx(other, rel=1e-4)), f"{name}: of all workers"
    assert farthest(one[0], model.state_dict()) < 1e-5
    for together, single in zip(one[1], alone, strict=True):
        assert together[:2] == single[:2]
        assert together[2:] == pytest.approx(single[2:], rel=1e-5)

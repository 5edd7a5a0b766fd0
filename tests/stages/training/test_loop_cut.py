"""The loop interrupted and resumed, after other students, and in two processes: the same bits, or nearly the same."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from training_setups import (
    ANNEALING,
    CLASSES,
    DRAWN,
    EVERY_OTHER,
    FORKSERVER,
    GENERATED,
    HARD,
    KNN,
    MINIMAX,
    TINYBERT,
    VANILLA,
    Interrupted,
    LocalWorker,
    Weights,
    epoch_results,
    equal_weights,
    max_difference,
    setup_of,
    signal_for,
    small_bert,
    small_generator,
    spec_of,
    stored_outputs,
)

from stages.specs.axes.data import Adversarial, Contrast, FreeLB
from stages.specs.method import Method
from stages.training.checkpoint import Progress
from stages.training.loop import fit
from stages.training.setup import TrainingSetup

# --- interrupted and resumed ---------------------------------------------------------------------------------


def uncut(method: Method, directory: Path) -> tuple[Progress, Weights]:
    model = small_bert(CLASSES, dropout=0.1)
    setup = setup_of(spec_of(method, epochs=4), CLASSES, directory / "uncut.pt", signal_for(method, CLASSES), 1e9)
    return fit(model, with_dropout(setup), LocalWorker()), model.state_dict()


def with_dropout(setup: TrainingSetup) -> TrainingSetup:
    """The setup with dropout in its generator, if it has one."""
    return setup if setup.generator is None else replace(setup, generator=small_generator(dropout=0.1))


def in_runs(method: Method, checkpoint: Path, *places: LocalWorker) -> tuple[Progress, Weights]:
    """Train a new model in each run. Each worker of ``places`` interrupts its run; the last run is not interrupted."""

    def new_setup() -> TrainingSetup:
        return with_dropout(setup_of(spec_of(method, epochs=4), CLASSES, checkpoint, signal_for(method, CLASSES)))

    for place in places:
        with pytest.raises(Interrupted):
            fit(small_bert(CLASSES, dropout=0.1), new_setup(), place)
    model = small_bert(CLASSES, seed=5, dropout=0.1)
    return fit(model, new_setup(), LocalWorker()), model.state_dict()


def cut_at(number: int) -> Callable[[int], None]:
    def check(reached: int) -> None:
        if reached == number:
            raise Interrupted

    return check


CONTRASTED = GENERATED.data.model_copy(update={"labels": 0.5, "contrast": Contrast(width=4)})

CUT = {
    "one-phase": VANILLA,
    "annealing": ANNEALING,
    "knn": KNN,
    "drawn": DRAWN,
    "minimax": MINIMAX,
    "every other epoch": EVERY_OTHER,
    "freelb": VANILLA.model_copy(update={"data": FreeLB()}),
    "generated": GENERATED,
    "contrast": GENERATED.model_copy(update={"data": CONTRASTED}),
    "generated, then labels": ANNEALING.model_copy(update={"data": GENERATED.data}),
    "tinybert": TINYBERT,
    "adversarial": HARD.model_copy(update={"data": Adversarial()}),
}


@pytest.mark.parametrize("method", CUT.values(), ids=CUT)
def test_an_interrupted_run_ends_with_the_same_bits_as_an_uninterrupted_one(method: Method, tmp_path: Path) -> None:
    """26 rows in batches of 4: 7 steps an epoch, 4 epochs, annealing's second phase from step 15 on.

    The cuts: in the first epoch, at an epoch's last step, between its score and its checkpoint, in the first step
    of the second phase, late in it, in the last epoch's last moment, and four times in one run.
    """
    progress, weights = uncut(method, tmp_path)
    cuts = {
        "first epoch": [LocalWorker(cut_at(3))],
        "last step of an epoch": [LocalWorker(cut_at(7))],
        "after a score": [LocalWorker(before_note=cut_at(1))],
        "at the turn": [LocalWorker(cut_at(14))],
        "after the turn": [LocalWorker(cut_at(15))],
        "after the first score of the second phase": [LocalWorker(before_note=cut_at(3))],
        "late": [LocalWorker(cut_at(26))],
        "at the very end": [LocalWorker(before_note=cut_at(4))],
        # A resumed run first writes one note with its position, and advances once by the rows done.
        "often": [
            LocalWorker(cut_at(5)),
            LocalWorker(cut_at(9)),
            LocalWorker(before_note=cut_at(3)),
            LocalWorker(cut_at(7)),
        ],
    }
    for name, places in cuts.items():
        found, ends = in_runs(method, tmp_path / f"{name}.pt", *places)
        assert epoch_results(found) == epoch_results(progress), name
        assert [epoch.participants for epoch in found.history] == [epoch.participants for epoch in progress.history], (
            name
        )
        assert found.best == progress.best, name
        assert equal_weights(ends, weights), name
        assert equal_weights(found.best_weights, progress.best_weights), name


def test_a_run_interrupted_before_its_first_checkpoint_starts_again(tmp_path: Path) -> None:
    progress, weights = uncut(HARD, tmp_path)
    setup = setup_of(spec_of(HARD, epochs=4), CLASSES, tmp_path / "checkpoint.pt")
    with pytest.raises(Interrupted):
        fit(small_bert(CLASSES, dropout=0.1), setup, LocalWorker(cut_at(1)))
    assert not setup.checkpoint.exists()
    model = small_bert(CLASSES, dropout=0.1)
    assert epoch_results(fit(model, setup, LocalWorker())) == epoch_results(progress)
    assert equal_weights(model.state_dict(), weights)


def test_a_half_written_checkpoint_does_not_replace_the_last_complete_one(tmp_path: Path) -> None:
    progress, weights = uncut(HARD, tmp_path)
    checkpoint = tmp_path / "checkpoint.pt"
    setup = setup_of(spec_of(HARD, epochs=4), CLASSES, checkpoint)
    with pytest.raises(Interrupted):
        fit(small_bert(CLASSES, dropout=0.1), setup, LocalWorker(cut_at(9)))
    checkpoint.with_name("checkpoint.pt.tmp").write_bytes(checkpoint.read_bytes()[:1000])
    model = small_bert(CLASSES, seed=5, dropout=0.1)
    assert epoch_results(fit(model, setup, LocalWorker())) == epoch_results(progress)
    assert equal_weights(model.state_dict(), weights)


def test_a_finished_training_runs_no_step_when_it_is_resumed(tmp_path: Path) -> None:
    setup = setup_of(spec_of(HARD), CLASSES, tmp_path / "checkpoint.pt")
    model = small_bert(CLASSES)
    first = fit(model, setup, LocalWorker())
    again, place = small_bert(CLASSES, seed=7), LocalWorker()
    assert epoch_results(fit(again, setup, place)) == epoch_results(first)
    assert equal_weights(again.state_dict(), model.state_dict())
    assert (place.restored, place.advanced) == (3 * 26, []), "all rows were trained on in an earlier run"


def test_a_resumed_run_notes_its_position_and_counts_the_rows_done(tmp_path: Path) -> None:
    setup = setup_of(spec_of(HARD), CLASSES, tmp_path / "checkpoint.pt")
    with pytest.raises(Interrupted):
        fit(small_bert(CLASSES), setup, LocalWorker(cut_at(10)))
    place = LocalWorker()
    fit(small_bert(CLASSES), setup, place)
    assert place.notes[0] == "goes on from epoch 2, step 2"
    assert place.restored == 26 + 2 * 4
    assert place.restored + sum(place.advanced) == 3 * 26


def test_a_checkpoint_of_another_format_is_started_over_with_a_line_that_says_so(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    torch.save({"position": {"phase": 0, "epoch": 1, "step": 2}, "model": {}, "optimizer": {}}, path)
    setup = setup_of(spec_of(HARD), CLASSES, path)
    place, model = LocalWorker(), small_bert(CLASSES)
    progress = fit(model, setup, place)
    assert place.notes[0] == "starts over: checkpoint.pt is a checkpoint of format 1, this version has 5"
    again = small_bert(CLASSES)
    assert epoch_results(
        fit(again, setup_of(spec_of(HARD), CLASSES, tmp_path / "none.pt"), LocalWorker())
    ) == epoch_results(progress)
    assert equal_weights(again.state_dict(), model.state_dict())


def test_a_training_whose_checkpoint_is_not_resumable_starts_over(tmp_path: Path) -> None:
    setup = setup_of(spec_of(HARD), CLASSES, tmp_path / "checkpoint.pt")
    with pytest.raises(Interrupted):
        fit(small_bert(CLASSES), setup, LocalWorker(cut_at(10)))
    place, ended = LocalWorker(), list[int]()
    refusing = replace(setup, resumable=lambda progress: bool(ended.append(len(progress.history))))
    fit(small_bert(CLASSES), refusing, place)
    assert ended == [1] and place.notes[0].startswith("starts over: ")
    assert sum(place.advanced) == 3 * 26, "every row is trained on again"


def test_a_checkpoint_that_lacks_a_field_is_started_over_with_a_line_that_names_it(tmp_path: Path) -> None:
    setup = setup_of(spec_of(HARD), CLASSES, tmp_path / "checkpoint.pt")
    with pytest.raises(Interrupted):
        fit(small_bert(CLASSES), setup, LocalWorker(cut_at(10)))
    document = torch.load(setup.checkpoint, weights_only=True)
    del document["progress"]["sums"]
    torch.save(document, setup.checkpoint)
    place = LocalWorker()
    fit(small_bert(CLASSES), setup, place)
    named = "starts over: checkpoint.pt is a damaged checkpoint of format 5 (KeyError: 'sums')"
    assert place.notes[0] == named and sum(place.advanced) == 3 * 26


def test_a_training_whose_sweep_chooses_another_rate_starts_over_at_that_rate(tmp_path: Path) -> None:
    """The trainings of a sweep may have been run again meanwhile, elsewhere, with other last bits."""
    path = tmp_path / "checkpoint.pt"
    with pytest.raises(Interrupted):
        fit(small_bert(CLASSES), setup_of(spec_of(HARD, learning_rate=1e-3), CLASSES, path), LocalWorker(cut_at(10)))
    other, place, model = spec_of(HARD, learning_rate=2e-3), LocalWorker(), small_bert(CLASSES)
    found = fit(model, setup_of(other, CLASSES, path), place)
    assert place.notes[0] == ("starts over: the checkpoint is of learning rate 1e-3, and the sweep now chooses 2e-3")
    again = small_bert(CLASSES)
    uninterrupted = fit(again, setup_of(other, CLASSES, tmp_path / "none.pt"), LocalWorker())
    assert epoch_results(found) == epoch_results(uninterrupted) and equal_weights(
        model.state_dict(), again.state_dict()
    )


def test_training_time_is_summed_over_runs_and_excludes_checkpoints(tmp_path: Path) -> None:
    """The clock advances whenever it is read: once a step, twice more an epoch; reads for checkpoints do not count."""
    often = setup_of(spec_of(HARD), CLASSES, tmp_path / "often.pt", checkpoint_seconds=0.5)
    never = setup_of(spec_of(HARD), CLASSES, tmp_path / "never.pt", checkpoint_seconds=1e9)
    seconds = [fit(small_bert(CLASSES), setup, LocalWorker()).seconds for setup in (often, never)]
    assert seconds[0] == seconds[1] == 3 * (7 + 1)
    assert (tmp_path / "often.pt").exists() and not (tmp_path / "never.pt").exists()


# --- alone, second, and in company --------------------------------------------------------------------


def test_a_student_trained_second_has_the_bits_of_one_trained_alone(tmp_path: Path) -> None:
    def student(name: str, seed: int) -> tuple[Progress, Weights]:
        spec = spec_of(HARD, seed=seed)
        model = small_bert(CLASSES, seed=seed, dropout=0.1)
        torch.seed()  # what came before left torch's generator anywhere
        return fit(model, setup_of(spec, CLASSES, tmp_path / name), LocalWorker()), model.state_dict()

    progress, weights = student("alone", 3)
    student("another", 4)
    again, same = student("second", 3)
    assert equal_weights(weights, same) and epoch_results(progress) == epoch_results(again)


def test_another_seed_gives_another_student(tmp_path: Path) -> None:
    models = [small_bert(CLASSES, dropout=0.1) for _ in range(2)]
    for seed, model in enumerate(models):
        fit(model, setup_of(spec_of(HARD, seed=seed), CLASSES, tmp_path / f"{seed}.pt"), LocalWorker())
    assert max_difference(models[0].state_dict(), models[1].state_dict()) > 1e-3


def work_together(rank: int, directory: str, method: Method) -> None:
    """One of two workers: 26 rows in batches of 5, the last of one row, which leaves the second worker none."""
    torch.set_num_threads(1)
    patience = timedelta(seconds=200)
    torch.distributed.init_process_group("gloo", f"file://{directory}/meeting", patience, rank=rank, world_size=2)
    model, place = small_bert(CLASSES), LocalWorker(rank=rank, world_size=2)
    setup = setup_of(spec_of(method, batch_size=5, epochs=4), CLASSES, Path(directory) / "checkpoint.pt")
    progress = fit(model, replace(setup, signal=signal_for(method, CLASSES)), place)
    entries = [epoch.participants for epoch in progress.history]
    torch.save((model.state_dict(), epoch_results(progress), place.advanced, entries), f"{directory}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize(
    "method",
    [VANILLA, ANNEALING, DRAWN, MINIMAX, EVERY_OTHER, GENERATED, CUT["contrast"], CUT["freelb"], CUT["adversarial"]],
    ids=["vanilla", "annealing", "drawn", "minimax", "every other", "generated", "contrast", "freelb", "adversarial"],
)
def test_two_workers_train_as_one_does(method: Method, tmp_path: Path) -> None:
    other_process = FORKSERVER.Process(target=work_together, args=(1, str(tmp_path), method))
    other_process.start()
    work_together(0, str(tmp_path), method)
    other_process.join()
    assert other_process.exitcode == 0
    one, other = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert equal_weights(one[0], other[0]), "the workers end with the same weights"
    assert sum(one[2]) == 4 * 26 and sum(other[2]) == 0, "rows are counted once"
    model = small_bert(CLASSES)
    setup = setup_of(spec_of(method, batch_size=5, epochs=4), CLASSES, tmp_path / "alone.pt", stored_outputs(CLASSES))
    progress = fit(model, setup, LocalWorker())
    alone = epoch_results(progress)
    for together, epoch in zip(one[3], progress.history, strict=True):
        assert together.keys() == epoch.participants.keys()
        for participant, entry in together.items():
            for name, value in entry.items():
                other = epoch.participants[participant][name]
                assert value == (other if other is None else pytest.approx(other, rel=1e-4)), f"{name}: of all workers"
    assert max_difference(one[0], model.state_dict()) < 1e-5
    for together, single in zip(one[1], alone, strict=True):
        assert together[:2] == single[:2]
        assert together[2:] == pytest.approx(single[2:], rel=1e-5)


def work_from(rank: int, directory: str) -> None:
    """A worker with a checkpoint of its own."""
    patience = timedelta(seconds=60)
    torch.distributed.init_process_group("gloo", f"file://{directory}/meeting", patience, rank=rank, world_size=2)
    model, worker = small_bert(CLASSES), LocalWorker(rank=rank, world_size=2)
    setup = setup_of(spec_of(HARD, batch_size=5), CLASSES, Path(directory) / f"checkpoint-{rank}.pt")
    progress = fit(model, setup, worker)
    torch.save((model.state_dict(), epoch_results(progress), worker.notes), f"{directory}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_where_one_worker_cannot_read_the_checkpoint_all_start_over(tmp_path: Path) -> None:
    setup = setup_of(spec_of(HARD, batch_size=5), CLASSES, tmp_path / "checkpoint-0.pt")
    with pytest.raises(Interrupted):
        fit(small_bert(CLASSES), setup, LocalWorker(cut_at(8)))
    (tmp_path / "checkpoint-1.pt").write_bytes(b"cut short")
    other = FORKSERVER.Process(target=work_from, args=(1, str(tmp_path)))
    other.start()
    work_from(0, str(tmp_path))
    other.join()
    assert other.exitcode == 0
    one, two = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert equal_weights(one[0], two[0]) and one[1] == two[1]
    assert one[2][0] == two[2][0] == "starts over: the workers found different checkpoints"
    alone = small_bert(CLASSES)
    fit(alone, setup_of(spec_of(HARD, batch_size=5), CLASSES, tmp_path / "none.pt"), LocalWorker())
    assert max_difference(one[0], alone.state_dict()) < 1e-5

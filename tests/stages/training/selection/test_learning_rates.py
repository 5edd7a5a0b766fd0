"""The learning rate that a student takes from the trainings of its sweep."""

import json
from pathlib import Path

import pytest
from training_setups import Interrupted, RecordingListener, inline

from cluster.inline import InlineWorker
from stages.specs.student import DistilSpec, Fresh, Pretrained, Train, rate_text
from stages.training.distil import distil, train_student
from stages.training.job import StudentJob
from stages.training.selection.learning_rates import Sweep, sweep_of

RATES = (1e-4, 2e-4, 4e-4)


def sweep(folder: Path, results: list[tuple[float, float | None]], train: Train | None = None) -> Sweep:
    """The sweep over histories whose selected, second epochs have these scores and losses."""
    for place, (score, loss) in enumerate(results):
        epochs = [{"score": 99.0, "selection_loss": 0.0}, {"score": score, "selection_loss": loss}]
        if loss is None:
            del epochs[1]["selection_loss"]
        (folder / str(place)).mkdir()
        (folder / str(place) / "history.json").write_text(json.dumps({"epochs": epochs, "best_epoch": 2}), "utf-8")
    spec = DistilSpec(start=Pretrained(), rates=RATES[: len(results)], train=train or Train())
    found = sweep_of(spec, {f"rate/{place}": folder / str(place) for place in range(len(results))})
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("results", "best"),
    [
        ([(80.0, 0.5), (82.0, 0.9), (81.0, 0.4)], 2e-4),
        ([(82.0, 0.5), (82.0, 0.4), (81.0, 0.1)], 2e-4),
        ([(82.0, 0.4), (82.0, 0.4), (81.0, 0.1)], 1e-4),
        ([(82.0, None), (82.0, 0.4), (82.0, None)], 2e-4),
    ],
    ids=["the highest score", "of equal scores the lowest loss", "of equal results the smallest", "no loss recorded"],
)
def test_the_rate_of_the_best_selected_epoch_is_chosen(
    results: list[tuple[float, float | None]], best: float, tmp_path: Path
) -> None:
    assert sweep(tmp_path, results).best == best


def test_with_likelihood_the_rate_of_the_lowest_loss_is_chosen(tmp_path: Path) -> None:
    found = sweep(tmp_path, [(82.0, 0.5), (80.0, 0.4), (81.0, 0.4)], Train(select_by="likelihood"))
    assert found.best == 4e-4


def test_a_rate_at_the_end_of_the_list_is_warned_of(tmp_path: Path) -> None:
    ends = {}
    for best in range(3):
        (tmp_path / str(best)).mkdir()
        ends[best] = sweep(tmp_path / str(best), [(81.0 if place == best else 80.0, 0.5) for place in range(3)])
    assert ends[1].warnings == []
    assert ends[0].warnings[0].startswith("the best rate, 1e-4, is the smallest of the sweep")
    assert ends[2].warnings[0].startswith("the best rate, 4e-4, is the largest of the sweep")


def test_of_two_rates_none_is_warned_of(tmp_path: Path) -> None:
    for place, results in enumerate(([(80.0, 0.5), (81.0, 0.5)], [(81.0, 0.5), (80.0, 0.5)])):
        (tmp_path / str(place)).mkdir()
        found = sweep(tmp_path / str(place), list(results))
        assert found.best == RATES[1 - place] and found.warnings == []


def test_a_history_that_is_cut_short_is_named(tmp_path: Path) -> None:
    sweep(tmp_path, [(80.0, 0.5)] * 3)
    (tmp_path / "1" / "history.json").write_text('{"epochs": [')
    spec = DistilSpec(start=Pretrained(), rates=RATES)
    with pytest.raises(ValueError, match=rf"^{tmp_path}/1/history\.json: cannot be read .*; run the recipe again"):
        sweep_of(spec, {f"rate/{place}": tmp_path / str(place) for place in range(3)})


@pytest.mark.parametrize(("rate", "text"), [(1e-4, "1e-4"), (2.5e-4, "2.5e-4"), (0.00003, "3e-5"), (0.5, "5e-1")])
def test_a_rate_is_written_in_short(rate: float, text: str) -> None:
    assert rate_text(rate) == text


@pytest.mark.parametrize("rates", [(1e-4,), (2e-4, 1e-4), (1e-4, 1e-4), (-1e-4, 1e-4)])
def test_rates_that_are_no_sweep_are_refused(rates: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="rates"):
        DistilSpec(start=Pretrained(), rates=rates)


def test_a_student_is_trained_at_the_rate_that_its_sweep_chose_also_where_it_is_resumed(
    tiny_corpus: Path, teacher: Path, tmp_path: Path
) -> None:
    """At 1e-9 nothing is learnt. The student equals one that was given the better rate, and names it."""
    train = Train(epochs=4, batch_size=16, select_by="likelihood")
    inputs = {"corpus": tiny_corpus, "start": teacher}
    at_rates = {
        "0": {"learning_rate": 1e-9, "seed": 5},
        "1": {"learning_rate": 5e-3, "seed": 5},
        "given": {"learning_rate": 5e-3},
    }
    for name, changes in at_rates.items():
        (tmp_path / name).mkdir()
        spec = DistilSpec(start=Fresh(), train=train.model_copy(update=changes))
        distil(spec, inputs, tmp_path / name, inline())
    expected = (tmp_path / "given" / "model" / "model.safetensors").read_bytes()

    def cut(done: float) -> None:
        if done > 75:
            raise Interrupted

    swept = DistilSpec(start=Fresh(), train=train, rates=(1e-9, 5e-3))
    rates = {f"rate/{place}": tmp_path / str(place) for place in range(2)}
    (tmp_path / "swept").mkdir()
    job = StudentJob(swept, {**inputs, **rates}, tmp_path / "swept", checkpoint_seconds=0.0)
    with pytest.raises(Interrupted):
        train_student(job, InlineWorker(1, RecordingListener(cut)))
    listener = RecordingListener()
    facts = train_student(job, InlineWorker(1, listener))
    assert listener.restored > 0, "or it was not resumed"
    assert (tmp_path / "swept" / "model" / "model.safetensors").read_bytes() == expected
    history = json.loads((tmp_path / "swept" / "history.json").read_text("utf-8"))
    assert facts["learning_rate"] == history["learning_rate"] == 5e-3
    assert facts["sweep"] == history["sweep"] and list(history["sweep"]) == ["1e-9", "5e-3"]
    assert "warnings" not in facts, "of two rates, the best is always at an end"
    assert '"learning_rate": 0.005' in (tmp_path / "swept" / "model" / "README.md").read_text("utf-8")

"""Phases that are probably shorter than intended are warned of while planning, a line for each method."""

from pathlib import Path

from project import graph_of, write_plannable_assets

from pipeline.recipe.checks import short_phases
from stages.specs.axes.training import Annealing, Continuation, OnePhase, Progressive


def test_fewer_epochs_than_temperatures_are_warned_of_with_what_would_be_enough() -> None:
    (line,) = short_phases(Annealing(max_temperature=7), 8)
    assert line == (
        "training.max_temperature: 7, but of 8 epochs the first phase has 6 (training.first_phase: 0.7), so that "
        "temperatures are skipped; give 6 or less, or train for 10 epochs"
    )
    assert not list(short_phases(Annealing(max_temperature=7), 10))
    assert not list(short_phases(Annealing(max_temperature=6), 8))


def test_a_single_epoch_on_labels_is_warned_of() -> None:
    (line,) = short_phases(Progressive(), 4)
    assert line == (
        "training.first_phase: 0.7, but of 4 epochs that leaves 1 for the labels; give a smaller share, or train for 6 "
        "epochs"
    )
    assert len(list(short_phases(Annealing(max_temperature=3), 4))) == 1
    assert not list(short_phases(Annealing(max_temperature=2, first_phase=0.5), 4))
    assert not list(short_phases(OnePhase(), 1)) and not list(short_phases(Continuation(), 1))


def test_a_method_is_named_once_however_many_students_it_has_and_a_model_by_its_place(tmp_path: Path) -> None:
    assets = write_plannable_assets(tmp_path / "assets")
    model = {
        "cut": {"of": "teacher", "layers": [1]},
        "method": {"use": "annealing-kd", "training": {"first_phase": 0.8}},
    }
    graph = graph_of(
        assets,
        tmp_path / "runs",
        method=[{"use": "annealing-kd", "label": "it", "training": {"max_temperature": 4}}, "no-kd"],
        models={"assistant": model},
        seeds=[0, 1],
        train={"epochs": 6, "learning_rate": 5.0e-3, "max_length": 16},
    )[1]
    named = [line.partition(", but")[0] for line in graph.warnings]
    assert named == [
        "models.assistant: training.max_temperature: 7",
        "models.assistant: training.first_phase: 0.8",
    ]

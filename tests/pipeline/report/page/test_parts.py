"""The parts of the report's page, as values: from rows and histories, without a page."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pipeline.report.page.candidate_choice import candidate_choices
from pipeline.report.page.charts.costs import cost_chart
from pipeline.report.page.charts.series import DASHES, Series
from pipeline.report.page.costs import (
    CostPanel,
    CostPoint,
    MeasuredCost,
    joined_panels,
    measured_panels,
    pareto_front,
)
from pipeline.report.page.layer_attention import layer_attentions
from pipeline.report.page.learning_curves import annealing_temperatures, curve_panels
from pipeline.report.page.savings import taught_epochs
from pipeline.report.page.score_tables import MethodScores, ScoreCell, ScoreColumn, ScoreTable, StudentScores
from pipeline.report.page.trainings import RecordedTraining
from stages.evaluation.seed_interval import seed_interval
from stages.specs.axes.data import Minimax
from stages.specs.axes.targets import TeacherTargets
from stages.specs.axes.training import Annealing, Continuation
from stages.specs.layers import Attend
from stages.specs.method import Method
from stages.specs.student import Cut, DistilSpec, Train

TWO = Cut(layers=(0, 1))


def spec(method: Method, epochs: int = 4) -> DistilSpec:
    return DistilSpec(start=TWO, method=method, train=Train(epochs=epochs, select_metric="accuracy"))


def training(own: DistilSpec, seed: int, *epochs: dict[str, Any]) -> RecordedTraining:
    """A training with this history; of its node only the spec is read."""
    model = SimpleNamespace(method="m", student="two", seed=seed)
    return RecordedTraining("tiny", cast(Any, model), cast(Any, SimpleNamespace(spec=own)), cast(Any, None), epochs)


def test_the_pareto_front_has_the_models_than_which_no_other_is_cheaper_and_better() -> None:
    points = [(2.0, 80.0), (1.0, 70.0), (1.0, 75.0), (3.0, 79.0), (4.0, 90.0), (2.0, 80.0)]
    assert pareto_front(points) == [(1.0, 75.0), (2.0, 80.0), (4.0, 90.0)]


COLUMN = ScoreColumn("tiny", "validation", "accuracy")


def cell(method: str, mean: float) -> ScoreCell:
    return ScoreCell(
        "tiny", method, "two", "validation", "accuracy", (), mean, None, None, None, None, (), f"m-{method}"
    )


def measured(method: str, runtime: str, p50: float, batch: int = 1) -> MeasuredCost:
    return MeasuredCost(
        "tiny", method, "two", runtime, batch, 1, "a processor", 1, 1e6, p50, p50, 1000 / p50, 2.0, "2026-01-01"
    )


def test_a_chart_of_measured_latency_has_models_and_exports_under_one_set_of_conditions() -> None:
    lines = tuple(MethodScores(name, "two", (cell(name, mean),)) for name, mean in (("a", 80.0), ("b", 75.0)))
    table = ScoreTable("dev", (COLUMN,), (), (StudentScores("two", lines),))
    costs = [
        measured("a", "PyTorch", 4.0),
        measured("a", "ONNX int8", 2.0),
        measured("b", "PyTorch", 3.0),
        measured("a", "PyTorch", 9.0, batch=32),
    ]
    (panel,) = measured_panels((table,), costs)
    assert (panel.cost, panel.conditions) == ("measured", "1 row, 1 thread of a processor")
    assert [(one.method, one.runtime, one.cost, one.score, one.on_front) for one in panel.points] == [
        ("a", "", 4.0, 80.0, False),
        ("a", "ONNX int8", 2.0, 80.0, True),
        ("b", "", 3.0, 75.0, False),
    ]
    of_evaluation = CostPanel("tiny", "validation", "accuracy", "latency", (CostPoint("a", "two", 1.0, 80.0, True),))
    size = replace(of_evaluation, cost="parameters")
    more = replace(of_evaluation, points=(*of_evaluation.points, CostPoint("c", "two", 1.0, 80.0, True)))
    assert joined_panels((size, of_evaluation), (panel,)) == (size, panel)
    assert joined_panels((size, more), (panel,)) == (size, more, panel), "it has a model that was not measured"
    series = {(name, "two"): Series(name, "two", number, name) for number, name in enumerate("ab")}
    chart = cost_chart(panel, series, "cost0")
    assert "as ONNX int8, with the score of the model that was exported" in chart.svg
    assert measured_panels((table,), costs[:1]) == (), "one point is no chart"


def test_the_interval_over_seeds_is_that_of_student_s_t() -> None:
    low, high = seed_interval([79.0, 81.0]) or (0.0, 0.0)
    assert (low, high) == pytest.approx((80 - 12.7062, 80 + 12.7062), abs=1e-3)
    assert seed_interval([80.0]) is None


def test_the_annealing_temperature_falls_to_1_in_the_first_phase() -> None:
    annealing = Method(targets=TeacherTargets(), training=Annealing(max_temperature=3, first_phase=0.75))
    assert annealing_temperatures(spec(annealing, 8)) == pytest.approx((3, 3, 2, 2, 1, 1))
    assert taught_epochs(spec(annealing, 8)) == 6
    continuation = Method(targets=TeacherTargets(), training=Continuation(max_temperature=2))
    assert annealing_temperatures(spec(continuation, 4)) == pytest.approx((2, 2, 1, 1))
    assert annealing_temperatures(spec(Method())) == ()


def test_a_learning_curve_is_the_mean_over_seeds_with_the_range() -> None:
    plain = spec(Method())
    one = training(plain, 0, {"score": 70.0}, {"score": 80.0})
    (panel,) = curve_panels([one, training(plain, 1, {"score": 72.0})])
    (curve,) = panel.curves
    assert panel.metric == "accuracy" and not panel.anneals
    assert [(found.epoch, found.mean, found.low, found.high) for found in curve.epochs] == [
        (1, 71.0, 70.0, 72.0),
        (2, 80.0, 80.0, 80.0),
    ]


def test_what_minimax_chose_is_the_share_of_each_rank_over_seeds() -> None:
    minimax = spec(Method(targets=TeacherTargets(), data=Minimax(k=2, keep=1)))
    entry = {"used": 10, "by_rank": [4, 6], "mean_divergence": 0.3, "mean_divergence_of_all": 0.1}
    other = {"used": 10, "by_rank": [2, 8], "mean_divergence": 0.5, "mean_divergence_of_all": 0.1}
    warmup: dict[str, Any] = {}
    trainings = [training(minimax, seed, warmup, {"candidates": one}) for seed, one in enumerate((entry, other))]
    (choice,) = candidate_choices(trainings)
    assert (choice.k, choice.keep, choice.used, choice.seeds) == (2, 1, 20, 2)
    (epoch,) = choice.epochs
    assert epoch.epoch == 2 and epoch.by_rank == pytest.approx((0.3, 0.7)) and epoch.ratio == pytest.approx(4.0)
    assert candidate_choices([training(spec(Method()), 0, {"candidates": entry})]) == ()


def test_attention_is_student_layers_by_teacher_layers_and_of_older_trainings_the_largest_weight_alone() -> None:
    attending = spec(Method(targets=TeacherTargets(), structure=Attend(groups=((1, 2), (2, 3)))))
    epoch = {"attention": [0.9, 0.7], "attention_weights": [[0.9, 0.1], [0.3, 0.7]]}
    (found,) = layer_attentions([training(attending, 0, epoch)])
    assert (found.student_layers, found.teacher_layers) == ((1, 2), (1, 2, 3))
    assert found.epochs[0].weights == ((0.9, 0.1, None), (None, 0.3, 0.7))
    (older,) = layer_attentions([training(attending, 0, {"attention": [0.9, 0.7]})])
    assert older.epochs[0].weights == () and older.epochs[0].largest == (0.9, 0.7)
    assert layer_attentions([training(spec(Method()), 0, {"score": 1.0})]) == ()


def test_texts_in_a_chart_are_escaped_and_its_colours_are_those_of_the_page() -> None:
    look = Series("<b>&", "two", 0, "<b>&")
    point = CostPoint("<b>&", "two", 15e6, 80.0, on_front=True)
    panel = CostPanel("tiny", "validation", "accuracy", "parameters", (point, replace(point, cost=20e6, score=85.0)))
    drawn = str(cost_chart(panel, {("<b>&", "two"): look}, "f0").svg)
    assert "<b>" not in drawn and 'aria-label="&lt;b&gt;&amp;, 80.00 accuracy, 15 million parameters, on the' in drawn
    assert "var(--c0)" in drawn and "var(--soft)" in drawn and "#0102" not in drawn and "font" not in drawn
    assert drawn == str(cost_chart(panel, {("<b>&", "two"): look}, "f0").svg)


def test_32_methods_are_told_apart_by_colour_and_dashes() -> None:
    looks = {(one.colour, one.dash) for one in (Series("m", "two", number, "m") for number in range(32))}
    assert len(looks) == 32 == 8 * len(DASHES)

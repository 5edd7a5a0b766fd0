"""The settings of a new recipe fit the size of its data and the shape of its teacher."""

from dataclasses import replace

import pytest
import yaml

from pipeline.recipe import parse
from pipeline.recipe.checks import short_phases
from pipeline.recipe.model import TaskRecipe
from pipeline.recipe.starter.settings import Teacher, cut_layers, settings_for, student_depths
from pipeline.recipe.starter.template import StarterFacts, starter_recipe
from stages.corpus.inspection.lengths import RowLength
from stages.specs.tasks import Task

TASK = Task(name="mine", text=("text",), labels=("a", "b"), dev=())


def teacher(layers: int, width: int = 768, head: str | None = None) -> Teacher:
    return Teacher("./model", layers, width, "mean" if head else None, finetuned=False, can_be_cut=True)


def recipe_for(rows: int, teaches: Teacher, cut: float = 0.0) -> str:
    counts = {"a": rows // 2, "b": rows - rows // 2}
    facts = StarterFacts("r.yaml", "runs", TASK, {"train": "t.csv"}, rows, counts, RowLength(64, 50, cut), teaches)
    return starter_recipe(facts)


def task_of(recipe: str) -> TaskRecipe:
    (task,) = parse(yaml.safe_load(recipe)).tasks
    return task


@pytest.mark.parametrize("rows", [4, 999, 5_000, 20_001, 400_000])
@pytest.mark.parametrize("width", [384, 768, 1024])
def test_no_schedule_is_cut_short_by_the_epochs_of_any_size(rows: int, width: int) -> None:
    """A plan would warn of temperatures that are skipped, and of a phase on labels that is too short."""
    task = task_of(recipe_for(rows, teacher(6, width)))
    assert [use.label for use in task.methods] == ["no-kd", "vanilla-kd", "annealing-kd"]
    for use in task.methods:
        assert not list(short_phases(use.method.training, use.train.epochs)), use.label


def test_fewer_rows_are_trained_on_for_more_epochs_and_with_more_seeds() -> None:
    sizes = [settings_for(rows, 384) for rows in (500, 5_000, 50_000, 500_000)]
    assert sorted((found.epochs for found in sizes), reverse=True) == [found.epochs for found in sizes]
    assert [len(found.seeds) for found in sizes] == [3, 3, 1, 1]


def test_wider_models_are_trained_at_lower_rates() -> None:
    found = [settings_for(5_000, width) for width in (384, 768, 1024)]
    assert found[0].rate > found[1].rate > found[2].rate
    assert found[0].teacher_rate > found[1].teacher_rate > found[2].teacher_rate


@pytest.mark.parametrize(
    ("layers", "depths", "cuts"),
    [
        (2, (1,), [(2,)]),
        (6, (2, 3), [(3, 6), (2, 4, 6)]),
        (12, (4, 6), [(3, 6, 9, 12), (2, 4, 6, 8, 10, 12)]),
        (24, (8, 12), [tuple(range(3, 25, 3)), tuple(range(2, 25, 2))]),
    ],
)
def test_students_have_a_third_and_a_half_of_the_layers_spread_up_to_the_last(
    layers: int, depths: tuple[int, ...], cuts: list[tuple[int, ...]]
) -> None:
    assert student_depths(layers) == depths
    assert [cut_layers(teacher(layers), depth) for depth in depths] == cuts


def test_the_first_layer_is_kept_where_an_architecture_needs_it() -> None:
    modern = replace(teacher(22), keeps_first=True)
    assert cut_layers(modern, 7) == (1, 4, 8, 11, 15, 18, 22)
    assert cut_layers(replace(teacher(2), keeps_first=True), 1) == (1,)


def test_a_head_that_reads_all_tokens_gets_the_first_layers() -> None:
    assert cut_layers(teacher(6, head="mean"), 2) == (1, 2)


def test_the_share_of_rows_that_are_cut_is_named() -> None:
    assert "# tokens; 3 % of the rows are longer and are cut" in recipe_for(500, teacher(6), cut=0.03)
    assert "98 % of the rows have at most 50" in recipe_for(500, teacher(6))


def test_a_large_train_file_can_be_tried_out_on_a_sample() -> None:
    recipe = recipe_for(400_000, teacher(6))
    assert task_of(recipe.replace("# data: ", "data: ")).data.train_rows == 20_000
    assert "train_rows" not in recipe_for(20_000, teacher(6))

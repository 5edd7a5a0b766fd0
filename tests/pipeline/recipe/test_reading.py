"""What a recipe means once it is read."""

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import RequestError
from pipeline.methods import find
from pipeline.recipe import (
    Ensemble,
    FreshConfig,
    LayerCut,
    Limits,
    MethodUse,
    ModelNode,
    Recipe,
    Reference,
    ResourceBlock,
    Student,
    TaskRecipe,
    load,
    parse,
)
from pipeline.recipe.references import teachers, weighed
from pipeline.recipe.schema.file import SWEEP_SEED
from stages.specs.axes.targets import Hard, Smoothed, TeacherTargets
from stages.specs.axes.training import Annealing, OnePhase, Progressive
from stages.specs.corpus import Generated
from stages.specs.layers import Attend, Outputs, Pick, Random, Relational, Structure
from stages.specs.method import Method
from stages.specs.student import Train
from stages.specs.tasks import BUILT_IN, Task

RECIPES = sorted((Path(__file__).parents[3] / "recipes").glob("*.yaml"))

SMALLEST: dict[str, Any] = {
    "name": "small",
    "task": "sst2",
    "teacher": {"model": "big"},
    "student": {"model": "little"},
    "method": "vanilla-kd",
}


def read(*sets: str, **keys: Any) -> Recipe:
    return parse({**SMALLEST, **keys}, sets)


def task(*sets: str, **keys: Any) -> TaskRecipe:
    """The first task of a small recipe with these keys."""
    return read(*sets, **keys).tasks[0]


# --- defaults and short forms ---------------------------------------------------------------------


def test_five_keys_are_enough_and_the_rest_has_its_defaults() -> None:
    recipe = read()
    only = recipe.tasks[0]
    assert (recipe.storage, recipe.limits, recipe.origin) == ("runs", Limits(), None)
    assert (only.train, only.max_length, only.seeds) == (Train(), 128, (0,))
    assert (only.data.source, only.data.train_rows, only.data.holdout) == ("hub", None, 0.1)
    assert (only.store.pooling, only.store.layers, only.store.precision) == ("mean", "all", "float16")
    assert only.teacher.finetune is None and only.files is None and len(only.models) == 0


def test_a_single_value_is_a_list_of_one() -> None:
    lists = {key: [SMALLEST[key]] for key in ("task", "student", "method")}
    assert read(**lists, seeds=[3]) == read(seeds=3)


def test_a_name_is_a_block_of_that_name() -> None:
    assert read(task={"name": "sst2"}, method={"use": "vanilla-kd"}) == read()


def test_every_built_in_task_is_known_by_its_name() -> None:
    for name, expected in BUILT_IN.items():
        found = task(task=name, data={"source": "folder"})
        assert (found.task, found.train.select_metric) == (
            expected.model_copy(update={"select": None}),
            expected.select,
        )


def test_reading_what_was_read_gives_the_same() -> None:
    for path in RECIPES:
        recipe = load(path)
        assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe


def test_a_recipe_is_a_value() -> None:
    recipe = read(models={"ta": {"model": "middle", "method": "vanilla-kd"}})
    assert hash(recipe) == hash(pickle.loads(pickle.dumps(recipe))) == hash(recipe.model_copy())
    with pytest.raises(AttributeError):
        recipe.tasks[0].models.extra = 1  # type: ignore[attr-defined]
    with pytest.raises(TypeError):
        recipe.resources["distil"] = ResourceBlock()  # type: ignore[index]


# --- tasks and data -------------------------------------------------------------------------------


def own(**keys: Any) -> TaskRecipe:
    block = {"name": "mine", "files": {"train": "a.csv", "validation": "b.csv"}, "text": "body", "labels": ["a", "b"]}
    return task(task={key: value for key, value in {**block, **keys}.items() if value is not None})


def test_a_task_of_ones_own_has_its_columns_labels_and_the_splits_of_its_files() -> None:
    found = own(text=["q", "a"], label="grade", files={"train": "a", "validation": "b", "test": "c"})
    expected = Task(name="mine", text=("q", "a"), label="grade", labels=("a", "b"), test=("test",))
    assert found.task == expected
    assert dict(found.files or {}) == {"train": "a", "validation": "b", "test": "c"}


def test_without_a_validation_file_dev_is_left_to_be_cut_from_train() -> None:
    assert own(files={"train": "a"}).task.dev == ()


def test_files_may_hold_several_dev_and_test_splits() -> None:
    names = ("train", "validation_matched", "validation_mismatched", "test_matched", "test_mismatched")
    found = own(files={name: name for name in names}).task
    assert (found.dev, found.test) == (names[1:3], names[3:])


def test_a_task_of_the_hub_has_the_splits_of_its_data_set_by_their_names_there() -> None:
    found = own(files=None, hub={"repository": "org/mine", "splits": {"train": "all", "validation": "dev"}})
    expected = Task(name="mine", text=("body",), labels=("a", "b"), train="all", dev=("dev",), test=())
    assert (found.task, found.files) == (expected, None)
    assert own(files=None, hub="org/mine").task == Task(name="mine", text=("body",), labels=("a", "b"), test=("test",))
    without = own(files=None, hub={"repository": "org/mine", "splits": {"train": "train", "test": "test"}}).task
    assert (without.dev, without.test) == ((), ("test",)), "dev is cut from train"


def test_the_configuration_of_a_data_set_stands_in_hub_or_beside_its_name() -> None:
    inside = own(files=None, hub={"repository": "org/mine", "config": "plain"})
    assert inside == own(files=None, hub="org/mine", config="plain")
    assert inside.hub is not None and (inside.hub.config, inside.hub.revision) == ("plain", "main")


def test_a_built_in_task_may_come_from_another_data_set() -> None:
    found = task(task={"name": "sst2", "hub": "stanfordnlp/sst2"})
    assert found.task == BUILT_IN["sst2"] and found.hub is not None and found.hub.repository == "stanfordnlp/sst2"


def test_labels_that_yaml_read_as_booleans_or_numbers_are_words_again() -> None:
    assert own(labels=[False, True]).task.labels == ("no", "yes")
    assert own(labels=[0, 10]).task.labels == ("0", "10")


def test_a_regression_has_no_labels_and_is_scored_by_pearson() -> None:
    found = own(labels=None, regression=True).task
    assert (found.labels, found.metrics) == (None, ("pearson",))


def test_the_first_metric_is_the_headline() -> None:
    assert own(metric=["f1", "accuracy"]).task.primary == "f1"
    assert own(metric="macro_f1").task.metrics == ("macro_f1",)


def test_the_metric_that_selects_the_epoch_may_be_another_than_the_headline() -> None:
    found = own(metric=["f1", "accuracy"], select="accuracy")
    assert (found.train.select_metric, found.task.select) == ("accuracy", None)
    assert own(metric=["f1", "accuracy"]).train.select_metric is None, "the headline metric"


def test_a_built_in_task_may_select_by_another_of_its_metrics_and_is_found_where_it_was() -> None:
    by_accuracy, by_f1 = task(task="mrpc"), task(task={"name": "mrpc", "select": "f1"})
    assert (by_accuracy.train.select_metric, by_f1.train.select_metric) == ("accuracy", None)
    assert by_accuracy.task == by_f1.task and by_f1.data.source == "hub"
    assert by_f1.task.test == BUILT_IN["mrpc"].test
    assert task(task={"name": "sst2", "select": "accuracy"}).train.select_metric is None
    assert task(task={"name": "reviews", "select": "accuracy"}).data.source == "generated"


def test_with_select_last_no_rows_need_to_be_held_out() -> None:
    found = task(train={"select": "last"}, data={"holdout": 0})
    assert (found.train.select, found.data.holdout) == ("last", 0)


def test_a_built_in_task_may_have_its_rows_from_files() -> None:
    found = task(task={"name": "mrpc", "files": {"train": "a", "validation": "b"}})
    assert found.task == BUILT_IN["mrpc"].model_copy(update={"test": (), "select": None})
    assert found.train.select_metric == "accuracy"


def test_a_task_of_ones_own_may_lie_in_a_folder() -> None:
    block = {"name": "mine", "text": "body", "labels": ["a", "b"]}
    found = task(task=block, data={"source": "folder"})
    assert (found.data.source, found.files, found.task.dev, found.task.test) == (
        "folder",
        None,
        ("validation",),
        ("test",),
    )


def test_reviews_are_generated_unless_a_folder_is_named() -> None:
    sizes = {"seed": 7, "train": 10, "validation": 20, "test": 30}
    found = task(task="reviews", data={"generated": sizes}).data
    assert (found.source, found.generated) == ("generated", Generated(seed=7, train=10, validation=20, test=30))
    assert task(task="reviews", data={"source": "folder"}).data.source == "folder"
    assert {one.data.source for one in read(task=["reviews", "sst2"]).tasks} == {"generated", "hub"}


# --- teacher, store, students ---------------------------------------------------------------------


def test_fine_tuning_starts_from_the_defaults_and_not_from_train() -> None:
    found = task(teacher={"model": "big", "finetune": {"epochs": 7, "seed": 5}}, train={"learning_rate": 1e-3})
    assert found.teacher.finetune == Train(epochs=7, seed=5, select_by="likelihood")
    assert task(teacher={"model": "big", "finetune": {}}).teacher.finetune == Train(select_by="likelihood")


@pytest.mark.parametrize(
    ("given", "rule"), [({}, "likelihood"), ({"select_by": "metric"}, "metric"), ({"select": "last"}, "metric")]
)
def test_a_teachers_epoch_is_the_likeliest_unless_another_rule_or_no_selection_is_given(
    given: dict[str, object], rule: str
) -> None:
    found = task(teacher={"model": "big", "finetune": given}).teacher.finetune
    assert found is not None and found.select_by == rule and task().train.select_by == "metric"


def test_the_order_of_a_teachers_outputs_is_kept() -> None:
    order = ("contradiction", "entailment", "neutral")
    assert task(task="mnli", teacher={"model": "big", "labels": list(order)}).teacher.labels == order


@pytest.mark.parametrize("floor", [1, 0, -5.5, 100])
def test_a_floor_of_one_is_a_score_for_a_metric_that_may_be_near_zero(floor: float) -> None:
    assert task(teacher={"model": "big", "least": floor}).teacher.least == floor


def test_a_store_may_hold_no_layers_at_all() -> None:
    assert task(store={"layers": []}).store.layers == ()


def test_the_order_in_which_stored_layers_are_named_does_not_matter() -> None:
    assert task(store={"layers": [6, 0, 3]}).store == task(store={"layers": [0, 3, 6]}).store


def test_the_order_of_a_students_layers_is_kept() -> None:
    assert task(student={"cut": {"of": "teacher", "layers": [1, 3, 5]}}).students == (
        Student(label="layers-1-3-5", cut=LayerCut(of="teacher", layers=(1, 3, 5))),
    )


@pytest.mark.parametrize(
    ("block", "label"),
    [
        ({"model": "org/distil-base.v1"}, "distil-base.v1"),
        ({"model": "./models/my model/"}, "my-model"),
        ({"model": "../.."}, "student"),
        ({"cut": {"of": "teacher", "layers": [1, 3, 5]}}, "layers-1-3-5"),
        ({"cut": {"layers": [2]}}, "layers-2"),
        ({"config": {"model": "org/base"}}, "fresh-base"),
        ({"model": "x", "label": "six"}, "six"),
    ],
)
def test_a_label_is_given_or_derived(block: dict[str, Any], label: str) -> None:
    assert task(student=block).students[0].label == label


def test_a_fresh_students_changes_do_not_depend_on_their_order() -> None:
    changes = {"num_hidden_layers": 2, "hidden_act": "relu", "hidden_dropout_prob": 0.5, "is_decoder": False}
    found = task(student={"config": {"model": "base", **changes}}).students[0].config
    assert found == FreshConfig.model_validate({"model": "base", **changes})
    assert found is not None and found.changes == tuple(sorted(changes.items()))
    assert found == task(student={"config": {**dict(reversed(changes.items())), "model": "base"}}).students[0].config


# --- methods and models ---------------------------------------------------------------------------


def by(learner: MethodUse | ModelNode) -> list[str]:
    """``taught_by``, as a recipe writes it."""
    return [str(one) for one in learner.taught_by]


def test_a_method_is_the_named_one() -> None:
    assert task(method="annealing-kd").methods[0].method == find("annealing-kd").method


def test_a_block_without_a_kind_changes_what_the_method_has_on_that_axis() -> None:
    found = task(method={"use": "annealing-kd", "training": {"max_temperature": 10}}).methods[0]
    assert found.method.training == Annealing(max_temperature=10, first_phase=0.7)
    assert found.label == "annealing-kd"


def test_a_block_of_the_same_kind_changes_and_of_another_kind_replaces() -> None:
    same = task(method={"use": "vanilla-kd", "training": {"kind": "one-phase", "temperature": 5}}).methods[0].method
    other = task(method={"use": "vanilla-kd", "training": {"kind": "annealing"}}).methods[0].method
    assert (same.training, other.training) == (OnePhase(temperature=5.0), Annealing())


def test_a_name_on_an_axis_is_a_kind() -> None:
    found = task(method={"use": "vanilla-kd", "targets": "hard", "label": "plain"}).methods[0].method
    assert found.targets == Hard()
    kept = task(method={"use": "label-smoothing", "targets": "smoothed"}).methods[0].method
    assert kept.targets == Smoothed(epsilon=0.1)


def test_a_methods_own_training_lies_over_the_recipes() -> None:
    method = ["no-kd", {"use": "vanilla-kd", "train": {"learning_rate": 1e-3}}]
    plain, kd = task(method=method, train={"epochs": 9, "warmup": 0.2, "max_length": 64}).methods
    assert plain.train == Train(epochs=9, warmup=0.2)
    assert kd.train == Train(epochs=9, warmup=0.2, learning_rate=1e-3)


def test_rates_take_the_place_of_the_learning_rate_and_the_nearest_block_wins() -> None:
    methods = ["no-kd", {"use": "vanilla-kd", "rates": [5e-4, 1e-4]}, {"use": "pkd", "train": {"learning_rate": 3e-4}}]
    swept, own, single = task(method=methods, train={"rates": [2e-4, 1e-4]}).methods
    assert (swept.rates, own.rates, single.rates) == ((1e-4, 2e-4), (1e-4, 5e-4), ())
    assert single.train.learning_rate == 3e-4
    (over,) = task(method=methods[1], train={"learning_rate": 7e-4}).methods
    assert over.train.learning_rate == Train().learning_rate, "a rate that is not used is in no key"


def test_the_seed_of_a_sweep_does_not_depend_on_the_reported_seeds() -> None:
    assert {task(seeds=seeds).sweep_seed for seeds in ([0], [1, 2], [2, 0, 1])} == {SWEEP_SEED}
    assert task(sweep_seed=7).sweep_seed == 7
    other = read(task=["sst2", "rte"], seeds=[0, 1], overrides={"rte": {"seeds": [5], "sweep_seed": 6}}).tasks
    assert [one.sweep_seed for one in other] == [SWEEP_SEED, 6]


def test_rates_need_held_out_rows_to_be_compared_on() -> None:
    with pytest.raises(RequestError, match=r"^method\.rates: .* compared on held-out rows, but data\.hol"):
        read(method={"use": "no-kd", "rates": [1e-4, 2e-4]}, train={"select": "last"}, data={"holdout": 0})


def test_a_model_is_trained_at_one_rate_which_it_must_give_where_train_has_several() -> None:
    models: dict[str, Any] = {"a": {"model": "m", "method": "no-kd"}}
    with pytest.raises(
        RequestError, match=r"^models\.a\.train\.learning_rate: missing, and needed: train\.rates is for"
    ):
        read(models=models, train={"rates": [1e-4, 2e-4]})
    models["a"]["train"] = {"learning_rate": 3e-4}
    node = task(models=models, train={"rates": [1e-4, 2e-4]}).models["a"]
    assert isinstance(node, ModelNode) and node.train.learning_rate == 3e-4


def test_max_length_is_the_tasks_and_not_the_trainings() -> None:
    assert task(train={"max_length": 64}).max_length == 64


def test_the_teacher_teaches_unless_another_model_is_named() -> None:
    models = {"ta": {"model": "middle", "method": "vanilla-kd"}}
    first, second = task(
        models=models, method=["vanilla-kd", {"use": "vanilla-kd", "label": "takd", "taught_by": "ta"}]
    ).methods
    assert (by(first), by(second)) == (["teacher"], ["ta"])


def test_models_form_chains_of_teachers() -> None:
    models = {
        "first": {
            "cut": {"of": "teacher", "layers": [1, 2]},
            "method": "vanilla-kd",
            "train": {"epochs": 5, "seed": 3},
        },
        "second": {"model": "m", "method": {"use": "vanilla-kd", "training": {"temperature": 4}}, "taught_by": "first"},
        "plain": {"model": "m", "method": "no-kd"},
    }
    found = task(models=models, train={"batch_size": 8}).models
    first, second, plain = (node for node in found.values() if isinstance(node, ModelNode))
    assert (by(first), by(second), by(plain)) == (["teacher"], ["first"], [])
    assert first.train == Train(epochs=5, seed=3, batch_size=8)
    assert first.student == Student(label="first", cut=LayerCut(layers=(1, 2)))
    assert second.method.training == OnePhase(temperature=4.0)


KEEPING: dict[str, Any] = {
    "train": {"epochs": 5},
    "teacher": {"model": "big", "finetune": {"epochs": 3, "keep": "epochs"}},
    "models": {
        "one": {"model": "m", "method": "vanilla-kd", "train": {"epochs": 2, "keep": "epochs"}},
        "two": {"model": "m", "method": "vanilla-kd", "taught_by": "one"},
        "both": {"members": ["one", "two"], "shares": [0.7, 0.3]},
        "snapshots": {"members": "teacher:all"},
    },
}


def taught(taught_by: object, **changes: object) -> tuple[list[str], Method]:
    """The single models that teach, and the method with the shares of an ensemble."""
    found = task(**KEEPING, method={"use": "vanilla-kd", "taught_by": taught_by, **changes})
    (use,) = found.methods
    return [str(one) for one in teachers(found, use.taught_by)], weighed(found, use.method, use.taught_by)


@pytest.mark.parametrize(
    ("taught_by", "models"),
    [
        ("teacher", ["teacher"]),
        (["teacher"], ["teacher"]),
        ("itself", ["itself"]),
        ("teacher:2", ["teacher:2"]),
        ("teacher:all", ["teacher:1", "teacher:2", "teacher:3"]),
        ("both", ["one", "two"]),
        ("snapshots", ["teacher:1", "teacher:2", "teacher:3"]),
        (["one:all", "itself", "teacher"], ["one:1", "one:2", "itself", "teacher"]),
    ],
)
def test_references_are_expanded_to_single_models(taught_by: object, models: list[str]) -> None:
    assert taught(taught_by)[0] == models


def test_the_shares_of_an_ensemble_are_those_of_the_mean_that_it_teaches() -> None:
    assert taught("both")[1].targets == TeacherTargets(shares=(0.7, 0.3))
    assert taught("snapshots")[1].targets == TeacherTargets()


def test_teachers_that_are_no_ensemble_have_the_shares_of_the_method() -> None:
    _, method = taught(["one", "two"], targets={"shares": [0.25, 0.75]})
    assert method.targets == TeacherTargets(shares=(0.25, 0.75))


def test_a_progressive_method_follows_each_epoch_of_the_teacher() -> None:
    models, method = taught("teacher:all", training="progressive")
    assert (models, method.training) == (["teacher:1", "teacher:2", "teacher:3"], Progressive())


@pytest.mark.parametrize(
    ("use", "models"),
    [
        ("vanilla-kd", ["teacher"]),
        ("self-kd", ["itself"]),
        ("pro-kd", ["teacher:1", "teacher:2", "teacher:3"]),
        ("no-kd", []),
        ({"use": "no-kd", "structure": "pick"}, ["teacher"]),
        ({"use": "self-kd", "training": "annealing"}, ["itself"]),
        ({"use": "alp", "structure": "none", "taught_by": ["teacher", "two"]}, ["teacher", "two"]),
    ],
)
def test_the_default_of_taught_by_depends_on_the_methods_name(use: object, models: list[str]) -> None:
    found = task(**KEEPING, method=use)
    assert [str(one) for one in teachers(found, found.methods[0].taught_by)] == models


@pytest.mark.parametrize("use", ["pkd", "alp", "rail-kd"])
def test_a_method_of_layers_can_be_matched_beside_labels_alone(use: str) -> None:
    """Its temperature and weight of logits go with the logits."""
    (found,) = task(method={"use": use, "targets": "hard"}).methods
    assert found.method.training == OnePhase() and found.method.needs_layers and not found.method.needs_logits
    (given,) = task(method={"use": use}).methods
    assert given.method.structure == found.method.structure


def test_an_ensemble_is_a_value_that_reads_back() -> None:
    recipe = read(**KEEPING)
    members = (Reference(name="one"), Reference(name="two"))
    assert recipe.tasks[0].models["both"] == Ensemble(name="both", members=members, shares=(0.7, 0.3))
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe


def test_epochs_are_kept_where_it_is_asked_and_never_of_students() -> None:
    found = task(**KEEPING, method="vanilla-kd")
    finetune, one = found.teacher.finetune, found.models["one"]
    assert finetune is not None and isinstance(one, ModelNode)
    assert (finetune.keep, one.train.keep, found.methods[0].train.keep) == ("epochs", "epochs", "best")


@pytest.mark.parametrize(
    ("structure", "expected"),
    [
        ({"kind": "pick", "pairs": "random"}, Pick(pairs="random")),
        ({"kind": "pick", "pairs": "last", "over": "sum"}, Pick(pairs="last", over="sum")),
        ({"kind": "attend", "groups": "overlapping"}, Attend(groups="overlapping")),
        ({"kind": "random", "student_layers": [1, 2]}, Random(student_layers=(1, 2))),
        ({"kind": "relational", "pair": [2, 4]}, Relational(pair=(2, 4))),
        ("outputs", Outputs()),
    ],
)
def test_every_kind_of_structure_may_be_chosen(structure: object, expected: Structure) -> None:
    assert task(method={"use": "vanilla-kd", "structure": structure}).methods[0].method.structure == expected


def test_the_temperature_of_a_virtual_teacher_means_something() -> None:
    method = {"use": "no-kd", "targets": "virtual", "training": {"temperature": 20.0, "teacher_weight": 0.9}}
    assert task(method=method).methods[0].method.training == OnePhase(temperature=20.0, teacher_weight=0.9)


def test_methods_may_take_other_steps_with_equal_steps_false() -> None:
    method = ["no-kd", {"use": "vanilla-kd", "train": {"epochs": 9}}]
    assert [use.train.epochs for use in task(method=method, equal_steps=False).methods] == [3, 9]


# --- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_of_the_project_is_read(path: Path) -> None:
    recipe = load(path)
    assert recipe.origin is not None
    assert (recipe.name, recipe.origin.file, recipe.origin.sets) == (path.stem, path, ())


def test_the_small_glue_recipe_leaves_label_smoothing_out_for_the_regression_alone() -> None:
    recipe = load(next(path for path in RECIPES if path.stem == "glue-small"))
    counts = {one.task.name: len(one.methods) for one in recipe.tasks}
    assert counts == {"cola": 4, "mrpc": 4, "stsb": 3, "sst2_sentences": 4}


def test_reading_recipes_imports_nothing_heavy() -> None:
    heavy = "{'torch', 'ray', 'transformers', 'pyarrow', 'datasets', 'numpy', 'sklearn'}"
    code = f"import sys, pipeline.recipe; found = {heavy} & set(sys.modules); sys.exit(' '.join(sorted(found)) or 0)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])

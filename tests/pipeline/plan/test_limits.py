from dataclasses import replace
from pathlib import Path

import pytest
from project import graph_of, record_for, write_artifact, write_plannable_assets

from pipeline.artifacts.record import Record
from pipeline.errors import RequestError
from pipeline.graph.nodes import HeldModels, Quantity
from pipeline.plan.limits import check_memory_limit, check_store_limit, with_quantities
from pipeline.plan.planner import Plan, Step, plan
from pipeline.recipe import ResourceBlock
from pipeline.storage.directory import Directory

ROW = 16 + 2 * 4 + 5 * 32 * 2
"""Key, two logits, embeddings and four layers of width 32 in float16."""


@pytest.fixture
def assets(tmp_path: Path) -> Path:
    return write_plannable_assets(tmp_path / "assets")


@pytest.fixture
def storage(tmp_path: Path) -> Directory:
    return Directory(tmp_path / "runs")


def planned(assets: Path, storage: Directory, /, **changes: object) -> Plan:
    recipe, graph = graph_of(assets, storage, **changes)
    return plan(graph, storage, recipe.name)


def refusal(found: Plan, limit: int) -> str:
    with pytest.raises(RequestError) as caught:
        check_store_limit(found.steps, limit)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_store_within_the_limit_or_without_one_is_accepted(assets: Path, storage: Directory) -> None:
    found = planned(assets, storage)
    check_store_limit(found.steps, None)
    check_store_limit(found.steps, 81 * ROW)


def test_a_store_over_the_limit_is_refused_with_the_tiers_that_would_fit(assets: Path, storage: Directory) -> None:
    """int8: a byte a value, and in the one shard a scale and an offset, four bytes each, for each dimension."""
    small = 81 * (16 + 2 * 4 + 5 * 32) + 5 * 32 * 8
    assert refusal(planned(assets, storage), 81 * ROW - 1) == (
        "limits.store_bytes: 27,863, but the teacher outputs come to 27,864 bytes (teach@tiny: 27,864); use "
        f"store.precision: int8 (would come to {small:,} bytes) or store.layers: [] (would come to 1,944 bytes), keep "
        "fewer rows (data.train_rows), or raise the limit"
    )


def test_a_tier_that_would_not_fit_is_not_offered(assets: Path, storage: Directory) -> None:
    result = refusal(planned(assets, storage, store={"precision": "float32"}), 20_000)
    assert "int8 (would come to 16,184 bytes)" in result
    assert "float16" not in result


def test_the_suggested_size_is_that_of_the_next_plan(assets: Path, storage: Directory) -> None:
    assert "store.precision: float16 (would come to 27,864 bytes)" in refusal(
        planned(assets, storage, store={"precision": "float32"}), 81 * ROW
    )
    check_store_limit(planned(assets, storage, store={"precision": "float16"}).steps, 81 * ROW)
    check_store_limit(planned(assets, storage, store={"layers": []}).steps, 1_944)


def test_if_nothing_fits_the_smallest_size_is_named(assets: Path, storage: Directory) -> None:
    assert "; the smallest that they can be is 1,944 bytes, with store.layers: [], keep fewer rows" in refusal(
        planned(assets, storage), 1_943
    )


def test_the_stores_of_a_recipe_count_together(tmp_path: Path, storage: Directory) -> None:
    assets = write_plannable_assets(tmp_path / "two", ("tiny", "other"))
    tasks = [{"name": name, "text": "sentence", "labels": ["bad", "good"]} for name in ("tiny", "other")]
    result = refusal(planned(assets, storage, task=tasks), 40_000)
    assert "come to 55,728 bytes" in result
    assert "int8 (would come to 32,368 bytes)" in result


def test_a_store_of_both_poolings_fits_with_one_of_them(assets: Path, storage: Directory) -> None:
    found = planned(assets, storage)
    both = 81 * (16 + 2 * 4 + 2 * 5 * 32 * 2)
    steps = tuple(with_pooling(step, "both", both) for step in found.steps)
    result = refusal(Plan(steps, frozenset()), both - 1)
    assert (
        "store.pooling: mean (would come to 27,864 bytes) or store.pooling: cls (would come to 27,864 bytes)" in result
    )


def with_pooling(step: Step, pooling: str, size: int) -> Step:
    if step.node.spec.stage != "teach":
        return step
    spec = step.node.spec.model_copy(update={"pooling": pooling})
    return replace(step, node=replace(step.node, spec=spec), bytes=Quantity.at_most(size))


def test_the_size_of_a_store_becomes_known_with_its_corpus_and_with_itself(assets: Path, storage: Directory) -> None:
    steps = planned(assets, storage).steps
    nodes = {step.node.name: step.node for step in steps}
    teach, corpus = nodes["teach@tiny"], nodes["corpus@tiny"]
    out = storage.local / "attempt"
    out.mkdir(parents=True)
    rows = {"train": 70, "holdout": 20, "validation": 30}

    def size(record: Record) -> Quantity:
        sized = with_quantities(steps, {record.key: record})
        return next(step.bytes for step in sized if step.node == teach)

    assert with_quantities(steps, {}) == steps
    assert size(record_for(corpus, out, rows=rows)) == Quantity.at_most(70 * ROW)
    assert size(record_for(corpus, out, rows=rows, duplicates={"train": 4})) == Quantity.at_most(66 * ROW)
    assert size(write_artifact(storage, teach)) == Quantity.exact(len("content"))


def test_the_size_that_the_corpus_makes_known_counts_against_the_limit_in_every_tier(
    assets: Path, storage: Directory
) -> None:
    found = planned(assets, storage)
    corpus = next(step.node for step in found.steps if step.node.role == "corpus")
    out = storage.local / "attempt"
    out.mkdir(parents=True)
    records = {corpus.key: record_for(corpus, out, rows={"train": 70, "holdout": 20, "validation": 30})}
    steps = with_quantities(found.steps, records)
    assert "store.layers: [] (would come to 1,680 bytes)" in refusal(Plan(steps, frozenset()), 70 * ROW - 1)


def test_models_and_optimizers_of_a_worker_are_limited_and_the_message_lists_them(
    assets: Path, storage: Directory
) -> None:
    found = planned(assets, storage)
    held = max(step.node.held.bytes for step in found.steps if step.node.held is not None)
    check_memory_limit(found.steps, None)
    check_memory_limit(found.steps, held)
    with pytest.raises(RequestError) as caught:
        check_memory_limit(found.steps, held - 1)
    assert str(caught.value).startswith(f"limits.memory: {held - 1:,}, but a worker of ")
    assert f"holds {held:,} bytes of models and optimizers (student 4 x {held // 4:,}); choose" in str(caught.value)


def test_trainings_that_share_a_worker_are_limited_together(assets: Path, storage: Directory) -> None:
    students = [step for step in planned(assets, storage).steps if step.node.role == "distil"]
    weights = (1_000, 3_000, 2_000)
    steps = [replace(students[0], node=replace(students[0].node, held=HeldModels(student))) for student in weights]
    shared = {"distil": ResourceBlock(trainings_per_worker=2)}
    check_memory_limit(steps, 4 * 3_000)
    check_memory_limit(steps, 4 * 5_000, shared)
    with pytest.raises(RequestError) as caught:
        check_memory_limit(steps, 4 * 5_000 - 1, shared)
    assert str(caught.value) == (
        f"limits.memory: 19,999, but a worker of 2 trainings, the largest of which is {students[0].node.name}, holds "
        "20,000 bytes of models and optimizers (student 4 x 3,000); set a smaller "
        "resources.distil.trainings_per_worker, choose smaller models, or raise the limit"
    )

"""A sweep over learning rates, as nodes of the graph."""

from pathlib import Path

import pytest
from project import graph_of, nodes_by_name, write_plannable_assets

from pipeline.graph.nodes import Edge, Graph, Node
from pipeline.recipe.schema.file import SWEEP_SEED
from stages.specs.student import DistilSpec, Train

RATES = [1.0e-4, 2.0e-4]
TWO = {"epochs": 2, "max_length": 16}


@pytest.fixture
def assets(tmp_path: Path) -> Path:
    return write_plannable_assets(tmp_path / "assets")


def graph_with(assets: Path, **changes: object) -> Graph:
    """The tiny recipe's graph, whose ``train`` gives no learning rate, with changes."""
    return graph_of(assets, assets.parent / "runs", **{"train": TWO, **changes})[1]


def spec_of(node: Node) -> DistilSpec:
    assert isinstance(node.spec, DistilSpec)
    return node.spec


def sources(node: Node) -> dict[str, str]:
    return {name: given.source.name for name, given in node.inputs.items() if isinstance(given, Edge)}


def test_a_student_with_rates_reads_a_training_at_each_on_a_seed_that_is_not_reported(assets: Path) -> None:
    graph = graph_with(assets, method={"use": "vanilla-kd", "rates": RATES}, seeds=[0, 1])
    found = nodes_by_name(graph)
    sweep = ["distil/vanilla-kd/two/sweep-1e-4@tiny", "distil/vanilla-kd/two/sweep-2e-4@tiny"]
    for seed in (0, 1):
        student = found[f"distil/vanilla-kd/two/{seed}@tiny"]
        assert [sources(student)[f"rate/{place}"] for place in (0, 1)] == sweep
        assert (spec_of(student).rates, spec_of(student).train) == (tuple(RATES), Train(epochs=2, seed=seed))
    for name, rate in zip(sweep, RATES, strict=True):
        assert spec_of(found[name]).train == Train(epochs=2, learning_rate=rate, seed=SWEEP_SEED)
        assert not spec_of(found[name]).rates
        assert sources(found[name])["outputs"] == sources(student)["outputs"]
        assert found[name].subject is None and found[name] not in graph.wanted, "it is in no report"
    assert sum(node.spec.stage == "distil" and node.role == "distil" for node in graph.nodes) == 4


def test_the_key_of_a_student_depends_on_the_rates_and_on_no_order_or_default(assets: Path) -> None:
    def key(**method: object) -> str:
        found = nodes_by_name(graph_with(assets, method={"use": "no-kd", **method}))
        return found["distil/no-kd/two/0@tiny"].key

    plain = nodes_by_name(graph_with(assets, method="no-kd"))["distil/no-kd/two/0@tiny"].key
    assert len({plain, key(rates=RATES), key(rates=[1e-4, 3e-4])}) == 3
    assert key(rates=RATES) == key(rates=RATES[::-1])
    assert key(train={"learning_rate": 5e-5}) == plain


def test_a_training_of_a_sweep_is_that_of_a_recipe_with_its_rate_and_seed(assets: Path) -> None:
    swept = nodes_by_name(graph_with(assets, method={"use": "no-kd", "rates": RATES}, sweep_seed=1))
    single = graph_with(assets, method={"use": "no-kd", "train": {"learning_rate": 2e-4}}, seeds=1)
    assert swept["distil/no-kd/two/sweep-2e-4@tiny"].key == nodes_by_name(single)["distil/no-kd/two/1@tiny"].key


def test_a_seed_more_moves_no_key_of_a_sweep_or_of_a_student(assets: Path) -> None:
    def keys(*seeds: int) -> dict[str, str]:
        found = nodes_by_name(graph_with(assets, method={"use": "no-kd", "rates": RATES}, seeds=list(seeds)))
        return {name: node.key for name, node in found.items()}

    assert keys(0).items() < keys(0, 1, 2).items()
    assert keys(0, 1).items() < keys(0, 1, 2).items()


def test_a_method_that_teaches_itself_sweeps_both_generations_and_a_sweep_has_no_stores_of_its_own(
    assets: Path,
) -> None:
    born_again = {"use": "vanilla-kd", "label": "again", "taught_by": "itself", "rates": RATES}
    found = nodes_by_name(graph_with(assets, method=born_again, seeds=[3, 4]))
    first = found["distil/again:itself/two/3@tiny"]
    assert spec_of(first).rates == tuple(RATES)
    assert sources(first)["rate/0"] == "distil/again:itself/two/sweep-1e-4@tiny"
    store = "teach/again:itself/two/3@tiny"
    assert sources(found["distil/again/two/sweep-1e-4@tiny"])["outputs"] == store
    assert sources(found["distil/again/two/3@tiny"])["outputs"] == store
    assert sum(node.spec.stage == "teach" for node in found.values()) == 2, "one for each reported seed"
    beside = nodes_by_name(graph_with(assets, method=[{"use": "no-kd", "rates": RATES}, born_again], seeds=[3, 4]))
    assert sources(beside["distil/again/two/3@tiny"])["outputs"] == "teach/no-kd/two/3@tiny"
    assert beside["distil/again/two/3@tiny"].key == found["distil/again/two/3@tiny"].key


def test_a_sweep_starts_from_another_tasks_student_of_the_first_seed(assets: Path) -> None:
    block = {"name": "tiny", "text": "sentence", "labels": ["bad", "good"]}
    files = {split: str(assets / "data" / "tiny" / f"{split}.parquet") for split in ("train", "validation")}
    found = nodes_by_name(
        graph_with(
            assets,
            task=[block, {**block, "name": "more", "files": files}],
            method={"use": "no-kd", "rates": RATES},
            seeds=[5, 6],
            overrides={"more": {"student": {"start": "tiny"}}},
        )
    )
    assert sources(found["distil/no-kd/two/sweep-1e-4@more"])["start"] == "distil/no-kd/two/5@tiny"
    assert sources(found["distil/no-kd/two/6@more"])["start"] == "distil/no-kd/two/6@tiny"

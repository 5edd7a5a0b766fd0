import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from project import graph_of, nodes_by_name, write_artifact, write_plannable_assets

from pipeline.artifacts.attempts import STALE, Attempt, claim, release
from pipeline.artifacts.failure import note_failure
from pipeline.artifacts.ownership import note_use
from pipeline.artifacts.record import Record, find, record_name, withdraw
from pipeline.artifacts.retention import UnusedArtifact, find_unused, survey
from pipeline.cli.gc import free, seconds_of
from pipeline.errors import RequestError
from pipeline.execution.build_node import write_lineage
from pipeline.execution.runner import Outcome, record_names
from pipeline.graph.nodes import Graph, Node
from pipeline.storage.directory import Directory

COMMITTED = 1_767_225_600.0
"""2026-01-01T00:00:00+00:00, when artifacts that are pretended were committed."""
NOW = COMMITTED + 86_400 * 10
SIZE = len("content")


@pytest.fixture
def paper(tmp_path: Path) -> Path:
    return write_plannable_assets(tmp_path / "assets")


@pytest.fixture
def storage(tmp_path: Path) -> Directory:
    return Directory(tmp_path / "runs")


@pytest.fixture
def one(paper: Path, storage: Directory) -> Graph:
    """A recipe with seed 0, built."""
    return built(paper, storage, "one", [0])


@pytest.fixture
def two(paper: Path, storage: Directory) -> Graph:
    """A recipe with seed 1 and the same teacher, built."""
    return built(paper, storage, "two", [1])


def built(paper: Path, storage: Directory, name: str, seeds: list[int]) -> Graph:
    _, graph = graph_of(paper, storage, name=name, seeds=seeds)
    records = {
        node.key: find(storage, node.spec.stage, node.key) or write_artifact(storage, node) for node in graph.nodes
    }
    record_names(graph, Outcome(records), storage, name)
    return graph


def unused(storage: Directory, *graphs: Graph, now: float = NOW, older_than: float = 0.0) -> dict[str, UnusedArtifact]:
    """Node -> what gc finds of it."""
    return {one.name: one for one in find_unused(storage, graphs, now, older_than)}


def students(seed: int) -> set[str]:
    return {f"{role}/{method}/two/{seed}@tiny" for role in ("distil", "evaluate") for method in ("no-kd", "vanilla-kd")}


def at_work(storage: Directory, node: Node) -> Attempt:
    """An attempt of this process, with a lineage, as at the start of a stage."""
    attempt = claim(storage, node.spec.stage, node.key, {}, lambda: NOW)
    assert isinstance(attempt, Attempt)
    write_lineage(node, "elsewhere", attempt.out)
    return attempt


def free_all(found: dict[str, UnusedArtifact], storage: Directory) -> dict[str, str]:
    """Node -> why it was kept."""
    result = {name: free(one, storage, lambda: NOW) for name, one in found.items()}
    return {name: why for name, why in result.items() if why}


# --- what goes ------------------------------------------------------------------------------------


def test_nothing_is_found_that_one_of_the_recipes_needs(storage: Directory, one: Graph, two: Graph) -> None:
    assert unused(storage, one, two) == {}


def test_artifacts_of_a_dropped_recipe_are_found_and_shared_ones_are_not(
    storage: Directory, one: Graph, two: Graph
) -> None:
    found = unused(storage, one)
    assert set(found) == students(1)
    assert free_all(found, storage) == {}
    assert unused(storage, one) == {}
    assert all(find(storage, node.spec.stage, node.key) for node in one.nodes)
    gone = [node for node in two.nodes if node.name in students(1)]
    assert not [node for node in gone if (storage.local / node.spec.stage / node.key).exists()]
    assert {path.stem for path in (storage.local / ".named" / "two").rglob("*.key")} == {
        "corpus@tiny",
        "finetune@tiny",
    } | {
        "teach@tiny",
        "teacher@tiny",
    }


def test_finding_changes_nothing(storage: Directory, one: Graph, two: Graph) -> None:
    before = {path: path.stat().st_mtime_ns for path in storage.local.rglob("*")}
    assert unused(storage, one)
    assert {path: path.stat().st_mtime_ns for path in storage.local.rglob("*")} == before


def test_younger_artifacts_are_not_found(storage: Directory, one: Graph, two: Graph) -> None:
    found = unused(storage, one, older_than=seconds_of("10d"))
    assert set(found) == students(1)
    assert {round(one.age) for one in found.values()} == {864_000}
    assert unused(storage, one, older_than=seconds_of("10d") + 1) == {}


@pytest.mark.parametrize(("text", "seconds"), [("14d", 1_209_600), ("36h", 129_600), ("30m", 1_800), ("0m", 0)])
def test_an_age_is_a_number_of_days_hours_or_minutes(text: str, seconds: int) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["14", "d", "1.5d", "2w", "-1d", "14 d"])
def test_any_other_age_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match=r"^--older-than: .*; give a whole number .* such as 14d, 36h, 30m$"):
        seconds_of(text)


def test_bytes_are_those_of_the_record_its_files_and_its_name(storage: Directory, one: Graph, two: Graph) -> None:
    node = nodes_by_name(two)["distil/no-kd/two/1@tiny"]
    record = (storage.local / record_name("distil", node.key)).stat().st_size
    assert unused(storage, one)[node.name].bytes == record + SIZE + 64


def test_a_file_with_a_remaining_link_frees_no_bytes(
    tmp_path: Path, storage: Directory, one: Graph, two: Graph
) -> None:
    node = nodes_by_name(two)["distil/no-kd/two/1@tiny"]
    before = unused(storage, one)[node.name].bytes
    os.link(storage.local / "distil" / node.key / "0001" / "result.txt", tmp_path / "held")
    assert unused(storage, one)[node.name].bytes == before - SIZE


def test_a_file_that_an_unfinished_attempt_shares_counts_once(storage: Directory, one: Graph, two: Graph) -> None:
    node = nodes_by_name(two)["distil/no-kd/two/1@tiny"]
    before = unused(storage, one)[node.name].bytes
    left = storage.local / ".work" / node.key / "0001"
    left.mkdir(parents=True)
    os.link(storage.local / "distil" / node.key / "0001" / "result.txt", left / "result.txt")
    later = left.stat().st_mtime + STALE + 1
    found = unused(storage, one, now=later)[node.name]
    assert found.bytes == before
    assert free(found, storage, lambda: later) == ""
    assert not left.parent.exists()


# --- what is unfinished, withdrawn, left ----------------------------------------------------------


def test_an_unfinished_attempt_is_found_if_no_run_works_on_it_and_no_recipe_needs_it(
    paper: Path, storage: Directory, one: Graph
) -> None:
    node = nodes_by_name(graph_of(paper, storage, seeds=[7])[1])["distil/no-kd/two/7@tiny"]
    attempt = at_work(storage, node)
    (attempt.out / "shard").write_text("finished")
    assert unused(storage, one) == {}
    release(attempt)
    found = unused(storage, one, now=NOW + 1e9)
    assert {name: one.kind for name, one in found.items()} == {node.name: "attempt"}
    assert free_all(found, storage) == {}
    assert list((storage.local / ".work").iterdir()) == []


def test_an_unfinished_attempt_that_a_recipe_needs_is_not_found(paper: Path, storage: Directory, one: Graph) -> None:
    graph = graph_of(paper, storage, seeds=[7])[1]
    attempt = at_work(storage, nodes_by_name(graph)["distil/no-kd/two/7@tiny"])
    (attempt.out / "shard").write_text("finished")
    release(attempt)
    assert unused(storage, one, graph) == {}


def test_leftovers_beside_an_artifact_are_found_without_the_artifact(storage: Directory, one: Graph) -> None:
    node = nodes_by_name(one)["teach@tiny"]
    beside = storage.local / "teach" / node.key / "0000"
    beside.mkdir()
    (beside / "shard").write_text("of an earlier attempt")
    note_failure(storage, node.key, "failed before it was built")
    found = unused(storage, one)
    assert {name: one.kind for name, one in found.items()} == {node.name: "left over"}
    assert free_all(found, storage) == {}
    assert find(storage, "teach", node.key)
    assert not beside.exists()
    assert unused(storage, one) == {}


@pytest.mark.parametrize("name", ["teach@tiny", "distil/no-kd/two/1@tiny"])
def test_the_files_of_a_withdrawn_artifact_are_found_whether_it_is_needed_or_not(
    storage: Directory, one: Graph, two: Graph, name: str
) -> None:
    node = nodes_by_name(two)[name]
    withdraw(storage, node.spec.stage, node.key)
    found = {n.key: n for n in find_unused(storage, [one], NOW)}[node.key]
    assert found.kind == "withdrawn"
    assert free(found, storage, lambda: NOW) == ""
    assert not (storage.local / node.spec.stage / node.key).exists()


def test_the_next_attempt_at_a_withdrawn_artifact_is_not_found(storage: Directory, one: Graph) -> None:
    node = nodes_by_name(one)["teach@tiny"]
    withdraw(storage, "teach", node.key)
    attempt = at_work(storage, node)
    (attempt.out / "shard").write_text("finished")
    release(attempt)
    (found,) = find_unused(storage, [one], NOW)
    assert free(found, storage, lambda: NOW) == ""
    again = at_work(storage, node)
    assert (again.out / "shard").read_text() == "finished"


def test_the_note_of_a_failure_is_found_with_its_node(storage: Directory, one: Graph) -> None:
    note_failure(storage, "f" * 64, "it failed")
    (found,) = find_unused(storage, [one], NOW)
    assert found.kind == "note"
    assert free(found, storage, lambda: NOW) == ""
    assert list((storage.local / ".failed").iterdir()) == []


def test_the_note_of_a_needed_node_is_not_found(paper: Path, storage: Directory, one: Graph) -> None:
    graph = graph_of(paper, storage, seeds=[7])[1]
    note_failure(storage, nodes_by_name(graph)["distil/no-kd/two/7@tiny"].key, "it failed")
    assert find_unused(storage, [one, graph], NOW) == []


def test_an_artifact_whose_record_has_a_newer_format_is_listed_and_never_freed(
    storage: Directory, one: Graph, two: Graph
) -> None:
    node = nodes_by_name(two)["distil/no-kd/two/1@tiny"]
    path = storage.local / record_name("distil", node.key)
    document = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({**document, "format": 9}), "utf-8")
    found = unused(storage, one)[node.name]
    assert (found.kind, found.bytes) == ("unreadable", 0)
    assert "format 9 is newer" in found.why
    assert free(found, storage, lambda: NOW) == found.why
    assert path.exists()
    assert (path.parent / "0001" / "result.txt").exists()


@pytest.mark.parametrize("harm", ["cut", "copied", "a folder", "a full folder"])
def test_an_artifact_whose_record_is_damaged_is_found_with_its_recipe_and_freed(
    storage: Directory, one: Graph, two: Graph, harm: str
) -> None:
    """No version can read it, so no recipe can use it: it would be built again."""
    node = nodes_by_name(two)["distil/no-kd/two/1@tiny"]
    path = storage.local / record_name("distil", node.key)
    damage(path, harm)
    write_lineage(node, "three", path.parent / "0001")
    found = unused(storage, one)[node.name]
    assert (found.kind, found.recipes) == ("damaged", ("three", "two"))
    assert found.bytes > SIZE
    assert free(found, storage, lambda: NOW) == ""
    assert not path.parent.exists()


@pytest.mark.parametrize("harm", ["cut", "copied", "a folder", "a full folder"])
def test_the_files_of_a_needed_artifact_whose_record_is_damaged_are_found(
    storage: Directory, one: Graph, harm: str
) -> None:
    """They are built again in any case."""
    path = storage.local / record_name("teach", nodes_by_name(one)["teach@tiny"].key)
    damage(path, harm)
    (found,) = find_unused(storage, [one], NOW)
    assert found.why == "its record is damaged, so it would be built again"
    assert free(found, storage, lambda: NOW) == ""
    assert not path.parent.exists()


def damage(record: Path, harm: str) -> None:
    if harm == "cut":
        record.write_text(record.read_text("utf-8")[:100], "utf-8")
        return
    if harm == "copied":  # a whole record, of another artifact
        document = json.loads(record.read_text("utf-8"))
        record.write_text(json.dumps({**document, "key": "0" * 64}), "utf-8")
        return
    record.unlink()
    (record / "inside" if harm == "a full folder" else record).mkdir(parents=True)
    if harm == "a full folder":
        (record / "inside" / "file").write_text("x", "utf-8")


# --- whose it is ----------------------------------------------------------------------------------


def test_an_artifact_belongs_to_the_recipe_that_built_it_and_to_each_that_used_it(
    paper: Path, storage: Directory
) -> None:
    one, two = graph_of(paper, storage, seeds=[0])[1], graph_of(paper, storage, seeds=[1])[1]
    for graph, recipe in ((one, "first"), (two, "second")):
        for node in graph.nodes:
            if find(storage, node.spec.stage, node.key) is None:
                rewrite(storage, write_artifact(storage, node), recipe=recipe)
        note_use(storage, recipe, graph)
    found = unused(storage, Graph(()))
    shared = {node.name for node in one.nodes} & {node.name for node in two.nodes}
    assert "finetune@tiny" in shared
    assert {name: one.recipes for name, one in found.items()} == {
        **dict.fromkeys(students(0), ("first",)),
        **dict.fromkeys(students(1), ("second",)),
        **dict.fromkeys(shared, ("first", "second")),
    }
    assert {name for name, one in found.items() if one.belongs_to({"first"})} == students(0)
    assert {name for name, one in found.items() if one.belongs_to({"first", "second"})} == set(found)


def test_what_a_recipe_used_stays_its_own_after_its_graph_has_changed(paper: Path, storage: Directory) -> None:
    for seed in (0, 1):
        graph = graph_of(paper, storage, seeds=[seed])[1]
        for node in graph.nodes:
            if find(storage, node.spec.stage, node.key) is None:
                rewrite(storage, write_artifact(storage, node), recipe="builder")
        note_use(storage, "user", graph)
        note_use(storage, "user", graph)
    assert len(list((storage.local / ".named" / "user").iterdir())) == 2, "a list for each graph"
    assert {one.recipes for one in unused(storage, Graph(())).values()} == {("builder", "user")}


def test_an_artifact_of_which_no_recipe_is_recorded_belongs_to_none_of_those_given(
    paper: Path, storage: Directory
) -> None:
    for node in graph_of(paper, storage)[1].nodes:
        rewrite(storage, write_artifact(storage, node), recipe="")
    found = unused(storage, Graph(()))
    assert {one.recipes for one in found.values()} == {()}
    assert not [one for one in found.values() if one.belongs_to({"tiny"})]


@pytest.mark.parametrize("text", ["", "0" * 64, "a folder"])
def test_while_a_list_of_uses_is_damaged_everything_counts_as_that_recipes(
    paper: Path, storage: Directory, text: str
) -> None:
    graph = graph_of(paper, storage)[1]
    for node in graph.nodes:
        write_artifact(storage, node)
    note_use(storage, "other", graph)
    (path,) = (storage.local / ".named" / "other").iterdir()
    path.unlink()
    if text == "a folder":
        path.mkdir()
        (path / "file").touch()
    else:
        path.write_text(text, "utf-8")
    found = unused(storage, Graph(()))
    assert {one.recipes for one in found.values()} == {("other", "tiny")}
    note_use(storage, "other", Graph((graph.nodes[0],)))
    note_use(storage, "other", graph)
    assert survey(storage, [], NOW).uncertain == frozenset()


def rewrite(storage: Directory, record: Record, **changes: str) -> None:
    path = storage.local / record_name(record.stage, record.key)
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **changes}), "utf-8")


def test_foreign_files_in_a_storage_are_not_found(storage: Directory, one: Graph) -> None:
    (storage.local / "mine" / "notes").mkdir(parents=True)
    (storage.local / "mine" / "notes" / "letter.txt").write_text("mine")
    for kept in (".logs", ".runs"):
        (storage.local / kept / "run").mkdir(parents=True)
    assert unused(storage, one) == {}


# --- what runs are using --------------------------------------------------------------------------


def test_the_inputs_of_a_leased_attempt_and_their_inputs_are_not_found(
    paper: Path, storage: Directory, one: Graph, two: Graph
) -> None:
    """A run of a recipe that is not given to gc evaluates a student of the second recipe."""
    attempt = at_work(storage, nodes_by_name(two)["evaluate/no-kd/two/1@tiny"])
    assert set(unused(storage, one)) == students(1) - {"evaluate/no-kd/two/1@tiny", "distil/no-kd/two/1@tiny"}
    release(attempt)
    assert set(unused(storage, one)) == students(1)


def test_a_training_is_not_found_while_a_run_uses_one_of_its_epochs(
    paper: Path, storage: Directory, one: Graph
) -> None:
    teacher = {"model": str(paper / "model"), "finetune": {"epochs": 2, "keep": "epochs"}}
    method = {"use": "vanilla-kd", "taught_by": "teacher:1"}
    _, graph = graph_of(paper, storage, name="epochs", teacher=teacher, method=method)
    nodes = nodes_by_name(graph)
    for name in ("finetune@tiny", "teach/teacher:1@tiny"):
        write_artifact(storage, nodes[name])
    attempt = at_work(storage, nodes["distil/vanilla-kd/two/0@tiny"])
    assert set(unused(storage, one)) == set()
    release(attempt)
    assert {"finetune@tiny", "teach/teacher:1@tiny"} <= set(unused(storage, one))


def test_an_artifact_that_was_claimed_after_the_search_is_kept(storage: Directory, one: Graph, two: Graph) -> None:
    found = unused(storage, one)
    at_work(storage, nodes_by_name(two)["evaluate/no-kd/two/1@tiny"])
    assert free_all(found, storage) == {
        "evaluate/no-kd/two/1@tiny": "another run is working on it",
        "distil/no-kd/two/1@tiny": "a run that is in progress needs it",
    }
    assert find(storage, "distil", nodes_by_name(two)["distil/no-kd/two/1@tiny"].key)
    assert os.listdir(storage.local / ".work") == [nodes_by_name(two)["evaluate/no-kd/two/1@tiny"].key]


def test_an_artifact_that_was_rebuilt_after_the_search_is_kept(storage: Directory, one: Graph, two: Graph) -> None:
    node = nodes_by_name(two)["distil/no-kd/two/1@tiny"]
    found = unused(storage, one)[node.name]
    path = storage.local / record_name("distil", node.key)
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), "attempt": "0002"}), "utf-8")
    assert free(found, storage, lambda: NOW) == "another run has built it meanwhile"
    assert path.exists()


def test_while_an_attempt_has_no_lineage_the_search_is_refused(storage: Directory, one: Graph, two: Graph) -> None:
    node = nodes_by_name(two)["evaluate/no-kd/two/1@tiny"]
    claim(storage, "evaluate", node.key, {}, lambda: NOW)
    with pytest.raises(
        RequestError, match=r"0002: a run has just begun there, and it is not known yet what it needs; try"
    ):
        unused(storage, one)


def test_a_partly_removed_artifact_is_withdrawn_and_removed_the_next_time(
    storage: Directory, one: Graph, two: Graph
) -> None:
    """The record is removed first, so that no plan reuses the files that are left."""
    node = nodes_by_name(two)["distil/no-kd/two/1@tiny"]
    found = unused(storage, one)[node.name]
    kernels = Path("/proc/version")
    result = free(replace(found, paths=(str(kernels), *found.paths)), storage, lambda: NOW)
    assert result.startswith("/proc/version cannot be removed (")
    assert find(storage, "distil", node.key) is None
    assert (storage.local / "distil" / node.key / "0001" / "result.txt").exists()
    assert unused(storage, one)[node.name].kind == "withdrawn"


def test_what_serves_no_recipe_needs_no_further_word(storage: Directory, one: Graph, two: Graph) -> None:
    """Files without a record, an unfinished attempt, a note: whichever recipe left them."""
    node = nodes_by_name(two)["distil/no-kd/two/1@tiny"]
    withdraw(storage, "distil", node.key)
    other = nodes_by_name(two)["evaluate/no-kd/two/1@tiny"]
    withdraw(storage, "evaluate", other.key)
    storage.drop(f"evaluate/{other.key}")
    attempt = at_work(storage, other)
    (attempt.out / "shard").write_text("finished")
    release(attempt)
    note_failure(storage, "f" * 64, "it failed")
    found = {each.key: each for each in find_unused(storage, [one], NOW + 1e9)}
    kinds = {found[key].kind for key in (node.key, other.key, "f" * 64)}
    assert kinds == {"withdrawn", "attempt", "note"}
    assert all(found[key].belongs_to({"one"}) for key in (node.key, other.key, "f" * 64))
    assert not found[nodes_by_name(two)["distil/vanilla-kd/two/1@tiny"].key].belongs_to({"one"})

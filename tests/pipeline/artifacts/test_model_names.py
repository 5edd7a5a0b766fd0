"""Names of models that stay, in a directory and in a bucket."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from buckets import at, make_bucket, s3_server
from project import CommandResult, Project, graph_of, nodes_by_name, stillhouse, write_artifact, write_plannable_assets

from pipeline.artifacts.model_names import (
    dangling_names,
    names_of_models,
    pointer_of,
    read_names,
    remove_names,
    write_names,
)
from pipeline.artifacts.record import withdraw
from pipeline.artifacts.search import locate
from pipeline.errors import RequestError
from pipeline.graph.nodes import Graph
from pipeline.storage import Storage
from pipeline.storage.bucket import Bucket
from pipeline.storage.directory import Directory
from stages.cache_folder import CacheFolder

NAME = "models/tiny/tiny/vanilla-kd-two-0"
STUDENT = "distil/vanilla-kd/two/0@tiny"


@pytest.fixture(scope="module")
def plannable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_plannable_assets(tmp_path_factory.mktemp("plannable"))


@pytest.fixture(scope="module")
def graph(plannable: Path, tmp_path_factory: pytest.TempPathFactory) -> Graph:
    return graph_of(plannable, tmp_path_factory.mktemp("graph"))[1]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_server() as url, at(url):
        yield make_bucket("names")


@pytest.fixture(params=["directory", "bucket"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "directory":
        return Directory(tmp_path / "runs")
    return Bucket(f"{request.getfixturevalue('server')}/{tmp_path.name}", CacheFolder(tmp_path / "cache"))


def test_each_model_of_a_report_has_a_name_of_recipe_task_method_student_and_seed(graph: Graph) -> None:
    names = names_of_models(graph, "tiny")
    assert NAME in names and names[NAME].source.name == STUDENT
    assert {name.split("/")[-1].split("-two-")[0] for name in names if "-two-" in name} == {"no-kd", "vanilla-kd"}
    assert len([name for name in names if "/teacher-" in name]) == 1


def test_two_models_of_one_name_have_digits_of_their_keys_behind_it(plannable: Path, tmp_path: Path) -> None:
    cut = {"cut": {"of": "teacher", "layers": [1, 3]}}
    other = {"cut": {"of": "teacher", "layers": [2, 4]}}
    students = [{"label": "b-c", **cut}, {"label": "c", **other}]
    methods = [{"use": "vanilla-kd", "label": "a"}, {"use": "vanilla-kd", "label": "a-b"}]
    _, graph = graph_of(plannable, tmp_path, method=methods, student=students)
    names = names_of_models(graph, "tiny")
    clashing = {name: edge for name, edge in names.items() if "/a-b-c-0" in name}
    assert len(clashing) == 2 and "models/tiny/tiny/a-c-0" in names
    assert all(name == f"models/tiny/tiny/a-b-c-0-{edge.source.key[:8]}" for name, edge in clashing.items())


def test_upper_case_alone_tells_no_two_models_apart(plannable: Path, tmp_path: Path) -> None:
    students = [
        {"label": "Two", "cut": {"of": "teacher", "layers": [1, 3]}},
        {"label": "two", "cut": {"of": "teacher", "layers": [2, 4]}},
    ]
    names = names_of_models(graph_of(plannable, tmp_path, student=students)[1], "tiny")
    folded = [name.casefold() for name in names]
    assert len(set(folded)) == len(folded) and NAME not in names


def test_a_name_stands_for_the_model_and_for_a_later_attempt_at_it(storage: Storage, graph: Graph) -> None:
    node, names = nodes_by_name(graph)[STUDENT], names_of_models(graph, "tiny")
    local = Directory(storage.local)  # documents of a bucket are written below; its artifacts are not needed
    record = write_artifact(local, node)
    write_names(names, {node.key: record}, storage)
    pointer = pointer_of(NAME, storage)
    assert pointer is not None and (pointer.key, pointer.path) == (node.key, f"{record.folder}/model")
    assert set(read_names(storage)) == {NAME}
    later = {node.key: type(record)(**{**record_fields(record), "attempt": "0002"})}
    write_names(names, later, storage)
    assert pointer_of(NAME, storage) != pointer and set(read_names(storage)) == {NAME}


def record_fields(record: object) -> dict[str, object]:
    return {name: getattr(record, name) for name in type(record).__dataclass_fields__}  # type: ignore[attr-defined]


def test_a_name_whose_model_is_gone_dangles_and_is_removed_with_its_empty_folders(
    storage: Storage, graph: Graph
) -> None:
    node, names = nodes_by_name(graph)[STUDENT], names_of_models(graph, "tiny")
    record = write_artifact(Directory(storage.local), node)
    text = (storage.local / record.stage / record.key / "record.json").read_text("utf-8")
    storage.write(f"{record.stage}/{record.key}/record.json", text)
    write_names(names, {node.key: record}, storage)
    assert dangling_names(storage) == []
    withdraw(storage, record.stage, record.key)
    assert dangling_names(storage) == [NAME]
    remove_names([NAME], storage)
    assert read_names(storage) == {} and pointer_of(NAME, storage) is None
    assert not storage.walk("models") and not (storage.local / "models").exists()


def test_a_storage_without_links_gets_documents(graph: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, target: object, target_is_directory: bool = False) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    storage, node = Directory(tmp_path / "runs"), nodes_by_name(graph)[STUDENT]
    record = write_artifact(storage, node)
    write_names(names_of_models(graph, "tiny"), {node.key: record}, storage)
    document = json.loads((tmp_path / "runs" / f"{NAME}.json").read_text("utf-8"))
    assert document == {"key": node.key, "path": f"{record.folder}/model"}
    assert [path.name for path in (tmp_path / "runs" / NAME).parent.iterdir()] == ["vanilla-kd-two-0.json"]
    assert locate(NAME, storage)[0] == record


def test_what_stands_in_the_place_of_a_name_is_left_alone(graph: Graph, tmp_path: Path) -> None:
    storage, node = Directory(tmp_path / "runs"), nodes_by_name(graph)[STUDENT]
    (tmp_path / "runs" / NAME).mkdir(parents=True)
    (tmp_path / "runs" / NAME / "mine.txt").write_text("mine", "utf-8")
    record = write_artifact(storage, node)
    write_names(names_of_models(graph, "tiny"), {node.key: record}, storage)
    assert (tmp_path / "runs" / NAME / "mine.txt").read_text("utf-8") == "mine"
    assert locate(NAME, storage)[0] == record


@pytest.mark.parametrize("target", ["/etc", "../../../../elsewhere", "../../../.work/k", "../../../distil/abc"])
def test_a_link_that_leads_to_no_artifact_of_the_storage_is_no_name(tmp_path: Path, target: str) -> None:
    storage, link = Directory(tmp_path / "runs"), tmp_path / "runs" / NAME
    link.parent.mkdir(parents=True)
    link.symlink_to(target)
    assert pointer_of(NAME, storage) is None and read_names(storage) == {} and dangling_names(storage) == []
    with pytest.raises(RequestError, match="neither a path, nor the name of a node"):
        locate(NAME, storage)


# --- the commands ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def project(first_run: tuple[Project, CommandResult]) -> Project:
    return first_run[0]


def test_a_run_leaves_a_relative_link_to_each_model(project: Project) -> None:
    link = project.storage / NAME
    assert not Path(os.readlink(link)).is_absolute() and link.resolve() == project.artifact(STUDENT) / "model"
    assert (link / "config.json").is_file()
    assert len(list(link.parent.iterdir())) == 5  # two methods, two seeds, and the teacher


def test_a_run_prints_the_names_of_the_students(project: Project, first_run: tuple[Project, CommandResult]) -> None:
    printed = dict(
        line.split(": ", 1) for line in first_run[1].out.splitlines() if f"{project.storage}/models/" in line
    )
    assert printed == {
        f"{method} two {seed} tiny": f"{project.storage}/models/tiny/tiny/{method}-two-{seed}"
        for method in ("no-kd", "vanilla-kd")
        for seed in (0, 1)
    }


def test_names_below_the_current_folder_are_printed_from_there(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.folder)
    assert f"\nvanilla-kd two 0 tiny: runs/{NAME}\n" in project("run").out


def test_names_that_are_documents_are_printed_as_commands_take_them(
    built: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, target: object, target_is_directory: bool = False) -> None:
        raise OSError("no links here")

    shutil.rmtree(built.storage / "models")
    monkeypatch.setattr(Path, "symlink_to", refuse)
    assert f"vanilla-kd two 0 tiny: {NAME}\n" in built("run").out


def test_the_commands_take_the_name_as_a_path_and_as_a_name(project: Project, tmp_path: Path) -> None:
    storage = ("--storage", str(project.storage))
    by_node = stillhouse("show", STUDENT, *storage)
    assert by_node.code == 0
    assert stillhouse("show", NAME, *storage) == by_node == stillhouse("show", str(project.storage / NAME))
    rows = tmp_path / "rows.txt"
    rows.write_text("the film was fine\n", "utf-8")
    first = stillhouse("predict", STUDENT, str(rows), *storage)
    assert first.code == 0, first.err
    assert stillhouse("predict", NAME, str(rows), *storage) == first
    assert stillhouse("predict", str(project.storage / NAME), str(rows)) == first
    out = tmp_path / "exported"
    result = stillhouse("export", str(project.storage / NAME), "--to", "safetensors", "--out", str(out))
    assert result.code == 0 and "rows of validation" in result.out, "its corpus was found"


def test_a_report_gives_a_name_to_a_model_that_has_none(built: Project) -> None:
    shutil.rmtree(built.storage / "models")
    assert built("report").code == 0
    assert (built.storage / NAME).resolve() == built.artifact(STUDENT) / "model"


def test_gc_removes_the_names_of_what_it_freed_and_no_other(built: Project, assets: Path) -> None:
    result = built("gc", "--set", "seeds=[0]")
    assert result.code == 0 and (built.storage / "models/tiny/tiny/vanilla-kd-two-1").is_symlink()
    result = built("gc", "--set", "seeds=[0]", "--yes")
    assert (result.code, result.out.splitlines()[-1]) == (0, "removed 2 names below models/ whose models are gone")
    left = {path.name for path in (built.storage / NAME).parent.iterdir()}
    assert left == {"vanilla-kd-two-0", "no-kd-two-0", *(name for name in left if name.startswith("teacher-"))}
    assert len(left) == 3 and all((built.storage / NAME).parent.joinpath(name).exists() for name in left)

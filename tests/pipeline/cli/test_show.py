import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from project import CommandResult, Project, stillhouse, write_artifact

from pipeline.cli.show import locate, show_rows
from pipeline.graph.nodes import ExternalInput, Node
from pipeline.storage.directory import Directory
from stages.specs.student import Cut, DistilSpec
from stages.specs.teacher import TeachSpec


def show(project: Project, target: str | Path) -> CommandResult:
    return stillhouse("show", str(target), "--storage", str(project.storage))


def test_an_artifact_is_found_by_its_directory_its_record_any_file_and_the_start_of_its_key(built: Project) -> None:
    record = built.records()["teach@tiny"]
    home = built.artifact("teach@tiny").parent
    result = show(built, home)
    assert result.code == 0, result.err
    for target in (home / "record.json", built.artifact("teach@tiny") / "store.json", str(record["key"])[:12]):
        assert show(built, target) == result


def test_the_layers_of_a_cut_student_are_shown_as_a_recipe_numbers_them(tmp_path: Path) -> None:
    inputs = {"start": ExternalInput("m", Path("m"), "a model")}
    node = Node("distil/a@tiny", "distil", "tiny", DistilSpec(start=Cut(layers=(2, 5))), inputs)
    write_artifact(tmp_path, node)
    result = stillhouse("show", node.key, "--storage", str(tmp_path))
    assert "first weights: layers 3, 6 of the model in the input start; layer 1 is the first" in result.out


def test_a_path_needs_no_storage(built: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(built.storage)
    target = built.artifact("corpus@tiny").relative_to(built.storage)
    assert stillhouse("show", str(target)).code == 0


def test_record_inputs_and_contents_are_printed(built: Project) -> None:
    record = built.records()["teach@tiny"]
    lines = show(built, str(record["key"])).out.splitlines()
    assert lines[0] == f"teach@tiny  teach version {record['version']}"
    printed = {line.split()[0]: line.split(maxsplit=1)[1] for line in lines[1:6]}
    assert printed["key"] == record["key"]
    assert printed["files"] == str(built.artifact("teach@tiny"))
    inputs = record["inputs"]
    assert isinstance(inputs, dict)
    for name, source in (("corpus", "corpus@tiny"), ("model", "finetune@tiny")):
        assert f"input      {name}: {source} {inputs[name][:12]}" in lines
    text = "\n".join(lines)
    assert '"pooling": "mean"' in text
    assert f'"rows": {record["facts"]["rows"]}' in text  # type: ignore[index]
    for column in ("row_key", "logits", "hidden_00", "hidden_04"):
        assert column in text


def test_output_to_a_pipe_is_plain_text(built: Project) -> None:
    out = show(built, built.artifact("teach@tiny")).out
    assert not any(ord(character) < 32 and character != "\n" for character in out)


@pytest.mark.parametrize("text", ["a [/b] closes what was never opened", "[red]not red[/red]", "[link=x]", ":smile:"])
def test_rows_that_look_like_markup_are_printed_unchanged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    from pipeline.cli.request import terminal

    pq.write_table(pa.table({"sentence[/x]": [text]}), tmp_path / "[b].parquet")
    show_rows(tmp_path / "[b].parquet", terminal())
    out = capsys.readouterr().out
    assert text in out
    assert "sentence[/x]" in out
    assert "[b].parquet  1 rows" in out


def test_a_storage_whose_name_looks_like_markup_is_printed_unchanged(built: Project, tmp_path: Path) -> None:
    moved = tmp_path / "a[/b]"
    moved.parent.mkdir()
    built.storage.rename(moved)
    result = stillhouse("show", str(moved / "corpus"), "--storage", str(moved))
    assert result.code == 2
    key = next((moved / "corpus").iterdir()).name
    assert f"files      {moved}/corpus/{key}/0001" in stillhouse("show", key, "--storage", str(moved)).out


NODES = [
    Node(f"teach@{name}", "teach", name, TeachSpec(), {"model": ExternalInput(name, Path("m"), "a model")})
    for name in "ab"
]


@pytest.mark.parametrize(
    ("target", "right"),
    [
        ("nowhere", "is neither a path nor the start of a key in"),
        ("0" * 65, "is neither a path nor the start of a key in"),
        ("runs", "no record.json here or in a folder above; give an artifact's directory or key"),
        ("", "give an artifact's directory or key"),
    ],
)
def test_a_target_that_is_not_an_artifact_is_refused_in_one_line(
    built: Project, monkeypatch: pytest.MonkeyPatch, target: str, right: str
) -> None:
    monkeypatch.chdir(built.folder)
    result = show(built, target)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(f"stillhouse: {target}")
    assert right in result.err
    assert result.err.count("\n") == 1


def test_an_ambiguous_start_of_a_key_is_refused(tmp_path: Path) -> None:
    keys = [write_artifact(tmp_path, node).key for node in NODES]
    if keys[0][0] != keys[1][0]:
        (tmp_path / "teach" / keys[1]).rename(tmp_path / "teach" / (keys[0][0] + keys[1][1:]))
    result = stillhouse("show", keys[0][0], "--storage", str(tmp_path))
    assert result.code == 2
    assert result.err == f"stillhouse: {keys[0][0]}: 2 keys in {tmp_path} start with it; give more digits\n"


def test_an_artifact_that_misses_a_file_is_refused_and_the_file_is_named(built: Project) -> None:
    shard = built.artifact("teach@tiny") / "shard-00000.parquet"
    shard.write_bytes(shard.read_bytes()[:-10])
    result = show(built, shard.parent)
    assert (result.code, result.out) == (2, "")
    assert result.err == f"stillhouse: {shard} is missing or cut short; run the recipe again, which rebuilds it\n"


def test_an_attempt_that_is_not_committed_is_no_artifact(tmp_path: Path) -> None:
    work = tmp_path / ".work" / ("a" * 64) / "0001"
    work.mkdir(parents=True)
    (work / "result.txt").write_text("half", "utf-8")
    assert stillhouse("show", "aaaa", "--storage", str(tmp_path)).code == 2


def test_a_record_is_located_with_its_storage(tmp_path: Path) -> None:
    record = write_artifact(tmp_path, NODES[0])
    storage = Directory(tmp_path)
    assert locate(record.key[:8], storage) == (record, storage)
    path = tmp_path / "teach" / record.key
    assert locate(str(path), Directory(Path("elsewhere"))) == (record, storage)
    assert json.loads((path / "record.json").read_text("utf-8"))["key"] == record.key

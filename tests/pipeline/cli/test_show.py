import json
import re
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from project import CommandResult, Project, stillhouse, write_artifact

from pipeline.artifacts.search import locate
from pipeline.cli.show import show_rows
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


def test_an_artifact_is_found_by_the_name_of_its_node(built: Project) -> None:
    for name in ("teach@tiny", "distil/vanilla-kd/two/1@tiny"):
        record = built.records()[name]
        assert show(built, name) == show(built, str(record["key"]))
        for recipe in ("tiny", str(built.recipe)):
            named = stillhouse("show", name, "--recipe", recipe, "--storage", str(built.storage))
            assert named == show(built, name)
    verified = stillhouse("verify", "teach@tiny", "--storage", str(built.storage))
    assert (verified.code, verified.out.splitlines()[0].split()[0]) == (0, "teach@tiny")


def test_the_digits_that_a_plan_prints_are_enough_for_show_and_verify(built: Project) -> None:
    (line,) = [line for line in built("plan").out.splitlines() if " teach@tiny " in line]
    digits = line.split("\u2502")[-3].strip()
    assert len(digits) == 8
    assert str(built.records()["teach@tiny"]["key"]).startswith(digits)
    assert show(built, digits) == show(built, "teach@tiny")
    assert stillhouse("verify", digits, "--storage", str(built.storage)).code == 0


def test_a_recipe_file_says_in_which_storage_a_name_is_looked_for(
    built: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    built.recipe.write_text(f"{built.recipe.read_text('utf-8')}storage: {built.storage}\n", "utf-8")
    monkeypatch.chdir("/")
    assert stillhouse("show", "teach@tiny", "--recipe", str(built.recipe)) == show(built, "teach@tiny")


def test_a_name_that_two_recipes_give_to_different_artifacts_is_refused_with_the_choices(built: Project) -> None:
    """Two runs that noted their names, the later one under another recipe's name."""
    names = built.storage / ".named"
    shutil.copytree(names / "tiny", names / "other")
    other = str(built.records()["teach@tiny"]["key"])
    (names / "other" / "corpus@tiny.key").write_text(other, "utf-8")
    own = str(built.records()["corpus@tiny"]["key"])
    result = show(built, "corpus@tiny")
    assert result.code == 2
    choices = {f"{other[:12]} (of other)", f"{own[:12]} (of tiny)"}
    message = f"stillhouse: corpus@tiny: stands for 2 artifacts in {built.storage}: "
    assert result.err.startswith(message)
    listed, _, remedy = result.err.removeprefix(message).partition("; ")
    assert (set(listed.split(", ")), remedy) == (choices, "add --recipe NAME, or give the digits of one\n")
    of_tiny = stillhouse("show", "corpus@tiny", "--recipe", "tiny", "--storage", str(built.storage))
    assert of_tiny == show(built, own)
    assert show(built, "finetune@tiny").code == 0, "both recipes mean the same artifact"
    unknown = stillhouse("show", "corpus@tiny", "--recipe", "othr", "--storage", str(built.storage))
    assert unknown.err == f"stillhouse: --recipe: othr has not been run on {built.storage}; did you mean other?\n"


def test_a_name_that_no_run_has_noted_is_looked_for_in_the_records(built: Project) -> None:
    """A run that was stopped has noted nothing."""
    shutil.rmtree(built.storage / ".named")
    assert show(built, "teach@tiny") == show(built, str(built.records()["teach@tiny"]["key"]))


def test_a_name_whose_artifact_is_gone_is_refused(built: Project) -> None:
    key = str(built.records()["teach@tiny"]["key"])
    shutil.rmtree(built.storage / "teach" / key)
    line = f"stillhouse: teach@tiny: {key[:12]} is no longer in {built.storage}; run its recipe again\n"
    assert show(built, "teach@tiny") == CommandResult(2, "", line)


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
        ("nowhere", "is neither a path, nor the name of a node, nor the start of a key in"),
        ("teech@tiny", "; did you mean teach@tiny?"),
        ("/teach@tiny", "is neither a path, nor the name of a node, nor the start of a key in"),
        ("0" * 65, "is neither a path, nor the name of a node, nor the start of a key in"),
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
    digits = keys[0][0]
    assert re.fullmatch(
        rf"stillhouse: {digits}: 2 keys in {tmp_path} start with it: "
        rf"\w{{12}} \(teach@[ab]\), \w{{12}} \(teach@[ab]\); give more digits\n",
        result.err,
    )


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

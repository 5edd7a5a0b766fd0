import json
import os
import pty
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from project import (
    ROOT,
    CommandResult,
    Project,
    result_of,
    start,
    stillhouse,
    tiny_recipe,
    write_plannable_assets,
    write_project,
)

from pipeline.methods import METHODS
from pipeline.methods.embeddings import EMBEDDING_METHODS

OPTIONS = {
    "init": ("FILE", "--text", "--label", "--teacher", "--out", "--storage"),
    "run": ("RECIPE", "--stage", "--address", "--inline", "--gpu", "--refresh", "--storage", "--set"),
    "plan": ("RECIPE", "--format", "--probe", "--inline", "--storage", "--set"),
    "report": ("RECIPE", "--format", "--out", "--baseline", "--last-epoch", "--storage", "--set", "--as-written"),
    "show": ("PATH|NODE|KEY", "--recipe", "--storage"),
    "verify": ("PATH|NODE|KEY", "--sample", "--repair", "--recipe", "--storage"),
    "curves": ("RECIPE", "--out", "--storage", "--set", "--as-written"),
    "gc": ("RECIPE", "--older-than", "--yes", "--storage", "--set", "--as-written"),
    "methods": ("NAME",),
    "tasks": (),
    "help": ("COMMAND",),
}


@pytest.fixture
def paper(tmp_path: Path) -> Project:
    """A recipe that can be planned but not run."""
    return write_project(tmp_path / "project", write_plannable_assets(tmp_path / "assets"))


# --- help -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", list(OPTIONS))
def test_help_names_every_option(command: str) -> None:
    result = stillhouse(command, "--help")
    assert result.code == 0
    for option in OPTIONS[command]:
        assert option in result.out
    assert stillhouse(command, "-h").out == result.out


def test_help_names_every_command() -> None:
    result = stillhouse("--help")
    assert result.code == 0
    for command in OPTIONS:
        assert re.search(rf"\b{command}\b", result.out)


def test_without_a_command_there_is_help() -> None:
    assert stillhouse() == stillhouse("--help") == stillhouse("help")


@pytest.mark.parametrize("command", list(OPTIONS))
def test_help_with_a_command_is_that_commands_help(command: str) -> None:
    assert stillhouse("help", command) == stillhouse(command, "--help")


def test_options_without_a_value_are_shown_without_a_type() -> None:
    for arguments in (("--help",), ("run", "--help"), ("gc", "--help")):
        assert "bool" not in stillhouse(*arguments).out
    assert re.search(r"--inline  +Run in this process", stillhouse("run", "--help").out)


def test_the_version_is_that_of_the_package() -> None:
    assert stillhouse("--version") == CommandResult(0, f"stillhouse {version('stillhouse')}\n", "")


def test_a_shell_completes_commands_and_options() -> None:
    for words, expected in (("stillhouse pl", {"plan"}), ("stillhouse run --st", {"--stage", "--storage"})):
        environment = {**os.environ, "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
        script = Path(sys.executable).with_name("stillhouse")
        done = subprocess.run(
            [script], env={**environment, "_STILLHOUSE_COMPLETE": "complete_bash"}, capture_output=True, text=True
        )
        assert set(done.stdout.split()) == expected, done.stderr


# --- wrong requests -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["run"], "Missing argument 'RECIPE'; see stillhouse --help"),
        (["frobnicate"], "No such command 'frobnicate'; see stillhouse --help"),
        (["help", "frobnicate"], "No such command 'frobnicate'; see stillhouse --help"),
        (["plan", "r.yaml", "--inlin"], "No such option: --inlin (Possible options: --inline); see stillhouse --help"),
        (["report", "r.yaml", "--set"], "Option '--set' requires an argument; see stillhouse --help"),
        (["plan", "r.yaml"], "r.yaml: No such file or directory; name a recipe file"),
    ],
)
def test_a_wrong_request_is_one_line_on_stderr_and_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], line: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert stillhouse(*arguments) == CommandResult(2, "", f"stillhouse: {line}\n")


def test_an_unknown_format_names_the_known_ones(paper: Project) -> None:
    result = paper("report", "--format", "xml")
    assert result.code == 2
    assert re.fullmatch(r"stillhouse: .*--format.*'xml'.*'table', 'json', 'csv', 'html'.*\n", result.err)


def test_ray_and_inline_exclude_each_other(paper: Project) -> None:
    result = paper("run", "--address", "auto", "--inline")
    line = "stillhouse: --address: auto, but --inline runs in this process; give one of them\n"
    assert result == CommandResult(2, "", line)


def test_the_gpu_is_that_of_this_process(paper: Project) -> None:
    line = "stillhouse: --gpu: runs stages in this process, on its GPU; give --inline with it, or leave it out\n"
    assert paper("run", "--gpu") == CommandResult(2, "", line)


@pytest.mark.parametrize("command", ["run", "search"])
def test_a_gpu_that_is_not_there_is_refused(paper: Project, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.cli.run.usable_gpus", list)
    result = paper(command, "--inline", "--gpu")
    assert result == CommandResult(2, "", "stillhouse: --gpu: torch finds no GPU on this machine; leave it out\n")


def test_the_address_of_a_dashboard_is_not_that_of_a_head_node(paper: Project) -> None:
    result = paper("run", "--address", "http://127.0.0.1:8265")
    line = "stillhouse: --address: http://127.0.0.1:8265; run takes host:port of a Ray head node, or auto; "
    line += "stillhouse submit takes http://HOST:8265\n"
    assert result == CommandResult(2, "", line)


# --- what changes a recipe ------------------------------------------------------------------------


def test_set_changes_a_key_and_may_be_repeated(paper: Project) -> None:
    steps = paper.plan("--set", "method=no-kd", "--set", "student.label=renamed", "--set", "seeds=[3]")
    assert "distil/no-kd/renamed/3@tiny" in steps
    assert "teach@tiny" not in steps


def test_the_option_storage_overrides_that_of_the_recipe(paper: Project, built: Project, tmp_path: Path) -> None:
    recipe = tmp_path / "other.yaml"
    recipe.write_text(yaml.safe_dump({**yaml.safe_load(built.recipe.read_text()), "storage": str(built.storage)}))
    actions = [
        {step["action"] for step in json.loads(stillhouse("plan", str(recipe), "--format", "json", *options).out)}
        for options in ((), ("--storage", str(tmp_path / "empty")))
    ]
    assert actions == [{"reuse"}, {"build"}]


def test_relative_paths_start_at_the_current_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not at the recipe's folder, so that a path means the same in the recipe and on the command line."""
    write_plannable_assets(tmp_path)
    recipe = tiny_recipe(tmp_path, data={"source": "data"}, teacher={"model": "model", "finetune": {}}, storage="here")
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "r.yaml").write_text(yaml.safe_dump(recipe), "utf-8")
    monkeypatch.chdir(tmp_path)
    assert stillhouse("plan", "recipes/r.yaml").code == 0
    (tmp_path / "sub").mkdir()
    out = stillhouse("report", "recipes/r.yaml", "--out", "sub/report.csv", "--format", "csv")
    assert (out.code, out.out) == (0, "")
    assert (tmp_path / "sub" / "report.csv").exists()
    monkeypatch.chdir(tmp_path / "recipes")
    assert stillhouse("plan", "r.yaml").code == 2


def test_the_file_of_a_task_starts_at_the_current_directory_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_plannable_assets(tmp_path)
    monkeypatch.chdir(tmp_path)
    files = {split: f"data/tiny/{split}.parquet" for split in ("train", "validation")}
    task = {"name": "tiny", "text": "sentence", "labels": ["bad", "good"], "files": files}
    project = write_project(tmp_path / "project", tmp_path, task=task)
    assert project.plan()["corpus@tiny"]["rows"] == {"value": 120, "kind": "exact", "until": ""}


# --- output ---------------------------------------------------------------------------------------


def test_a_run_with_nothing_to_do_says_so_and_prints_the_results(first_run: tuple[Project, CommandResult]) -> None:
    project, first = first_run
    result = project("run")
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("tiny: nothing to do, all 12 artifacts exist\n")
    table = first.out[first.out.index("\ntiny ") + 1 :]
    assert result.out.endswith(table)


def test_a_run_prints_a_line_for_each_start_and_each_end_then_the_table(
    first_run: tuple[Project, CommandResult],
) -> None:
    project, result = first_run
    lines = result.out.splitlines()
    words = [line.split()[0] for line in lines[:24]]
    assert words == ["start", "done"] * 12
    assert {line.split()[1] for line in lines[:24]} == set(project.plan())
    assert lines[24].strip() == "tiny"


@pytest.mark.parametrize("command", ["run", "plan", "report"])
def test_output_to_a_pipe_is_plain_lines(first_run: tuple[Project, CommandResult], command: str) -> None:
    project, first = first_run
    for out in (project(command).out, first.out):
        assert not any(ord(character) < 32 and character != "\n" for character in out)


def test_a_table_in_a_pipe_is_not_folded(paper: Project) -> None:
    lines = paper("plan", "--set", "student.label=" + "l" * 60).out.splitlines()
    name = f"distil/vanilla-kd/{'l' * 60}/0@tiny"
    assert [line for line in lines if name in line]


def test_a_plan_as_json_has_an_item_for_each_node(paper: Project) -> None:
    steps = paper.plan()
    assert list(steps) == [
        "corpus@tiny",
        "finetune@tiny",
        "evaluate/teacher@tiny",
        "distil/no-kd/two/0@tiny",
        "evaluate/no-kd/two/0@tiny",
        "teach@tiny",
        "distil/vanilla-kd/two/0@tiny",
        "evaluate/vanilla-kd/two/0@tiny",
    ]
    teach = steps["teach@tiny"]
    assert {name: teach[name] for name in ("role", "stage", "task", "action", "why")} == {
        "role": "teach",
        "stage": "teach",
        "task": "tiny",
        "action": "build",
        "why": "never built",
    }
    assert teach["inputs"] == {"corpus": steps["corpus@tiny"]["key"], "model": steps["finetune@tiny"]["key"]}


def test_a_plan_as_a_table_has_rows_bytes_and_counts(paper: Project) -> None:
    lines = paper("plan").out.splitlines()
    (teach,) = [line for line in lines if " teach@tiny " in line]
    cells = [cell.strip() for cell in teach.split("\u2502")[1:-1]]
    key = str(paper.plan()["teach@tiny"]["key"])
    assert cells == ["teach@tiny", "build", "81", "<= 27,864", "", key[:8], "never built; serves 1 student"]
    assert lines[-3:] == [
        "0 to reuse, 8 to build, 0 not needed",
        "tiny: 81 of 90 rows of train are trained on; 9 held out to select the epoch",
        "time unknown: no comparable record on such hardware; plan --probe measures it",
    ]


def test_a_reason_that_looks_like_markup_is_printed_unchanged(built: Project) -> None:
    recipe = yaml.safe_load(built.recipe.read_text("utf-8"))
    task = {**recipe["task"], "labels": ["[/b]", "[red]good"]}
    built.recipe.write_text(yaml.safe_dump({**recipe, "task": task}), "utf-8")
    assert "task.labels: ['bad', 'good'] -> ['[/b]', '[red]good']" in built("plan").out


def test_methods_are_listed_with_paper_needs_teachers_defaults_and_an_example() -> None:
    result = stillhouse("methods")
    assert result.code == 0
    for named in (*METHODS, *EMBEDDING_METHODS):
        assert f"\n{named.name}: {named.title}\n" in result.out
    counts = {head: result.out.count(f"\n  {head} ") for head in ("paper", "needs", "taught by", "defaults", "example")}
    every = len(METHODS) + len(EMBEDDING_METHODS)
    assert counts == {"paper": every, "needs": every, "taught by": every, "defaults": len(METHODS), "example": every}


def test_a_method_is_shown_in_full_by_its_name() -> None:
    result = stillhouse("methods", "annealing-kd")
    assert result.code == 0
    assert result.out.startswith("annealing-kd: Annealing KD\n")
    for head in ("loss", "scale", "sources", "differs"):
        assert f"\n  {head} " in result.out


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("vanila-kd", "vanilla-kd"),
        ("alp-kd", "alp"),
        ("ALP-KD", "alp"),
        ("rail", "rail-kd"),
        ("minimax_knn", "minimax-knn"),
    ],
)
def test_an_unknown_method_is_a_wrong_request(name: str, meant: str) -> None:
    line = f"stillhouse: method: {name} is no method; did you mean {meant}?\n"
    assert stillhouse("methods", name) == CommandResult(2, "", line)


def test_tasks_are_listed_with_columns_labels_and_metrics() -> None:
    result = stillhouse("tasks")
    assert result.code == 0
    (line,) = [line for line in result.out.splitlines() if " mnli " in line]
    for word in ("premise, hypothesis", "entailment, neutral, contradiction", "accuracy", "validation_matched"):
        assert word in line


# --- as a process ---------------------------------------------------------------------------------


def test_python_m_pipeline_is_stillhouse(paper: Project) -> None:
    arguments = ("plan", str(paper.recipe), "--storage", str(paper.storage))
    script = Path(sys.executable).with_name("stillhouse")
    done = subprocess.run([str(script), *arguments], capture_output=True, text=True, check=True)
    assert CommandResult(0, done.stdout, done.stderr) == result_of(start(*arguments)) == stillhouse(*arguments)


def test_a_wrong_request_as_a_process_leaves_no_traceback(paper: Project) -> None:
    result = result_of(start("plan", str(paper.recipe), "--set", "train.epoch=3"))
    line = f"stillhouse: {paper.recipe}: train.epoch: unknown key; did you mean epochs?\n"
    assert result == CommandResult(2, "", line)


def test_a_closed_output_pipe_is_no_error(paper: Project) -> None:
    process = start("plan", str(paper.recipe), "--set", f"seeds={list(range(300))}")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait() == 1


def test_tables_are_as_wide_as_the_terminal(paper: Project) -> None:
    leader, follower = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100", "TERM": "xterm"}
    arguments = [sys.executable, "-m", "pipeline", "plan", str(paper.recipe)]
    process = subprocess.Popen(arguments, env=environment, stdout=follower, stderr=follower)
    os.close(follower)
    out = b""
    while chunk := read(leader):
        out += chunk
    assert process.wait() == 0
    lines = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", out.decode()).splitlines()
    assert max(map(len, lines)) <= 100
    assert b"\x1b[" in out


def test_the_first_line_of_a_run_in_a_terminal_names_the_recipe_before_anything_is_loaded(tmp_path: Path) -> None:
    """Python lists each module when its import has ended, between the lines of the program."""
    leader, follower = pty.openpty()
    arguments = [sys.executable, "-X", "importtime", "-m", "pipeline", "run", "none.yaml"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(arguments, cwd=tmp_path, env=environment, stdout=follower, stderr=follower)
    os.close(follower)
    out = b""
    while chunk := read(leader):
        out += chunk
    assert process.wait() == 2
    before, line, after = out.decode().partition("stillhouse: reading none.yaml\r\n")
    assert line
    for module in ("pyarrow", "numpy", "rich.console", "pipeline.recipe"):
        loaded = re.compile(rf"\| +{re.escape(module)}\r\n")
        assert loaded.search(after) and not loaded.search(before), module
    assert after.endswith("stillhouse: none.yaml: No such file or directory; name a recipe file\r\n")


def read(descriptor: int) -> bytes:
    """The bytes available on a terminal; b'' when its other side is closed."""
    try:
        return os.read(descriptor, 65536)
    except OSError:
        return b""

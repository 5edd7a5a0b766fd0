"""How the text of a recipe is read."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from project import ROOT

from pipeline.errors import RequestError
from pipeline.recipe.yaml import merged, parse_yaml, plain, read, with_sets, without_nulls


def value(text: str) -> object:
    tree = parse_yaml(f"key: {text}", "f")
    assert isinstance(tree, dict)
    return tree["key"]


@pytest.mark.parametrize(
    "text", ["no", "yes", "on", "off", "NO", "y", "010", "1:30", "2024-01-01", "0x1F", "1_000", "=", "<<"]
)
def test_what_yaml_1_1_would_take_for_something_else_is_a_word(text: str) -> None:
    assert value(text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1e-5", 1e-5), ("2.0e-5", 2e-5), ("1E5", 1e5), (".5", 0.5), ("5.", 5.0), ("-3", -3), ("+3", 3), ("0", 0)],
)
def test_numbers_are_numbers(text: str, expected: float) -> None:
    found = value(text)
    assert found == expected and type(found) is type(expected)


def test_only_true_and_false_are_booleans_and_only_null_is_null() -> None:
    assert [value(text) for text in ("true", "False", "null", "~", "'true'", "'null'")] == [
        True,
        False,
        None,
        None,
        "true",
        "null",
    ]


def test_anchors_and_aliases_work() -> None:
    assert parse_yaml("a: &x {b: 1}\nc: *x", "f") == {"a": {"b": 1}, "c": {"b": 1}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb:\n  c: 1\n  c: 2", "f:4: c: this key stands twice in its block; keep one of them"),
        ("a: 1\ntrain:\nb: 2", "f:2: train: has no value; write {} for a block of defaults, or take the key out"),
        ("a: 1\nb: [", "f:2: not YAML: "),
        ("a: b: c", "f:1: not YAML: mapping values are not allowed here"),
        ("a: 1\n\tb: 2", "f:2: not YAML: "),
        ("a: 1\n---\nb: 2", "f:2: not YAML: expected a single document"),
        ("a: 1\nb: \x07", "f:2: not YAML: special characters are not allowed"),
        ("a: *b", "f:1: not YAML: found undefined alias 'b'"),
        ("a: !!python/name:os.system ''", "f:1: "),
        ("a: .nan", "f:1: .nan (float) cannot be read"),
        ("a: 1e999", "f:1: 1e999 (float) cannot be read"),
        ("a: !!int x", "f:1: x (int) cannot be read"),
        ("a: " + "9" * 5000, "f:1: 9999"),
        ("? [1]\n: 2", "f:1: a key must be a word"),
        ("a: &x [*x]", "f: blocks lie too deep, or an alias holds itself"),
        ("[" * 5000, "f: blocks lie too deep"),
        ("[" * 66 + "]" * 66, "f: blocks lie too deep"),
        ("[" + "1, " * 50_000 + "]", "f: is larger than 50,000 keys and values"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_line(text: str, message: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse_yaml(text, "f")
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)


def test_an_empty_file_is_nothing() -> None:
    assert parse_yaml("# only a comment\n", "f") is None


def test_a_missing_file_a_folder_and_another_encoding_are_refused_by_path(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes("name: caf\xe9".encode("latin-1"))
    for name, reason in (("none.yaml", "No such file"), ("", "Is a directory"), ("latin.yaml", "byte 9 is not UTF-8")):
        with pytest.raises(RequestError) as caught:
            read(tmp_path / name)
        assert str(caught.value).startswith(f"{tmp_path / name}: {reason}")


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "marked.yaml").write_bytes(b"\xef\xbb\xbfname: x")
    assert read(tmp_path / "marked.yaml") == {"name": "x"}


def test_blocks_merge_and_all_else_is_replaced() -> None:
    assert merged({"a": {"b": 1, "c": [1, 2]}, "d": 1}, {"a": {"c": [3]}, "d": {"e": 1}}) == {
        "a": {"b": 1, "c": [3]},
        "d": {"e": 1},
    }


def test_nothing_that_is_merged_or_set_changes_what_it_came_from() -> None:
    tree = {"a": {"b": [1, {"c": 2}]}}
    assert with_sets(tree, ["a.b.1.c=3", "a.d=4"]) == {"a": {"b": [1, {"c": 3}], "d": 4}}
    merged(tree, {"a": {"b": 5}})
    assert tree == {"a": {"b": [1, {"c": 2}]}}


def test_nulls_are_taken_out_of_blocks_at_any_depth() -> None:
    assert without_nulls({"a": None, "b": [{"c": None, "d": 1}]}) == {"b": [{"d": 1}]}


def test_sets_are_carried_out_in_order() -> None:
    assert with_sets({}, ["a=[1, 2]", "a.0=3", "b.c='x: y'"]) == {"a": [3, 2], "b": {"c": "x: y"}}


# --- bounds ---------------------------------------------------------------------------------------

ALIASES = "\n".join(
    ["a: &a [" + "x, " * 9 + "]"]
    + [f"{name}: &{name} [" + f"*{below}, " * 9 + "]" for below, name in zip("abcdefgh", "bcdefghi", strict=True)]
)
"""Nine levels of nine aliases: 400 million values in 400 letters."""
TOO_LARGE = "is larger than 50,000 keys and values or 4,194,304 letters, with aliases written out; split it"


def test_aliases_of_aliases_are_refused_before_they_take_memory(tmp_path: Path) -> None:
    """In a process of its own, in which anything larger than 1 GB cannot be allocated."""
    (tmp_path / "r.yaml").write_text(ALIASES, "utf-8")
    code = "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30)); from pathlib import Path\n"
    code += "from pipeline.recipe.yaml import read\nread(Path(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "r.yaml"], cwd=ROOT, capture_output=True, text=True, timeout=20
    )
    assert done.stderr.splitlines()[-1] == f"pipeline.errors.RequestError: {tmp_path / 'r.yaml'}: {TOO_LARGE}"


def test_the_value_of_a_set_and_the_document_of_another_reader_are_bounded_as_a_file_is() -> None:
    value = "{" + ALIASES.replace("\n", ", ") + "}"
    for read_one in (lambda: with_sets({}, [f"a={value}"]), lambda: plain(yaml.safe_load(ALIASES))):
        with pytest.raises(RequestError, match="is larger than 50,000 keys and values"):
            read_one()
    with pytest.raises(RequestError, match="blocks lie too deep"):
        with_sets({}, ["a" + ".a" * 5000 + "=1"])


def test_a_long_text_that_aliases_repeat_is_bounded_by_its_letters() -> None:
    with pytest.raises(RequestError, match=r"4,194,304 letters"):
        parse_yaml(f"a: &a {'x' * 10_000}\nb: [" + "*a, " * 1000 + "]", "f")


def test_a_batch_of_thousands_of_files_and_seeds_is_within_the_bounds() -> None:
    files = [f"/data/part-{number:05}.parquet" for number in range(10_000)]
    tree = {"bank": {"files": files}, "seeds": list(range(1000))}
    assert parse_yaml(yaml.safe_dump(tree), "f") == tree


def test_a_pipe_a_socket_a_device_and_a_huge_file_are_refused_as_recipes(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listener, (tmp_path / "huge").open("wb") as huge:
        listener.bind(str(tmp_path / "socket"))
        huge.truncate(2**40)
        reasons = {
            tmp_path / "pipe": "is a named pipe",
            tmp_path / "socket": "is a socket",
            Path("/dev/zero"): "is a device",
            tmp_path / "huge": "is larger than 4,194,304 bytes",
        }
        for path, reason in reasons.items():
            with pytest.raises(RequestError) as caught:
                read(path)
            assert str(caught.value) == f"{path}: {reason}; name a recipe file"

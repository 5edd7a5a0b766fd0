"""The cache folder of a machine: one bound over both kinds of entries, and none removed that is in use."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from stages.cache_folder import CacheFolder, cache_bound, cache_root


def entry(path: Path, size: int, used: int) -> Path:
    """An entry of ``size`` bytes, in a folder of it, that was last used ``used`` seconds after 1970."""
    (path / "sub").mkdir(parents=True)
    (path / "sub" / "file").write_bytes(bytes(size))
    os.utime(path, (used, used))
    return path


def both_kinds(cache: CacheFolder) -> list[Path]:
    """Four entries of 100 bytes, of each kind in turn, the least recently used first."""
    folders = [cache.decoded("a"), cache.bucket("b") / "s/k/0001", cache.decoded("c"), cache.bucket("d") / "s/k/0001"]
    return [entry(folder, 100, place) for place, folder in enumerate(folders, 1)]


def left(entries: list[Path]) -> list[bool]:
    return [path.exists() for path in entries]


def test_the_least_recently_used_entries_of_either_kind_are_removed_until_the_bound_holds(tmp_path: Path) -> None:
    cache = CacheFolder(tmp_path, 250)
    entries = both_kinds(cache)
    assert cache.make_room() == entries[:2]
    assert left(entries) == [False, False, True, True]
    assert cache.make_room(50) == []
    assert cache.make_room(51) == [entries[2]]


def test_an_entry_that_is_held_stays_and_a_later_one_is_removed_instead(tmp_path: Path) -> None:
    cache = CacheFolder(tmp_path, 250)
    entries = both_kinds(cache)
    with cache.hold(entries[1]), cache.hold(entries[0]):
        for used, path in enumerate(entries, 1):
            os.utime(path, (used, used))
        assert cache.make_room() == entries[2:]
    assert CacheFolder(tmp_path, 0).make_room() == entries[:2]


def test_holding_an_entry_is_a_use_of_it(tmp_path: Path) -> None:
    cache = CacheFolder(tmp_path, 350)
    entries = both_kinds(cache)
    cache.hold(entries[0]).close()
    assert cache.make_room() == [entries[1]]


def test_an_entry_may_be_held_before_it_exists(tmp_path: Path) -> None:
    cache = CacheFolder(tmp_path, 0)
    folder = cache.bucket("house") / "stage/key/0001"
    with cache.hold(folder):
        entry(folder, 100, 1)
        assert cache.make_room() == []
    assert cache.make_room() == [folder]


def test_what_a_process_held_is_free_when_it_was_killed(tmp_path: Path) -> None:
    cache = CacheFolder(tmp_path, 0)
    folder = entry(cache.decoded("a"), 100, 1)
    program = (
        "import sys; from pathlib import Path; from stages.cache_folder import CacheFolder\n"
        "lock = CacheFolder(Path(sys.argv[1])).hold(Path(sys.argv[2])); print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path), str(folder)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    assert cache.make_room() == []
    holder.kill()
    holder.communicate()
    assert cache.make_room() == [folder]


def test_an_entry_goes_with_what_lies_beside_it_under_its_name(tmp_path: Path) -> None:
    cache = CacheFolder(tmp_path, 0)
    folder = entry(cache.bucket("house") / "stage/key/0001", 100, 1)
    (folder.parent / ".0001.came.json").touch()
    (folder.parent / ".0002.came.json").touch()
    cache.make_room()
    assert [path.name for path in folder.parent.iterdir()] == [".0002.came.json"]


def test_what_is_no_entry_is_neither_counted_nor_removed(tmp_path: Path) -> None:
    cache = CacheFolder(tmp_path, 100)
    kept = entry(cache.decoded("a"), 100, 1)
    others = [cache.bucket("b") / ".work/k/0001", cache.bucket("b") / ".inspected-x", tmp_path / "other" / "folder"]
    for other in others:
        entry(other, 1000, 1)
    assert cache.make_room() == []
    assert left([kept, *others]) == [True] * 4


def test_without_a_bound_half_of_the_disk_may_be_used(tmp_path: Path) -> None:
    assert CacheFolder(tmp_path / "not" / "there").bound == shutil.disk_usage(tmp_path).total // 2


def test_room_that_the_disk_does_not_have_is_made_whatever_the_bound(tmp_path: Path) -> None:
    cache = CacheFolder(tmp_path, 1 << 62)
    entries = both_kinds(cache)
    assert cache.make_room(1 << 60) == entries


def test_the_environment_names_the_folder_and_its_bound(tmp_path: Path) -> None:
    given = {"STILLHOUSE_CACHE": str(tmp_path), "STILLHOUSE_CACHE_BYTES": "1.5 kB"}
    assert CacheFolder.of(given) == CacheFolder(tmp_path, 1500)
    assert cache_root({"STILLHOUSE_CACHE": "/somewhere", "HOME": "/root"}) == Path("/somewhere")
    assert cache_root({"XDG_CACHE_HOME": str(tmp_path)}) == tmp_path / "stillhouse"
    assert cache_root({"HOME": str(tmp_path)}) == tmp_path / ".cache" / "stillhouse"
    assert "stillhouse" in str(cache_root({})) and cache_root({}).is_absolute()
    assert CacheFolder(tmp_path).decoded("a").parent == tmp_path / "decoded"


@pytest.mark.parametrize(("given", "found"), [("50GB", 50 * 10**9), ("1000", 1000), ("1.5 kB", 1500), ("", None)])
def test_the_bound_is_a_size(given: str, found: int | None) -> None:
    assert cache_bound({"STILLHOUSE_CACHE_BYTES": given}) == found


def test_a_bound_that_is_no_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^STILLHOUSE_CACHE_BYTES: lots, must be a size above 0, such as 50GB"):
        CacheFolder.of({"STILLHOUSE_CACHE_BYTES": "lots"})

"""Decoded stores: one file a column on a node, for all its readers, whatever happens meanwhile."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from disk import mounted
from stores import KEYS, LAYOUT, LOGITS, RULE, STATES, write_noise

from stages.cache_folder import CacheFolder
from stages.outputs.layout import scales_name, shard_name, write_store
from stages.outputs.node_cache import decode
from stages.outputs.reader import read_columns


@pytest.fixture
def store(tmp_path: Path) -> Path:
    write_noise(tmp_path / "store")
    return tmp_path / "store"


def quiet(_text: str) -> None:
    """Discards the progress."""


def entries(root: Path) -> list[Path]:
    """The decoded stores in a cache folder."""
    return [path for path in (root / "decoded").iterdir() if path.is_dir()]


@pytest.mark.parametrize("precision", ["float16", "float32", "int8"])
def test_rows_are_gathered_by_content_whatever_their_order(precision: str, tmp_path: Path) -> None:
    write_noise(tmp_path / "store", replace(LAYOUT, precision=precision))
    order = np.random.default_rng(3).permutation(30)
    wanted = [KEYS[row] for row in order]
    found = decode(tmp_path / "store", ["logits", "hidden_02"], wanted, CacheFolder(tmp_path / "cache"), quiet)
    rows = np.array([5, 0, 0, 29])
    expected = read_columns(tmp_path / "store", ["logits", "hidden_02"], wanted)
    assert np.array_equal(found.gather("logits", rows), LOGITS[order][rows])
    assert np.array_equal(found.gather("hidden_02", rows), expected["hidden_02"][rows])
    assert np.allclose(found.gather("hidden_02", rows), STATES["hidden_02"][order][rows], atol=0.02)


def test_a_second_reader_decodes_nothing(store: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    decode(store, ["hidden_00"], KEYS, CacheFolder(tmp_path / "cache"), lines.append)
    assert len(lines) == 3 and lines[-1].endswith("shard 3 of 3")
    lines.clear()
    decode(store, ["hidden_00"], KEYS, CacheFolder(tmp_path / "cache"), lines.append)
    assert lines == []
    decode(store, ["hidden_00", "hidden_12"], KEYS, CacheFolder(tmp_path / "cache"), lines.append)
    assert len(lines) == 3, "a column that was not decoded before is, and it alone"
    (store / shard_name(0)).unlink()
    again = decode(store, ["hidden_00", "hidden_12"], KEYS, CacheFolder(tmp_path / "cache"), lines.append)
    assert len(lines) == 3 and len(again.gather("hidden_12", np.arange(30))) == 30


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_a_store_that_is_damaged_after_it_was_decoded_is_reported_and_read_from_the_sound_copy(
    precision: str, tmp_path: Path
) -> None:
    """The damage leaves the size as it was, so no plan notices it."""
    store, cache = tmp_path / "store", CacheFolder(tmp_path / "cache")
    write_noise(store, replace(LAYOUT, precision=precision))
    before = decode(store, ["hidden_02"], KEYS, cache, quiet).gather("hidden_02", np.arange(30))
    name = shard_name(1) if precision == "float16" else scales_name(1)
    sound = (store / name).read_bytes()
    (store / name).write_bytes(sound[:200] + bytes([sound[200] ^ 1]) + sound[201:])
    lines: list[str] = []
    for _ in range(2):
        lines.clear()
        again = decode(store, ["hidden_02"], KEYS, cache, lines.append)
        assert np.array_equal(again.gather("hidden_02", np.arange(30)), before)
        (line,) = lines
        assert line == (
            f"{store}: {name} damaged since the store was decoded; this machine's decoded copy is sound and is used; "
            f"stillhouse verify {store} --repair mends the store"
        )
    (store / name).write_bytes(sound)
    lines.clear()
    decode(store, ["hidden_02"], KEYS, cache, lines.append)
    assert lines == [], "it has another time, and its checksum again"


def test_a_copy_of_a_decoded_store_is_checked_once(store: Path, tmp_path: Path) -> None:
    cache, copy = CacheFolder(tmp_path / "cache"), tmp_path / "copy"
    decode(store, ["logits"], KEYS, cache, quiet)
    shutil.copytree(store, copy)
    flip_a_bit(copy / shard_name(0))
    lines: list[str] = []
    decode(copy, ["logits"], KEYS, cache, lines.append)
    assert len(lines) == 1 and lines[0].startswith(f"{copy}: {shard_name(0)} damaged since")
    (entry,) = entries(tmp_path / "cache")
    noted = json.loads((entry / "shards.json").read_text("utf-8"))
    assert {name: len(copies) for name, copies in noted.items()} == {shard_name(number): 1 for number in range(3)}


def flip_a_bit(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:-20] + bytes([data[-20] ^ 1]) + data[-19:])


@pytest.mark.parametrize("noted", [None, "of an earlier version", "{"])
def test_without_a_list_of_sound_shards_those_of_a_decoded_store_are_compared_once(
    noted: str | None, store: Path, tmp_path: Path
) -> None:
    """The list may be lost, and earlier versions wrote another or none."""
    cache, lines = CacheFolder(tmp_path / "cache"), list[str]()
    decode(store, ["logits"], KEYS, cache, quiet)
    (entry,) = entries(tmp_path / "cache")
    flip_a_bit(store / shard_name(1))
    stat = (store / shard_name(1)).stat()
    (entry / "shards.json").unlink()
    if noted is not None:
        earlier = json.dumps({str(store / shard_name(1)): [stat.st_size, stat.st_mtime_ns]})
        (entry / "shards.json").write_text(noted if noted == "{" else earlier, "utf-8")
    decode(store, ["logits"], KEYS, cache, lines.append)
    assert len(lines) == 1 and lines[0].startswith(f"{store}: {shard_name(1)} damaged since")
    sound = json.loads((entry / "shards.json").read_text("utf-8"))
    assert sorted(sound) == [shard_name(0), shard_name(2)], "the damaged one is compared again the next time"


def test_a_store_that_was_moved_is_not_compared_again(store: Path, tmp_path: Path) -> None:
    """Shown by damage that leaves size and time as they were: only reading every byte would find it."""
    cache, moved, lines = CacheFolder(tmp_path / "cache"), tmp_path / "moved", list[str]()
    decode(store, ["logits"], KEYS, cache, quiet)
    store.rename(moved)
    before = (moved / shard_name(0)).stat()
    flip_a_bit(moved / shard_name(0))
    os.utime(moved / shard_name(0), ns=(before.st_atime_ns, before.st_mtime_ns))
    decode(moved, ["logits"], KEYS, cache, lines.append)
    assert lines == []


def test_two_copies_of_a_store_that_are_read_in_turn_are_each_compared_once(store: Path, tmp_path: Path) -> None:
    cache, copy = CacheFolder(tmp_path / "cache"), tmp_path / "copy"
    shutil.copytree(store, copy)
    os.utime(copy / shard_name(0), (1, 1))
    for path in (store, copy, store, copy):
        decode(path, ["logits"], KEYS, cache, quiet)
    (entry,) = entries(tmp_path / "cache")
    noted = json.loads((entry / "shards.json").read_text("utf-8"))
    assert {name: len(copies) for name, copies in noted.items()} == {
        shard_name(0): 2,
        shard_name(1): 1,
        shard_name(2): 1,
    }


def test_only_the_requested_columns_are_decoded(store: Path, tmp_path: Path) -> None:
    decode(store, ["hidden_02"], KEYS, CacheFolder(tmp_path / "cache"), quiet)
    (folder,) = entries(tmp_path / "cache")
    assert sorted(path.name for path in folder.iterdir()) == ["hidden_02", "row_keys", "shards.json", "writing"]
    assert (folder / "hidden_02").stat().st_size == 30 * 8 * 2


def test_a_store_of_other_content_is_another_folder(store: Path, tmp_path: Path) -> None:
    decode(store, ["logits"], KEYS, CacheFolder(tmp_path / "cache"), quiet)
    files = write_noise(store, LAYOUT, range(1, 30))
    write_store(store, LAYOUT, RULE, files)
    found = decode(store, ["logits"], KEYS[1:], CacheFolder(tmp_path / "cache"), quiet)
    assert np.array_equal(found.gather("logits", np.array([0])), LOGITS[1:2])
    assert len(entries(tmp_path / "cache")) == 2


def test_a_file_that_is_cut_short_is_decoded_again(store: Path, tmp_path: Path) -> None:
    decode(store, ["logits"], KEYS, CacheFolder(tmp_path / "cache"), quiet)
    (folder,) = entries(tmp_path / "cache")
    os.truncate(folder / "logits", 100)
    found = decode(store, ["logits"], KEYS, CacheFolder(tmp_path / "cache"), quiet)
    assert np.array_equal(found.gather("logits", np.arange(30)), LOGITS)


def test_a_store_that_lacks_a_row_is_refused(store: Path, tmp_path: Path) -> None:
    stranger = bytes(range(16))
    with pytest.raises(ValueError, match=f"lacks 1 of 2 rows, the first is row 1 .{stranger.hex()}.; run the teach"):
        decode(store, ["logits"], [KEYS[0], stranger], CacheFolder(tmp_path / "cache"), quiet)


def test_a_damaged_shard_leaves_no_half_decoded_file(store: Path, tmp_path: Path) -> None:
    (store / shard_name(2)).write_bytes(b"PAR1")
    with pytest.raises(ValueError, match=r"shard-00002\.parquet: this shard cannot be read"):
        decode(store, ["logits"], KEYS, CacheFolder(tmp_path / "cache"), quiet)
    (folder,) = entries(tmp_path / "cache")
    assert not (folder / "logits").exists()


def test_a_shard_of_another_store_is_noticed(store: Path, tmp_path: Path) -> None:
    """Each shard is sound, and yet they are not the store that store.json describes."""
    write_noise(tmp_path / "other", LAYOUT, range(5))
    (tmp_path / "other" / shard_name(0)).replace(store / shard_name(2))
    with pytest.raises(ValueError, match=r"its footer is not that of store\.json"):
        decode(store, ["logits"], KEYS, CacheFolder(tmp_path / "cache"), quiet)


def test_the_least_recently_used_entry_is_removed_first_and_never_one_in_use(tmp_path: Path) -> None:
    root, stores = tmp_path / "cache", []
    for number in range(4):
        write_noise(tmp_path / str(number), LAYOUT, range(number, 30))
        stores.append(tmp_path / str(number))
    held = decode(stores[0], ["logits"], KEYS, CacheFolder(root), quiet)
    decode(stores[1], ["logits"], KEYS[1:], CacheFolder(root), quiet).lock.close()
    first, second = sorted(entries(root), key=lambda folder: folder.stat().st_mtime_ns)
    os.utime(first, (1, 1))
    os.utime(second, (2, 2))
    decode(stores[2], ["logits"], KEYS[2:], CacheFolder(root, 900), quiet)
    assert first.exists() and not second.exists(), "the older one is still read from"
    assert np.array_equal(held.gather("logits", np.arange(30)), LOGITS)
    held.lock.close()
    decode(stores[3], ["logits"], KEYS[3:], CacheFolder(root, 900), quiet)
    assert not first.exists()


def test_a_decode_that_needs_room_does_not_remove_the_folder_of_the_artifacts(store: Path, tmp_path: Path) -> None:
    """Of two artifacts of a bucket, one is held. The other may be removed: it is an entry as any."""
    cache = CacheFolder(tmp_path / "cache", 1500)
    bucket = cache.bucket("house")
    for name in ("stage/one/0001", "stage/other/0001"):
        (bucket / name).mkdir(parents=True)
        (bucket / name / "weights").write_bytes(bytes(1000))
    (bucket / ".work").mkdir()
    (bucket / ".work" / "checkpoint").write_bytes(bytes(1000))
    with cache.hold(bucket / "stage/one/0001"):
        decode(store, ["logits"], KEYS, cache, quiet)
    assert (bucket / "stage/one/0001/weights").exists(), "it is in use"
    assert not (bucket / "stage/other/0001").exists(), "room was needed"
    assert (bucket / ".work" / "checkpoint").exists(), "work under way is no entry"


def test_the_error_for_a_full_disk_names_the_remedy(store: Path, tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "4k"):
        with pytest.raises(ValueError, match=r"bytes are free, decoding .* takes 1,920; free some, or set STILLHOUSE"):
            decode(store, list(STATES), KEYS, CacheFolder(tmp_path / "disk" / "cache"), quiet)
        assert not [path for path in (tmp_path / "disk" / "cache").rglob("*") if path.is_file() and path.stat().st_size]


def test_two_processes_decode_a_store_once(store: Path, tmp_path: Path) -> None:
    """The second waits for the first, and then finds all that it needs."""
    (tmp_path / "cache").mkdir()
    program = (
        "import sys; from pathlib import Path; from stores import KEYS; from stages.outputs.node_cache import decode\n"
        "from stages.cache_folder import CacheFolder\n"
        "cache = CacheFolder(Path(sys.argv[2]))\n"
        "decode(Path(sys.argv[1]), ['hidden_00'], KEYS, cache, lambda text: print(text, flush=True))"
    )
    places = os.pathsep.join([str(Path(__file__).parents[1]), str(Path(__file__).parents[3])])
    environment = {**os.environ, "PYTHONPATH": places}
    arguments = [sys.executable, "-c", program, str(store), str(tmp_path / "cache")]
    both = [subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    printed = [process.communicate(timeout=60)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted(text.count("shard") for text in printed) == [0, 3]


def test_the_lock_is_shared_among_readers(store: Path, tmp_path: Path) -> None:
    one, other = (decode(store, ["logits"], KEYS, CacheFolder(tmp_path / "cache"), quiet) for _ in range(2))
    assert one.lock.fileno() != other.lock.fileno()
    with Path(other.lock.name).open("ab") as third, pytest.raises(BlockingIOError):
        fcntl.flock(third, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_what_an_earlier_boot_left_goes(store: Path, tmp_path: Path) -> None:
    old = tmp_path / "cache" / "decoded" / "0123456789abcdef-earlier"
    old.mkdir(parents=True)
    (old / "logits").write_bytes(bytes(100))
    decode(store, ["logits"], KEYS, CacheFolder(tmp_path / "cache"), quiet)
    assert not old.exists() and len(entries(tmp_path / "cache")) == 1


def test_drafts_of_a_process_that_was_killed_are_removed(store: Path, tmp_path: Path) -> None:
    cache = CacheFolder(tmp_path / "cache")
    decode(store, ["logits"], KEYS, cache, quiet)
    (folder,) = entries(cache.root)
    (folder / ".hidden_00.123.abcd.tmp").write_bytes(bytes(100))
    decode(store, ["hidden_00"], KEYS, cache, quiet)
    assert sorted(path.name for path in folder.iterdir()) == [
        "hidden_00",
        "logits",
        "row_keys",
        "shards.json",
        "writing",
    ]

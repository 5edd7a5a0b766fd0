"""A disk that becomes full during a run and is freed again; a storage that does not answer."""

import contextlib
from pathlib import Path

import pytest
from disk import mounted
from machines import TEACHER, Machine, at_moment, leased_keys, records, said_by, weights

from pipeline.storage import open_storage

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_a_full_disk_ends_a_run_with_one_line_and_the_next_goes_on(
    recipe: Path, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    with mounted(tmp_path / "disk", "48m") as disk:
        storage = open_storage(str(disk / "runs"))
        machine = Machine(tmp_path / "home", recipe, storage.url)
        process = machine.start()
        at_moment(process, lambda: "corpus@tiny" in records(storage))
        ballast = disk / "ballast"
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(1 << 16))
        said = said_by(process)
        assert said.code == 1, said.err
        assert "No space left on device" in said.out + said.err
        assert "Traceback" not in said.out + said.err
        before = records(storage)
        assert TEACHER not in before

        ballast.unlink()
        again = machine.run()
        assert (again.code, again.err) == (0, "")
        assert before.items() <= records(storage).items()
        assert weights(storage) == undisturbed
        assert leased_keys(storage) == []


def test_a_storage_that_does_not_answer_a_plan_is_refused_in_one_line(recipe: Path, tmp_path: Path) -> None:
    machine = Machine(tmp_path / "home", recipe, str(tmp_path / "runs"))
    note = tmp_path / "runs" / ".named" / "tiny" / "corpus@tiny.key"
    note.parent.mkdir(parents=True)
    note.symlink_to(note.name)  # a read that fails
    said = machine.run()
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith(f"stillhouse: storage: {tmp_path / 'runs'} does not answer (")
    assert said.err.endswith("; try again\n") and said.err.count("\n") == 1

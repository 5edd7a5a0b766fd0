"""What a cluster is sent: the packages, as they are now, and nothing else."""

import io
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from project import ROOT

from pipeline.execution.code_snapshot import PACKAGES, Snapshot, packages_for_workers, take_snapshot
from pipeline.execution.job_env import SNAPSHOT


def test_a_snapshot_holds_the_packages_sources_and_the_given_files() -> None:
    found = take_snapshot({"recipe.yaml": b"name: x\n"}).files
    suffixes = (".py", ".yaml", ".j2", ".css", ".js")
    paths = [path for package in PACKAGES for path in (ROOT / package).rglob("*") if path.suffix in suffixes]
    sources = {path.relative_to(ROOT).as_posix() for path in paths}
    assert {"stages/corpus/demo/lexicon.yaml", "pipeline/report/page/templates/run.html.j2"} <= sources
    assert set(found) == sources | {"recipe.yaml"}
    assert found["pipeline/cli/main.py"] == (ROOT / "pipeline" / "cli" / "main.py").read_bytes()


def test_equal_files_give_equal_digests_and_archives() -> None:
    one, other = Snapshot({"a.py": b"1", "b.py": b"2"}), Snapshot({"b.py": b"2", "a.py": b"1"})
    assert one.sha256 == other.sha256
    assert one.archive() == other.archive()


@pytest.mark.parametrize("files", [{"a.py": b"12"}, {"a.py1": b"2"}, {"a.py": b"1", "": b"2"}, {}])
def test_any_other_name_or_byte_gives_another_digest(files: dict[str, bytes]) -> None:
    assert Snapshot(files).sha256 != Snapshot({"a.py": b"1"}).sha256


def test_an_archive_holds_the_files() -> None:
    with zipfile.ZipFile(io.BytesIO(Snapshot({"a/b.py": b"1", "c": b"2"}).archive())) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == {"a/b.py": b"1", "c": b"2"}


def test_the_digest_is_of_the_imported_sources(tmp_path: Path) -> None:
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package)
    tell = [
        sys.executable,
        "-c",
        "from pipeline.execution.code_snapshot import take_snapshot; print(take_snapshot().sha256)",
    ]
    digests = []
    for edit in ("", "# a note\n"):
        (tmp_path / "stages" / "evaluation" / "evaluate.py").open("a").write(edit)
        printed = subprocess.run(tell, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True)
        digests.append(printed.stdout.strip())
    assert digests[0] == take_snapshot().sha256
    assert digests[1] not in ("", digests[0])


def test_packages_are_copied_for_an_existing_ray_only(monkeypatch: pytest.MonkeyPatch) -> None:
    with packages_for_workers("host:6379") as folders:
        assert [folder.name for folder in folders] == list(PACKAGES)
        assert (folders[1] / "cli" / "main.py").read_bytes() == (ROOT / "pipeline" / "cli" / "main.py").read_bytes()
    assert not folders[0].exists()
    with packages_for_workers(None) as folders:
        assert folders == ()
    monkeypatch.setenv(SNAPSHOT, "ab" * 32)
    with packages_for_workers("auto") as folders:
        assert folders == (), "a run that was submitted has its snapshot"

"""A file system of so many bytes, for tests of what happens when it is full."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def mounted(folder: Path, size: str) -> Iterator[Path]:
    """``folder`` as a file system of its own, of a size as ``mount`` takes it. Skips where the user may not mount."""
    folder.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)], capture_output=True
    ).returncode:
        pytest.skip("mounting a file system needs rights that this user lacks")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)

"""Freed memory stays with a worker's process."""

import platform
import subprocess
import sys

import pytest

COUNT = """
import resource, sys
import numpy as np
from stages.models.malloc import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
def use():
    block = np.empty(48 * 2**20, np.uint8)
    block[:: 4096] = 1
use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(8):
    use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has this setting")
def test_a_large_freed_block_is_reused_without_the_system() -> None:
    usual, kept = (
        int(subprocess.run([sys.executable, "-c", COUNT, how], check=True, capture_output=True, text=True).stdout)
        for how in ("usual", "kept")
    )
    assert kept < usual / 4

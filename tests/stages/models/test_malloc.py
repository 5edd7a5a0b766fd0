"""Large blocks of memory cost a worker's process little, however often it allocates them."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from stages.models.malloc import HUGE_PAGES

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


IN_A_THREAD = """
import resource, threading
from stages.models.malloc import keep_freed_memory
keep_freed_memory()
import torch
faults = []
def use():
    for _ in range(9):
        torch.zeros(12, 2**20)
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
thread = threading.Thread(target=use)
thread.start()
thread.join()
print(faults[-1] - faults[0])
"""
HUGE = Path("/sys/kernel/mm/transparent_hugepage/enabled")


@pytest.mark.skipif(
    not HUGE.exists() or "[never]" in HUGE.read_text(), reason="needs a kernel that gives out huge pages"
)
def test_a_large_tensor_of_a_thread_does_not_cost_a_page_fault_for_every_4_kib() -> None:
    clean = {name: value for name, value in os.environ.items() if name != HUGE_PAGES}
    run = subprocess.run([sys.executable, "-c", IN_A_THREAD], check=True, capture_output=True, text=True, env=clean)
    assert int(run.stdout) < 8 * 48 * 2**20 / 4096 / 4

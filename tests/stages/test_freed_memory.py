"""Large blocks of memory cost a worker's process little, however often it allocates them."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from stages.freed_memory import HUGE_PAGES

COUNT = """
import resource, sys
import numpy as np
from stages.freed_memory import keep_freed_memory
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
import sys, threading
from stages.freed_memory import keep_freed_memory
keep_freed_memory()
import torch
def flags(address):
    inside = False
    for line in open("/proc/self/smaps"):
        head = line.split()[0]
        if not head.endswith(":"):
            first, last = (int(end, 16) for end in head.split("-"))
            inside = first <= address < last
        elif inside and head == "VmFlags:":
            return line.split()[1:]
def use():
    block = torch.zeros(12, 2**20)
    print("hg" in flags(block.data_ptr() + 24 * 2**20))
thread = threading.Thread(target=use)
thread.start()
thread.join()
"""
HUGE = Path("/sys/kernel/mm/transparent_hugepage/enabled")


# Whether the kernel then has a huge page at hand depends on how fragmented its memory is; the request does not.
@pytest.mark.skipif(
    not HUGE.exists() or "[never]" in HUGE.read_text(), reason="needs a kernel that gives out huge pages"
)
@pytest.mark.parametrize(("set_by_hand", "requested"), [(None, "True"), ("0", "False")])
def test_a_large_tensor_of_a_thread_requests_huge_pages_unless_the_environment_says_otherwise(
    set_by_hand: str | None, requested: str
) -> None:
    environment = {name: value for name, value in os.environ.items() if name != HUGE_PAGES}
    if set_by_hand is not None:
        environment[HUGE_PAGES] = set_by_hand
    run = subprocess.run(
        [sys.executable, "-c", IN_A_THREAD], check=True, capture_output=True, text=True, env=environment
    )
    assert run.stdout.strip() == requested

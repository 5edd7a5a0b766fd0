"""Settings of memory allocation in a worker's process."""

import ctypes
import os
import platform

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEPT = 2**30
"""Bytes. Freed blocks up to this size stay with the process."""
HUGE_PAGES = "THP_MEM_ALLOC_ENABLE"
"""Environment variable of torch: whether it asks the kernel for huge pages for blocks of 2 MiB and more. It is read
once in a process, when the first tensor is allocated."""


def keep_freed_memory() -> None:
    """Make large blocks cheap to allocate again and again, as a training step does. Call once, when a worker starts,
    before it has a tensor.

    glibc keeps freed blocks of up to 1 GiB for reuse; by default it returns large blocks to the system, which then has
    to clear them page by page in every step. That holds for the main thread only: the memory of another thread lies in
    heaps of 64 MiB, and an empty heap is always returned. So torch is also told to use huge pages, of which 500 times
    fewer are to be cleared, unless the environment says otherwise. Both do nothing where the system cannot do it.
    """
    os.environ.setdefault(HUGE_PAGES, "1")
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, KEPT)
        libc.mallopt(M_TRIM_THRESHOLD, KEPT)

"""Settings of the C library's memory allocator in a worker's process."""

import ctypes
import platform

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEPT = 2**30
"""Bytes. Freed blocks up to this size stay with the process."""


def keep_freed_memory() -> None:
    """Let glibc keep freed blocks of up to 1 GiB for reuse. By default it returns large blocks to the system, which
    then has to clear them page by page in every step. Call once, when a worker starts. Does nothing without glibc."""
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, KEPT)
        libc.mallopt(M_TRIM_THRESHOLD, KEPT)

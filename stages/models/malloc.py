"""How a worker's process treats memory that it frees."""

import ctypes
import platform

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEPT = 2**30


def keep_freed_memory() -> None:
    """Let glibc keep freed blocks of up to 1 GiB for the next step. By default it gives large ones back to the system,
    which clears them anew, page by page, in every step. Call once, when a worker starts; elsewhere it does nothing."""
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, KEPT)
        libc.mallopt(M_TRIM_THRESHOLD, KEPT)

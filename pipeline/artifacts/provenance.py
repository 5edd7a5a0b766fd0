"""The version of this code and the hardware of this machine, for records. Never part of a key."""

import hashlib
import os
import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pipeline.graph.fingerprint import Json


@cache
def code_version() -> str:
    """The package's version, and 12 hex digits of a digest over its sources, so that edits show: 1.2.0+0123456789ab."""
    root = Path(__file__).resolve().parents[2]
    digest = hashlib.sha256()
    for folder in ("cluster", "pipeline", "stages"):
        for path in sorted(path for path in (root / folder).rglob("*") if path.suffix in (".py", ".yaml")):
            digest.update(path.relative_to(root).as_posix().encode())
            digest.update(path.read_bytes())
    try:
        number = version("stillhouse")
    except PackageNotFoundError:
        number = "0"
    return f"{number}+{digest.hexdigest()[:12]}"


@cache
def hardware() -> dict[str, Json]:
    """Host name, processor, cores, GPUs and memory of this machine, which drives the run."""
    return {
        "host": platform.node(),
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "gpus": _gpus(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text("utf-8", "replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor()


def _gpus() -> list[Json]:
    """The model names of the GPUs that NVIDIA's driver lists in /proc, read without starting a process."""
    texts = [
        path.read_text("utf-8", "replace") for path in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    ]
    return [line.split(":", 1)[1].strip() for text in texts for line in text.splitlines() if line.startswith("Model:")]

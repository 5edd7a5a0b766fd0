"""The checks of ``stillhouse doctor``. Each returns findings in plain words, with a remedy where something is wrong."""

import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement

from cluster.resources import Place
from pipeline.artifacts.provenance import hardware
from pipeline.errors import RequestError
from pipeline.plan.advice import bfloat16_instructions
from pipeline.storage import open_storage
from stages.byte_size import size_text
from stages.cache_folder import CacheFolder, nearest_existing
from stages.gpus import Gpu, usable_gpus

State = Literal["ok", "warning", "problem"]

SHOWN = ("torch", "transformers", "ray", "pyarrow", "datasets", "huggingface_hub", "pydantic")
"""Packages whose versions are printed; all others are named only where they do not fit."""
FAISS = ("faiss-cpu", "faiss-gpu")
LEAST_FREE = 5 * 2**30
"""Bytes of a disk below which a warning is printed: a teacher, a student and their stores need about as much."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found about ``what``, and what to do about it; '' where nothing needs to be done."""

    what: str
    state: State
    text: str
    remedy: str = ""


def installed(name: str) -> str | None:
    """The version of a package; None if it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def check_packages(
    requirements: Iterable[str], version_of: Callable[[str], str | None] = installed, python: str = sys.version
) -> list[Finding]:
    """The versions of the packages that ``requirements`` (as ``pip`` writes them) name, those of extras left out."""
    wrong: list[Finding] = []
    found: dict[str, str] = {}
    for requirement in map(Requirement, requirements):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        has = version_of(requirement.name)
        wanted = f"{requirement.name}{requirement.specifier}"
        if has is None:
            wrong.append(Finding(requirement.name, "problem", "is not installed", f"pip install '{wanted}'"))
        elif not requirement.specifier.contains(has, prereleases=True):
            wrong.append(
                Finding(
                    requirement.name, "problem", f"{has} is installed, and {wanted} needed", f"pip install '{wanted}'"
                )
            )
        else:
            found[requirement.name] = has
    listed = ", ".join(f"{name} {found[name]}" for name in SHOWN if name in found)
    return [Finding("packages", "ok", f"Python {python.split()[0]}, {listed}"), *wrong]


def check_faiss(version_of: Callable[[str], str | None] = installed) -> Finding:
    """Whether FAISS is there, which recipes with a bank need."""
    has = {name: version_of(name) for name in FAISS}
    there = [f"{name} {found}" for name, found in has.items() if found is not None]
    if not there:
        return Finding(
            "FAISS", "warning", "is not installed; recipes with a bank need it", "pip install 'stillhouse[cpu]'"
        )
    if len(there) > 1:
        return Finding(
            "FAISS", "problem", f"{' and '.join(there)} replace each other's files", "uninstall one of the two"
        )
    return Finding("FAISS", "ok", there[0])


def check_processor() -> Finding:
    """The processor, its cores, and whether bfloat16 pays on it."""
    cores, memory = os.cpu_count() or 1, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    instructions = bfloat16_instructions()
    about = f"{platform.machine()}, {cores} cores, {size_text(memory)} of memory"
    if instructions:
        return Finding("processor", "ok", f"{about}; train.precision: bfloat16 halves a step ({instructions})")
    return Finding("processor", "ok", f"{about}; train.precision: bfloat16 does not pay here")


def check_gpus(installed: Sequence[object], usable: Sequence[Gpu]) -> Finding:
    """The GPUs that torch can use, beside those that are ``installed``."""
    if len(usable) < len(installed):
        return Finding(
            "GPUs",
            "problem",
            f"{len(installed)} installed, of which torch can use {len(usable)}",
            "install a build of torch for CUDA, and check CUDA_VISIBLE_DEVICES and the driver",
        )
    return Finding("GPUs", "ok", ", ".join(f"{one.name} ({size_text(one.memory)})" for one in usable) or "none")


def check_storage(url: str) -> list[Finding]:
    """Whether artifacts can be written there, and the room on its disk."""
    try:
        storage = open_storage(url)
        storage.check()
    except (RequestError, OSError) as error:
        return [Finding("storage", "problem", str(error), "give --storage a folder or a bucket that can be written")]
    return [Finding("storage", "ok", f"{storage} can be written"), check_disk("its disk", storage.local)]


def check_cache(environment: Mapping[str, str]) -> list[Finding]:
    """The folder of decoded copies, and the room on its disk."""
    try:
        cache = CacheFolder.of(environment)
    except ValueError as error:
        return [Finding("cache", "problem", str(error), "set STILLHOUSE_CACHE_BYTES to a size such as 50GB")]
    return [
        Finding("cache", "ok", f"{cache.root}, at most {size_text(cache.bound)}"),
        check_disk("its disk", cache.root),
    ]


def check_disk(what: str, folder: Path) -> Finding:
    """The free bytes of the disk that ``folder`` is on, or would be."""
    free = shutil.disk_usage(nearest_existing(folder)).free
    if free < LEAST_FREE:
        return Finding(what, "warning", f"{size_text(free)} are free", "free some, or run stillhouse gc")
    return Finding(what, "ok", f"{size_text(free)} are free")


def check_hub(environment: Mapping[str, str], seconds: float = 5.0) -> Finding:
    """Whether models and data sets can be fetched from the hub. Without it, those on the disk are used."""
    if environment.get("HF_HUB_OFFLINE", "").lower() in ("1", "on", "yes", "true"):
        return Finding("hub", "ok", "HF_HUB_OFFLINE is set: models and data sets are read from the disk alone")
    from huggingface_hub import constants, get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=seconds)
    except Exception as error:  # of the HTTP library that huggingface_hub happens to use
        return Finding(
            "hub",
            "warning",
            f"{constants.ENDPOINT} does not answer ({type(error).__name__})",
            "name models and data by their folders, or set HF_HUB_OFFLINE=1 and use what was fetched before",
        )
    return Finding("hub", "ok", f"{constants.ENDPOINT} answers")


def check_ray(address: str | None, open_cluster: Callable[[str], Place]) -> Finding:
    """The nodes of the Ray cluster at ``address``, to which ``open_cluster`` connects, raising RequestError if it
    cannot; without an address, a run starts Ray on this machine."""
    if address is None:
        return Finding("Ray", "ok", "a run starts it on this machine; --address checks a cluster")
    try:
        cluster = open_cluster(address)
    except RequestError as error:
        return Finding("Ray", "problem", str(error), "check the address, and RAY_AUTH_MODE and its token")
    try:
        return Finding("Ray", "ok", f"{address}: {cluster.capacity()}")
    finally:
        cluster.close()


def all_findings(
    url: str, address: str | None, environment: Mapping[str, str], open_cluster: Callable[[str], Place]
) -> Sequence[Finding]:
    """All findings, in the order in which they are printed; ``open_cluster`` as in ``check_ray``."""
    gpus = hardware()["gpus"]
    return [
        *check_packages(requires("stillhouse") or ()),
        check_faiss(),
        check_processor(),
        check_gpus(gpus if isinstance(gpus, list) else [], usable_gpus()),
        *check_storage(url),
        *check_cache(environment),
        check_hub(environment),
        check_ray(address, open_cluster),
    ]

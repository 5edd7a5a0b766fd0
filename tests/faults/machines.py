"""Several machines on one storage: the command line in separate processes, with one cache for each machine."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import yaml

from pipeline.artifacts.attempts import leased
from pipeline.artifacts.record import Record, parse_record, record_texts
from pipeline.storage import Storage

ROOT = Path(__file__).parents[2]
STUDENT = "distil/vanilla-kd/two/0@tiny"
TEACHER = "finetune@tiny"
LONGEST = 240.0
"""Seconds to wait for a moment, on a busy machine."""


def write_recipe(ground: Path, epochs: int = 2) -> Path:
    """Write a recipe of six nodes over the model and data in ``ground``: a corpus, a teacher, its store, a student, and
    their evaluations."""
    recipe = {
        "name": "tiny",
        "data": {"source": str(ground / "data")},
        "task": {"name": "tiny", "text": "sentence", "labels": ["bad", "good"]},
        "teacher": {"model": str(ground / "model"), "finetune": {"epochs": epochs, "learning_rate": 5.0e-3}},
        "student": {"label": "two", "cut": {"of": "teacher", "layers": [1, 3]}},
        "method": "vanilla-kd",
        "train": {"epochs": epochs, "learning_rate": 5.0e-3, "max_length": 16},
        "resources": {stage: {"cpus_per_worker": 1} for stage in ("finetune", "teach", "distil", "evaluate")},
    }
    (ground / "recipe.yaml").write_text(yaml.safe_dump(recipe), "utf-8")
    return ground / "recipe.yaml"


@dataclass(frozen=True)
class Said:
    """The exit code and output of a run."""

    code: int
    out: str
    err: str

    @property
    def built(self) -> Counter[str]:
        """The nodes that it built."""
        return Counter(line.split()[1] for line in self.out.splitlines() if line.startswith("done "))


@dataclass(frozen=True)
class Machine:
    """``home`` holds the files of this machine alone, ``storage`` is a URL that others may use too. A run is inline, or
    uses a Ray of its own."""

    home: Path
    recipe: Path
    storage: str
    inline: bool = True

    def start(self) -> "subprocess.Popen[str]":
        own = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "STILLHOUSE_CACHE": str(self.home)}
        options = ["--storage", self.storage, *(["--inline"] if self.inline else [])]
        return subprocess.Popen(
            [sys.executable, "-m", "pipeline", "run", str(self.recipe), *options],
            env={**os.environ, **own},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self) -> Said:
        return said_by(self.start())


def said_by(process: "subprocess.Popen[str]") -> Said:
    out, err = process.communicate(timeout=LONGEST)
    return Said(process.returncode, out, err)


def at_moment(process: "subprocess.Popen[str]", moment: Callable[[], bool]) -> None:
    """Wait for the moment. AssertionError when the process ends first, or in ``LONGEST`` seconds."""
    ends = time.monotonic() + LONGEST
    while not moment():
        if process.poll() is not None or time.monotonic() > ends:
            process.kill()
            raise AssertionError(f"the moment did not come; {process.returncode}: {process.communicate()}")
        time.sleep(0.02)


def kill(process: "subprocess.Popen[str]") -> Said:
    process.send_signal(signal.SIGKILL)
    return said_by(process)


def records(storage: Storage) -> dict[str, Record]:
    """Node -> its record."""
    found = [parse_record(text, name) for name, text in record_texts(storage).items()]
    return {record.name: record for record in found}


def weights(storage: Storage) -> dict[str, str]:
    """Node -> the checksum of its weights, for the teacher and the student."""
    return {
        name: file.sha256
        for name, record in records(storage).items()
        for file in record.files
        if file.path.endswith("model.safetensors")
    }


def leased_keys(storage: Storage) -> list[str]:
    """The keys on which a process may still be working."""
    return [key for key in storage.entries(".work") if leased(storage, key, time.time())]

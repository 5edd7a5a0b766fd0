import json
import os
import re
import subprocess
import sys

from project import ROOT

from pipeline.artifacts.provenance import code_version, hardware


def test_the_version_of_the_code_is_a_number_and_a_digest_of_its_sources() -> None:
    assert re.fullmatch(r"\d+(\.\d+)*\+[0-9a-f]{12}", code_version())


def test_the_version_of_the_code_is_the_same_in_every_process_and_place() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from pipeline.artifacts.provenance import code_version; print(code_version())"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd="/",
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == code_version()


def test_hardware_can_be_kept_in_a_record() -> None:
    found = hardware()
    assert json.loads(json.dumps(found)) == found
    assert found["cores"] == os.cpu_count()
    memory = found["memory_bytes"]
    assert isinstance(memory, int)
    assert memory > 100_000_000

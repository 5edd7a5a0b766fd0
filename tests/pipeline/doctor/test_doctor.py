"""The checks of ``stillhouse doctor``."""

from importlib.metadata import requires
from pathlib import Path

import pytest
import torch
from rich.console import Console

from cluster.inline import Inline
from cluster.resources import Place
from pipeline.doctor.checks import (
    Finding,
    check_cache,
    check_disk,
    check_faiss,
    check_gpus,
    check_hub,
    check_packages,
    check_processor,
    check_ray,
    check_storage,
)
from pipeline.doctor.command import print_findings
from pipeline.errors import RequestError
from stages.gpus import Gpu, usable_gpus

REQUIREMENTS = ("torch>=2.13,<2.14", "rich>=15", "faiss-cpu>=1.15; extra == 'cpu'")


def test_packages_that_fit_are_listed_and_those_of_extras_are_not_required() -> None:
    (found,) = check_packages(REQUIREMENTS, {"torch": "2.13.0", "rich": "15.1"}.get, "3.11.7 (main)")
    assert found == Finding("packages", "ok", "Python 3.11.7, torch 2.13.0")


def test_a_package_that_is_missing_or_too_old_is_a_problem_with_the_command_that_mends_it() -> None:
    _, torch, rich = check_packages(REQUIREMENTS, {"torch": "2.12.1"}.get, "3.11.7")
    assert torch.state == "problem" and "2.12.1 is installed" in torch.text
    assert torch.remedy == "pip install 'torch<2.14,>=2.13'"
    assert rich == Finding("rich", "problem", "is not installed", "pip install 'rich>=15'")


def test_the_packages_of_this_installation_fit_its_own_requirements() -> None:
    assert [finding.state for finding in check_packages(requires("stillhouse") or ())] == ["ok"]


def test_faiss_is_needed_for_banks_and_may_be_there_only_once() -> None:
    assert check_faiss({"faiss-cpu": "1.15.0"}.get) == Finding("FAISS", "ok", "faiss-cpu 1.15.0")
    assert check_faiss({}.get).state == "warning"
    assert check_faiss({"faiss-cpu": "1.15.0", "faiss-gpu": "1.15.0"}.get).state == "problem"


def test_a_storage_that_can_be_written_is_ok_and_one_that_cannot_is_a_problem(tmp_path: Path) -> None:
    assert [finding.state for finding in check_storage(str(tmp_path / "runs"))] == ["ok", "ok"]
    file = tmp_path / "file"
    file.write_text("no folder")
    (found,) = check_storage(str(file / "runs"))
    assert found.state == "problem" and str(file) in found.text


def test_a_full_disk_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_disk("its disk", tmp_path / "not" / "yet").state == "ok"
    monkeypatch.setattr("pipeline.doctor.checks.LEAST_FREE", 2**63)
    assert check_disk("its disk", tmp_path).state == "warning"


def test_a_bound_of_the_cache_that_is_no_size_is_a_problem(tmp_path: Path) -> None:
    assert check_cache({"STILLHOUSE_CACHE": str(tmp_path)})[0].state == "ok"
    (found,) = check_cache({"STILLHOUSE_CACHE_BYTES": "much"})
    assert found.state == "problem"


def test_a_hub_that_is_switched_off_is_not_called_and_one_that_does_not_answer_is_a_warning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert check_hub({"HF_HUB_OFFLINE": "1"}).state == "ok"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    found = check_hub({}, seconds=2.0)
    assert found.state == "warning" and "HF_HUB_OFFLINE=1" in found.remedy


def test_processor_and_gpus_are_described() -> None:
    assert "cores" in check_processor().text
    assert check_gpus([], []) == Finding("GPUs", "ok", "none")
    assert check_gpus(["NVIDIA H100"], [Gpu("NVIDIA H100", 85 * 10**9)]).text == "NVIDIA H100 (85 GB)"
    assert check_gpus(["NVIDIA H100"], []).state == "problem", "the driver lists it, and torch cannot use it"
    assert usable_gpus() == [] or torch.cuda.is_available()


def test_a_cluster_that_cannot_be_reached_is_a_problem() -> None:
    def refuse(address: str) -> Place:
        raise RequestError(f"address: {address} refuses the connection")

    found = check_ray("127.0.0.1:9", refuse)
    assert found.state == "problem" and "127.0.0.1:9" in found.text
    assert check_ray(None, refuse).state == "ok"


def test_the_nodes_of_a_cluster_are_named() -> None:
    assert "1 node" in check_ray("auto", lambda _: Inline()).text


def test_each_finding_is_a_line_and_a_remedy_stands_below_it(capsys: pytest.CaptureFixture[str]) -> None:
    found = [Finding("hub", "ok", "answers"), Finding("storage", "problem", "[full]", "free some")]
    print_findings(found, Console(width=80))
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["ok       hub      answers", "problem  storage  [full]", "                  free some"]

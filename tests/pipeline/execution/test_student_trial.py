"""Students with random weights are tried before any work, in a process of its own."""

from pathlib import Path

import pytest
from project import graph_of, write_plannable_assets, write_plannable_model

from pipeline.errors import RequestError
from pipeline.execution.student_trial import try_students
from pipeline.plan.planner import Plan, plan
from pipeline.storage.directory import Directory


def student_plan(tmp_path: Path, masked: bool = False, **models: dict[str, object]) -> Plan:
    """The plan for one student of each of these configurations, by the student's label; with ``masked``, also for a
    masked language model with random weights."""
    assets = write_plannable_assets(tmp_path)
    lm = {"config": {"model": str(assets / "model"), "num_hidden_layers": 2}, "pretrain": "task"}
    students = [
        {"label": label, "config": {"model": str(write_plannable_model(tmp_path / label, **config))}}
        for label, config in models.items()
    ]
    recipe, graph = graph_of(assets, tmp_path / "runs", student=students, models={"lm": lm} if masked else {})
    return plan(graph, Directory(tmp_path / "runs"), recipe.name, None)


def test_a_student_whose_architecture_cannot_run_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever libraries print meanwhile, and after a model without a vocabulary, CANINE, which can run."""
    modern = {"model_type": "modernbert", "num_attention_heads": 2, "vocab_size": 50, "pad_token_id": 1}
    canine = {"model_type": "canine", "num_attention_heads": 2, "intermediate_size": 32}
    found = student_plan(tmp_path, canine=canine, good={**modern, "hidden_size": 24}, odd={**modern, "hidden_size": 6})
    run_at_the_start(monkeypatch, tmp_path, "print('a notice of a library')")
    with pytest.raises(RequestError) as caught:
        try_students(found)
    line = str(caught.value)
    assert line.startswith("distil/no-kd/odd/0@tiny: config: no model can be built from it (The size of tensor ")
    assert "\n" not in line


def test_a_trial_that_dies_is_a_warning_with_a_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = student_plan(tmp_path, masked=True, one={}, other={"vocab_size": 50})
    run_at_the_start(monkeypatch, tmp_path, "import os; os._exit(9)")
    assert try_students(found) == (
        "student: 3 of 3 with random weights could not be tried before the run, the first is pretrain/lm@tiny (the "
        "trial ended with exit code 9); if no model can be built, its own stage fails"
    )


def run_at_the_start(monkeypatch: pytest.MonkeyPatch, folder: Path, code: str) -> None:
    """Have Python processes that are started from here run this code before their own."""
    (folder / "started").mkdir()
    (folder / "started" / "sitecustomize.py").write_text(code, "utf-8")
    monkeypatch.syspath_prepend(str(folder / "started"))

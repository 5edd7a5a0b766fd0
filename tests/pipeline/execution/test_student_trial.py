"""Students with random weights are tried before any work, in a process of its own."""

from pathlib import Path

import pytest
from project import graph_of, write_plannable_assets, write_plannable_model

from pipeline.errors import RequestError
from pipeline.execution.student_trial import try_students
from pipeline.plan.planner import plan
from pipeline.storage.directory import Directory


def test_a_student_whose_architecture_cannot_run_is_refused_by_name(tmp_path: Path) -> None:
    assets = write_plannable_assets(tmp_path)
    modern = {"model_type": "modernbert", "num_attention_heads": 2, "vocab_size": 50, "pad_token_id": 1}
    model = write_plannable_model(tmp_path / "modern", **modern)
    sizes = {"good": 24, "odd": 6}
    students = [{"label": name, "config": {"model": str(model), "hidden_size": size}} for name, size in sizes.items()]
    recipe, graph = graph_of(assets, tmp_path / "runs", student=students)
    with pytest.raises(RequestError) as caught:
        try_students(plan(graph, Directory(tmp_path / "runs"), recipe.name, None))
    found = str(caught.value)
    assert found.startswith("distil/no-kd/odd/0@tiny: config: no model can be built from it (The size of tensor ")
    assert "\n" not in found

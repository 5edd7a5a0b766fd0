"""Runs whose stages run side by side in threads of one process, as on a GPU of this machine. Here they run on the CPU:
what is shared is the same, but for the GPU itself."""

from io import StringIO
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from project import Project, graph_in, write_project
from rich.console import Console
from tiny import BAD, GOOD, THINGS

from cluster.inline import Inline
from cluster.inline_gpu import InlineGpu
from cluster.resources import Capacity, Place, Resources
from pipeline.execution.build_node import RunContext
from pipeline.execution.preparation import prepare
from pipeline.execution.runner import Outcome, run
from pipeline.graph.nodes import Node
from pipeline.monitor.run_view import RunView
from pipeline.plan.planner import plan
from pipeline.recipe import load
from pipeline.storage.directory import Directory
from stages.specs.pretraining import PretrainSpec
from stages.specs.student import DistilSpec


class LargeMachine(InlineGpu):
    """A place in which all stages of a small run find room at once."""

    def capacity(self) -> Capacity:
        (node,) = super().capacity().nodes
        return Capacity.fixed(node.times(16))


def weights(project: Project, place: Place) -> tuple[Outcome, dict[str, str]]:
    """The outcome of a run on ``place``, and name of each trained model -> the digest of its weights."""
    project.storage.mkdir()
    recipe = load(project.recipe, (), str(project.storage))
    graph, storage, output = graph_in(project.storage, recipe), Directory(project.storage), StringIO()
    found = plan(graph, storage, recipe.name)

    def resources(_: Node) -> Resources:
        return Resources(gpus_per_worker=0.125)

    prepare(found, place, resources)
    view = RunView(Console(file=output, width=200), project.folder / "logs", graph.nodes)
    outcome = run(found, RunContext(storage, recipe.name, place, resources, view))
    models = [node for node in graph.nodes if isinstance(node.spec, DistilSpec | PretrainSpec)]
    digests = {
        node.name: outcome.records[node.key].files_below()["model/model.safetensors"][1]
        for node in models
        if node.key in outcome.records
    }
    return outcome, digests


def test_stages_side_by_side_in_threads_end_with_the_bits_of_stages_one_after_another(
    assets: Path, tmp_path: Path
) -> None:
    texts = [f"the {THINGS[n % 6]} was {(*GOOD, *BAD)[n % 10]} and the {THINGS[n % 5]} too" for n in range(60)]
    pq.write_table(pa.table({"text": texts}), tmp_path / "bank.parquet")
    changes = {
        "seeds": [0, 1],
        "method": [
            "no-kd",
            "annealing-kd",
            {"use": "minimax-knn", "data": {"k": 4, "keep": 1}},
            {"use": "mate-kd", "data": {"generator_steps": 2, "student_steps": 3, "learning_rate": 1.0e-3}},
        ],
        "models": {
            "generator": {"cut": {"of": "base", "layers": [1]}, "pretrain": {"texts": "task", "steps": 4}},
            "general": {
                "cut": {"of": "base", "layers": [1, 3]},
                "pretrain": {"texts": "bank", "taught_by": "base", "states": {"pairs": [[1, 2], [2, 4]]}, "steps": 4},
            },
        },
        "student": [
            {"label": "cut", "cut": {"of": "teacher", "layers": [1]}},
            {"label": "general", "start": "general"},
        ],
        "bank": {"files": [str(tmp_path / "bank.parquet")], "encoder": str(assets / "model")},
        "train": {"epochs": 2, "max_length": 16, "batch_size": 8},
    }
    alone, one_by_one = weights(write_project(tmp_path / "alone", assets, **changes), Inline())
    beside, at_once = weights(write_project(tmp_path / "beside", assets, **changes), LargeMachine("cpu"))
    assert not alone.failures and not beside.failures
    assert len(one_by_one) == 1 + 2 + 4 * 2 * 2
    assert at_once == one_by_one

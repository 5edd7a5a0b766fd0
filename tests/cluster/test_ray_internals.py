"""Each private part of Ray that ``cluster/ray_internals.py`` uses is where it looks for it; no other file uses any."""

import ast
import importlib
import importlib.util
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from cluster import ray_internals

ROOT = Path(ray_internals.__file__).parents[1]
RAY = Path(ray.__file__).parent

CALLBACK = "ray.train.v2._internal.execution.callback.ControllerCallback"
TRAINER = "ray.train.v2.api.data_parallel_trainer.DataParallelTrainer"
CONTROLLER = "ray.train.v2._internal.execution.controller.controller.TrainController"
CALLBACKS = "ray.train.v2._internal.callbacks"

PARTS = (
    TRAINER,
    f"{TRAINER}._create_default_callbacks",
    f"{TRAINER}.fit",
    CALLBACK,
    f"{CALLBACK}.after_controller_start",
    f"{CONTROLLER}.abort",
    f"{CALLBACKS}.placement_group_callback.PlacementGroupCleanerCallback",
    f"{CALLBACKS}.datasets.DatasetsCallback",
    "ray._private.parameter.RayParams",
    "ray._private.services.start_api_server",
    "ray._private.utils.get_dashboard_dependency_error",
    "ray._private.state.state.get_cluster_config",
    "ray.core.generated.autoscaler_pb2.ClusterConfig",
    "ray.core.generated.autoscaler_pb2.NodeGroupConfig",
    "ray.actor._modify_class",
)


PARTS_REPLACED = ("ray._private.services.start_api_server", "ray._private.utils.get_dashboard_dependency_error")
"""Functions of Ray that ``lean_start`` replaces."""


def looked_up(path: str) -> Any:
    """What a dotted path names. Fails with a line that says which part of it the installed Ray lacks."""
    names = path.split(".")
    for end in range(len(names), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(names[:end]))
        except ModuleNotFoundError:
            continue
        for place, name in enumerate(names[end:], end):
            if not hasattr(found, name):
                pytest.fail(
                    f"Ray {ray.__version__} has no {'.'.join(names[: place + 1])}, which cluster/ray_internals.py uses"
                )
            found = getattr(found, name)
        return found
    raise AssertionError(path)


@pytest.mark.parametrize("path", PARTS)
def test_ray_has_each_private_part_that_is_used(path: str) -> None:
    assert looked_up(path) is not None


def test_a_part_that_moved_is_named() -> None:
    with pytest.raises(pytest.fail.Exception, match=rf"Ray {ray.__version__} has no {CALLBACK}.after_the_moon, which"):
        looked_up(f"{CALLBACK}.after_the_moon.again")


@pytest.mark.parametrize(
    ("message", "fields"), [("ClusterConfig", {"node_group_configs"}), ("NodeGroupConfig", {"max_count", "resources"})]
)
def test_the_cluster_configuration_has_the_fields_that_are_read(message: str, fields: set[str]) -> None:
    known = set(looked_up(f"ray.core.generated.autoscaler_pb2.{message}").DESCRIPTOR.fields_by_name)
    assert fields <= known, f"{message} of Ray {ray.__version__} has no {', '.join(sorted(fields - known))}"


def test_the_hook_and_the_methods_take_the_arguments_that_they_are_given() -> None:
    assert list(inspect.signature(looked_up(f"{CALLBACK}.after_controller_start")).parameters) == [
        "self",
        "train_run_context",
    ]
    assert list(inspect.signature(looked_up(f"{TRAINER}._create_default_callbacks")).parameters) == ["self"]
    assert list(inspect.signature(looked_up(f"{CONTROLLER}.abort")).parameters) == ["self"]


def test_ray_can_be_started_with_fewer_processes_and_is_as_before_afterwards() -> None:
    params = looked_up("ray._private.parameter.RayParams")
    named = set(inspect.signature(params).parameters)
    assert {"no_monitor", "include_log_monitor"} <= named, f"RayParams of Ray {ray.__version__} has other options"
    for file, read in (("no_monitor", "if not self._ray_params.no_monitor:"), ("log", ".include_log_monitor:")):
        assert written_in(read, "_private/node.py"), f"Ray {ray.__version__} does not look at the option for {file}"
    assert written_in("ray._private.parameter.RayParams(", "_private/worker.py"), "ray.init takes the class elsewhere"
    assert written_in("ray._private.services.start_api_server(", "_private/node.py")
    assert written_in("ray._private.utils.get_dashboard_dependency_error() is not None", "_private/services.py")
    server, error = (looked_up(PARTS_REPLACED[0]), looked_up(PARTS_REPLACED[1]))
    with ray_internals.lean_start():
        assert looked_up(PARTS_REPLACED[0])(False, False, "127.0.0.1", port=1) == (None, None)
        assert looked_up(PARTS_REPLACED[1])() is not None
        made = looked_up("ray._private.parameter.RayParams")(num_cpus=3)
        assert (made.num_cpus, made.no_monitor, made.include_log_monitor) == (3, True, False)
    assert looked_up("ray._private.parameter.RayParams") is params
    assert [looked_up(path) for path in PARTS_REPLACED] == [server, error]


@pytest.mark.parametrize("workers", [1, 2])
def test_the_trainer_overrides_what_exists(workers: int) -> None:
    trainer = ray_internals.trainer_class(workers, lambda: None)
    base = trainer.__mro__[1]
    assert issubclass(base, looked_up(TRAINER)), f"{base} of Ray {ray.__version__} is no {TRAINER}"
    assert "_create_default_callbacks" in vars(trainer)


def test_the_callbacks_to_drop_are_classes_of_ray() -> None:
    known = {path.rsplit(".", 1)[1] for path in PARTS if path.startswith(CALLBACKS)}
    assert known == ray_internals.DROPPED_CALLBACKS


def test_every_actor_says_when_it_is_ready() -> None:
    plain = type("Plain", (), {"__module__": __name__})
    modified = looked_up("ray.actor._modify_class")(plain)
    assert hasattr(modified, "__ray_ready__"), f"actors of Ray {ray.__version__} have no __ray_ready__"


def written_in(name: str, *files: str) -> bool:
    """Whether the installed Ray names it in one of these of its files."""
    return any(name.encode() in (RAY / file).read_bytes() for file in files)


@pytest.mark.parametrize("name", ray_internals.TRAIN_SETTINGS)
def test_ray_train_reads_each_setting(name: str) -> None:
    files = ("train/constants.py", "train/v2/_internal/constants.py")
    assert written_in(f'"{name}"', *files), f"Ray Train {ray.__version__} does not read {name} any more"


@pytest.mark.parametrize("name", [*ray_internals.LOCAL_SETTINGS, *ray_internals.ATTACH_SETTINGS])
def test_ray_reads_each_setting(name: str) -> None:
    files = ("_raylet.so", "_private/node.py")
    assert written_in(name.removeprefix("RAY_"), *files), f"Ray {ray.__version__} does not read {name} any more"


@pytest.mark.parametrize("monitor", ray_internals.MONITORS)
def test_an_autoscaler_is_started_with_the_options_that_are_looked_for(monitor: str) -> None:
    assert (RAY / monitor).is_file(), f"Ray {ray.__version__} has no {monitor}"
    for option in (ray_internals.MONITOR_ADDRESS, ray_internals.MONITOR_CONFIG):
        assert written_in(f'"{option}"', monitor), f"{monitor} of Ray {ray.__version__} takes no {option}"
        assert written_in(f'"{option}=', "_private/services.py"), f"Ray {ray.__version__} does not pass {option}=..."


@pytest.mark.parametrize("name", [ray_internals.STARTUP_LOGGER, *ray_internals.CLIENT_LOGGERS])
def test_each_logger_is_named_after_a_module(name: str) -> None:
    assert importlib.util.find_spec(name) is not None, f"Ray {ray.__version__} has no {name}"


# --- no other file ----------------------------------------------------------------------------------


def is_private(name: str) -> bool:
    """Whether a dotted name is Ray's, and no part of its public interface."""
    parts = name.split(".")
    return parts[0] == "ray" and (parts[:3] == ["ray", "train", "v2"] or any(part.startswith("_") for part in parts))


def dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def private_parts(source: str) -> Iterator[str]:
    """The private names of Ray that a file imports, reads or writes down as text."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if is_private(alias.name))
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name for name in names if is_private(name))
        elif isinstance(node, ast.Attribute) and (is_private(dotted(node)) or node.attr.startswith("__ray_")):
            yield node.attr
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and is_private(node.value):
            yield node.value


def test_private_parts_are_seen_in_a_file() -> None:
    lines = (
        "from ray.train.v2.api.trainer import Trainer",
        "from ray import _private",
        "import ray._private.state",
        "ray._private.state.state",
        "actor.__ray_ready__",
        "logging.getLogger('ray._private')",
    )
    for line in lines:
        assert list(private_parts(line)), line
    assert not list(private_parts("import ray\nfrom ray.exceptions import RayError\nray.get(self._ref)\n__file__"))


@pytest.mark.parametrize("package", ["cluster", "stages", "pipeline", "benchmarks"])
def test_no_other_file_uses_private_parts_of_ray(package: str) -> None:
    sources = [path for path in (ROOT / package).rglob("*.py") if path != Path(ray_internals.__file__)]
    assert sources
    assert {str(path.relative_to(ROOT)): set(private_parts(path.read_text("utf-8"))) for path in sources} == {
        str(path.relative_to(ROOT)): set() for path in sources
    }


def test_the_answer_of_a_cluster_that_takes_no_jobs_yet_has_the_words_that_are_looked_for() -> None:
    source = (RAY / "dashboard" / "modules" / "job" / "job_head.py").read_text("utf-8")
    assert ray_internals.NO_AGENT in source

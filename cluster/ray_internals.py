"""All that is used of Ray beyond its public interface. A new Ray may change any of it without notice.

No other module imports Ray's private modules or names its private attributes. ``tests/cluster/test_ray_internals.py``
looks each of these up in the installed Ray, so that an upgrade which moves one fails there, by name.

``ray.train.v2.api.data_parallel_trainer.DataParallelTrainer``
    The trainer for a worker group of one: unlike the public ``TorchTrainer`` it needs no torch in its controller.
``DataParallelTrainer._create_default_callbacks``
    Overridden, to leave out two callbacks that would each start an actor, and to add our own.
``ray.train.v2._internal.execution.callback.ControllerCallback``
    Its ``after_controller_start`` runs in the controller's process: the only way to learn the controller's handle.
``TrainController.abort``
    Ends a group whose workers do not return by themselves, such as a collective that hangs.
``__ray_ready__`` of every actor
    Resolves when an actor is alive, and fails when it is dead: tells a worker's own exception from another's death.
``ray._private.state.state.get_cluster_config``
    How far Kubernetes may scale the cluster: the public interface has no such question.
The command line of ``autoscaler/_private/monitor.py`` and ``autoscaler/v2/monitor.py``
    Names the file that says how far ``ray up`` may scale the cluster.
``ray._private.parameter.RayParams``
    Its ``no_monitor`` and ``include_log_monitor``, options of ``ray start`` that ``ray.init`` does not pass on.
``ray._private.utils.get_dashboard_dependency_error``
    Where it returns an error, Ray starts the dashboard's agent with ``--minimal``.
``ray._private.services.start_api_server``
    Replaced while our own Ray starts: ``ray.init`` has no option that leaves it out.
The option ``_temp_dir`` of ``ray.init``
    The folder of the session directory, so that it can be removed.
Environment variables
    ``TRAIN_SETTINGS``, ``LOCAL_SETTINGS`` and ``ATTACH_SETTINGS``, which Ray's documentation does not list.
The text ``NO_AGENT``
    The Jobs API has no code for it.
Names of loggers
    ``STARTUP_LOGGER`` and ``CLIENT_LOGGERS``, to keep Ray's own lines off the terminal.

Ray is imported inside the functions, so that this module is as light as the constants in it.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

TRAIN_SETTINGS = {
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # one actor a group, useful only to loops that read its signal
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "1",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths mean the same in every worker
    "TORCH_PROCESS_GROUP_SHUTDOWN_TIMEOUT_S": "2",  # the shutdown hangs where a rank hangs in a collective
}
"""Read by Ray Train from the environment of the process that calls ``fit``, or of its controller."""

LOCAL_SETTINGS = {
    "RAY_worker_niceness": "0",  # training is the purpose of the machine
    "RAY_enable_metrics_collection": "0",  # nothing collects them here, and they cost one percent of a CPU
    "RAY_task_events_report_interval_ms": "0",  # for the same reason
}
"""Read from the environment by a Ray that is started on this machine."""

ATTACH_SETTINGS = {"RAY_gcs_server_port_wait_time_s": "5"}
"""Read when a process connects to a running Ray: the number of attempts, of one or two seconds each."""

SESSION_FOLDER_OPTION = "_temp_dir"
"""The option of ``ray.init`` that says in which folder a Ray that it starts has its session directory."""

STARTUP_LOGGER = "ray._private"
"""The logger that is used while Ray starts, when all handlers are taken off the logger ``ray``."""

CLIENT_LOGGERS = ("ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk")
"""The loggers on which the client of the Jobs API reports its uploads."""

NO_AGENT = "No available agent to submit job"
"""Part of the Jobs API's answer while no node has a job agent yet, as for some seconds after the head has started."""

MONITORS = ("autoscaler/_private/monitor.py", "autoscaler/v2/monitor.py")
"""The programs that run an autoscaler, relative to Ray's own folder."""

MONITOR_ADDRESS, MONITOR_CONFIG = "--gcs-address", "--autoscaling-config"
"""Options on the command line of a monitor: the cluster's address, and the file that it scales by."""

DROPPED_CALLBACKS = frozenset({"PlacementGroupCleanerCallback", "DatasetsCallback"})
"""Classes of callbacks that a trainer does without. Each would start an actor: one for data sets, of which there are
none; one that asks the dashboard every second whether the controller lives, in vain where there is no dashboard. Our
controller is never killed, only stopped or aborted, and then it removes its placement group itself."""


@contextmanager
def lean_start() -> Iterator[None]:
    """A context in which a Ray that ``ray.init`` starts has only what a run on this machine uses: no autoscaler, which
    could add no machine to this one; no process that passes log lines on to drivers, of which ours takes none; no API
    server, which has the dashboard and the jobs; and the dashboard's agent as in a Ray that is installed without it.
    Ray waits for these one after another when it starts, and gives up where the agent takes more than 15 s, which a
    busy machine needs for the libraries of the whole dashboard."""
    from ray._private import parameter, services, utils

    whole: Any = parameter.RayParams
    dependency_error = utils.get_dashboard_dependency_error
    start_api_server = services.start_api_server

    class Params(whole):
        def __init__(self, *given: Any, **named: Any) -> None:
            super().__init__(*given, **{"no_monitor": True, "include_log_monitor": False, **named})

    parameter.RayParams = Params  # type: ignore[misc]
    utils.get_dashboard_dependency_error = lambda: ImportError("the dashboard is not wanted")
    services.start_api_server = lambda *_, **__: (None, None)
    try:
        yield
    finally:
        parameter.RayParams = whole  # type: ignore[misc]
        utils.get_dashboard_dependency_error = dependency_error
        services.start_api_server = start_api_server


def trainer_class(workers: int, on_controller_start: Callable[[], None]) -> Any:
    """The class of Ray Train's trainer for so many workers, without ``DROPPED_CALLBACKS``.

    ``on_controller_start`` is pickled, and called once in the controller's process when it has started.
    """
    from ray.train.v2._internal.execution.callback import ControllerCallback
    from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

    base: Any = DataParallelTrainer
    if workers > 1:
        from ray.train.torch import TorchTrainer

        base = TorchTrainer

    class StartCallback(ControllerCallback):
        def after_controller_start(self, train_run_context: Any) -> None:  # noqa: ARG002
            on_controller_start()

    class Trainer(base):
        def _create_default_callbacks(self) -> list[Any]:
            callbacks = super()._create_default_callbacks()
            return [*(one for one in callbacks if type(one).__name__ not in DROPPED_CALLBACKS), StartCallback()]

    return Trainer


async def abort_controller(controller: Any) -> None:
    """End the controller of a worker group, and its workers with it, whatever they are doing. Raises
    ``RayActorError``, since the controller's process ends before it can answer."""
    await controller.abort.remote()


def ready(actor: Any) -> Any:
    """A reference that resolves when the actor is alive, and raises ``RayActorError`` when it is dead."""
    return actor.__ray_ready__.remote()


def scalable_node_groups() -> Sequence[tuple[int, dict[str, float]]]:
    """(largest count, resources of one node) of each kind of node that the cluster's platform may add, a negative count
    where it sets no limit. Empty where Ray has no such information."""
    from ray._private.state import state

    config = state.get_cluster_config()
    groups = config.node_group_configs if config is not None else ()
    return [(group.max_count, dict(group.resources)) for group in groups]

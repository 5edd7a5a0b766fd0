"""The cluster's files are what Ray and Kubernetes take: by Ray's own schema, by the code that `ray up` runs before its
first call to a cloud, by Ray's own command line, and by ours."""

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.commands import _bootstrap_config, warn_about_bad_start_command
from ray.autoscaler._private.util import hash_runtime_conf, prepare_config, validate_config
from ray.scripts.scripts import start as ray_start
from typer.core import TyperGroup
from typer.main import get_command

from pipeline.cli.main import app

ROOT = Path(__file__).resolve().parent.parent
TOKEN = "~/.ray/auth_token"


def launcher() -> dict[str, Any]:
    """The file as `ray up` reads it."""
    read: dict[str, Any] = yaml.safe_load((ROOT / "ray_cluster.yaml").read_text("utf-8"))
    return read


def commands(config: dict[str, Any]) -> list[str]:
    names = [name for name in config if name.endswith("_commands")]
    return [command for name in sorted(names) for command in config[name]]


def started(commands: list[str]) -> list[str]:
    """The arguments of the one `ray start` among the commands."""
    lines = [command for command in commands if " start " in command]
    assert len(lines) == 1
    return shlex.split(lines[0].split("ray start", 1)[1])


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's home with a token; commands run from the repository's root, as the file says."""
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("a" * 64, "utf-8")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(ROOT)
    return tmp_path


def test_ray_takes_the_launcher_file_by_its_own_schema() -> None:
    validate_config(prepare_config(launcher()))


def test_ray_up_gets_as_far_as_the_cloud(home: Path) -> None:
    """The path of `ray up`, with a provider that knows no cloud in the place of AWS."""
    config = launcher()
    config["provider"] |= {"type": "external", "module": "ray.autoscaler.node_provider.NodeProvider"}
    config["cluster_synced_files"] = []  # a default of AWS
    resolved = _bootstrap_config(config, no_config_cache=True)
    assert resolved["available_node_types"]["gpu"]["resources"] == {"CPU": 8, "GPU": 1}


def test_the_schema_refuses_what_it_should() -> None:
    """So that the tests above mean something."""
    config = launcher()
    config["available_node_types"]["gpu"]["resources"]["GPU"] = "one"
    with pytest.raises(Exception, match="'one' is not of type 'integer'"):
        validate_config(prepare_config(config))


def test_the_head_has_no_gpu_and_gpu_workers_scale_to_zero() -> None:
    types = prepare_config(launcher())["available_node_types"]
    assert types["head"]["resources"]["GPU"] == 0
    assert types["gpu"]["min_workers"] == 0
    assert types["gpu"]["max_workers"] == launcher()["max_workers"] > 0


def test_commands_are_shell_and_installs_keep_to_the_constraints() -> None:
    config = prepare_config(launcher())
    for command in commands(config):
        # As Ray's command runner wraps it.
        checked = subprocess.run(["bash", "-n", "-c", f"true && ({command})"], capture_output=True, text=True)
        assert checked.returncode == 0, f"{command}\n{checked.stderr}"
        assert "pip install" not in command or "-c constraints.txt" in command
    assert not any("ray-wheels" in command for command in commands(config)), "a default of Ray's is left in force"


@pytest.mark.parametrize("kind", ["head", "worker"])
def test_rays_command_line_takes_how_nodes_are_started_with_tokens_on(kind: str) -> None:
    lines = launcher()[f"{kind}_start_ray_commands"]
    options = ray_start.make_context("start", started(lines)).params
    assert options["head"] is (kind == "head")
    assert "RAY_AUTH_MODE=token" in lines[-1]
    assert "export PATH=~/venv/bin:$PATH;" in lines[-1], "the driver of a job is the first python there"
    if kind == "head":
        assert options["dashboard_host"] == "127.0.0.1"
        assert options["autoscaling_config"] == "~/ray_bootstrap_config.yaml"
        warn_about_bad_start_command(lines)
    else:
        assert options["address"] == "$RAY_HEAD_IP:6379"


def test_an_edit_of_the_code_leaves_the_nodes_alone_and_one_of_the_pins_does_not(home: Path, tmp_path: Path) -> None:
    """Ray sets nodes up again when what is mounted changes."""
    mounts = launcher()["file_mounts"]
    assert {Path(local).name for local in mounts.values()} >= {"pyproject.toml", "constraints.txt", "auth_token"}
    assert mounts[TOKEN] == TOKEN
    before = hash_runtime_conf(mounts, [], {}, generate_file_mounts_contents_hash=True)
    changed = tmp_path / "constraints.txt"
    changed.write_text((ROOT / "constraints.txt").read_text("utf-8") + "more==1\n", "utf-8")
    after = hash_runtime_conf(
        mounts | {"~/stillhouse/constraints.txt": str(changed)}, [], {}, generate_file_mounts_contents_hash=True
    )
    assert before != after
    assert not any((ROOT / local).is_dir() for local in mounts.values())


def test_what_is_mounted_is_enough_to_install_the_dependencies(tmp_path: Path) -> None:
    """The project without its packages is still a project."""
    from setuptools.config.pyprojecttoml import read_configuration

    for remote, local in launcher()["file_mounts"].items():
        if local != TOKEN:
            (tmp_path / Path(remote).name).write_bytes((ROOT / local).read_bytes())
    project = read_configuration(tmp_path / "pyproject.toml", expand=True)["project"]
    assert any(name.startswith("torch") for name in project["dependencies"])
    assert (tmp_path / project["readme"]).exists() and (tmp_path / project["license-files"][0]).exists()


@pytest.mark.parametrize("extra", ["cpu", "gpu"])
def test_faiss_is_held_by_the_constraints_on_either_kind_of_node(extra: str) -> None:
    pins = (ROOT / "constraints.txt").read_text("utf-8").split()
    assert any(pin.startswith(f"faiss-{extra}==") for pin in pins)


def test_storage_is_mounted_only_where_it_is_named(tmp_path: Path) -> None:
    """The command as it stands does nothing; with a server it mounts that, and gives it to the user."""
    command = next(command for command in launcher()["setup_commands"] if "mount" in command)
    for name, shell in (("sudo", 'echo "$@"'), ("mountpoint", "exit 1")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{shell}\n", "utf-8")
        (tmp_path / name).chmod(0o755)

    def run(text: str) -> str:
        environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "USER": "ubuntu"}
        return subprocess.run(["bash", "-c", text], env=environment, capture_output=True, text=True, check=True).stdout

    assert run(command) == ""
    told = run(command.replace("NFS= ;", "NFS=server:/path ;")).splitlines()
    assert told[0] == "mkdir -p /shared"
    assert told[1].startswith("mount -t nfs4") and told[1].endswith("server:/path /shared")
    assert told[2] == "chown ubuntu /shared"


def job() -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((ROOT / "kuberay" / "rayjob.yaml").read_text("utf-8"))
    return read


def groups() -> dict[str, dict[str, Any]]:
    """Head and worker groups by name."""
    cluster = job()["spec"]["rayClusterSpec"]
    return {"head": cluster["headGroupSpec"]} | {one["groupName"]: one for one in cluster["workerGroupSpecs"]}


def test_the_rayjob_has_the_fields_of_rays_version_1() -> None:
    """Names as KubeRay publishes them for ray.io/v1."""
    read = job()
    assert (read["apiVersion"], read["kind"]) == ("ray.io/v1", "RayJob")
    assert set(read["spec"]) <= {
        "entrypoint",
        "runtimeEnvYAML",
        "backoffLimit",
        "activeDeadlineSeconds",
        "shutdownAfterJobFinishes",
        "ttlSecondsAfterFinished",
        "submissionMode",
        "suspend",
        "rayClusterSpec",
    }
    cluster = read["spec"]["rayClusterSpec"]
    assert set(cluster) <= {
        "rayVersion",
        "authOptions",
        "enableInTreeAutoscaling",
        "autoscalerOptions",
        "headGroupSpec",
        "workerGroupSpecs",
    }
    assert set(groups()["gpu"]) == {
        "groupName",
        "replicas",
        "minReplicas",
        "maxReplicas",
        "rayStartParams",
        "template",
    }


def test_the_rayjobs_ray_is_the_pinned_one_with_tokens_on_and_autoscaling() -> None:
    cluster = job()["spec"]["rayClusterSpec"]
    pins = (ROOT / "constraints.txt").read_text("utf-8").split()
    assert f"ray=={cluster['rayVersion']}" in pins
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["enableInTreeAutoscaling"] is True
    assert groups()["gpu"]["replicas"] == groups()["gpu"]["minReplicas"] == 0 < groups()["gpu"]["maxReplicas"]


@pytest.mark.parametrize("name", ["head", "gpu"])
def test_a_pods_requests_are_its_limits_and_its_mounts_are_its_volumes(name: str) -> None:
    """Ray counts limits; a pod that is promised less than that is evicted, or starved."""
    pod = groups()[name]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["resources"]["requests"] == container["resources"]["limits"]
    assert ("nvidia.com/gpu" in container["resources"]["limits"]) is (name == "gpu")
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    started = [f"--{key}={value}" for key, value in groups()[name]["rayStartParams"].items()]
    ray_start.make_context("start", started)  # refuses what `ray start` does not know


def test_every_pod_has_one_image_the_shared_storage_and_the_credentials() -> None:
    containers = [group["template"]["spec"]["containers"][0] for group in groups().values()]
    assert len({container["image"] for container in containers}) == 1
    for container in containers:
        assert {"name": "shared", "mountPath": "/shared"} in container["volumeMounts"]
        assert container["envFrom"] == [{"secretRef": {"name": "stillhouse-s3", "optional": True}}]
    claim = yaml.safe_load((ROOT / "kuberay" / "storage.yaml").read_text("utf-8"))
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    volumes = [volume for group in groups().values() for volume in group["template"]["spec"]["volumes"]]
    claimed = {volume["persistentVolumeClaim"]["claimName"] for volume in volumes if "persistentVolumeClaim" in volume}
    assert claimed == {claim["metadata"]["name"]}


def test_our_command_line_takes_the_rayjobs_entrypoint() -> None:
    words = shlex.split(job()["spec"]["entrypoint"])
    assert words[:3] == ["python", "-m", "pipeline"]
    command = get_command(app)
    assert isinstance(command, TyperGroup)
    given = command.commands[words[3]].make_context(words[3], words[4:]).params
    assert (words[3], given["address"], given["storage"]) == ("run", "auto", "/shared/runs")
    mounts = groups()["head"]["template"]["spec"]["containers"][0]["volumeMounts"]
    assert str(given["recipe"].parent) in {mount["mountPath"] for mount in mounts}


def test_the_runtime_environment_sets_strings() -> None:
    environment = yaml.safe_load(job()["spec"]["runtimeEnvYAML"])
    assert set(environment) == {"env_vars"}
    assert all(isinstance(value, str) for value in environment["env_vars"].values())


def test_the_image_copies_what_is_there_and_keeps_to_the_constraints() -> None:
    lines = (ROOT / "kuberay" / "Dockerfile").read_text("utf-8").splitlines()
    copied = [name for line in lines if line.startswith("COPY") for name in line.split()[1:-1]]
    assert {"pipeline", "stages", "cluster", "pyproject.toml", "constraints.txt"} <= set(copied)
    assert all((ROOT / name).exists() for name in copied)
    installs = [line for line in lines if "pip install" in line]
    assert installs and all("-c constraints.txt" in line for line in installs)


def test_the_guide_names_files_that_are_there() -> None:
    guide = (ROOT / "docs" / "cluster.md").read_text("utf-8")
    named = set(re.findall(r"(?:kuberay/[\w.]+|ray_cluster\.yaml|recipes/[\w-]+\.yaml|docs/[\w-]+\.md)", guide))
    assert {"ray_cluster.yaml", "kuberay/rayjob.yaml", "kuberay/Dockerfile"} <= named
    assert all((ROOT / name).exists() for name in named)

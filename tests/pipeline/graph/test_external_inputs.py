import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from project import graph_of, nodes_by_name, write_plannable_assets, write_plannable_model

from pipeline.errors import RequestError
from pipeline.graph.external.digests import Digests
from pipeline.graph.external.hub import Pins, download_model
from pipeline.graph.external.inputs import data_file, model_directory, model_identity, tokenizer_identity
from pipeline.storage.directory import Directory

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def digests(tmp_path: Path) -> Digests:
    return Digests.load(tmp_path / ".identity" / "digests.json")


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No network, and a hub cache of the test's own."""
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.fixture(params=["offline mode", "no answer"])
def silent(request: pytest.FixtureRequest, offline: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No network: by setting, or without any answer."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", request.param == "offline mode")
    return offline


# --- digests --------------------------------------------------------------------------------------


def with_same_times(path: Path, text: str) -> None:
    """Change the content but keep size, inode and time, which the cache compares."""
    before = path.stat()
    with path.open("r+", encoding="utf-8") as stream:
        stream.write(text)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_file_is_not_read_again_while_path_size_time_and_inode_stay(tmp_path: Path, digests: Digests) -> None:
    path = tmp_path / "a"
    path.write_text("one", "utf-8")
    first = digests.sha256(path)
    with_same_times(path, "two")
    assert digests.sha256(path) == first


@pytest.mark.parametrize("change", ["content", "time", "inode", "path"])
def test_a_file_is_read_again_when_anything_about_it_changed(tmp_path: Path, digests: Digests, change: str) -> None:
    path = tmp_path / "a"
    path.write_text("one", "utf-8")
    first = digests.sha256(path)
    with_same_times(path, "two")
    if change == "content":
        path.write_text("three", "utf-8")
    elif change == "time":
        os.utime(path, ns=(0, 1))
    elif change == "inode":
        copy = tmp_path / "copy"
        copy.write_text("two", "utf-8")
        os.utime(copy, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
        os.replace(copy, path)
    else:
        os.link(path, tmp_path / "b")
        path = tmp_path / "b"
    assert digests.sha256(path) != first


def test_digests_are_kept_for_the_next_run(tmp_path: Path, digests: Digests) -> None:
    path = tmp_path / "a"
    path.write_text("one", "utf-8")
    first = digests.sha256(path)
    digests.save()
    with_same_times(path, "two")
    assert Digests.load(digests.file).sha256(path) == first


def test_a_missing_storage_is_not_created_for_digests(tmp_path: Path) -> None:
    """A plan creates no storage."""
    digests = Digests.load(tmp_path / "runs" / ".identity" / "digests.json")
    digests.sha256(Path(__file__))
    digests.save()
    assert not (tmp_path / "runs").exists()


DAMAGED = ["", "{", "[]", '"text"', "3", '{"a": 3}', "\0\0"]


@pytest.mark.parametrize("text", DAMAGED)
def test_a_damaged_cache_of_digests_is_written_anew(tmp_path: Path, text: str) -> None:
    path = tmp_path / "digests.json"
    path.write_text(text, "utf-8")
    Digests.load(path).save()
    assert json.loads(path.read_text("utf-8")) == {}


def test_a_folder_in_the_place_of_the_cache_of_digests_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "digests.json").mkdir()
    digests = Digests.load(tmp_path / "digests.json")
    digests.sha256(Path(__file__))
    digests.save()
    assert len(Digests.load(tmp_path / "digests.json").known) == 1


@pytest.mark.parametrize("text", DAMAGED)
def test_damaged_pins_are_refused_and_never_moved_to_the_latest_commits(tmp_path: Path, text: str) -> None:
    (tmp_path / ".identity").mkdir()
    (tmp_path / ".identity" / "pins.json").write_text(text, "utf-8")
    with pytest.raises(RequestError, match=r"pins\.json: these pins of hub names are damaged \(.+\); restore the file"):
        Pins.load(Directory(tmp_path), refresh=False)
    assert (tmp_path / ".identity" / "pins.json").read_text("utf-8") == text


def test_a_data_file_is_identified_by_its_content(tmp_path: Path, digests: Digests) -> None:
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("x\n1\n", "utf-8")
    a, b = (data_file(tmp_path / name, digests) for name in ("a.csv", "b.csv"))
    assert a.identity == b.identity
    assert (a.about, b.path) == ("a.csv", tmp_path / "b.csv")


# --- models ---------------------------------------------------------------------------------------


def test_a_model_is_identified_by_weights_tokenizer_and_configuration(tmp_path: Path, digests: Digests) -> None:
    model = write_plannable_model(tmp_path / "model")
    seen = [model_identity(model, digests)]
    for name, text in (
        ("model.safetensors", "other weights"),
        ("tokenizer.json", '{"vocab": {"a": 1}}'),
        ("tokenizer_config.json", '{"lower": true}'),
        ("config.json", '{"hidden_size": 64, "num_hidden_layers": 4}'),
    ):
        (model / name).write_text(text, "utf-8")
        seen.append(model_identity(model, digests))
    assert len(set(seen)) == len(seen)


def test_file_names_of_weights_and_volatile_settings_do_not_change_the_identity(
    tmp_path: Path, digests: Digests
) -> None:
    model = write_plannable_model(tmp_path / "model")
    other = write_plannable_model(
        tmp_path / "other", transformers_version="9.9", _name_or_path="/elsewhere", torch_dtype="float32", dtype="x"
    )
    (other / "model.safetensors").rename(other / "weights-00001-of-00001.safetensors")
    (other / "README.md").write_text("a card", "utf-8")
    assert model_identity(other, digests) == model_identity(model, digests)


def test_the_order_of_a_configuration_does_not_change_the_identity(tmp_path: Path, digests: Digests) -> None:
    model, other = write_plannable_model(tmp_path / "model"), write_plannable_model(tmp_path / "other")
    settings = json.loads((model / "config.json").read_text("utf-8"))
    (other / "config.json").write_text(json.dumps(dict(reversed(settings.items()))), "utf-8")
    assert model_identity(other, digests) == model_identity(model, digests)


def test_models_load_from_safetensors_only(tmp_path: Path, digests: Digests) -> None:
    model = write_plannable_model(tmp_path / "model")
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    with pytest.raises(RequestError) as caught:
        model_identity(model, digests)
    assert str(caught.value) == (
        f"{model}: no *.safetensors here; models load from safetensors only, convert it with save_pretrained"
    )


def test_a_model_without_a_tokenizer_is_refused(tmp_path: Path, digests: Digests) -> None:
    model = write_plannable_model(tmp_path / "model")
    (model / "tokenizer.json").unlink()
    with pytest.raises(RequestError, match="no tokenizer here; save one with tokenizer"):
        tokenizer_identity(model, digests)


def test_a_name_means_a_directory_then_a_package_then_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    name = "sentence-transformers/all-MiniLM-L6-v2"
    packaged = model_directory(name)
    assert packaged is not None
    assert (packaged / "model.safetensors").exists()
    assert model_directory("bert-base-uncased") is None
    write_plannable_model(tmp_path / "sentence-transformers" / "all-MiniLM-L6-v2")
    assert model_directory(name) == tmp_path / name


# --- the hub --------------------------------------------------------------------------------------


def test_a_hub_name_without_network_is_refused_in_one_line(tmp_path: Path, silent: Path) -> None:
    pins = Pins.load(Directory(tmp_path), refresh=False)
    with pytest.raises(
        RequestError, match=r"^teacher\.model: org/bert cannot be found on the hub \(.*\); name a dir"
    ) as caught:
        pins.commit("org/bert", "model", "teacher.model")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / ".identity" / "pins.json").exists()


def test_without_network_a_data_set_on_the_hub_is_refused_with_a_remedy(tmp_path: Path, silent: Path) -> None:
    with pytest.raises(
        RequestError, match=r"^data\.source: nyu-mll/glue cannot .*; set data\.source to a folder of files$"
    ):
        Pins.load(Directory(tmp_path), refresh=False).commit("nyu-mll/glue", "dataset", "data.source")


def test_a_pinned_name_needs_no_network(tmp_path: Path, silent: Path) -> None:
    (tmp_path / ".identity").mkdir(exist_ok=True)
    (tmp_path / ".identity" / "pins.json").write_text(json.dumps({"model:org/bert@main": COMMIT}), "utf-8")
    assert Pins.load(Directory(tmp_path), refresh=False).commit("org/bert", "model", "teacher.model") == COMMIT


class Hub(BaseHTTPRequestHandler):
    """A hub on loopback that knows every model at ``COMMIT``."""

    def do_GET(self) -> None:  # the name that http.server calls
        answer = json.dumps({"id": "org/bert", "sha": COMMIT, "siblings": []}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is logged."""


def test_a_name_is_pinned_once_the_storage_exists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan over a storage that does not exist, perhaps by a misspelt name, does not make it."""
    storage = Directory(tmp_path / "runs")
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        pins = Pins.load(storage, refresh=False)
        assert pins.commit("org/bert", "model", "teacher.model") == COMMIT
        server.shutdown()
    assert not storage.local.exists()
    storage.local.mkdir()
    pins.save()
    assert Pins.load(storage, refresh=False).known == {"model:org/bert@main": COMMIT}


def test_refresh_looks_up_a_pinned_name_again(tmp_path: Path, silent: Path) -> None:
    (tmp_path / ".identity").mkdir(exist_ok=True)
    (tmp_path / ".identity" / "pins.json").write_text(json.dumps({"model:org/bert@main": COMMIT}), "utf-8")
    with pytest.raises(RequestError, match="cannot be found on the hub"):
        Pins.load(Directory(tmp_path), refresh=True).commit("org/bert", "model", "teacher.model")


def test_a_pinned_model_in_the_hubs_cache_is_planned_without_network(tmp_path: Path, silent: Path) -> None:
    assets = write_plannable_assets(tmp_path / "assets")
    write_plannable_model(silent / "models--org--bert" / "snapshots" / COMMIT)
    storage = tmp_path / "runs"
    (storage / ".identity").mkdir(parents=True)
    (storage / ".identity" / "pins.json").write_text(json.dumps({"model:org/bert@main": COMMIT}), "utf-8")
    graphs = [
        graph_of(assets, storage, teacher={"model": model, "finetune": {}})[1]
        for model in ("org/bert", str(assets / "model"))
    ]
    keys = {nodes_by_name(graph)["finetune@tiny"].key for graph in graphs}
    assert len(keys) == 1, "the same files are the same model, wherever they came from"


def test_a_pinned_model_that_cannot_be_fetched_is_refused_in_one_line(tmp_path: Path, offline: Path) -> None:
    with pytest.raises(
        RequestError, match=rf"^teacher\.model: org/bert at {COMMIT[:12]} cannot be fetched \(.*\); name a d"
    ):
        download_model("org/bert", COMMIT, "teacher.model")

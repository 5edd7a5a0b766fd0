"""A hub on the loopback interface for tests: what an upload of a folder needs of the Hugging Face hub's HTTP API."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

TOKEN = "hf_of_a_test"


@dataclass
class Hub:
    """What a hub has received: the content of each file by ``OWNER/NAME``, and the requests. ``refuses``: the start of
    a path that it answers with 403."""

    url: str = ""
    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    refuses: str = "nothing"


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def do_GET(self) -> None:
        known = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if self.path == "/api/whoami-v2":
            self._answer({"name": "me", "type": "user"} if known else {"error": "Invalid token"}, 200 if known else 401)
        else:
            name = self.path.removeprefix("/api/models/").split("/revision/")[0]
            known = name in self.hub.repositories
            self._answer({"id": name, "sha": "0" * 40, "siblings": []} if known else {}, 200 if known else 404)

    def do_POST(self) -> None:
        body = self._body()
        self.hub.requests.append(self.path)
        self.hub.bodies.append(body)
        if self.path.startswith(self.hub.refuses):
            self._answer({"error": "You have no right to write here"}, 403)
        elif self.path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked.get('organization') or 'me'}/{asked['name']}"
            self.hub.repositories.setdefault(name, {})
            self._answer({"url": f"{self.hub.url}/{name}", "name": name, "id": name})
        elif self.path == "/api/validate-yaml":
            self._answer({"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            files = [{"path": one["path"], "uploadMode": "regular", "shouldIgnore": False} for one in _files(body)]
            self._answer({"files": files})
        elif "/commit/" in self.path:
            name = self.path.removeprefix("/api/models/").split("/commit/")[0]
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    content = base64.b64decode(line["value"]["content"])
                    self.hub.repositories[name][line["value"]["path"]] = content
            self._answer({"commitUrl": f"{self.hub.url}/{name}/commit/{'1' * 40}", "commitOid": "1" * 40})
        else:
            self._answer({"error": "unknown"}, 404)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _answer(self, document: object, status: int = 200) -> None:
        content = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: object) -> None:
        """Print nothing."""


def _files(body: bytes) -> list[dict[str, str]]:
    found: list[dict[str, str]] = json.loads(body)["files"]
    return found


@contextmanager
def local_hub() -> Iterator[Hub]:
    """A hub that knows ``TOKEN``, to which the hub's own client goes for the block."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
            patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
            patch.setenv("HF_TOKEN", TOKEN)
            yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

"""A failing S3 server: a proxy before a real one, which forwards all requests until it is set to fail.

    python -m benchmarks.proxy http://127.0.0.1:PORT

prints its own URL. ``tell(url, "errors", 0.5)`` makes it answer half of all requests by 500 or 503; see ``HOW``.
"""

import contextlib
import http.client
import itertools
import random
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

HOW = {
    "well": "all requests are forwarded",
    "errors": "that share of requests is answered with 500 or 503, and not forwarded",
    "slow": "each request is delayed by so many seconds",
    "lost": "that share of requests is forwarded, and the answer is cut off completely or in the middle",
    "down": "every connection is closed without an answer",
}
CONTROL = "/-/"
"""Paths that begin with this set the proxy's own behaviour."""
OWN = ("connection", "keep-alive", "transfer-encoding", "expect")
"""Headers that belong to one connection and are not forwarded."""
BUSY = {500: "InternalError", 503: "SlowDown"}


class Proxy(ThreadingHTTPServer):
    """Serves on a port of loopback. ``seed`` decides which requests fail."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, upstream: str, seed: int = 0) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.upstream = urlsplit(upstream).netloc
        self.how, self.amount = "well", 0.0
        self.random = random.Random(seed)
        self.failed = itertools.count()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore errors: killed clients close their connections."""


class Handler(BaseHTTPRequestHandler):
    """One connection of a client."""

    protocol_version = "HTTP/1.1"
    server: Proxy

    def handle_one_request(self) -> None:
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline or not self.parse_request():
            self.close_connection = True
            return
        body = self._body()
        if self.path.startswith(CONTROL):
            how, _, amount = self.path.removeprefix(CONTROL).partition("/")
            self.server.how, self.server.amount = how, float(amount)
            self._answer(200, "", b"")
            return
        how, amount = self.server.how, self.server.amount
        if how == "slow":
            time.sleep(amount)
        hit = self.server.random.random() < amount
        if how == "errors" and hit:
            code = (500, 503)[next(self.server.failed) % 2]
            text = f"<Error><Code>{BUSY[code]}</Code><Message>not now</Message></Error>"
            self._answer(code, "application/xml", b"" if self.command == "HEAD" else text.encode())
        elif how == "down":
            self.close_connection = True
        else:
            self._forward(body, answer=not (how == "lost" and hit))

    def _body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            parts = []
            while size := int(self.rfile.readline().partition(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _forward(self, body: bytes, answer: bool) -> None:
        connection = http.client.HTTPConnection(self.server.upstream, timeout=60)
        try:
            headers = {name: value for name, value in self.headers.items() if name.lower() not in OWN}
            headers["Content-Length"] = str(len(body))
            connection.request(self.command, self.path, body, headers)
            received = connection.getresponse()
            content = received.read()
        except OSError:
            self.close_connection = True
            return
        finally:
            connection.close()
        torn = not answer and next(self.server.failed) % 2 and self.command == "GET" and len(content) > 1
        if not answer:
            self.close_connection = True
        if not answer and not torn:
            return
        self.send_response_only(received.status, received.reason)
        for name, value in received.getheaders():
            if name.lower() not in (*OWN, "content-length"):
                self.send_header(name, value)
        length = received.getheader("Content-Length") if self.command == "HEAD" else str(len(content))
        self.send_header("Content-Length", length or "0")
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if torn else content)
        self.wfile.flush()

    def _answer(self, code: int, kind: str, content: bytes) -> None:
        self.send_response_only(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()


def tell(url: str, how: str, amount: float = 0.0) -> None:
    """Set the behaviour of the proxy at ``url``: a key of ``HOW``, and its share or seconds."""
    assert how in HOW, how
    urllib.request.urlopen(f"{url}{CONTROL}{how}/{amount}", timeout=30).close()


@contextmanager
def proxy(upstream: str, seed: int = 0) -> Iterator[str]:
    """The URL of a proxy in a process of its own, which ends with the context."""
    root = Path(__file__).resolve().parent.parent
    command = [sys.executable, "-m", "benchmarks.proxy", upstream, str(seed)]
    process = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.communicate()


if __name__ == "__main__":
    with Proxy(sys.argv[1], int((sys.argv[2:] or ["0"])[0])) as server, contextlib.suppress(KeyboardInterrupt):
        print(server.url, flush=True)
        server.serve_forever()

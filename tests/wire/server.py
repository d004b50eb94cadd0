"""A loopback server for the unmodified SDK, that speaks what tinker 0.25 to 0.38 speak, and goes wrong on demand.

    with WireServer(glowgenius.local.ServiceClient()) as server:
        service = tinker.ServiceClient(base_url=server.url, api_key=server.api_key)

Not a product: text only, no authentication but a comparison of keys, everything in memory but what the engine saves.
Every wait in it is bounded, and `close` leaves no thread and no socket behind.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import zstandard
from attrs import frozen

from tests.wire.backend import Backend
from tests.wire.codec import BadRequestBodyError, ForwardBackward, Reply, json_reply, read_forward_backward
from tests.wire.faults import Fault, Faults
from tests.wire.storage import Storage

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Self

    from glowgenius.engines.protocol import ServiceClient

API_KEY = "tml-wire-test"
"""What the server asks for, unless told otherwise."""

PREFIX = "/api/v1/"
OPERATIONS = (
    "create_model",
    "load_weights",
    "optim_step",
    "save_weights",
    "save_weights_external",
    "save_weights_for_sampler",
    "asample",
)
"""What is answered by a promise, beside `forward_backward`."""

_RETRIED = {402, 408, 409, 429}


@frozen(kw_only=True)
class Request:
    """One request as it came in."""

    kind: str
    """Its endpoint, `forward` for a `forward_backward` without a gradient."""

    also: str
    """A second, narrower name: `retrieve_future:optim_step`."""

    content: dict[str, Any] | ForwardBackward

    @property
    def place(self) -> tuple[str, int] | None:
        """Its place in the order of a model, if it has one."""
        if isinstance(self.content, ForwardBackward):
            return self.content.model_id, self.content.seq_id
        if "model_id" in self.content and "seq_id" in self.content:
            return self.content["model_id"], self.content["seq_id"]
        return None


class WireServer:
    """Serves *engine* on 127.0.0.1 until it is closed.

    Args:
        engine: What trains and samples. It belongs to the caller, who closes it.
        models: What `get_server_capabilities` lists.
        faults: What goes wrong.
        config: The server's part of the SDK's settings, such as `fwdbwd_max_chunk_len`.
        api_key: The only key that is let in; None lets everybody in.
        poll_seconds: How long a retrieval is held before the client is asked to try again.
    """

    def __init__(
        self,
        engine: ServiceClient,
        *,
        models: tuple[str, ...] = (),
        faults: Iterable[Fault] = (),
        config: dict[str, Any] | None = None,
        api_key: str | None = API_KEY,
        poll_seconds: float = 10.0,
    ) -> None:
        self.api_key = api_key or API_KEY
        self.faults = Faults(faults)
        self.backend = Backend(engine, models)
        self.storage = Storage(self.backend.saved)
        self.requests: list[str] = []
        """The kind of every request, in the order of arrival."""
        self.telemetry: list[dict[str, Any]] = []
        """What the SDK has phoned home."""
        self._checks_key = api_key is not None
        self._config = config or {}
        self._poll_seconds = poll_seconds
        self._closing = threading.Event()
        self._back_at = 0.0
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        self._http = _HTTPServer(("127.0.0.1", 0), _Handler)
        self._http.wire = self
        self._thread = threading.Thread(
            target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, name="wire-server", daemon=True
        )
        self._thread.start()

    @property
    def url(self) -> str:
        """What `base_url` has to be."""
        return f"http://127.0.0.1:{self._http.server_port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop serving; whoever waits for an answer loses the connection."""
        self._closing.set()
        self.backend.promises.close()
        self._http.shutdown()
        self._thread.join(10)
        self._drop_connections()
        self._http.server_close()  # waits for the threads of the connections

    def restart(self, seconds: float = 0.0) -> None:
        """Lose everything that is in memory, and every connection; refuse to answer for *seconds*."""
        with self._lock:
            self._back_at = time.monotonic() + seconds
        self.backend.forget()
        self._drop_connections()

    # Called by the threads of the connections.

    def connected(self, connection: socket.socket) -> None:
        with self._lock:
            self._connections.add(connection)

    def disconnected(self, connection: socket.socket) -> None:
        with self._lock:
            self._connections.discard(connection)

    def answer(self, method: str, path: str, key: str | None, body: bytes) -> Reply | None:
        """The reply to one request, or None where the connection is to be closed without one."""
        if self._closing.is_set() or time.monotonic() < self._back_at:
            return None
        if self._checks_key and key != self.api_key:
            return json_reply(401, detail="this key is not known here")
        try:
            request = self._read(path, body)
        except (BadRequestBodyError, ValueError) as error:
            return json_reply(400, detail=str(error))
        if request.kind.startswith("training_runs/"):
            self.requests.append(f"{method} {request.kind}")
            return self.storage.answer(method, request.kind.partition("/")[2], self.url)
        self.requests.append(request.kind)
        fault = self.faults.due(request.kind, request.also)
        if fault is None or fault.action == "fail":
            return self._serve(request, fault)
        return self._go_wrong(request, fault)

    def _go_wrong(self, request: Request, fault: Fault) -> Reply | None:
        if fault.action == "status":
            if request.place is not None and fault.status not in _RETRIED and fault.status < 500:
                self.backend.skip(*request.place)
            wait = fault.retry_after_ms
            headers = () if wait is None else (("retry-after-ms", str(wait)),)
            return Reply(body=json.dumps({"detail": fault.message}).encode(), status=fault.status, headers=headers)
        if fault.action == "reply":
            if request.place is not None and not fault.missing and fault.status not in _RETRIED and fault.status < 500:
                self.backend.skip(*request.place)
            return Reply(body=fault.body, status=fault.status, content_type=fault.content_type, missing=fault.missing)
        if fault.action == "lose_reply":
            self._serve(request, None)
        elif fault.action == "hang":
            self._closing.wait(fault.seconds)
        elif fault.action == "restart":
            self.restart(fault.seconds)
        return None

    def _read(self, path: str, body: bytes) -> Request:
        kind = path.removeprefix(PREFIX)
        if kind == "forward_backward":
            content = read_forward_backward(body)
            kind = "forward" if content.forward_only else kind
            return Request(kind=kind, also=kind, content=content)
        fields: dict[str, Any] = json.loads(body) if body else {}
        also = kind
        if kind == "retrieve_future":
            also = f"{kind}:{self.backend.promises.kind(fields['request_id'])}"
        return Request(kind=kind, also=also, content=fields)

    def _serve(self, request: Request, fault: Fault | None) -> Reply:
        backend, content = self.backend, request.content
        if isinstance(content, ForwardBackward):
            return backend.forward_backward(content, fault)
        if request.kind in OPERATIONS:
            return getattr(backend, request.kind)(content, fault)
        name, _, rest = request.kind.partition("/")
        endpoints = {
            "client": lambda: self._client_settings(rest),
            "create_session": backend.create_session,
            "session_heartbeat": lambda: json_reply(type="session_heartbeat"),
            "sessions": json_reply,  # sessions/<id>/finish
            "get_server_capabilities": backend.capabilities,
            "get_info": lambda: backend.get_info(content),
            "create_sampling_session": lambda: backend.create_sampling_session(content),
            "samplers": lambda: backend.get_sampler(rest),
            "weights_info": lambda: backend.weights_info(content),
            "retrieve_future": lambda: self._retrieve(content["request_id"]),
            "telemetry": lambda: self._phoned_home(content),
        }
        if name not in endpoints:
            return json_reply(404, detail=f"this server has no endpoint {request.kind!r}")
        return endpoints[name]()

    def _client_settings(self, which: str) -> Reply:
        # The SDK asks for `config` through a client that it never closes; this way the connection closes itself.
        settings = self._config if which == "config" else {}
        return Reply(body=json.dumps(settings).encode(), headers=(("Connection", "close"),))

    def _phoned_home(self, content: dict[str, Any]) -> Reply:
        self.telemetry.append(content)
        return json_reply(status="accepted")

    def _retrieve(self, request_id: str) -> Reply:
        promise = self.backend.promises.wait(request_id, self._poll_seconds)
        if promise is None:
            return json_reply(410, detail=f"the promise {request_id!r} is gone")
        if promise.result is None:
            return json_reply(408, type="try_again", request_id=request_id, queue_state="active")
        return promise.result

    def _drop_connections(self) -> None:
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _HTTPServer(ThreadingHTTPServer):
    daemon_threads = False  # so that server_close() waits for them
    request_queue_size = 128
    wire: WireServer


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body of a reply leave together
    server: _HTTPServer

    def setup(self) -> None:
        super().setup()
        self.server.wire.connected(self.request)

    def finish(self) -> None:
        self.server.wire.disconnected(self.request)
        with contextlib.suppress(OSError):
            super().finish()

    def handle(self) -> None:
        with contextlib.suppress(OSError):
            super().handle()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self._answer(b"")

    def do_DELETE(self) -> None:
        self._answer(b"")

    def do_PUT(self) -> None:
        self.do_POST()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Content-Encoding") == "zstd":
            body = zstandard.ZstdDecompressor().decompress(body)
        self._answer(body)

    def _answer(self, body: bytes) -> None:
        path = self.path.split("?")[0]
        wire = self.server.wire
        if path.startswith("/signed/"):
            reply = wire.storage.file(path.removeprefix("/signed/"))
        else:
            reply = wire.answer(self.command, path, self.headers.get("X-API-Key"), body)
        if reply is None:
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.request.shutdown(socket.SHUT_RDWR)
            return
        self.send_response(reply.status)
        self.send_header("Content-Type", reply.content_type)
        self.send_header("Content-Length", str(len(reply.body) + reply.missing))
        for name, value in reply.headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(reply.body)
        self.wfile.flush()
        if reply.missing:
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.request.shutdown(socket.SHUT_RDWR)

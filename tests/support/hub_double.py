"""A hub on the loopback: it makes repositories and takes commits, and keeps what it was sent."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


class Hub:
    """What it knows.

    Attributes:
        repositories: Name → whether it is private.
        files: What the commits have put where: `owner/name/path` → bytes.
        refuse: Status with which every call of the API is answered, where it is set.
    """

    token = "hf_double"  # noqa: S105 - of a test
    user = "ada"

    def __init__(self) -> None:
        self.repositories: dict[str, bool] = {}
        self.files: dict[str, bytes] = {}
        self.objects: dict[str, bytes] = {}
        self.messages: list[str] = []
        self.refuse: int | None = None
        self.address = ""

    def answer(self, method: str, path: str, body: bytes, token: str) -> tuple[int, Any]:
        """The status and the JSON that a request is answered with."""
        if method == "PUT" and path.startswith("/objects/"):
            self.objects[path.rpartition("/")[2]] = body
            return 200, {}
        if self.refuse is not None or token != f"Bearer {self.token}":
            return self.refuse or 401, {"error": "refused"}
        return self._call(method, path, body)

    def _call(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        if path == "/api/validate-yaml":
            return self._validate(json.loads(body)["content"])
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/(preupload|commit)/main", path):
            act = self._preupload if found[2] == "preupload" else self._commit
            return act(found[1], body)
        if found := re.fullmatch(r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", path):
            return self._batch(json.loads(body))
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(/revision/main)?", path):
            known = {"id": found[1], "private": self.repositories.get(found[1]), "siblings": []}
            return (200, known) if found[1] in self.repositories else (404, {"error": "Repository not found"})
        return 404, {"error": f"no {method} {path}"}

    def _validate(self, card: str) -> tuple[int, Any]:
        """As the hub looks at the head of a card: a base model is one of its own, by name."""
        named = re.search(r"^base_model: (.*)$", card.split("---")[1], re.MULTILINE)
        wrong = named is not None and re.fullmatch(r"[\w.-]+/[\w.-]+", named[1]) is None
        told = [{"message": f'"base_model" with value {named[1]} is not valid'}] if named is not None and wrong else []
        return (400 if told else 200), {"errors": told, "warnings": []}

    def _create(self, asked: dict[str, Any]) -> tuple[int, Any]:
        name = f"{asked.get('organization') or self.user}/{asked['name']}"
        status = 409 if name in self.repositories else 200
        private = asked.get("private", asked.get("visibility") == "private")
        self.repositories.setdefault(name, bool(private))
        return status, {"url": f"{self.address}/{name}", "name": name}

    def _preupload(self, name: str, body: bytes) -> tuple[int, Any]:
        assert name in self.repositories
        modes = [
            {
                "path": one["path"],
                "uploadMode": "lfs" if one["path"].endswith((".safetensors", ".gguf")) else "regular",
                "shouldIgnore": False,
            }
            for one in json.loads(body)["files"]
        ]
        return 200, {"files": modes}

    def _batch(self, asked: dict[str, Any]) -> tuple[int, Any]:
        objects = [
            {**one, "actions": {"upload": {"href": f"{self.address}/objects/{one['oid']}"}}} for one in asked["objects"]
        ]
        return 200, {"transfer": "basic", "objects": objects}

    def _commit(self, name: str, body: bytes) -> tuple[int, Any]:
        for line in body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "header":
                self.messages.append(value["summary"])
            elif entry["key"] == "file":
                self.files[f"{name}/{value['path']}"] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                content = self.objects[value["oid"]]
                assert hashlib.sha256(content).hexdigest() == value["oid"]
                self.files[f"{name}/{value['path']}"] = content
        return 200, {"commitUrl": f"{self.address}/{name}/commit/1", "commitOid": "1", "pullRequestUrl": None}


@contextmanager
def hub_double() -> Iterator[Hub]:
    """The double, listening."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _do(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(size) if size else self._chunks()
            status, values = hub.answer(
                self.command, self.path.partition("?")[0], body, self.headers.get("Authorization", "")
            )
            text = json.dumps(values).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(text)

        def _chunks(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return b""
            found = b""
            while size := int(self.rfile.readline(), 16):
                found += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return found

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    for method in ("GET", "POST", "PUT", "HEAD"):
        setattr(Handler, f"do_{method}", Handler._do)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

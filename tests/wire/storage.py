"""The REST part of the protocol: checkpoints are deleted, and exported ones are handed out file by file."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING

from tests.wire.codec import Reply, json_reply

if TYPE_CHECKING:
    from tests.wire.runs import Saved

FILES = ("adapter_model.safetensors", "adapter_config.json")
"""What the service exports of an adapter."""


class Storage:
    """Answers for `training_runs/…`, and for the signed addresses that it gives out.

    Args:
        saved: Checkpoints by path.
    """

    def __init__(self, saved: dict[str, Saved]) -> None:
        self._saved = saved
        self.extra_files: dict[str, bytes] = {}
        """More files that an export has, by the name that is told to the client; for hostile names."""

    def answer(self, method: str, rest: str, url: str) -> Reply:
        """*rest* is `<run>/checkpoints/<kind>/<name>`, perhaps with a verb behind it."""
        run, _, checkpoint = rest.partition("/checkpoints/")
        kind, name, *verb = checkpoint.split("/")
        path = f"tinker://{run}/{kind}/{name}"
        if path not in self._saved:
            return json_reply(404, detail=f"there is no checkpoint {path!r}")
        if method == "DELETE" and not verb:
            del self._saved[path]
        elif method == "GET" and verb == ["external_weights_urls"]:
            names = [*FILES, *self.extra_files]
            expires = dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)
            urls = {each: f"{url}/signed/{run}/{kind}/{name}/{each}" for each in names}
            return json_reply(urls=urls, expires=expires.isoformat())
        elif (method, verb) != ("PUT", ["ttl"]):
            return json_reply(404, detail=f"this server does not know {method} {rest!r}")
        return json_reply()

    def file(self, rest: str) -> Reply:
        """The file behind a signed address, for which no key is needed."""
        run, kind, checkpoint, name = rest.split("/", 3)
        saved = self._saved.get(f"tinker://{run}/{kind}/{checkpoint}")
        if saved is None:
            return json_reply(404, detail="the address has expired")
        if name in self.extra_files:
            return Reply(body=self.extra_files[name], content_type="application/octet-stream")
        return Reply(body=(Path(saved.engine_path) / name).read_bytes(), content_type="application/octet-stream")

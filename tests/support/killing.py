"""A process that dies at a chosen moment: at the n-th call of a client, at the n-th wait, at the n-th write."""

from __future__ import annotations

from glowgenius.training import run_folder

METHODS = (
    "forward",
    "forward_backward",
    "optim_step",
    "save_state",
    "save_weights_for_sampler",
)


class Killed(BaseException):
    """Not an Exception: nothing handles it, as nothing handles `kill -9`."""


class MortalService:
    """Dies at call *at_call* or at wait *at_wait*, counted from 1 over the whole run; `calls` and `waits` say how many
    there were."""

    def __init__(self, service, *, at_call=None, at_wait=None, error=Killed):
        self.service, self.at_call, self.at_wait, self.error = service, at_call, at_wait, error
        self.calls = self.waits = 0

    def __getattr__(self, name):
        return getattr(self.service, name)

    def create_lora_training_client(self, *args, **kwargs):
        return Ready(MortalClient(self.service.create_lora_training_client(*args, **kwargs).result(), self))

    def create_training_client_from_state_with_optimizer(self, path):
        client = self.service.create_training_client_from_state_with_optimizer(path).result()
        return Ready(MortalClient(client, self))

    def count_call(self):
        self.calls += 1
        if self.calls == self.at_call:
            raise self.error(f"call {self.calls}")

    def count_wait(self):
        self.waits += 1
        if self.waits == self.at_wait:
            raise self.error(f"wait {self.waits}")


class Ready:
    def __init__(self, value):
        self._value = value

    def result(self, timeout=None):
        return self._value


class MortalClient:
    def __init__(self, client, owner):
        self._client, self._owner = client, owner

    def __getattr__(self, name):
        method = getattr(self._client, name)
        if name not in METHODS:
            return method

        def call(*args, **kwargs):
            self._owner.count_call()
            return MortalFuture(method(*args, **kwargs), self._owner)

        return call


class MortalFuture:
    def __init__(self, future, owner):
        self._future, self._owner = future, owner

    def result(self, timeout=None):
        self._owner.count_wait()
        return self._future.result(timeout)

    def future(self):
        return self._future.future()


class MortalDisk:
    """A process that dies at the *at*-th write into a run folder: `before` it, in the middle (`half`), or `after` it.

    What is left then is what an operating system leaves: an appended line without its end, or a file that was to be
    renamed and was not.
    """

    MOMENTS = ("before", "half", "after")

    def __init__(self, monkeypatch, *, at=None, moment="half"):
        self.at, self.moment, self.writes = at, moment, 0
        self._write, self._append = run_folder.write_whole, run_folder._append
        monkeypatch.setattr(run_folder, "write_whole", self.write)
        monkeypatch.setattr(run_folder, "_append", self.append)

    def write(self, path, text):
        def half():
            (path.parent / f".{path.name}-k1ll3d").write_bytes(text.encode()[: len(text) // 2])

        self._die_or(half, lambda: self._write(path, text))

    def append(self, path, line, *, synced):
        def half():
            with path.open("ab") as file:
                file.write(line.encode()[: len(line) // 2])

        self._die_or(half, lambda: self._append(path, line, synced=synced))

    def _die_or(self, half, whole):
        self.writes += 1
        dies = self.writes == self.at
        if dies and self.moment == "half":
            half()
        if dies and self.moment != "after":
            raise Killed(f"write {self.writes}, {self.moment}")
        whole()
        if dies:
            raise Killed(f"write {self.writes}, after")

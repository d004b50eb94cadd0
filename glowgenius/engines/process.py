"""A fork has no threads and no connections: what needs them says so there, instead of waiting for ever."""

from __future__ import annotations

import os
import sys
from typing import Any, final

from typing_extensions import override

from glowgenius.errors import EngineError

_NOT_IN_A_FORK = (
    "a fork has neither its threads nor its connections. Start processes with "
    'multiprocessing.get_context("spawn"), and make services, trainers and samplers inside of them'
)


@final
class HomeProcess:
    """The process in which something was made, and where alone it works.

    A copy that travelled to another process in a pickle is at home there.
    """

    def __init__(self) -> None:
        self._pid = os.getpid()

    @property
    def here(self) -> bool:
        """Whether this is the process."""
        return os.getpid() == self._pid

    def check(self, what: str) -> None:
        """Refuse to go on in a fork; *what* is the subject of the sentence.

        Raises:
            EngineError: This is another process.
        """
        if not self.here:
            raise EngineError(
                f"{what} belongs to process {self._pid}, of which this process ({os.getpid()}) is a fork: "
                f"{_NOT_IN_A_FORK}"
            )

    @override
    def __reduce__(self) -> Any:
        return HomeProcess, ()


def refuse_fork_of_sdk() -> None:
    """Refuse to use the SDK where its one thread did not come along: even a new client would wait for it for ever.

    Raises:
        EngineError: This process is a fork of one in which the SDK has been used.
    """
    holder: Any = sys.modules.get("tinker.lib.internal_client_holder")
    singleton = getattr(holder, "_internal_client_holder_thread_singleton", None)
    thread = getattr(singleton, "_thread", None)
    if thread is not None and not thread.is_alive():
        raise EngineError(
            f"the Tinker SDK was used in the process of which this process ({os.getpid()}) is a fork: {_NOT_IN_A_FORK}"
        )

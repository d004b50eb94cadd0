"""Connecting to an engine: which one trains, and why."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast, final
from urllib.parse import parse_qsl, unquote

from attrs import field, frozen
from typing_extensions import override

from glowgenius._secrets import remember
from glowgenius.engines.errors import mapped
from glowgenius.engines.keys import KEY_SOURCES, check_address, check_server, find_key, has_stored_key, shown
from glowgenius.engines.process import refuse_fork_of_sdk
from glowgenius.engines.protocol import SupportsAlpha
from glowgenius.engines.sdk import adapted, original, warn_of_newer
from glowgenius.errors import (
    ConfigError,
    MissingDependencyError,
    NotPicklableError,
    nearest,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from glowgenius.engines.protocol import ServiceClient, TrainingClient
    from glowgenius.engines.self_test import SelfTest
    from glowgenius.lora.config import LoRAConfig
    from glowgenius.training.initial_weights import InitialWeights

EngineName: TypeAlias = Literal["local", "tinker"]

ENGINES = ("auto", "local", "tinker")
"""What `connect` accepts."""


@final
@frozen(kw_only=True)
class Connection:
    """A service and the reason it was chosen; prints as one line."""

    service: ServiceClient = field(repr=False)
    """Makes the clients that train and sample."""

    engine: EngineName
    """`local` or `tinker`."""

    reason: str
    """Why this engine, as the end of a sentence: `because …`."""

    address: str | None = None
    """Where the server is, if it is not the hosted service."""

    @override
    def __str__(self) -> str:
        where = "on this machine" if self.engine == "local" else "over the network"
        if self.address is not None:
            where = f"the server at {self.address}"
        # Only the local engine describes its precision; the others compute on a server.
        if described := getattr(self.service, "description", ""):
            where = f"{where}: {described}"
        return f"engine: {self.engine} ({where}), because {self.reason}"

    def self_test(self, base_model: str, *, seconds: float = 120.0) -> SelfTest:
        """Run one tiny training step on the engine, and compare every number with Tinker's.

        Servers that speak Tinker's protocol differ in what they make of it, and do not say so.
        Eight adapters are made, and fewer than forty requests of under a hundred tokens each.

        Args:
            base_model: A model that the engine has.
            seconds: The longest wait for one answer.
        """
        from glowgenius.engines.self_test import self_test

        return self_test(self.service, base_model, seconds=seconds)

    @override
    def __reduce__(self) -> Any:
        # The service may hold an API key, which must not leave the process in a pickle.
        raise NotPicklableError(
            "a Connection cannot be pickled, as its service may hold an API key; call connect() there"
        )

    def __copy__(self) -> Connection:
        return self

    def __deepcopy__(self, _memo: object) -> Connection:
        return self


def connect(
    engine: str = "auto",
    *,
    base_url: str | None = None,
    api_key: str | None = None,
    checkpoint_directory: str | Path | None = None,
    device: str | None = None,
    check: bool = True,
    environment: Mapping[str, str] | None = None,
) -> Connection:
    """Choose an engine and create its service.

    Nothing is sent to the hosted service. A server at an address of its own is asked one question, as one that is away
    or older than the SDK makes the SDK wait for minutes instead of failing.

    Args:
        engine: `tinker` is the hosted service, or a server that speaks its protocol; `local` is this machine; `auto`
            is Tinker where a key or an address is given or set, and else this machine.
        base_url: The address of a server. Default: `TINKER_BASE_URL`, else the hosted service.
        api_key: The key. Default: what the SDK finds.
        checkpoint_directory: Where the local engine keeps checkpoints.
        device: Where the local engine computes, such as `cpu` or `cuda:0`. Default: what it finds.
        check: Whether a server at *base_url* is asked that question.
        environment: Where variables are looked up, for tests; the process's own by default.

    Raises:
        ConfigError: The engine is not known, or an argument does not belong to it.
        AuthenticationError: Tinker was chosen, and there is no usable key, or the server refuses it.
        ServiceUnavailableError: The server does not answer.
        EngineError: The server is older than the SDK, or something else; or this is a fork of a process that used it.
        MissingDependencyError: This machine was chosen, and torch is not installed.
    """
    # Not a default of the parameter: help() would print the whole environment, keys included.
    environment = os.environ if environment is None else environment
    chosen, reason = which_engine(engine, environment, base_url=base_url, api_key=api_key)
    if chosen == "local":
        _refuse(reason, "tinker", base_url=base_url, api_key=api_key)
        return Connection(service=_local(checkpoint_directory, device, reason), engine=chosen, reason=reason)
    _refuse(reason, "local", checkpoint_directory=checkpoint_directory, device=device)
    base_url = (base_url or environment.get("TINKER_BASE_URL") or "").strip() or None
    _remember_address(base_url)
    key = find_key("connect", environment, api_key=api_key)
    source, given = ("api_key", api_key) if api_key else ("TINKER_API_KEY", environment.get("TINKER_API_KEY"))
    cleaned = key is not None and key != given
    if cleaned:
        reason = f"{reason} (the white space around {source} was left out)"
    service = _tinker(base_url, key if cleaned else api_key, key, check=check)
    return Connection(
        service=service, engine=chosen, reason=reason, address=None if base_url is None else shown(base_url)
    )


def check_engine(owner: str, engine: str) -> None:
    """Refuse an unknown engine name.

    Raises:
        ConfigError: It is none; *owner* is who was given it.
    """
    if engine not in ENGINES:
        known = ", ".join(map(repr, ENGINES))
        raise ConfigError(f"{owner}: engine must be one of {known}, got {engine!r}{nearest(str(engine), ENGINES)}")


def which_engine(
    engine: str, environment: Mapping[str, str], *, base_url: str | None = None, api_key: str | None = None
) -> tuple[EngineName, str]:
    """The engine that `connect` would choose, and why, without creating its service.

    Raises:
        ConfigError: The engine is not known.
    """
    check_engine("connect", engine)
    if engine != "auto":
        return cast("EngineName", engine), f"engine={engine!r} was asked for"
    for name, value in (("base_url", base_url), ("api_key", api_key)):
        if value:
            return "tinker", f"{name} was given"
    # An empty variable counts as unset, as it does for the SDK.
    for name in ("TINKER_API_KEY", "TINKER_BASE_URL", "TINKER_CREDENTIAL_CMD"):
        if environment.get(name, "").strip():
            return "tinker", f"{name} is set"
    if has_stored_key(environment):
        return "tinker", "`tinker auth login` has stored a key"
    return "local", f"no key for Tinker was found ({KEY_SOURCES})"


def _refuse(reason: str, owner: EngineName, **arguments: object) -> None:
    """Refuse arguments that the chosen engine would ignore."""
    for name, value in arguments.items():
        if value is not None:
            raise ConfigError(
                f"connect: {name} belongs to engine={owner!r}, but the other engine was chosen because {reason}; "
                f"pass engine={owner!r}, or leave {name} out"
            )


def _local(checkpoint_directory: str | Path | None, device: str | None, reason: str) -> ServiceClient:
    try:
        from glowgenius.local.service import ServiceClient as LocalServiceClient
    except MissingDependencyError as error:
        message = f"{error}. The local engine was chosen because {reason}"
        raise MissingDependencyError(message, name=error.name) from error
    # `local` means the fastest precision on this machine; the header names it.
    where = "auto" if device is None else device
    return LocalServiceClient(checkpoint_directory=checkpoint_directory, dtype="auto", device=where)


def _remember_address(base_url: str | None) -> None:
    """Register user name, password and `?key=` values of an address as secrets.

    Raises:
        ConfigError: It is no address of a server.
    """
    if base_url is None:
        return
    parts = check_address(base_url)
    user = parts.netloc.rpartition("@")[0]
    remember(user)
    remember(unquote(user))
    remember(parts.password)
    remember(unquote(parts.password or ""))
    for _, value in parse_qsl(parts.query):
        remember(value)


def _tinker(base_url: str | None, given: str | None, key: str | None, *, check: bool) -> ServiceClient:
    from glowgenius.engines.tinker_types import SDK_VERSION
    from glowgenius.engines.tinker_types import ServiceClient as TinkerServiceClient

    refuse_fork_of_sdk()
    warn_of_newer()
    if check and base_url is not None:
        check_server(base_url, key, sdk_version=SDK_VERSION)
    with mapped("connect"):
        return adapted(TinkerServiceClient(base_url=base_url, api_key=given))


@final
@frozen(kw_only=True)
class Engine:
    """The engine of a run: its service or client, and its description."""

    service: ServiceClient | None
    """Makes clients; None where the user brought one and no service with it."""

    name: str
    """`local`, `tinker`, or the class of what was given; `none` where there is no engine."""

    line: str
    """The first line of the header."""


def choose_engine(
    service: ServiceClient | Connection | Engine | None, output_dir: Path | None, client: TrainingClient | None = None
) -> Engine:
    """The engine of a trainer: what it was given, else what `connect` finds.

    Checkpoints of the local engine go into the run folder.
    """
    if isinstance(service, Engine):
        return service
    if isinstance(service, Connection):
        if client is None:
            return Engine(service=adapted(service.service), name=service.engine, line=str(service))
        service = service.service
    if client is not None:
        name = engine_name(client)
        return Engine(service=adapted(service), name=name, line=f"engine: {name}, because a training client was given")
    if service is not None:
        name = engine_name(service)
        return Engine(service=adapted(service), name=name, line=f"engine: {name}, because service= was given")
    connection = connect()
    chosen = connection.service
    if connection.engine == "local" and output_dir is not None:
        from glowgenius.training.run_folder import STORE  # imported here because it loads numpy

        chosen = connect("local", checkpoint_directory=output_dir / STORE).service
    return Engine(service=chosen, name=connection.engine, line=str(connection))


def engine_name(client: object) -> str:
    """`tinker` or `local` for clients of these engines, else the name of the class."""
    kind = type(original(client))
    package = kind.__module__.split(".")
    if package[0] == "tinker":
        return "tinker"
    return "local" if package[:2] == ["glowgenius", "local"] else kind.__name__


def refuse_alpha(lora: LoRAConfig | None, service: object) -> None:
    """Refuse an alpha that the engine would ignore.

    Raises:
        ConfigError: `lora.alpha` is set, and the engine fixes its own.
    """
    if (
        lora is not None
        and lora.alpha is not None
        and not (isinstance(service, SupportsAlpha) and service.supports_alpha)
    ):
        raise ConfigError(
            f"LoRAConfig.alpha={lora.alpha:g} cannot be used with {engine_name(service)}: the service fixes its own "
            "alpha and takes none. Leave alpha out, or train on the local engine"
        )


def new_client(
    service: ServiceClient, base_model: str, lora: LoRAConfig, state: str | None, initial: InitialWeights | None = None
) -> TrainingClient:
    """A training client: a new adapter on *base_model*, the *initial* weights, or the saved state at *state*.

    `refuse_alpha` has made sure that the service takes what it is given.

    Raises:
        EngineError: The engine refused or failed.
    """
    if state is not None:
        with mapped(f"going on from {state}"):
            return service.create_training_client_from_state_with_optimizer(state).result()
    if initial is not None:
        from glowgenius.training.initial_weights import client_of  # imported here because it loads numpy

        return client_of(service, base_model, lora, initial)
    settings: dict[str, Any] = {
        "rank": lora.rank,
        "seed": lora.seed,
        "train_mlp": lora.train_mlp,
        "train_attn": lora.train_attn,
        "train_unembed": lora.train_unembed,
    }
    with mapped("create_lora_training_client", model=base_model):
        if lora.alpha is not None:
            with_alpha = cast("SupportsAlpha", service)
            return with_alpha.create_lora_training_client(base_model, **settings, alpha=lora.alpha).result()
        return service.create_lora_training_client(base_model, **settings).result()

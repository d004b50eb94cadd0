"""The endpoints of the protocol on top of an engine: any service with the client interface, in this process."""

from __future__ import annotations

import itertools
import re
import threading
from typing import TYPE_CHECKING, Any

import tinker
from tinker.types import SampleRequest

from glowgenius.errors import CheckpointError, ConfigError, ModelNotFoundError, RequestRejectedError
from tests.wire.codec import (
    ForwardBackward,
    Reply,
    error_reply,
    forward_backward_reply,
    json_reply,
    sample_reply,
)
from tests.wire.promises import Promise, Promises
from tests.wire.runs import Run, Saved, fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from concurrent.futures import Future

    from glowgenius.engines.protocol import SamplingClient, ServiceClient
    from tests.wire.faults import Fault

_USERS_FAULT = (CheckpointError, ConfigError, ModelNotFoundError, RequestRejectedError, ValueError)


def failure(error: BaseException) -> Reply:
    """The result of an operation that the engine has refused or failed."""
    return error_reply(f"{error}", "user" if isinstance(error, _USERS_FAULT) else "server")


class Backend:
    """What the server knows and does; each public method is one endpoint.

    A *fault* `fail` that is passed in replaces the operation by an error, in its place of the order.
    """

    def __init__(self, engine: ServiceClient, models: tuple[str, ...]) -> None:
        self._engine = engine
        self._models = models
        self._lock = threading.Lock()
        self._sessions = itertools.count()
        self._runs: dict[str, Run] = {}
        self._samplers: dict[str, tuple[SamplingClient, str]] = {}
        self.promises = Promises()
        self.saved: dict[str, Saved] = {}
        """Checkpoints by path."""
        self.histories: dict[str, Run] = {}
        """Every run there has been, by model id, also those before a restart."""

    def forget(self) -> None:
        """What a restart does: everything in memory is gone, what was saved is not."""
        with self._lock:
            self._runs.clear()
            self._samplers.clear()
        self.promises.forget()

    # The session.

    def create_session(self) -> Reply:
        return json_reply(type="create_session", session_id=f"session-{next(self._sessions)}")

    def capabilities(self) -> Reply:
        models = [{"model_name": name, "max_context_length": 4096} for name in self._models]
        return json_reply(supported_models=models)

    # Training.

    def create_model(self, body: dict[str, Any], fault: Fault | None) -> Reply:
        lora = tinker.LoraConfig.model_validate(body["lora_config"])
        model_id = f"{body['session_id']}:train:{body['model_seq_id']}"

        def submit() -> Any:
            return self._engine.create_lora_training_client(
                body["base_model"],
                rank=lora.rank,
                seed=lora.seed,
                train_mlp=lora.train_mlp,
                train_attn=lora.train_attn,
                train_unembed=lora.train_unembed,
            )

        def finish(client: Any) -> Reply:
            self._add(model_id, Run(client, body["base_model"], lora.rank))
            return json_reply(type="create_model", model_id=model_id)

        return self._promised("create_model", model_id, submit, finish, fault)

    def load_weights(self, body: dict[str, Any], fault: Fault | None) -> Reply:
        saved = self.saved.get(body["path"])

        def submit() -> Any:
            if saved is None:
                raise CheckpointError(f"there is no checkpoint {body['path']!r}")
            if not saved.resumable:
                raise CheckpointError(f"{body['path']!r} holds weights to sample from, and no state to train on from")
            make = self._engine.create_training_client_from_state
            if body["optimizer"]:
                make = self._engine.create_training_client_from_state_with_optimizer
            return make(saved.engine_path)

        def finish(client: Any) -> Reply:
            assert saved is not None
            self._add(model_id, Run(client, saved.base_model, saved.rank, list(saved.history)))
            return json_reply(type="load_weights", path=body["path"])

        if "session_id" in body:  # since 0.38 always, before where the server's settings ask for it
            model_id = f"{body['session_id']}:train:{body['model_seq_id']}"
            return self._promised("load_weights", model_id, submit, finish, fault)

        def finish_into(run: Run, client: Any) -> Reply:
            assert saved is not None
            run.loaded(client, saved)
            return json_reply(type="load_weights", path=body["path"])

        # Into a model that `create_model` has made of the checkpoint's base model and rank.
        model_id = body["model_id"]
        return self._ordered("load_weights", model_id, body["seq_id"], lambda _run: submit(), finish_into, fault)

    def weights_info(self, body: dict[str, Any]) -> Reply:
        saved = self.saved.get(body["tinker_path"])
        if saved is None:
            return json_reply(404, detail=f"there is no checkpoint {body['tinker_path']!r}")
        return json_reply(base_model=saved.base_model, is_lora=True, lora_rank=saved.rank)

    def get_info(self, body: dict[str, Any]) -> Reply:
        run = self._runs.get(body["model_id"])
        if run is None:
            return _no_model(body["model_id"])
        return json_reply(
            type="get_info",
            model_id=body["model_id"],
            model_data={"model_name": run.base_model},
            model_name=run.base_model,
            is_lora=True,
            lora_rank=run.rank,
        )

    def forward_backward(self, request: ForwardBackward, fault: Fault | None) -> Reply:
        kind = "forward" if request.forward_only else "forward_backward"

        def submit(run: Run) -> Any:
            call = run.client.forward if request.forward_only else run.client.forward_backward
            return call(request.data, request.loss_fn, request.loss_fn_config)  # type: ignore[arg-type]

        def finish(run: Run, output: Any) -> Reply:
            if not request.forward_only:
                run.accumulated(fingerprint(request.data))
            return forward_backward_reply(output)

        return self._ordered(kind, request.model_id, request.seq_id, submit, finish, fault)

    def optim_step(self, body: dict[str, Any], fault: Fault | None) -> Reply:
        params = tinker.AdamParams.model_validate(body["adam_params"])

        def finish(run: Run, response: Any) -> Reply:
            run.stepped(params.learning_rate)
            return json_reply(metrics=response.metrics)

        return self._ordered(
            "optim_step", body["model_id"], body["seq_id"], lambda run: run.client.optim_step(params), finish, fault
        )

    def save_weights(self, body: dict[str, Any], fault: Fault | None) -> Reply:
        def submit(run: Run) -> Any:
            overwrite, metadata = body.get("overwrite", False), body.get("user_metadata")
            return run.client.save_state(
                body["path"], body.get("ttl_seconds"), overwrite=overwrite, user_metadata=metadata
            )

        def finish(run: Run, response: Any) -> Reply:
            path = self._keep(f"tinker://{body['model_id']}/weights/{body['path']}", run, response.path, resumable=True)
            return json_reply(type="save_weights", path=path)

        return self._ordered("save_weights", body["model_id"], body["seq_id"], submit, finish, fault)

    def save_weights_external(self, body: dict[str, Any], fault: Fault | None) -> Reply:
        def submit(run: Run) -> Any:
            return run.client.save_weights_for_sampler(f"external-{body['path']}", body.get("ttl_seconds"))

        def finish(run: Run, response: Any) -> Reply:
            path = f"tinker://{body['model_id']}/external_weights/{body['path']}"
            return json_reply(type="save_weights_external", path=self._keep(path, run, response.path, resumable=False))

        return self._ordered("save_weights_external", body["model_id"], body["seq_id"], submit, finish, fault)

    def save_weights_for_sampler(self, body: dict[str, Any], fault: Fault | None) -> Reply:
        name = body.get("path")
        sampler_id = f"{body['model_id']}:sampler:{body.get('sampling_session_seq_id')}"

        def submit(run: Run) -> Any:
            if name is None:
                return run.client.save_weights_and_get_sampling_client()
            return run.client.save_weights_for_sampler(name, body.get("ttl_seconds"), body.get("user_metadata"))

        def finish(run: Run, response: Any) -> Reply:
            if name is None:
                with self._lock:
                    self._samplers[sampler_id] = (response, run.base_model)
                return json_reply(type="save_weights_for_sampler", sampling_session_id=sampler_id)
            path = f"tinker://{body['model_id']}/sampler_weights/{name}"
            return json_reply(
                type="save_weights_for_sampler", path=self._keep(path, run, response.path, resumable=False)
            )

        return self._ordered("save_weights_for_sampler", body["model_id"], body["seq_id"], submit, finish, fault)

    def skip(self, model_id: str, seq_id: int) -> None:
        """An operation was refused before it was accepted; those behind it must not wait for it."""
        run = self._runs.get(model_id)
        if run is not None:
            run.skip(seq_id)

    # Sampling.

    def create_sampling_session(self, body: dict[str, Any]) -> Reply:
        path, base_model = body.get("model_path"), body.get("base_model")
        sampler_id = f"{body['session_id']}:sampler:{body['sampling_session_seq_id']}"
        saved = None if path is None else self.saved.get(path)
        if path is not None and saved is None:
            return json_reply(404, detail=f"there is no checkpoint {path!r}")
        try:
            engine_path = None if saved is None else saved.engine_path
            client = self._engine.create_sampling_client(model_path=engine_path, base_model=base_model).result(60)
        except ModelNotFoundError as error:
            return json_reply(404, detail=str(error))
        except _USERS_FAULT as error:
            return json_reply(400, detail=str(error))
        with self._lock:
            self._samplers[sampler_id] = (client, saved.base_model if saved is not None else str(base_model))
        return json_reply(type="create_sampling_session", sampling_session_id=sampler_id)

    def get_sampler(self, sampler_id: str) -> Reply:
        if sampler_id not in self._samplers:
            return json_reply(404, detail=f"there is no sampler {sampler_id!r}")
        return json_reply(sampler_id=sampler_id, base_model=self._samplers[sampler_id][1])

    def asample(self, body: dict[str, Any], fault: Fault | None) -> Reply:
        request = SampleRequest.model_validate(body)
        sampler_id = str(request.sampling_session_id)
        if sampler_id not in self._samplers:
            return json_reply(404, detail=f"there is no sampler {sampler_id!r}")
        if getattr(request, "topk_sample_logprobs", 0) or getattr(request, "prompt_alt_tokens_k", 0):
            return json_reply(400, detail="this server gives no top-k logprobs of samples and no alternative tokens")
        client, _ = self._samplers[sampler_id]
        promise, new = self.promises.make("asample", (sampler_id, request.seq_id))
        if new:
            self._start(promise, lambda: _Sampled(client, request), lambda reply: reply, fault)
        ids = [f"{promise.request_id}-{index}" for index in range(request.num_samples)]
        return json_reply(request_id=promise.request_id, sample_sequence_ids=ids)

    # Common to all operations.

    def _add(self, model_id: str, run: Run) -> None:
        with self._lock:
            self._runs[model_id] = self.histories[model_id] = run

    def _keep(self, path: str, run: Run, engine_path: str, *, resumable: bool) -> str:
        self.saved[path] = Saved(
            engine_path=engine_path,
            base_model=run.base_model,
            rank=run.rank,
            history=tuple(run.history),
            resumable=resumable,
        )
        return path

    def _ordered(
        self,
        kind: str,
        model_id: str,
        seq_id: int,
        submit: Callable[[Run], Any],
        finish: Callable[[Run, Any], Reply],
        fault: Fault | None,
    ) -> Reply:
        run = self._runs.get(model_id)
        if run is None:
            return _no_model(model_id)
        promise, new = self.promises.make(kind, (model_id, seq_id))
        if new:
            run.enter(
                seq_id, lambda: self._start(promise, lambda: submit(run), lambda result: finish(run, result), fault)
            )
        return json_reply(request_id=promise.request_id, model_id=model_id)

    def _promised(
        self,
        kind: str,
        key: Hashable,
        submit: Callable[[], Any],
        finish: Callable[[Any], Reply],
        fault: Fault | None,
    ) -> Reply:
        promise, new = self.promises.make(kind, (kind, key))
        if new:
            self._start(promise, submit, finish, fault)
        return json_reply(request_id=promise.request_id)

    def _start(
        self, promise: Promise, submit: Callable[[], Any], finish: Callable[[Any], Reply], fault: Fault | None
    ) -> None:
        """Hand the operation to the engine; its result, or its error, fulfils *promise*."""
        if fault is not None:
            self.promises.fulfil(promise, error_reply(fault.message, fault.category))
            return

        def done(future: Future[Any]) -> None:
            try:
                result = finish(future.result())
            except Exception as error:  # noqa: BLE001 - whatever went wrong is the client's answer
                result = failure(error)
            self.promises.fulfil(promise, result)

        try:
            submit().future().add_done_callback(done)
        except Exception as error:  # noqa: BLE001 - refused at once
            self.promises.fulfil(promise, failure(error))


class _Sampled:
    """Samples, and the logprobs of the prompt where they are asked for, as one future."""

    def __init__(self, client: SamplingClient, request: SampleRequest) -> None:
        from concurrent.futures import Future

        self._future: Future[Reply] = Future()
        prompt = request.prompt
        last = getattr(request, "prompt_logprobs_last_n", None)  # since 0.33
        scored = client.compute_logprobs(prompt, last) if request.prompt_logprobs else None
        sampled = client.sample(
            prompt, request.num_samples, request.sampling_params, topk_prompt_logprobs=request.topk_prompt_logprobs
        )

        def done(_: Any) -> None:
            try:
                logprobs = None if scored is None else scored.result()
                self._future.set_result(sample_reply(sampled.result(), logprobs))
            except Exception as error:  # noqa: BLE001 - it belongs to whoever waits
                self._future.set_exception(error)

        # The engine does both in the order of the calls, so the second is the last.
        sampled.future().add_done_callback(done)  # type: ignore[attr-defined]

    def future(self) -> Future[Reply]:
        return self._future


def _no_model(model_id: str) -> Reply:
    return json_reply(404, detail=f"there is no training run {re.sub(r'[^ -~]', '?', model_id)!r}")

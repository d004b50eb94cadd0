"""A service without a model: scripted answers, true semantics, and a journal of everything it was asked."""

from __future__ import annotations

import itertools
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, Self, final

from glowgenius.engines.tinker_types import GetServerCapabilitiesResponse, SupportedModel
from glowgenius.errors import ConfigError, ModelNotFoundError, RequestRejectedError, nearest
from glowgenius.testing.bigram import Bigram
from glowgenius.testing.clients import Checkpoints, ScriptedCheckpoint, ScriptedSamplingClient, ScriptedTrainingClient
from glowgenius.testing.journal import KINDS, Operation
from glowgenius.testing.script import OrderedQueue, Script

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from glowgenius.engines.futures import EngineFuture
    from glowgenius.models.tokenizer import Tokenizer
    from glowgenius.testing.script import Answers


@final
class ScriptedService:
    """A test double for `tinker.ServiceClient`, to run a trainer, a callback or an evaluation without a model.

    Operations take effect in the order of the calls. Behind them stands a bigram model with true gradients and a true
    AdamW, so that losses fall when one trains, gradients accumulate until `optim_step`, seeds matter, and a checkpoint
    holds what was there when it was saved.

        service = ScriptedService(answers={"Where is Yankee Stadium?": "The Bronx"}, tokenizer=ByteTokenizer())
        trainer = SupervisedTrainer("scripted", service=service, renderer=renderer)
        trainer.train(dataset)
        assert [operation.kind for operation in service.journal][:2] == ["create_lora_training_client", "forward"]

    Args:
        answers: What trained weights say: a mapping from question to answer (the question that stands last in the
            prompt counts; a prompt without any is refused), or a function from prompt tokens and `SamplingParams` to
            answer tokens, which have to end with a stop token by themselves. None: tokens of the bigram model.
        base_answers: What weights without an update say, the base model among them. None: the same as trained ones.
        tokenizer: Needed where answers are a mapping or stops are text: the tokenizer of the renderer.
        loss: Nats per token as a function of the number of updates, for a curve of your own: `lambda n: 2 / (n + 1)`.
            None: what the bigram model has learned.
        fail_on: Errors by kind of operation and count of that kind: `{"forward_backward": {3: error}}` lets the future
            of the third `forward_backward` of this service raise *error*. The operation then has no effect, and the
            operations behind it still run, as on the real service.
        models: The base models that exist. None: every name.
        latency: Seconds that every operation takes. 0: futures are done when they are returned.
        supports_alpha: Whether `alpha` is accepted, as by the local engine.
        context: The most tokens that a row or a prompt may have; longer ones are refused. None: any number.

    Raises:
        ConfigError: A setting does not fit.
    """

    def __init__(
        self,
        *,
        answers: Answers | None = None,
        base_answers: Answers | None = None,
        tokenizer: Tokenizer | None = None,
        loss: Callable[[int], float] | None = None,
        fail_on: Mapping[str, Mapping[int, Exception]] = MappingProxyType({}),
        models: Collection[str] | None = None,
        latency: float = 0.0,
        supports_alpha: bool = False,
        context: int | None = None,
    ) -> None:
        self._script = Script(
            answers=answers,
            base_answers=base_answers,
            tokenizer=tokenizer,
            loss=loss,
            fail_on={kind: dict(errors) for kind, errors in fail_on.items()},
            models=None if models is None else frozenset(models),
            latency=latency,
            supports_alpha=supports_alpha,
            context=context,
        )
        self._queue = OrderedQueue(self._script)
        self._checkpoints = Checkpoints()
        self._numbers = itertools.count()

    @property
    def journal(self) -> tuple[Operation, ...]:
        """Every operation so far, in the order of the calls."""
        return self._queue.journal

    @property
    def checkpoints(self) -> dict[str, ScriptedCheckpoint]:
        """Every checkpoint by path, in the order in which they were saved."""
        return self._checkpoints.all()

    @property
    def supports_alpha(self) -> bool:
        """Whether *alpha* of `create_lora_training_client` is accepted."""
        return self._script.supports_alpha

    def operations(self, kind: str) -> tuple[Operation, ...]:
        """The part of the journal that is of one kind.

        Raises:
            ConfigError: There is no such kind of operation.
        """
        if kind not in KINDS:
            raise ConfigError(f"there is no operation {kind!r}{nearest(kind, KINDS)}; there are: {', '.join(KINDS)}")
        return tuple(operation for operation in self.journal if operation.kind == kind)

    def get_server_capabilities(self) -> GetServerCapabilitiesResponse:
        """The base models that exist, sorted; empty where every name does. Not an operation of the journal."""
        names = sorted(self._script.models or ())
        limit = self._script.context
        models = [SupportedModel(model_name=name, max_context_length=limit) for name in names]
        return GetServerCapabilitiesResponse(supported_models=models)

    def context_length(self, base_model: str) -> int | None:
        """The most tokens that a row or a prompt of *base_model* may have; not an operation of the journal.

        Raises:
            ModelNotFoundError: There is no such model.
        """
        self._check_model(base_model)
        return self._script.context

    def create_lora_training_client(
        self,
        base_model: str,
        rank: int = 32,
        seed: int | None = None,
        train_mlp: bool = True,
        train_attn: bool = True,
        train_unembed: bool = True,
        user_metadata: dict[str, str] | None = None,
        *,
        alpha: float | None = None,
    ) -> EngineFuture[ScriptedTrainingClient]:
        """A fresh adapter; without a *seed*, the number of the client is its seed."""
        if alpha is not None and not self._script.supports_alpha:
            raise RequestRejectedError("alpha is not accepted: this ScriptedService was made with supports_alpha=False")
        if rank < 1:
            raise RequestRejectedError(f"rank must be an integer ≥ 1, got {rank!r}")
        if not (train_mlp or train_attn or train_unembed):
            raise RequestRejectedError("one of train_mlp, train_attn and train_unembed must be True")
        number = next(self._numbers)

        def work() -> ScriptedTrainingClient:
            self._check_model(base_model)
            return self._client(number, Bigram.fresh(base_model, number if seed is None else seed), rank)

        return self._queue.submit(
            "create_lora_training_client", work, name=base_model, user_metadata=_pairs(user_metadata)
        )

    def create_training_client_from_state(
        self, path: str, base_model: str | None = None, user_metadata: dict[str, str] | None = None
    ) -> EngineFuture[ScriptedTrainingClient]:
        """A new run from saved weights; the optimizer starts afresh."""
        return self._resume("create_training_client_from_state", path, base_model, user_metadata, optimizer=False)

    def create_training_client_from_state_with_optimizer(
        self, path: str, base_model: str | None = None, user_metadata: dict[str, str] | None = None
    ) -> EngineFuture[ScriptedTrainingClient]:
        """A new run that goes on exactly where `save_state` stood."""
        kind = "create_training_client_from_state_with_optimizer"
        return self._resume(kind, path, base_model, user_metadata, optimizer=True)

    def create_sampling_client(
        self, model_path: str | None = None, base_model: str | None = None
    ) -> EngineFuture[ScriptedSamplingClient]:
        """A client for saved weights, or for the base model as it is."""
        if model_path is None and base_model is None:
            raise RequestRejectedError("create_sampling_client needs a model_path or a base_model, got neither")

        def work() -> ScriptedSamplingClient:
            if model_path is not None:
                model = self._checkpoints.find(model_path, resumable=False).model
            else:
                model = Bigram.fresh(self._check_model(str(base_model)), 0)
            return ScriptedSamplingClient(queue=self._queue, script=self._script, model=model)

        return self._queue.submit("create_sampling_client", work, name=base_model, path=model_path)

    def close(
        self, status: Literal["success", "errored", "interrupted"], detail: str | None = None
    ) -> EngineFuture[None]:
        """Take no more operations, from this service or its clients."""
        return self._queue.close(status if detail is None else f"{status}: {detail}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close("success" if kind is None else "errored").result()

    def _resume(
        self, kind: str, path: str, base_model: str | None, user_metadata: dict[str, str] | None, *, optimizer: bool
    ) -> EngineFuture[ScriptedTrainingClient]:
        number = next(self._numbers)

        def work() -> ScriptedTrainingClient:
            saved = self._checkpoints.find(path, resumable=True)
            if base_model is not None and base_model != saved.model.base_model:
                raise RequestRejectedError(
                    f"the checkpoint {path!r} belongs to the base model {saved.model.base_model!r}, not {base_model!r}"
                )
            model = saved.model if optimizer else saved.model.without_optimizer_state()
            return self._client(number, model, saved.rank)

        return self._queue.submit(kind, work, name=base_model, path=path, user_metadata=_pairs(user_metadata))

    def _client(self, number: int, model: Bigram, rank: int) -> ScriptedTrainingClient:
        return ScriptedTrainingClient(
            queue=self._queue,
            script=self._script,
            checkpoints=self._checkpoints,
            model=model,
            model_id=f"scripted:train:{number}",
            rank=rank,
        )

    def _check_model(self, name: str) -> str:
        models = self._script.models
        if models is not None and name not in models:
            known = ", ".join(map(repr, sorted(models))) or "none"
            raise ModelNotFoundError(f"there is no model {name!r}{nearest(name, models)}; there are: {known}")
        return name


def _pairs(user_metadata: dict[str, str] | None) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((user_metadata or {}).items()))

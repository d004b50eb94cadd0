"""Self-test of a server: whether one tiny training step gives the same numbers as on Tinker.

Servers that speak the protocol differ in what they make of it: one divides each example by its weights, another the
batch by its examples. Both train, at another rate than the one that was asked for, and neither says so.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar, final

import numpy as np
from attrs import frozen
from typing_extensions import override

from glowgenius._output import showable
from glowgenius.engines.errors import mapped
from glowgenius.engines.sdk import adapted
from glowgenius.engines.tinker_types import AdamParams, Datum, ModelInput, SamplingParams
from glowgenius.errors import EngineError, GlowGeniusError

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from glowgenius.engines.protocol import FutureLike, ServiceClient, TrainingClient

T = TypeVar("T")

RANK = 8
"""Rank of the adapters that are made; a power of two, as Tinker asks for."""

LEARNING_RATE = 1e-3
"""Two steps at this rate are seen clearly in the loss of a language model, in 16 bits as well."""

TOLERANCE = 0.02
"""Largest relative difference between two numbers that should be equal; servers compute in 16 bits."""

CLEAR = 0.25
"""Largest part of the effect of a normalisation that the three ways may differ by."""

MANY = 32
"""How often the first example counts where the second counts once."""

# Ids that every vocabulary has: what they mean does not matter.
_FIRST = (list(range(40, 48)), list(range(41, 49)), [0.0] * 4 + [1.0] * 4)
_SECOND = ([40, 44, 47, 41, 45], [44, 47, 41, 45, 90], [0.0, 0.0, 1.0, 1.0, 1.0])


@final
@frozen(kw_only=True)
class Finding:
    """Result of one check."""

    name: str
    """What it is about."""

    passed: bool
    """Whether it is as on Tinker."""

    said: str
    """What was found."""

    @override
    def __str__(self) -> str:
        return showable(f"{'ok  ' if self.passed else 'FAIL'}  {self.name}: {self.said}")


@final
@frozen(kw_only=True)
class SelfTest:
    """Results of the self-test of a server."""

    base_model: str
    """The model it was asked with."""

    findings: tuple[Finding, ...]
    """What was asked, in order; it ends with the first thing that got no answer."""

    @property
    def passed(self) -> bool:
        """Whether every result agrees with Tinker."""
        return all(finding.passed for finding in self.findings)

    @override
    def __str__(self) -> str:
        return showable("\n".join([f"self-test with {self.base_model}", *map(str, self.findings)]))


def self_test(service: ServiceClient, base_model: str, *, seconds: float = 120.0) -> SelfTest:
    """Train, save, resume and sample with a few tokens, and compare each number with what it has to be.

    Makes eight adapters and fewer than forty requests of under a hundred tokens each; where tokens cost money, so do
    these.

    Args:
        service: What to ask.
        base_model: A model that it has.
        seconds: The longest wait for one answer.
    """
    test = _Test(adapted(service), base_model, seconds)
    for name, question in (("loss", test.loss), ("gradient", test.gradient), ("resume", test.resume)):
        if not test.ask(name, question):
            break
    else:
        test.ask("sampling", test.sampling)
    return SelfTest(base_model=base_model, findings=tuple(test.findings))


class _Disagreement(Exception):  # noqa: N818 - a finding, not an error of anybody
    """The server answered, and not as expected."""


@final
class _Test:
    def __init__(self, service: ServiceClient, base_model: str, seconds: float) -> None:
        self._service = service
        self._base_model = base_model
        self._seconds = seconds
        self.findings: list[Finding] = []

    def ask(self, name: str, question: Any) -> bool:
        """Whether there was an answer, right or wrong."""
        passed, answered = True, True
        try:
            said = question()
        except _Disagreement as found:
            passed, said = False, str(found)
        except GlowGeniusError as error:
            passed, answered, said = False, False, str(error)
        self.findings.append(Finding(name=name, passed=passed, said=said))
        return answered

    def loss(self) -> str:
        """Σ −logprob · weight, divided by nothing."""
        client = self._client()
        once = self._forward(client, [_datum(*_FIRST)])
        half = self._forward(client, [_datum(*_FIRST, scale=0.5)])
        twice = self._forward(client, [_datum(*_FIRST)] * 2)
        logprobs = np.asarray(once[1], dtype=np.float64)
        expected = -float(logprobs @ np.array(_FIRST[2]))
        for value, wanted, what in (
            (once[0], expected, "Σ −logprob · weight"),
            (half[0], 0.5 * expected, "half of it with half the weights"),
            (twice[0], 2 * expected, "twice of it for two of the same example"),
        ):
            if not _near(value, wanted):
                raise _Disagreement(f"expected {wanted:.4f} ({what}), got {value:.4f}: the loss is not a plain sum")
        return f"a plain weighted sum, {once[0]:.4f}"

    def gradient(self) -> str:
        """Three ways to write one gradient, and a small part of it."""
        first, second = _datum(*_FIRST), _datum(*_SECOND)
        ways = (
            [[first] * MANY + [second]],
            [[first] * MANY, [second]],
            [[_datum(*_FIRST, scale=MANY), second]],
            [[_datum(*_FIRST, scale=1 / (MANY + 1))] * MANY + [_datum(*_SECOND, scale=1 / (MANY + 1))]],
        )
        *same, other = (self._after(calls, second) for calls in ways)
        spread, effect = max(same) - min(same), abs(float(np.mean(same)) - other)
        if spread > CLEAR * effect:
            raise _Disagreement(
                f"one gradient written as {MANY} examples, as two calls and as {MANY} times the weight leads to the "
                f"losses {', '.join(f'{loss:.4f}' for loss in same)} (and {other:.4f} for a small part of it): "
                "gradients are divided by weights or by examples"
            )
        return f"a plain sum over calls, examples and weights (loss {same[0]:.4f}; a small part of it: {other:.4f})"

    def resume(self) -> str:
        """What was saved is what is loaded."""
        client = self._client()
        # What the optimizer remembers of a large gradient shows in the step after it.
        self._step(client, [[_datum(*_FIRST, scale=MANY)]])
        with self._within("save_state") as wait:
            path = wait(client.save_state("self-test", ttl_seconds=3600)).path
        with self._within("create_training_client_from_state_with_optimizer") as wait:
            resumed = wait(self._service.create_training_client_from_state_with_optimizer(path))
        data = [_datum(*_SECOND)]
        losses: list[float] = []
        for one in (client, resumed):
            self._step(one, [data])
            losses.append(self._forward(one, data)[0])
        if not _near(losses[1], losses[0]):
            raise _Disagreement(f"a step later the loss is {losses[0]:.4f} without and {losses[1]:.4f} with a resume")
        return "goes on from a checkpoint with its optimizer"

    def sampling(self) -> str:
        """The weights that are sampled from are those that were trained."""
        client = self._client()
        inputs, targets, _ = _FIRST
        data = [_datum(inputs, targets, [1.0] * len(inputs))]
        self._step(client, [data])
        _, trained = self._forward(client, data)
        with self._within("save_weights_and_get_sampling_client") as wait:
            sampler = wait(client.save_weights_and_get_sampling_client())
        prompt = ModelInput.from_ints([*inputs, targets[-1]])
        with self._within("compute_logprobs") as wait:
            logprobs = [value or 0.0 for value in wait(sampler.compute_logprobs(prompt))[1:]]
        with self._within("sample") as wait:
            sampled = wait(sampler.sample(prompt, 1, SamplingParams(max_tokens=2, temperature=0.0, stop=[])))
        if not _near(sum(logprobs), sum(trained)):
            raise _Disagreement(
                f"the sampled weights give the tokens {sum(logprobs):.4f} nats, the trained ones {sum(trained):.4f}"
            )
        return f"samples from the trained weights ({len(sampled.sequences[0].tokens)} tokens)"

    def _client(self) -> TrainingClient:
        with self._within("create_lora_training_client") as wait:
            client: TrainingClient = wait(
                self._service.create_lora_training_client(self._base_model, rank=RANK, seed=0)
            )
        return client

    def _after(self, calls: Sequence[list[Datum]], asked: Datum) -> float:
        """The loss of *asked* after a step of a fresh adapter with the gradients of *calls*, and one with its own.

        Adam's first step is the same for a gradient of any size; in the second, the size of the first is seen.
        """
        client = self._client()
        self._step(client, calls)
        self._step(client, [[asked]])
        return self._forward(client, [asked])[0]

    def _step(self, client: TrainingClient, calls: Sequence[list[Datum]]) -> None:
        gradients = [client.forward_backward(data, "cross_entropy") for data in calls]
        update = client.optim_step(AdamParams(learning_rate=LEARNING_RATE, eps=1e-8))
        with self._within("forward_backward") as wait:
            for gradient in gradients:
                wait(gradient)
        with self._within("optim_step") as wait:
            wait(update)

    def _forward(self, client: TrainingClient, data: list[Datum]) -> tuple[float, list[float]]:
        with self._within("forward") as wait:
            output = wait(client.forward(data, "cross_entropy"))
        if "loss:sum" not in output.metrics or "logprobs" not in output.loss_fn_outputs[0]:
            raise _Disagreement(
                f"forward reports no loss:sum with logprobs, but {', '.join(output.metrics) or 'nothing'}"
            )
        return output.metrics["loss:sum"], output.loss_fn_outputs[0]["logprobs"].to_numpy().tolist()

    @contextmanager
    def _within(self, operation: str) -> Generator[Any]:
        def wait(future: FutureLike[T]) -> T:
            try:
                return future.result(self._seconds)
            except TimeoutError as error:
                raise EngineError(
                    f"{operation} got no answer within {self._seconds:g} s; a server that is older than the SDK lets "
                    "it wait instead of failing"
                ) from error

        with mapped(operation, model=self._base_model):
            yield wait


def _datum(inputs: list[int], targets: list[int], weights: list[float], scale: float = 1.0) -> Datum:
    fields: dict[str, Any] = {
        "target_tokens": np.array(targets, dtype=np.int64),
        "weights": np.array(weights, dtype=np.float32) * np.float32(scale),
    }
    return Datum(model_input=ModelInput.from_ints(inputs), loss_fn_inputs=fields)


def _near(value: float, wanted: float) -> bool:
    return abs(value - wanted) <= TOLERANCE * abs(wanted)

"""`SupervisedTrainer`: trains a LoRA adapter on conversations, from a base model, a renderer and settings."""

from __future__ import annotations

import copy
import functools
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, cast, final

from attrs import evolve
from typing_extensions import override

from glowgenius._validators import reject
from glowgenius.data.trained import Trained
from glowgenius.engines.errors import mapped
from glowgenius.engines.offered import context_length
from glowgenius.engines.process import HomeProcess, refuse_fork_of_sdk
from glowgenius.engines.protocol import checkpoint_directory
from glowgenius.engines.sdk import adapted
from glowgenius.errors import (
    ConfigError,
    GlowGeniusError,
    MissingDependencyError,
    ModelNotFoundError,
    NotPicklableError,
    TrainingError,
)
from glowgenius.lora.config import LoRAConfig
from glowgenius.training.callbacks.base import Callbacks
from glowgenius.training.checkpoints import WEIGHTS
from glowgenius.training.config import TrainingConfig
from glowgenius.training.connection import Connection, Engine, check_engine, choose_engine, new_client, refuse_alpha
from glowgenius.training.cost import Meter, estimate_run
from glowgenius.training.folder_lock import check_room, sole_writer
from glowgenius.training.initial_weights import check_base, fitting, recorded, weights_named
from glowgenius.training.loop import Clock, RunContext
from glowgenius.training.preflight import Outlook, check_run, refused
from glowgenius.training.prices import PriceTable
from glowgenius.training.replay_targets import teacher_lines
from glowgenius.training.requests import handled
from glowgenius.training.resume import Start, as_begun, source_of, starting_point
from glowgenius.training.rows import check_steps, dropped_lines
from glowgenius.training.run_folder import RunFolder
from glowgenius.training.run_identity import (
    AdaptedModel,
    as_datasets,
    check_type,
    describe_model,
    for_one_run,
    peak_rate,
    run_identity,
    serving_lines,
    weights_of,
)
from glowgenius.training.sampler import Sampler
from glowgenius.training.session import Session, in_thread

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from glowgenius.data.dataset import Dataset
    from glowgenius.data.message import Conversation
    from glowgenius.engines.protocol import ServiceClient, TrainingClient
    from glowgenius.rendering.renderer import Renderer
    from glowgenius.training.callbacks.base import Callback
    from glowgenius.training.cost import CostEstimate
    from glowgenius.training.initial_weights import InitialWeights
    from glowgenius.training.preflight import PreflightReport
    from glowgenius.training.result import TrainingResult
    from glowgenius.training.resume import Start
    from glowgenius.training.rows import PreparedRun
    from glowgenius.training.schedule import Plan
    from glowgenius.training.session import Interruption
    from glowgenius.typing import JSON

_LORA: Final = LoRAConfig()
_CONFIG: Final = TrainingConfig()


@final
class SupervisedTrainer:
    """Fine-tunes a LoRA adapter on conversations.

        trainer = SupervisedTrainer("Qwen/Qwen3-8B", lora=LoRAConfig(rank=32), config=TrainingConfig(num_epochs=3))
        result = trainer.train(train, eval_dataset=held_out)
        print(result.sampler.generate("Which borough is Yankee Stadium in?"))

    Nothing is sent and nothing is loaded before it is needed. Before the first request every row is rendered, and
    every problem that can be known by then is raised in one error.

    Args:
        base_model: A hub name, a local directory, or `smollm2-135m-instruct`.
        lora: The adapter.
        renderer: Between messages and tokens: a `Renderer`, or an object with the four methods of a tinker-cookbook
            renderer. None: the one that fits the base model.
        service: What `connect()` returns, a `tinker.ServiceClient`, or anything with its methods. None: what
            `connect()` finds, which is Tinker where there is a key and this machine where there is none.
        config: How the run goes.
        callbacks: Called in this order; one callback needs no list.
        prices: What tokens cost: a `PriceTable`, or the path of one. None: what `GLOWGENIUS_PRICES` names, else the
            table that comes with the package.

    Raises:
        ConfigError: An argument does not fit, or `lora.alpha` is set for a service that takes none.
    """

    def __init__(
        self,
        base_model: str,
        *,
        lora: LoRAConfig = _LORA,
        renderer: object | None = None,
        service: ServiceClient | Connection | Engine | None = None,
        config: TrainingConfig = _CONFIG,
        callbacks: Callback | Iterable[Callback] = (),
        prices: PriceTable | str | os.PathLike[str] | None = None,
    ) -> None:
        for name, value, kind in (("base_model", base_model, str), ("lora", lora, LoRAConfig)):
            check_type(name, value, kind)
        check_type("config", config, TrainingConfig)
        if not base_model.strip():
            raise reject(type(self), "base_model", "the name of a model", base_model)
        if service is not None:
            refuse_alpha(lora, service.service if isinstance(service, Connection | Engine) else service)
        self._base_model = base_model
        self._lora: LoRAConfig | None = lora
        self._given_renderer = renderer
        self._renderer: Renderer | None = None
        self._service = service
        self._config = config
        self._callbacks = Callbacks(callbacks)
        self._client: TrainingClient | None = None
        self._client_is_used = False
        self._engine_found: Engine | None = None
        self._clock = Clock()
        self._home = HomeProcess()
        self._prices = PriceTable.find(prices, os.environ)

    @classmethod
    def from_client(
        cls,
        training_client: TrainingClient,
        *,
        renderer: object | None = None,
        service: ServiceClient | Connection | Engine | None = None,
        config: TrainingConfig = _CONFIG,
        callbacks: Callback | Iterable[Callback] = (),
    ) -> SupervisedTrainer:
        """A trainer for an existing training client, with the weights it has now.

        Its steps are counted from 0 all the same. It trains once, and cannot resume, as a client cannot be wound back.

        Args:
            training_client: What is trained; its base model and rank are as it was made.
            renderer: As for the class.
            service: The service that made the client; only `base_sampler` needs it.
            config: As for the class.
            callbacks: As for the class.

        Raises:
            ConfigError: An argument does not fit.
            EngineError: The client does not know its base model.
        """
        with mapped("get_info"):
            info = training_client.get_info()
        base_model = info.model_data.model_name or info.model_name
        if not base_model:
            raise TrainingError("the training client does not say which base model it has")
        trainer = cls(base_model, renderer=renderer, service=service, config=config, callbacks=callbacks)
        trainer._client = adapted(training_client)
        trainer._lora = None
        return trainer

    def __copy__(self) -> SupervisedTrainer:
        twin = object.__new__(SupervisedTrainer)
        vars(twin).update(vars(self))
        return twin

    @override
    def __getstate__(self) -> dict[str, Any]:
        if self._service is not None or self._client is not None:
            raise NotPicklableError(
                "a SupervisedTrainer around a service or a client cannot be pickled, as that may hold an API key; make "
                "one there, without service=, which finds the engine by itself"
            )
        return {**vars(self), "_engine_found": None}

    @override
    def __repr__(self) -> str:
        return f"SupervisedTrainer({self._base_model!r}, lora={self._lora}, config={self._config})"

    @property
    def base_model(self) -> str:
        """Name of the base model."""
        return self._base_model

    @property
    def lora(self) -> LoRAConfig | None:
        """The adapter settings; None for a client passed by the user."""
        return self._lora

    @property
    def config(self) -> TrainingConfig:
        """The training settings."""
        return self._config

    @property
    def renderer(self) -> Renderer:
        """The renderer between messages and tokens, for training and sampling; created on first use.

        Raises:
            ConfigError: What was given is no renderer.
            ModelNotFoundError: There is no tokenizer for the base model.
        """
        if self._renderer is None:
            from glowgenius.rendering import Renderer, as_renderer

            given = self._given_renderer
            self._renderer = Renderer.for_model(self._base_model) if given is None else as_renderer(given)
        return self._renderer

    def preflight(
        self,
        train: Dataset | Sequence[Conversation],
        eval_dataset: Dataset | Sequence[Conversation] | None = None,
        *,
        engine: str = "auto",
    ) -> PreflightReport:
        """Check a run without starting it: renders every row and sends none.

        A service is asked which models it has, which costs nothing. Where no engine is to be had, what it would say is
        left out, with a warning.

        Args:
            train: As for `train`.
            eval_dataset: As for `train`.
            engine: As for `estimate`; only the engine of `auto` is asked for anything.

        Returns:
            The run on one page, with its warnings; `train` begins with the same.

        Raises:
            PreflightError: Something is wrong; `problems` has all of it.
            ConfigError: An argument is no data set.
            EngineError: A server does not answer, or refuses the key.
        """
        rows, held = as_datasets(train, eval_dataset)
        try:
            where, absent = self._where("preflight", engine), list[str]()
        except MissingDependencyError as error:
            where, absent = Engine(service=None, name="none", line="engine: none"), [str(error)]
        _, report = self._check(rows, held, where)
        return evolve(report, warnings=(*absent, *report.warnings))

    def estimate(
        self,
        train: Dataset | Sequence[Conversation],
        eval_dataset: Dataset | Sequence[Conversation] | None = None,
        *,
        engine: str = "auto",
    ) -> CostEstimate:
        """Estimated cost of a run, without starting it or sending a row.

        Args:
            train: As for `train`.
            eval_dataset: As for `train`.
            engine: `auto` is where the run would take place; `tinker` says what it would cost there.

        Raises:
            PreflightError: Something is wrong, so that there would be no run.
            ConfigError: An argument does not fit.
        """
        _, report = self._check(*as_datasets(train, eval_dataset), self._where("estimate", engine))
        return cast("CostEstimate", report.cost)

    def train(
        self,
        train: Dataset | Sequence[Conversation],
        eval_dataset: Dataset | Sequence[Conversation] | None = None,
        resume_from_checkpoint: bool | str | os.PathLike[str] | None = None,
        *,
        initial_weights: object | None = None,
        dropped_rows: Sequence[int | str] = (),
    ) -> TrainingResult:
        """Train, and return the finished run.

        Inside a running event loop it blocks that loop; there, `await trainer.train_async(...)`.
        Ctrl-C reports what is under way, saves the state and leaves; a second Ctrl-C leaves at once. So do SIGTERM and
        SIGHUP where nobody else handles them: what is raised is a KeyboardInterrupt, and the exit code of a program
        that does not catch it 128 + signal.

        Args:
            train: The rows to learn.
            eval_dataset: Rows whose loss is measured before the first step, after the last, and every `eval_every`.
            resume_from_checkpoint: True goes on from the last checkpoint in `output_dir`; the folder of a run, or the
                state path of one of its checkpoints, from that one. What comes out is what an uninterrupted run gives.
                `num_epochs` and `max_steps` may have grown, and how often is evaluated and saved may differ;
                everything else has to be as it was.
            initial_weights: The weights of an earlier training to begin with, on other data: what `open_run()` or
                `train()` returned, the folder of a run, the path of a saved state, or, on the local engine, the folder
                of an adapter. Weights only: optimizer, schedule and step count start afresh. The base model has to be
                theirs, and so has `lora`, which may be left out of the trainer. None: a fresh adapter.
            dropped_rows: Only with a resume: rows of *train* that the run goes on without, because a step failed of
                them. Each by its place as errors print it (`"train.jsonl:17"`, `"row 16"`), its id, or its 0-based
                number. *train* stays the data that the run began with. The run folder remembers them.

        Raises:
            PreflightError: Something is wrong with rows or settings; nothing has been sent.
            ConfigError: An argument does not fit, or `output_dir` holds another run.
            CheckpointError: The checkpoint, or the initial weights, are gone or damaged.
            ResumeMismatchError: The checkpoint belongs to other data, settings, model or renderer.
            EngineError: The engine refused or failed; the run folder has what was done before.
        """
        rows, held = as_datasets(train, eval_dataset)
        with sole_writer(self._config.output_dir), handled():
            begun, initial = self._beginning(resume_from_checkpoint, initial_weights)
            return SupervisedTrainer._run(begun, rows, held, resume_from_checkpoint, initial, dropped_rows, self._clock)

    async def train_async(
        self,
        train: Dataset | Sequence[Conversation],
        eval_dataset: Dataset | Sequence[Conversation] | None = None,
        resume_from_checkpoint: bool | str | os.PathLike[str] | None = None,
        *,
        initial_weights: object | None = None,
        dropped_rows: Sequence[int | str] = (),
    ) -> TrainingResult:
        """Async version of `train`: runs in its own thread, where callbacks are called too.

        Cancelling the task is what Ctrl-C is to `train`: what is under way is reported, the state saved, and only then
        is the task over. Cancelled a second time, the run leaves at once. SIGTERM and SIGHUP do the same to the run.
        """
        rows, held = as_datasets(train, eval_dataset)

        def run(interruption: Interruption) -> TrainingResult:
            with sole_writer(self._config.output_dir):
                begun, initial = self._beginning(resume_from_checkpoint, initial_weights)
                clock = interruption.clock(self._clock)
                return SupervisedTrainer._run(begun, rows, held, resume_from_checkpoint, initial, dropped_rows, clock)

        return await in_thread(run)

    def base_sampler(self) -> Sampler:
        """Sampler of the base model without the adapter, with the same renderer, for comparison.

        Raises:
            ConfigError: The trainer was made from a client, without the service that made it.
            EngineError: The engine refused or failed.
        """
        service = self._engine().service
        if service is None:
            raise ConfigError("base_sampler needs a service: SupervisedTrainer.from_client(client, service=...)")
        with mapped("create_sampling_client", model=self._base_model):
            client = service.create_sampling_client(base_model=self._base_model).result()
        limit = functools.partial(context_length, service, self._base_model)
        return Sampler(client, self.renderer, name="base", context_length=limit)

    def _where(self, owner: str, engine: str) -> Engine:
        """The engine of a run, or only its name where nothing is requested from it."""
        check_engine(owner, engine)
        return self._engine() if engine == "auto" else Engine(service=None, name=engine, line=f"engine: {engine}")

    def _engine(self) -> Engine:
        if any(made is not None for made in (self._service, self._client, self._engine_found)):
            self._home.check("this trainer")
            refuse_fork_of_sdk()
        self._engine_found = self._engine_found or choose_engine(self._service, self._config.output_dir, self._client)
        return self._engine_found

    def _check(
        self, train: Dataset, held: Dataset | None, engine: Engine, start: Start | None = None
    ) -> tuple[PreparedRun, PreflightReport]:
        """Check the run and estimate its cost, while the service is asked for its models."""
        outlook = Outlook(engine, self._base_model, self._lora)
        try:
            renderer = self.renderer
        except ModelNotFoundError as error:
            # Without a tokenizer there is nothing to check, but the service may suggest the right model name.
            if engine.name != "local" and (problems := outlook.see().problems):
                raise refused(problems) from error
            raise
        model = describe_model(self._base_model, self._lora, self._rank, look_up=self._given_renderer is None)
        run, report = check_run(
            train,
            held,
            renderer=renderer,
            config=self._config,
            learning_rate=peak_rate(self._config, self._base_model),
            about=(
                engine.line,
                model,
                f"renderer: {renderer.description}",
                *teacher_lines(self._config),
            ),
            surroundings=outlook.see,
            dropped={} if start is None else start.dropped,
            total=None if start is None else start.examples,
        )
        if too_long := self._callbacks.sampling_problems(renderer, run.context):
            raise refused(too_long)
        cost = estimate_run(
            run,
            self._config,
            base_model=self._base_model,
            engine=engine.name,
            prices=self._prices,
            sampling=self._callbacks.sampling(renderer),
        )
        return run, evolve(report, cost=cost, serving=serving_lines(self._lora))

    def _beginning(
        self, resume: bool | str | os.PathLike[str] | None, initial: object | None
    ) -> tuple[SupervisedTrainer, InitialWeights | None]:
        """The trainer with the adapter settings of the initial weights, and these weights, if any.

        A run that is resumed remembers them.
        """
        weights = None if initial is None else weights_named(initial)
        if weights is None and resume not in (None, False):
            folder = None if self._config.output_dir is None else RunFolder(self._config.output_dir)
            with suppress(GlowGeniusError):  # the start of the run says what is wrong
                weights = recorded(source_of(resume, folder)[0])
        if weights is None:
            return self, None
        if self._lora is None:
            raise ConfigError(
                "a trainer made from a client takes no initial_weights, as the client has its weights; make the "
                "trainer with base_model and service instead"
            )
        lora = fitting(weights, self._lora, default=self._lora is _LORA)
        if lora is self._lora:
            return self, weights
        self._engine()  # created once, for both trainers
        trainer = copy.copy(self)
        vars(trainer).update(_lora=lora)
        return trainer, weights

    def _run(
        self,
        train: Dataset,
        held: Dataset | None,
        resume: bool | str | os.PathLike[str] | None,
        initial: InitialWeights | None,
        dropped_rows: Sequence[int | str],
        clock: Clock,
    ) -> TrainingResult:
        folder = None if self._config.output_dir is None else RunFolder(self._config.output_dir)
        start, train, held = self._start(resume, folder, train, held)
        start = start.dropping(train, dropped_rows)
        engine = for_one_run(self._engine(), self._config.output_dir)
        refuse_alpha(self._lora, engine.service)
        run, report = self._check(train, held, engine, start)
        identity = self._identity(engine, run, train, held, initial)
        warned = () if initial is None else check_base(initial, self._base_model, _weights_in(identity))
        start = start.checked(identity, run.plan.total_steps).noting(run.train.left_out)
        if not start.complete:
            check_steps(run.plan, start.step)
        rows = evolve(run, trained=Trained.of(train), can_resume=folder is not None and self._client is None)
        estimate = cast("CostEstimate", report.cost)
        return Session(
            run=RunContext(
                rows=rows,
                config=self._config,
                renderer=self.renderer,
                callbacks=self._callbacks,
                identity=identity,
                meter=Meter(run=rows, config=self._config, estimate=estimate, spent=start.spent(rows)),
                clock=clock,
            ),
            model=self._adapted(engine, initial),
            start=start,
            folder=folder,
            train_rows=train,
            held_rows=held,
            header=(
                *self._header(report, engine, run.plan, start, folder),
                *(() if initial is None else (initial.told(), *warned)),
                *dropped_lines(train, run.train.left_out),
            ),
        ).train(functools.partial(self._make_client, engine, initial))

    def _adapted(self, engine: Engine, initial: InitialWeights | None) -> AdaptedModel:
        return AdaptedModel(
            base_model=self._base_model,
            lora=self._lora,
            rank=self._rank,
            engine=engine.name,
            service=engine.service,
            initial=initial,
            base_sampler=self.base_sampler,
        )

    def _identity(
        self,
        engine: Engine,
        run: PreparedRun,
        train: Dataset,
        held: Dataset | None,
        initial: InitialWeights | None,
    ) -> dict[str, JSON]:
        """The run identity: everything that determines the updates."""
        return run_identity(
            base_model=self._base_model,
            lora=self._lora,
            config=self._config,
            learning_rate=run.plan.learning_rate,
            renderer=self.renderer,
            train=train,
            evaluation=held,
            weights=weights_of(engine.name, self._base_model, self._lora),
            initial=initial,
        )

    def _header(
        self, report: PreflightReport, engine: Engine, plan: Plan, start: Start, folder: RunFolder | None
    ) -> tuple[str, ...]:
        where = [] if folder is None else [f"run folder: {folder.path}"]
        return (*report.lines(), *where, *self._room(engine, plan, start), *start.lines(self._callbacks, plan))

    def _start(
        self,
        resume: bool | str | os.PathLike[str] | None,
        folder: RunFolder | None,
        train: Dataset,
        held: Dataset | None,
    ) -> tuple[Start, Dataset, Dataset | None]:
        """Where the run starts and with which rows; the renderer uses the date of a resumed run."""
        start = starting_point(resume, folder, winds_back=self._client is None)
        if start.day is not None:
            self._renderer = self.renderer.on_day(start.day)
        return start, *as_begun(start, folder, train, held)

    def _room(self, engine: Engine, plan: Plan, start: Start) -> list[str]:
        """Header lines about the size of checkpoints written on this machine.

        Raises:
            ConfigError: There is too little room even for the last one.
        """
        store = checkpoint_directory(engine.service)
        if store is None or self._lora is None or start.complete:
            return []
        try:
            weights = 4 * self._lora.parameter_count(self._base_model)
        except GlowGeniusError:
            return []
        config = self._config
        states = plan.times_due(config.save_every, after=start.step) + 1
        evaluated = plan.times_due(config.eval_every, after=start.step) if config.metric_for_best else 0
        if config.save_top_k is not None:
            states, evaluated = min(states, config.save_top_k + 2), min(evaluated, config.save_top_k + 1)
        # A state holds the adapter and its two Adam moments.
        lines = check_room(store, least=4 * weights, most=(3 * states + evaluated + 1) * weights)
        if not getattr(engine.service, "keeps_checkpoints", True):
            size = lines[0].partition(" in ")[0] if lines else ""
            told = f"{size} in a temporary folder, removed with the result, as output_dir is None"
            lines = [told, *lines[1:]] if lines else []
        return lines

    @property
    def _rank(self) -> int | None:
        if self._lora is not None:
            return self._lora.rank
        return None if self._client is None else self._client.get_info().lora_rank

    def _make_client(self, engine: Engine, initial: InitialWeights | None, state: str | None) -> TrainingClient:
        """A client with a new adapter, the *initial* weights or a checkpoint's, or the client passed by the user."""
        if self._client is not None:
            if self._client_is_used:
                raise ConfigError(
                    "this trainer has trained its client already; make a new trainer, around this client or another"
                )
            self._client_is_used = True
            return self._client
        # Only a trainer made by `from_client` may lack them.
        service, lora = cast("ServiceClient", engine.service), cast("LoRAConfig", self._lora)
        return new_client(service, self._base_model, lora, state, initial)


def _weights_in(identity: Mapping[str, JSON]) -> str | None:
    """Fingerprint of the base model's weights, if they are on this machine."""
    found = identity.get(WEIGHTS)
    return found if isinstance(found, str) else None

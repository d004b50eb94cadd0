"""Training runs over any engine: connection, settings, the loop, and what comes out of it.

A name is imported from its module when it is first used: the settings and callbacks alone do not load `tinker`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from glowgenius.training.callbacks.base import Callback as Callback
    from glowgenius.training.callbacks.base import on as on
    from glowgenius.training.callbacks.loggers import CSVLogger as CSVLogger
    from glowgenius.training.callbacks.loggers import JSONLLogger as JSONLLogger
    from glowgenius.training.callbacks.loggers import SampleLogger as SampleLogger
    from glowgenius.training.callbacks.progress import ProgressBar as ProgressBar
    from glowgenius.training.callbacks.stopping import BudgetGuard as BudgetGuard
    from glowgenius.training.callbacks.stopping import EarlyStopping as EarlyStopping
    from glowgenius.training.callbacks.stopping import TerminateOnNaN as TerminateOnNaN
    from glowgenius.training.callbacks.trackers import MLflowLogger as MLflowLogger
    from glowgenius.training.callbacks.trackers import TensorBoardLogger as TensorBoardLogger
    from glowgenius.training.callbacks.trackers import TrackioLogger as TrackioLogger
    from glowgenius.training.callbacks.trackers import WandbLogger as WandbLogger
    from glowgenius.training.checkpoints import CheckpointRecord as CheckpointRecord
    from glowgenius.training.config import TrainingConfig as TrainingConfig
    from glowgenius.training.connection import Connection as Connection
    from glowgenius.training.connection import connect as connect
    from glowgenius.training.cost import CostEstimate as CostEstimate
    from glowgenius.training.cost import CostSoFar as CostSoFar
    from glowgenius.training.cost import RunCost as RunCost
    from glowgenius.training.events import CheckpointSaved as CheckpointSaved
    from glowgenius.training.events import EpochBegin as EpochBegin
    from glowgenius.training.events import EpochEnd as EpochEnd
    from glowgenius.training.events import EvaluateBegin as EvaluateBegin
    from glowgenius.training.events import EvaluateEnd as EvaluateEnd
    from glowgenius.training.events import Event as Event
    from glowgenius.training.events import ServiceWait as ServiceWait
    from glowgenius.training.events import StepBegin as StepBegin
    from glowgenius.training.events import StepEnd as StepEnd
    from glowgenius.training.events import StepLogged as StepLogged
    from glowgenius.training.events import TrainBegin as TrainBegin
    from glowgenius.training.events import TrainEnd as TrainEnd
    from glowgenius.training.events import TrainFailed as TrainFailed
    from glowgenius.training.events import TrainRestart as TrainRestart
    from glowgenius.training.history import History as History
    from glowgenius.training.preflight import PreflightReport as PreflightReport
    from glowgenius.training.prices import Price as Price
    from glowgenius.training.prices import PriceTable as PriceTable
    from glowgenius.training.prices import TokenUsage as TokenUsage
    from glowgenius.training.replay_targets import ReplayRows as ReplayRows
    from glowgenius.training.replay_targets import make_replay as make_replay
    from glowgenius.training.requests import LogMetrics as LogMetrics
    from glowgenius.training.requests import Request as Request
    from glowgenius.training.requests import RunEvaluation as RunEvaluation
    from glowgenius.training.requests import SaveCheckpoint as SaveCheckpoint
    from glowgenius.training.requests import StopTraining as StopTraining
    from glowgenius.training.result import TrainingResult as TrainingResult
    from glowgenius.training.rows import RowCounts as RowCounts
    from glowgenius.training.sampler import Completion as Completion
    from glowgenius.training.sampler import Sampler as Sampler
    from glowgenius.training.trainer import SupervisedTrainer as SupervisedTrainer

_HOMES = {
    "BudgetGuard": "glowgenius.training.callbacks.stopping",
    "CSVLogger": "glowgenius.training.callbacks.loggers",
    "Callback": "glowgenius.training.callbacks.base",
    "CheckpointRecord": "glowgenius.training.checkpoints",
    "CheckpointSaved": "glowgenius.training.events",
    "Completion": "glowgenius.training.sampler",
    "Connection": "glowgenius.training.connection",
    "CostEstimate": "glowgenius.training.cost",
    "CostSoFar": "glowgenius.training.cost",
    "EarlyStopping": "glowgenius.training.callbacks.stopping",
    "EpochBegin": "glowgenius.training.events",
    "EpochEnd": "glowgenius.training.events",
    "EvaluateBegin": "glowgenius.training.events",
    "EvaluateEnd": "glowgenius.training.events",
    "Event": "glowgenius.training.events",
    "History": "glowgenius.training.history",
    "JSONLLogger": "glowgenius.training.callbacks.loggers",
    "LogMetrics": "glowgenius.training.requests",
    "MLflowLogger": "glowgenius.training.callbacks.trackers",
    "PreflightReport": "glowgenius.training.preflight",
    "Price": "glowgenius.training.prices",
    "PriceTable": "glowgenius.training.prices",
    "ProgressBar": "glowgenius.training.callbacks.progress",
    "ReplayRows": "glowgenius.training.replay_targets",
    "Request": "glowgenius.training.requests",
    "RowCounts": "glowgenius.training.rows",
    "RunCost": "glowgenius.training.cost",
    "RunEvaluation": "glowgenius.training.requests",
    "SampleLogger": "glowgenius.training.callbacks.loggers",
    "Sampler": "glowgenius.training.sampler",
    "SaveCheckpoint": "glowgenius.training.requests",
    "ServiceWait": "glowgenius.training.events",
    "StepBegin": "glowgenius.training.events",
    "StepEnd": "glowgenius.training.events",
    "StepLogged": "glowgenius.training.events",
    "StopTraining": "glowgenius.training.requests",
    "SupervisedTrainer": "glowgenius.training.trainer",
    "TensorBoardLogger": "glowgenius.training.callbacks.trackers",
    "TerminateOnNaN": "glowgenius.training.callbacks.stopping",
    "TokenUsage": "glowgenius.training.prices",
    "TrackioLogger": "glowgenius.training.callbacks.trackers",
    "TrainBegin": "glowgenius.training.events",
    "TrainEnd": "glowgenius.training.events",
    "TrainFailed": "glowgenius.training.events",
    "TrainRestart": "glowgenius.training.events",
    "TrainingConfig": "glowgenius.training.config",
    "TrainingResult": "glowgenius.training.result",
    "WandbLogger": "glowgenius.training.callbacks.trackers",
    "connect": "glowgenius.training.connection",
    "make_replay": "glowgenius.training.replay_targets",
    "on": "glowgenius.training.callbacks.base",
}
"""Where each name lives."""

__all__ = [
    "BudgetGuard",
    "CSVLogger",
    "Callback",
    "CheckpointRecord",
    "CheckpointSaved",
    "Completion",
    "Connection",
    "CostEstimate",
    "CostSoFar",
    "EarlyStopping",
    "EpochBegin",
    "EpochEnd",
    "EvaluateBegin",
    "EvaluateEnd",
    "Event",
    "History",
    "JSONLLogger",
    "LogMetrics",
    "MLflowLogger",
    "PreflightReport",
    "Price",
    "PriceTable",
    "ProgressBar",
    "ReplayRows",
    "Request",
    "RowCounts",
    "RunCost",
    "RunEvaluation",
    "SampleLogger",
    "Sampler",
    "SaveCheckpoint",
    "ServiceWait",
    "StepBegin",
    "StepEnd",
    "StepLogged",
    "StopTraining",
    "SupervisedTrainer",
    "TensorBoardLogger",
    "TerminateOnNaN",
    "TokenUsage",
    "TrackioLogger",
    "TrainBegin",
    "TrainEnd",
    "TrainFailed",
    "TrainRestart",
    "TrainingConfig",
    "TrainingResult",
    "WandbLogger",
    "connect",
    "make_replay",
    "on",
]


def __getattr__(name: str) -> Any:
    """Import the module of a name on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

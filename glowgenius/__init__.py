"""glowgenius: supervised LoRA fine-tuning on Tinker or on this machine, with honest before-and-after numbers.

Everything public is a name of this module; importing it loads nothing heavy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from glowgenius._version import __version__ as __version__

if TYPE_CHECKING:
    from glowgenius import errors as errors
    from glowgenius import local as local
    from glowgenius import testing as testing
    from glowgenius.data import Conversation as Conversation
    from glowgenius.data import Dataset as Dataset
    from glowgenius.data import DatasetReport as DatasetReport
    from glowgenius.data import LeakReport as LeakReport
    from glowgenius.data import Message as Message
    from glowgenius.data import find_leaks as find_leaks
    from glowgenius.errors import GlowGeniusError as GlowGeniusError
    from glowgenius.evaluation import AnswerEvaluation as AnswerEvaluation
    from glowgenius.evaluation import Comparison as Comparison
    from glowgenius.evaluation import EvaluationResult as EvaluationResult
    from glowgenius.evaluation import compare as compare
    from glowgenius.evaluation import evaluate as evaluate
    from glowgenius.experiments import SweepResult as SweepResult
    from glowgenius.experiments import sweep as sweep
    from glowgenius.lora import LearningRateSuggestion as LearningRateSuggestion
    from glowgenius.lora import LoRAConfig as LoRAConfig
    from glowgenius.lora import ParameterBreakdown as ParameterBreakdown
    from glowgenius.lora import suggest_learning_rate as suggest_learning_rate
    from glowgenius.rendering import ChatTemplateRenderer as ChatTemplateRenderer
    from glowgenius.rendering import Preview as Preview
    from glowgenius.rendering import QuestionAnswerRenderer as QuestionAnswerRenderer
    from glowgenius.rendering import RenderedExample as RenderedExample
    from glowgenius.rendering import Renderer as Renderer
    from glowgenius.rendering import TrainOn as TrainOn
    from glowgenius.rendering import preview as preview
    from glowgenius.reporting import Run as Run
    from glowgenius.reporting import open_run as open_run
    from glowgenius.reporting import write_report as write_report
    from glowgenius.reporting import write_run_report as write_run_report
    from glowgenius.training import BudgetGuard as BudgetGuard
    from glowgenius.training import Callback as Callback
    from glowgenius.training import CheckpointSaved as CheckpointSaved
    from glowgenius.training import CostEstimate as CostEstimate
    from glowgenius.training import CostSoFar as CostSoFar
    from glowgenius.training import CSVLogger as CSVLogger
    from glowgenius.training import EarlyStopping as EarlyStopping
    from glowgenius.training import EpochBegin as EpochBegin
    from glowgenius.training import EpochEnd as EpochEnd
    from glowgenius.training import EvaluateBegin as EvaluateBegin
    from glowgenius.training import EvaluateEnd as EvaluateEnd
    from glowgenius.training import History as History
    from glowgenius.training import JSONLLogger as JSONLLogger
    from glowgenius.training import LogMetrics as LogMetrics
    from glowgenius.training import MLflowLogger as MLflowLogger
    from glowgenius.training import PreflightReport as PreflightReport
    from glowgenius.training import Price as Price
    from glowgenius.training import PriceTable as PriceTable
    from glowgenius.training import ProgressBar as ProgressBar
    from glowgenius.training import ReplayRows as ReplayRows
    from glowgenius.training import RunCost as RunCost
    from glowgenius.training import RunEvaluation as RunEvaluation
    from glowgenius.training import SampleLogger as SampleLogger
    from glowgenius.training import Sampler as Sampler
    from glowgenius.training import SaveCheckpoint as SaveCheckpoint
    from glowgenius.training import ServiceWait as ServiceWait
    from glowgenius.training import StepBegin as StepBegin
    from glowgenius.training import StepEnd as StepEnd
    from glowgenius.training import StepLogged as StepLogged
    from glowgenius.training import StopTraining as StopTraining
    from glowgenius.training import SupervisedTrainer as SupervisedTrainer
    from glowgenius.training import TensorBoardLogger as TensorBoardLogger
    from glowgenius.training import TerminateOnNaN as TerminateOnNaN
    from glowgenius.training import TokenUsage as TokenUsage
    from glowgenius.training import TrackioLogger as TrackioLogger
    from glowgenius.training import TrainBegin as TrainBegin
    from glowgenius.training import TrainEnd as TrainEnd
    from glowgenius.training import TrainFailed as TrainFailed
    from glowgenius.training import TrainingConfig as TrainingConfig
    from glowgenius.training import TrainingResult as TrainingResult
    from glowgenius.training import TrainRestart as TrainRestart
    from glowgenius.training import WandbLogger as WandbLogger
    from glowgenius.training import connect as connect
    from glowgenius.training import make_replay as make_replay
    from glowgenius.training import on as on

_HOMES = {
    "AnswerEvaluation": "glowgenius.evaluation",
    "BudgetGuard": "glowgenius.training",
    "CSVLogger": "glowgenius.training",
    "Callback": "glowgenius.training",
    "ChatTemplateRenderer": "glowgenius.rendering",
    "CheckpointSaved": "glowgenius.training",
    "Comparison": "glowgenius.evaluation",
    "Conversation": "glowgenius.data",
    "CostEstimate": "glowgenius.training",
    "CostSoFar": "glowgenius.training",
    "Dataset": "glowgenius.data",
    "DatasetReport": "glowgenius.data",
    "EarlyStopping": "glowgenius.training",
    "EpochBegin": "glowgenius.training",
    "EpochEnd": "glowgenius.training",
    "EvaluateBegin": "glowgenius.training",
    "EvaluateEnd": "glowgenius.training",
    "EvaluationResult": "glowgenius.evaluation",
    "GlowGeniusError": "glowgenius.errors",
    "History": "glowgenius.training",
    "JSONLLogger": "glowgenius.training",
    "LeakReport": "glowgenius.data",
    "LearningRateSuggestion": "glowgenius.lora",
    "LoRAConfig": "glowgenius.lora",
    "LogMetrics": "glowgenius.training",
    "MLflowLogger": "glowgenius.training",
    "Message": "glowgenius.data",
    "ParameterBreakdown": "glowgenius.lora",
    "PreflightReport": "glowgenius.training",
    "Preview": "glowgenius.rendering",
    "Price": "glowgenius.training",
    "PriceTable": "glowgenius.training",
    "ProgressBar": "glowgenius.training",
    "QuestionAnswerRenderer": "glowgenius.rendering",
    "RenderedExample": "glowgenius.rendering",
    "Renderer": "glowgenius.rendering",
    "ReplayRows": "glowgenius.training",
    "Run": "glowgenius.reporting",
    "RunCost": "glowgenius.training",
    "RunEvaluation": "glowgenius.training",
    "SampleLogger": "glowgenius.training",
    "Sampler": "glowgenius.training",
    "SaveCheckpoint": "glowgenius.training",
    "ServiceWait": "glowgenius.training",
    "StepBegin": "glowgenius.training",
    "StepEnd": "glowgenius.training",
    "StepLogged": "glowgenius.training",
    "StopTraining": "glowgenius.training",
    "SupervisedTrainer": "glowgenius.training",
    "SweepResult": "glowgenius.experiments",
    "TensorBoardLogger": "glowgenius.training",
    "TerminateOnNaN": "glowgenius.training",
    "TokenUsage": "glowgenius.training",
    "TrackioLogger": "glowgenius.training",
    "TrainBegin": "glowgenius.training",
    "TrainEnd": "glowgenius.training",
    "TrainFailed": "glowgenius.training",
    "TrainOn": "glowgenius.rendering",
    "TrainRestart": "glowgenius.training",
    "TrainingConfig": "glowgenius.training",
    "TrainingResult": "glowgenius.training",
    "WandbLogger": "glowgenius.training",
    "compare": "glowgenius.evaluation",
    "connect": "glowgenius.training",
    "evaluate": "glowgenius.evaluation",
    "find_leaks": "glowgenius.data",
    "make_replay": "glowgenius.training",
    "on": "glowgenius.training",
    "open_run": "glowgenius.reporting",
    "preview": "glowgenius.rendering",
    "suggest_learning_rate": "glowgenius.lora",
    "sweep": "glowgenius.experiments",
    "write_report": "glowgenius.reporting",
    "write_run_report": "glowgenius.reporting",
}
"""Where each public name lives; the module is imported when the name is first used."""

_SUBMODULES = ("errors", "local", "testing")
"""Public modules that `glowgenius.<name>` finds without an import of their own."""

__all__ = [
    "AnswerEvaluation",
    "BudgetGuard",
    "CSVLogger",
    "Callback",
    "ChatTemplateRenderer",
    "CheckpointSaved",
    "Comparison",
    "Conversation",
    "CostEstimate",
    "CostSoFar",
    "Dataset",
    "DatasetReport",
    "EarlyStopping",
    "EpochBegin",
    "EpochEnd",
    "EvaluateBegin",
    "EvaluateEnd",
    "EvaluationResult",
    "GlowGeniusError",
    "History",
    "JSONLLogger",
    "LeakReport",
    "LearningRateSuggestion",
    "LoRAConfig",
    "LogMetrics",
    "MLflowLogger",
    "Message",
    "ParameterBreakdown",
    "PreflightReport",
    "Preview",
    "Price",
    "PriceTable",
    "ProgressBar",
    "QuestionAnswerRenderer",
    "RenderedExample",
    "Renderer",
    "ReplayRows",
    "Run",
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
    "SweepResult",
    "TensorBoardLogger",
    "TerminateOnNaN",
    "TokenUsage",
    "TrackioLogger",
    "TrainBegin",
    "TrainEnd",
    "TrainFailed",
    "TrainOn",
    "TrainRestart",
    "TrainingConfig",
    "TrainingResult",
    "WandbLogger",
    "compare",
    "connect",
    "evaluate",
    "find_leaks",
    "make_replay",
    "on",
    "open_run",
    "preview",
    "suggest_learning_rate",
    "sweep",
    "write_report",
    "write_run_report",
]


if not TYPE_CHECKING:  # a type checker that saw it would take every misspelt name for Any

    def __getattr__(name: str) -> Any:
        """Import the module of a public name on first use."""
        if name in _HOMES:
            value = getattr(importlib.import_module(_HOMES[name]), name)
            globals()[name] = value
            return value
        if name in _SUBMODULES:
            return importlib.import_module(f"glowgenius.{name}")
        from glowgenius.errors import nearest

        raise AttributeError(f"module 'glowgenius' has no attribute {name!r}{nearest(name, __all__)}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

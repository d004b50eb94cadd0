"""The names of the package, imported when they are used."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from glowgenius import training


def test_every_name_is_there():
    assert training.__all__ == sorted(training._HOMES)
    for name in training.__all__:
        value = getattr(training, name)
        assert value is getattr(importlib.import_module(training._HOMES[name]), name)
    assert set(training.__all__) <= set(dir(training))


def test_an_unknown_name():
    with pytest.raises(AttributeError) as raised:
        _ = training.Trainer
    assert str(raised.value) == "module 'glowgenius.training' has no attribute 'Trainer' (did you mean 'TrainEnd'?)"


def test_settings_and_callbacks_do_not_load_an_engine():
    names = "TrainingConfig, Callback, on, EarlyStopping, ProgressBar"
    code = (
        f"import sys; from glowgenius.training import {names}; "
        "print(sorted({'tinker', 'torch', 'transformers', 'rich'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"

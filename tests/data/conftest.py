from __future__ import annotations

import pytest


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder, and the current one, so that messages show paths as a user would type them."""
    monkeypatch.chdir(tmp_path)
    return tmp_path

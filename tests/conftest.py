"""Fixtures that many tests share."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as the command line does; before any test imports NumPy

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the state of the person who runs it."""
    monkeypatch.setenv("EDGEVAND_HOME", str(tmp_path_factory.mktemp("home")))


@pytest.fixture(autouse=True)
def _own_loggers() -> None:
    """How much an earlier test let the command line say (``-q``, ``-v``) is nothing to this one."""
    for name in ("edgevand", "edgevand_runtime", "edgevand_export"):
        logging.getLogger(name).setLevel(logging.NOTSET)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the repository."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Photographs and videos that are too large for the repository; a test that needs them is skipped without them."""
    folder = Path(os.environ.get("EDGEVAND_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no test photographs at {folder}; set EDGEVAND_TEST_DATA to their folder")
    return folder

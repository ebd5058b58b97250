"""Drawn datasets, one of each layout, made once; and small ones written file by file."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from edgevand_runtime.datasets.making import DRAWN_LAYOUTS, MakeOptions, make_dataset

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SMALL = MakeOptions(seed=3, images=3, size=64)


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folder of a drawn dataset by layout; not to be written to."""
    folder = tmp_path_factory.mktemp("drawn")
    for layout in DRAWN_LAYOUTS:
        make_dataset(layout, folder / layout, SMALL)
    return {layout: folder / layout for layout in DRAWN_LAYOUTS}


@pytest.fixture
def copy(drawn: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    """A copy of a drawn dataset, to break."""

    def make(layout: str) -> Path:
        return shutil.copytree(drawn[layout], tmp_path / layout)

    return make


@pytest.fixture
def picture() -> Callable[..., Path]:
    """Writes a picture of one value."""

    def write(path: Path, size: tuple[int, int] = (8, 6), value: int = 0, mode: str = "L") -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((size[1], size[0]), value, np.uint8)).convert(mode).save(path)
        return path

    return write

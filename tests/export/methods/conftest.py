"""Small frames and a small backbone, for methods that are trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("timm", reason="training needs the extra edgevand[export]")

import cv2
import timm
import torch
from safetensors.torch import save_file

from tests.export.methods.trainings import lit_part

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@pytest.fixture(scope="session")
def resnet18(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a ResNet-18 as a person might bring them, random."""
    torch.manual_seed(5)
    path = tmp_path_factory.mktemp("weights") / "resnet18.safetensors"
    state = timm.create_model("resnet18", pretrained=False).state_dict()
    save_file({name: each.contiguous() for name, each in state.items() if not name.startswith("layer4")}, path)
    return path


@pytest.fixture(scope="session")
def frames() -> Sequence[Any]:
    """Five good parts, (96, 128, 3) uint8 BGR, each in another light."""
    return [lit_part(number) for number in range(5)]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory, frames: Sequence[Any]) -> Path:
    """The five good parts as files, and two that are new."""
    target = tmp_path_factory.mktemp("parts")
    for number, frame in enumerate([*frames, lit_part(5), lit_part(6)]):
        cv2.imwrite(str(target / f"{number:03d}.png"), frame)
    return target

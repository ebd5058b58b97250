"""An explanation names the enrolled patch that really is nearest, and shows it beside what was found."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from edgevand_runtime.detector import Detector
from edgevand_runtime.explain import Explainer
from edgevand_runtime.explain_sheet import Cell, Pair, draw_sheet
from edgevand_runtime.methods import Mark
from edgevand_runtime.pipeline import Scored
from edgevand_runtime.preprocess import load_image
from edgevand_runtime.results import Region
from tests.runtime.streams import make_frame
from tests.tiny import DEFECT, GRID, draw_part, enrol_tiny, write_tiny_bundle

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from edgevand.bundle import Bundle


def scored(detector: Detector, image: NDArray[np.uint8]) -> Scored:
    """The frame with a neighbour before it in its batch."""
    frames = [make_frame(0, draw_part(0)), make_frame(1, image)]
    outputs = detector.encode([detector.preprocess(frame) for frame in frames])
    return Scored(frames[1], detector.score(frames, outputs, 0.0)[1], outputs, 1)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return write_tiny_bundle(tmp_path / "bundle")


def test_the_patch_it_names_is_the_nearest_of_all_enrolled_ones_by_brute_force(bundle: Bundle, tmp_path: Path) -> None:
    bank = enrol_tiny(bundle, tmp_path / "bank")
    with Detector.open(bundle, bank, threads=1) as detector:
        item = scored(detector, draw_part(7, defective=True))
        region = item.result.regions[0]
        (found,) = Explainer(detector).nearest(item, region)
    tokens = bank.features["tokens_1"].astype(np.float64)
    query = item.outputs.tokens[0][1, found.found_at[0] * GRID + found.found_at[1]]
    distances = 1 - tokens @ query
    best = np.unravel_index(int(distances.argmin()), distances.shape)
    assert [found.enrolled, found.copy] == [int(best[0]) + 1, int(best[1])]
    assert found.at == divmod(int(best[2]), GRID)
    assert found.distance == pytest.approx(distances.min(), abs=1e-5)
    left, top, width, height = DEFECT
    assert left // 16 <= found.found_at[1] <= (left + width) // 16
    assert top // 12 <= found.found_at[0] <= (top + height) // 12


def test_the_highest_point_of_the_region_is_what_is_looked_up(bundle: Bundle, tmp_path: Path) -> None:
    bank = enrol_tiny(bundle, tmp_path / "bank")
    with Detector.open(bundle, bank, threads=1) as detector:
        item = scored(detector, draw_part(7, defective=True))
        (found,) = Explainer(detector).nearest(item, item.result.regions[0])
    own = 1 - (bank.features["tokens_1"].reshape(-1, 12) @ item.outputs.tokens[0][1].T).max(axis=0)
    assert own.argmax() == found.found_at[0] * GRID + found.found_at[1]


def test_picture_and_numbers_are_written_for_a_frame_with_regions_and_nothing_for_one_without(
    bundle: Bundle, tmp_path: Path
) -> None:
    bank = enrol_tiny(bundle, tmp_path / "bank")
    with Detector.open(bundle, bank, threads=1) as detector:
        explainer = Explainer(detector)
        assert explainer.write(tmp_path / "good", scored(detector, draw_part(8))) is None
        bad = scored(detector, draw_part(7, defective=True))
        assert explainer.write(tmp_path / "bad", bad) == str(tmp_path / "bad.json")
        told = replace(bad.result, reason="loss: 'a gap' (0.83)", marks=(Mark("a gap", (0.1, 0.2, 0.3, 0.4)),))
        explainer.write(tmp_path / "told", replace(bad, result=told))
    assert not (tmp_path / "good.json").exists()
    document = json.loads((tmp_path / "bad.json").read_text())
    assert document["schema"] == "edgevand.explanation/1"
    assert document["bank"] == bank.hash
    assert len(document["regions"]) == len(bad.result.regions)
    region, result = document["regions"][0], bad.result.regions[0]
    assert (region["x"], region["y"], region["w"], region["h"]) == (result.x, result.y, result.w, result.h)
    expected = region["expected"]
    assert (expected["w"], expected["h"]) == (16, 12)
    assert expected["source"].endswith(f"{expected['enrolled'] - 1:03d}.png")
    picture = cv2.imread(document["picture"])
    assert picture is not None
    assert picture.shape[0] > 200
    words = json.loads((tmp_path / "told.json").read_text())
    assert words["reason"] == "loss: 'a gap' (0.83)"
    assert words["marks"] == [{"label": "a gap", "box": [0.1, 0.2, 0.3, 0.4]}]
    larger = cv2.imread(words["picture"])
    assert larger is not None
    assert larger.shape[0] > picture.shape[0]


def test_the_crop_of_an_augmented_copy_is_cut_out_of_that_copy(bundle: Bundle, tmp_path: Path) -> None:
    bank = enrol_tiny(bundle, tmp_path / "bank", augment=("flip",))
    mirrored = np.ascontiguousarray(load_image(bank.thumbnail(3))[:, ::-1])
    with Detector.open(bundle, bank, threads=1) as detector:
        item = scored(detector, mirrored)
        explainer = Explainer(detector)
        found = explainer.nearest(item, _whole(mirrored))[0]
        shown = explainer._picture(found)
    if found.copy:
        assert np.abs(shown.astype(int) - load_image(bank.thumbnail(found.enrolled))[:, ::-1]).max() <= 2
    assert found.copy in {0, 1}
    assert found.distance < 0.05


def test_without_calibration_the_highest_point_of_the_map_is_explained(bundle: Bundle, tmp_path: Path) -> None:
    with Detector.open(bundle, enrol_tiny(bundle, tmp_path / "bank", shots=2), threads=1) as detector:
        item = scored(detector, draw_part(7, defective=True))
        assert item.result.regions == ()
        assert Explainer(detector).write(tmp_path / "why", item) is not None
    (region,) = json.loads((tmp_path / "why.json").read_text())["regions"]
    left, top, width, height = DEFECT
    centre = region["x"] + region["w"] / 2, region["y"] + region["h"] / 2
    assert left - 16 < centre[0] < left + width + 16
    assert top - 12 < centre[1] < top + height + 12


def test_a_found_and_an_expected_patch_lie_at_the_same_place_of_their_crops() -> None:
    """The crops are cut around the two patches alike, so that a person compares like with like."""
    found, enrolled = np.zeros((100, 200, 3), np.uint8), np.zeros((100, 200, 3), np.uint8)
    found[40:50, 60:80] = 255
    enrolled[20:30, 120:140] = 255
    here, there = Cell(0.3, 0.4, 0.1, 0.1), Cell(0.6, 0.2, 0.1, 0.1)
    sheet = draw_sheet(found, [Pair(here, 0.9, here, there, enrolled, "enrolled frame 1", 0.4)])
    columns = (sheet[10:270].min(axis=2) > 250).any(axis=0)
    runs = np.flatnonzero(np.diff(np.concatenate([[0], columns.astype(int), [0]])))
    widths = runs[1::2] - runs[::2]
    assert len(widths) >= 4
    crops = [run for run, width in zip(runs[::2], widths, strict=True) if width > 60]
    assert len(crops) == 2
    panel = crops[1] - crops[0]
    left, right = sheet[10:270, crops[0] - 30 : crops[0] + 60], sheet[10:270, crops[1] - 30 : crops[1] + 60]
    assert panel > 200
    assert ((left.min(axis=2) > 250) == (right.min(axis=2) > 250)).mean() > 0.97


def _whole(image: NDArray[np.uint8]) -> Region:
    return Region(0, 0, image.shape[1], image.shape[0], image.shape[0] * image.shape[1], 0.5)

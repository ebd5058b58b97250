"""Small datasets of drawn parts in the layouts of the real ones, and what is needed to evaluate them."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from edgevand_runtime.engines import EncoderOutput, open_engine
from tests.tiny import DEFECT, draw_part, write_parts

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from edgevand.bundle import Bundle

__all__ = ["CountingEngine", "defect_mask", "make_loco", "make_mvtec", "without_times"]


class CountingEngine:
    """An engine that counts the pictures it encodes, and can be made to stop the program after some of them."""

    def __init__(self, bundle: Bundle, stop_after: int | None = None) -> None:
        self._engine = open_engine(bundle, threads=1)
        self.name, self.precision = self._engine.name, self._engine.precision
        self.pictures = 0
        self._stop_after = stop_after

    def run(self, images: NDArray[np.float32], text: NDArray[np.float32] | None) -> EncoderOutput:
        self.pictures += len(images)
        if self._stop_after is not None and self.pictures > self._stop_after:
            raise KeyboardInterrupt
        return self._engine.run(images, text)

    def close(self) -> None:
        self._engine.close()


def make_mvtec(
    root: Path,
    classes: tuple[str, ...] = ("bolt",),
    train: int = 6,
    good: int = 4,
    bad: int = 3,
    *,
    start: int = 0,
) -> Path:
    """Write parts in the layout of MVTec AD; the defect of every anomalous part is marked."""
    for number, name in enumerate(classes):
        first = start + 1000 * number
        write_parts(root / name / "train" / "good", "." * train, start=first)
        write_parts(root / name / "test" / "good", "." * good, start=first + 100)
        if bad:
            write_parts(root / name / "test" / "square", "x" * bad, start=first + 200)
            folder = root / name / "ground_truth" / "square"
            folder.mkdir(parents=True)
            for each in range(bad):
                cv2.imwrite(str(folder / f"{each:03d}_mask.png"), defect_mask())
    return root


def make_loco(root: Path, name: str = "bag") -> Path:
    """Write parts in the layout of MVTec LOCO: two structural pictures with one defect, two logical ones with two."""
    write_parts(root / name / "train" / "good", "......")
    write_parts(root / name / "validation" / "good", "..", start=50)
    write_parts(root / name / "test" / "good", "....", start=100)
    for kind, start in (("structural_anomalies", 200), ("logical_anomalies", 300)):
        write_parts(root / name / "test" / kind, "xx", start=start)
        for each in range(2):
            folder = root / name / "ground_truth" / kind / f"{each:03d}"
            folder.mkdir(parents=True)
            mask = np.where(defect_mask() > 0, np.uint8(1 if kind.startswith("s") else 2), np.uint8(0))
            cv2.imwrite(str(folder / "000.png"), mask)
            if kind.startswith("l"):
                wide = np.zeros_like(mask)
                wide[60:90, 5:65] = 3
                cv2.imwrite(str(folder / "001.png"), wide)
    config = [
        {"defect_name": "scratch", "pixel_value": 1, "saturation_threshold": 1.0, "relative_saturation": True},
        {"defect_name": "missing", "pixel_value": 2, "saturation_threshold": 0.5, "relative_saturation": True},
        {"defect_name": "extra", "pixel_value": 3, "saturation_threshold": 100, "relative_saturation": False},
    ]
    (root / name / "defects_config.json").write_text(json.dumps(config))
    return root


def defect_mask() -> NDArray[np.uint8]:
    """(96, 128) uint8, 255 where ``tests.tiny`` draws its defect."""
    mask = np.zeros(draw_part(0).shape[:2], np.uint8)
    x, y, w, h = DEFECT
    mask[y : y + h, x : x + w] = 255
    return mask


def without_times(report: dict[str, Any]) -> dict[str, Any]:
    """A report without what differs from run to run: when it was made, and how long things took."""
    rows = [{name: value for name, value in row.items() if name != "latency_ms"} for row in report["rows"]]
    summary = [{name: value for name, value in entry.items() if name != "latency_ms"} for entry in report["summary"]]
    return {**report, "created": "", "work": [], "rows": rows, "summary": summary}


def copy_in_order(root: Path, names: list[str], target: Path) -> Path:
    """Copy pictures into a folder whose natural order is theirs."""
    target.mkdir(parents=True)
    for number, name in enumerate(names):
        shutil.copy(root / name, target / f"{number:03d}-{name.rsplit('/', 1)[1]}")
    return target

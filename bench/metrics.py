"""Pixel metrics of a class of 100 images at 518 px: this runtime against the usual calls, in one run.

The baseline is what published evaluations do: scikit-learn's `roc_auc_score`, `average_precision_score` and
`precision_recall_curve` (for F1-max) over all pixels, and PRO as released, written plainly: 200 thresholds, and for
each one the regions of every mask, looked up anew, one after the other. Where the released code has scikit-image label
the regions and list their pixels, OpenCV labels them here and their pixels are listed inside their boxes, which is
faster: the ratio is a cautious one.

Both sides get the same drawn masks and maps. Their results are compared, so that the ratio is of equal work; each
runs in a process of its own, which also gives its peak memory above the data. Besides: exact PRO, which comes with
ours and which the baseline does not have, the same by streaming, and sPRO.

    python bench/metrics.py                 # about five minutes, nearly all of them the baseline's
    python bench/metrics.py [--images 100] [--size 518] [--repeats 3]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import cv2
import numpy as np
import psutil

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

MIB = 2**20
LIMIT = 0.3
TOLERANCE = 1e-6  # scikit-learn sums its areas in another order


def drawn(images: int, size: int) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """Masks, empty for every third image, else with one to five ellipses; smooth maps that follow them partly."""
    generator = np.random.default_rng(0)
    masks = np.zeros((images, size, size), np.uint8)
    maps = np.empty((images, size, size), np.float32)
    for index in range(images):
        for _ in range(generator.integers(1, 6) if index % 3 else 0):
            axes = generator.integers(max(2, size // 60), max(4, size // 8), 2).tolist()
            centre = generator.integers(0, size, 2).tolist()
            cv2.ellipse(masks[index], centre, axes, float(generator.uniform(0, 180)), 0, 360, 1, -1)
        coarse = generator.normal(size=(37, 37)).astype(np.float32)
        noise = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_LINEAR)
        follows = cv2.GaussianBlur(masks[index].astype(np.float32), (0, 0), size / 60)
        maps[index] = 0.4 + 0.1 * noise + generator.uniform(0.1, 0.6) * follows
    return masks.view(np.bool_), maps


def area(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Trapezoids; x may fall."""
    return float(abs(np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2)))


def usual_pro(masks: NDArray[np.bool_], maps: NDArray[np.float32]) -> float:
    """PRO as released, loop by loop."""
    low, high = float(maps.min()), float(maps.max())
    rates, overlaps = [], []
    for threshold in np.linspace(low, high, 200, endpoint=False):
        over = maps > threshold
        found = []
        for mask, above in zip(masks, over, strict=True):
            number, labels, boxes, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
            for region in range(1, number):
                left, top, width, height, _ = boxes[region]
                rows, columns = np.nonzero(labels[top : top + height, left : left + width] == region)
                found.append(above[rows + top, columns + left].sum() / rows.size)
        outside = ~masks
        rates.append(np.logical_and(outside, over).sum() / outside.sum())
        overlaps.append(np.mean(found))
    x, y = np.array(rates), np.array(overlaps)
    x, y = x[x < LIMIT], y[x < LIMIT]
    return area((x - x.min()) / (x.max() - x.min()), y)


def usual(masks: NDArray[np.bool_], maps: NDArray[np.float32]) -> dict[str, float | None]:
    """The baseline; prints what its parts take."""
    from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

    labels, scores = masks.ravel(), maps.ravel()
    marks = [time.perf_counter()]
    found: dict[str, float | None] = {"pixel_auroc": float(roc_auc_score(labels, scores))}
    marks.append(time.perf_counter())
    found["pixel_ap"] = float(average_precision_score(labels, scores))
    marks.append(time.perf_counter())
    precision, recall, _ = precision_recall_curve(labels, scores)
    with np.errstate(invalid="ignore"):
        found["pixel_f1_max"] = float(np.nanmax(2 * precision * recall / (precision + recall)))
    marks.append(time.perf_counter())
    found["pro_released"] = usual_pro(masks, maps)
    marks.append(time.perf_counter())
    parts = " + ".join(f"{after - before:.1f}" for before, after in pairwise(marks))
    print(f"  roc_auc_score + average_precision_score + precision_recall_curve + PRO: {parts} s", file=sys.stderr)
    return found


def ours(masks: NDArray[np.bool_], maps: NDArray[np.float32]) -> dict[str, float | None]:
    """All pixel metrics, exact PRO among them."""
    from edgevand_runtime.metrics import pixel_metrics

    return pixel_metrics(masks, maps).values


def streamed(masks: NDArray[np.bool_], maps: NDArray[np.float32]) -> dict[str, float | None]:
    """The same, counted in bins; prints the bounds."""
    from edgevand_runtime.metrics import StreamedPixelMetrics

    taken = StreamedPixelMetrics()
    for mask, values in zip(masks, maps, strict=True):
        taken.add(mask, values)
    found = taken.result()
    print("  bounds: " + ", ".join(f"{name} {bound:.1e}" for name, bound in found.bounds.items()), file=sys.stderr)
    return found.values


class Defect(NamedTuple):
    """A defect for sPRO."""

    pixels: NDArray[np.bool_]
    saturation: int


def saturated(masks: NDArray[np.bool_], maps: NDArray[np.float32]) -> dict[str, float | None]:
    """The sPRO of the masks, each one defect that is found whole at half its area."""
    from edgevand_runtime.metrics import spro_metrics

    defects = [[Defect(mask, max(1, int(mask.sum()) // 2))] if mask.any() else [] for mask in masks]
    return spro_metrics(defects, maps).values


SIDES: dict[str, Callable[[NDArray[np.bool_], NDArray[np.float32]], dict[str, float | None]]] = {
    "usual": usual,
    "ours": ours,
    "streamed": streamed,
    "spro": saturated,
}


def run_side(name: str, images: int, size: int) -> None:
    """One run in this process, on one thread: values, seconds and peak memory above the data, as JSON."""
    cv2.setNumThreads(1)
    masks, maps = drawn(images, size)
    SIDES[name](masks[:2], maps[:2])  # imports and first calls
    before = psutil.Process().memory_info().rss
    begin, busy = time.perf_counter(), time.process_time()
    values = SIDES[name](masks, maps)
    seconds, busy = time.perf_counter() - begin, time.process_time() - busy
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    found = {"values": values, "wall": seconds, "CPU": busy, "peak": peak / MIB, "share": float(masks.mean())}
    print(json.dumps(found))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--size", type=int, default=518)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side:
        run_side(given.side, given.images, given.size)
        return
    command = [sys.executable, __file__, "--images", str(given.images), "--size", str(given.size), "--side"]
    measured: dict[str, dict[str, list[float]]] = {name: {"wall": [], "CPU": [], "peak": []} for name in SIDES}
    values: dict[str, dict[str, float]] = {}
    share = 0.0
    for _ in range(given.repeats):  # the sides take turns, so that all meet the same machine
        for name in SIDES:
            found = json.loads(subprocess.run([*command, name], check=True, stdout=subprocess.PIPE).stdout)
            values[name], share = found["values"], found["share"]
            for kind, numbers in measured[name].items():
                numbers.append(found[kind])
    for name, value in values["usual"].items():
        if abs(values["ours"][name] - value) > TOLERANCE:
            sys.exit(f"{name} differs: {values['ours'][name]} here, {value} there")
    median = {name: {kind: statistics.median(m) for kind, m in kinds.items()} for name, kinds in measured.items()}
    print(f"{given.images} images at {given.size} px, {share:.1%} of the pixels anomalous, median of {given.repeats}")
    print(f"{'':10} {'wall, s':>9} {'CPU, s':>9} {'times as fast (wall, CPU)':>26} {'peak above the data, MiB':>26}")
    for name, now in median.items():
        ratios = " ".join(f"{median['usual'][kind] / now[kind]:9.1f}" for kind in ("wall", "CPU"))
        print(f"{name:10} {now['wall']:9.2f} {now['CPU']:9.2f} {ratios:>26} {now['peak']:26.0f}")
    print(json.dumps(values, indent=1))


if __name__ == "__main__":
    main()

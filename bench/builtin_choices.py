"""What was tried for the built-in bundle: stages, image size, image score, 3x3 averaging (docs/builtin.md).

Encodes every picture once per image size with PyTorch and evaluates all combinations on the same features::

    python bench/builtin_choices.py [--data ../shared/data] [--sizes 192 224 256]

Needs the extras ``export`` and ``builtin``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np
import torch

from edgevand.bundle import ImageRecord
from edgevand_export.builtin.network import MEAN, STD, build
from edgevand_runtime.calibration import calibrate
from edgevand_runtime.drawn.conveyor import ConveyorScene
from edgevand_runtime.maps import top_mean, upsample
from edgevand_runtime.metrics import auroc
from edgevand_runtime.preprocess import load_image, to_tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

# Stride 4 is left out: its bank search alone costs more than the encoder.
STAGES = ((3,), (4,), (5,), (3, 4), (4, 5), (3, 4, 5))
LEVELS = (3, 4, 5)
RATE = 0.01
CONVEYOR_SEEDS = (0, 1)
CONVEYOR_FRAMES = 60


class Item(NamedTuple):
    """A picture with its truth."""

    image: NDArray[np.uint8]
    label: int
    mask: NDArray[np.uint8] | None


class Case(NamedTuple):
    """Frames to enrol and frames to score, in order."""

    group: str
    enrolled: list[Item]
    scored: list[Item]


class Choice(NamedTuple):
    """One combination."""

    stages: tuple[int, ...]
    image: str
    average: bool


def cases(data: Path) -> Iterator[Case]:
    """Every case: hazelnut-toy, three draws of aliens, three positions of ballscrew, drawn conveyors."""
    toy = data / "hazelnut-toy"
    train = [Item(load_image(path), 0, None) for path in sorted((toy / "train/good").iterdir())[:4]]
    test = [Item(load_image(path), 0, None) for path in sorted((toy / "test/good").iterdir())]
    for path in sorted((toy / "test/colour").iterdir()):
        mask = load_image(next((toy / "ground_truth/colour").glob(f"{path.stem}*")))[..., 0]
        test.append(Item(load_image(path), 1, mask))
    yield Case("hazelnut-toy", train, test)
    normal, anomaly = (
        [Item(load_image(path), label, None) for path in sorted((data / "aliens" / name).iterdir())]
        for label, name in enumerate(("normal", "anomaly"))
    )
    for draw in range(3):
        chosen = set(np.random.default_rng(draw).choice(len(normal), 4, replace=False).tolist())
        rest = [item for number, item in enumerate(normal) if number not in chosen]
        yield Case("aliens", [normal[number] for number in sorted(chosen)], rest + anomaly)
    for position, labels in json.loads((data / "ballscrew/labels.json").read_text()).items():
        items = [
            Item(load_image(data / "ballscrew" / position / name), label, None)
            for name, label in sorted(labels.items())
        ]
        yield Case("ballscrew", items[:8], items[8:])
    for seed in CONVEYOR_SEEDS:
        scene = ConveyorScene(seed, defect_rate=0.5)
        drawn = []
        for index in range(scene.clean_start + CONVEYOR_FRAMES):
            image, truth, _ = scene.frame(index)
            drawn.append(Item(image, int(truth is not None), truth))
        yield Case("conveyor", drawn[:8], drawn[scene.clean_start :])


@torch.no_grad()
def encode(model: Any, items: Sequence[Item], size: int) -> dict[int, NDArray[np.float32]]:  # noqa: ANN401
    """Feature levels (N, h, w, C) of every item."""
    record = ImageRecord(height=size, width=size, mean=MEAN, std=STD)
    found: dict[int, list[NDArray[np.float32]]] = {level: [] for level in LEVELS}
    for item in items:
        tensor = torch.from_numpy(to_tensor(item.image, record))[None]
        levels = model.visual.trunk.forward_intermediates(
            tensor, indices=[level - 1 for level in LEVELS], intermediates_only=True
        )
        for level, features in zip(LEVELS, levels, strict=True):
            found[level].append(features[0].permute(1, 2, 0).numpy())
    return {level: np.stack(arrays) for level, arrays in found.items()}


def tokens(features: NDArray[np.float32], average: bool) -> NDArray[np.float32]:  # noqa: FBT001 - one of the choices
    """Unit patch vectors (N, P, C), of 3x3 means where wanted."""
    if average:
        padded = np.pad(features, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
        rows, columns = features.shape[1:3]
        neighbours = [padded[:, i : i + rows, j : j + columns] for i in range(3) for j in range(3)]
        features = np.asarray(np.mean(neighbours, axis=0), np.float32)
    flat = features.reshape(len(features), -1, features.shape[-1])
    return np.asarray(flat / np.linalg.norm(flat, axis=-1, keepdims=True), np.float32)


def distances(queries: NDArray[np.float32], bank: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Maps (N, size, size) of 1 - max cosine of queries (N, P, C) to the bank (k, P, C)."""
    flat = bank.reshape(-1, bank.shape[-1])
    nearest = np.stack([1 - (query @ flat.T).max(axis=1) for query in queries])
    side = round(nearest.shape[1] ** 0.5)
    return upsample(np.asarray(nearest.reshape(-1, side, side), np.float32), (size, size))


def left_out(bank: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Maps of each enrolled frame against the others."""
    numbers = range(len(bank))
    return np.concatenate([distances(bank[[n]], np.delete(bank, n, axis=0), size) for n in numbers])


def evaluate(
    case: Case, size: int, encoded: tuple[dict[int, NDArray[np.float32]], ...]
) -> Iterator[tuple[Choice, dict[str, float]]]:
    """All choices on one case."""
    for average in (False, True):
        banks, queries = ({level: tokens(each[level], average) for level in LEVELS} for each in encoded)
        maps = {level: distances(queries[level], banks[level], size) for level in LEVELS}
        own = {level: left_out(banks[level], size) for level in LEVELS}
        for stages in STAGES:
            total, calibration = (np.sum([each[level] for level in stages], axis=0) for each in (maps, own))
            for rule, reduce in RULES.items():
                yield Choice(stages, rule, average), figures(case, total, calibration, reduce)


RULES: dict[str, Callable[[NDArray[np.float32]], float]] = {
    "max": lambda m: float(m.max()),
    "top1%": lambda m: top_mean(m, 0.01),
}


def figures(
    case: Case, maps: NDArray[np.float32], own: NDArray[np.float32], reduce: Callable[[NDArray[np.float32]], float]
) -> dict[str, float]:
    """Image AUROC, pixel AUROC where masks exist, false alarms and detections at the calibrated limit."""
    labels = np.array([item.label for item in case.scored])
    scores = np.array([reduce(each) for each in maps])
    result = {"image": auroc(labels, scores) or 0.0}
    if any(item.mask is not None for item in case.scored):
        size = maps.shape[1:]
        blank = np.zeros(size, np.uint8)
        masks = [
            blank if item.mask is None else cv2.resize(item.mask, size[::-1], interpolation=cv2.INTER_AREA) > 127  # noqa: PLR2004 - half
            for item in case.scored
        ]
        result["pixel"] = auroc(np.stack(masks), maps) or 0.0
    limit = calibrate([reduce(each) for each in own], [float(each.max()) for each in own], RATE).image
    if limit is not None:
        over = scores > limit.threshold
        before = np.flatnonzero(labels)[0] if case.group == "ballscrew" else len(labels)
        result["false"] = float(over[:before][labels[:before] == 0].mean())
        result["found"] = float(over[labels == 1].mean())
    return result


def main() -> int:
    """Print one table for each image size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--sizes", type=int, nargs="+", default=[192, 224, 256])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model = build()
    material = list(cases(arguments.data))
    rows = []
    for size in arguments.sizes:
        collected: dict[Choice, dict[str, dict[str, list[float]]]] = {}
        for case in material:
            print(f"{size} px, {case.group}", file=sys.stderr, flush=True)
            encoded = tuple(encode(model, items, size) for items in (case.enrolled, case.scored))
            for choice, values in evaluate(case, size, encoded):
                group = collected.setdefault(choice, {}).setdefault(case.group, {})
                for name, value in values.items():
                    group.setdefault(name, []).append(value)
        rows += [(size, choice, found) for choice, found in collected.items()]
    columns = list(
        dict.fromkeys(
            itertools.chain.from_iterable((f"{g} {n}" for g, v in found.items() for n in v) for *_, found in rows)
        )
    )
    print("| px | stages | image score | 3x3 |", *(f" {name} |" for name in columns), sep="")
    print("| --- " * (4 + len(columns)), "|", sep="")
    for size, choice, found in rows:
        cells = [f"{np.mean(found[group][name]):.3f}" for group, name in (column.rsplit(" ", 1) for column in columns)]
        strides = " + ".join(str(2**level) for level in choice.stages)
        averaged = "yes" if choice.average else "no"
        print("|", " | ".join([str(size), strides, choice.image, averaged, *cells]), "|")
    return 0


if __name__ == "__main__":
    sys.exit(main())

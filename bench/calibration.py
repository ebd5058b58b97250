"""The enrolled threshold judged: false-alarm rates that it really gives, and what it finds (docs/calibration.md).

Every picture is encoded once and every pair of frames compared once; a draw of k frames then only looks up minima, so
that hundreds of banks are judged in minutes. Distances, raw scores and limits come from the program's own functions::

    python bench/calibration.py score [--data ../shared/data] [--bundle DIR] [--augment rotate …] [--work DIR]
    python bench/calibration.py judge [--bundle DIR] [--variants default …] [--augment rotate …] [--work DIR]

``score`` writes one file of scores for each scene and variant under ``--work``, keyed by the bundle's hash, and goes on
where it stopped. ``judge`` reads them and prints the tables. A variant is the same encoder with other stages, another
image score or tokens averaged over 3x3: a rule has to stand all of them.

Scenes: aliens, hazelnut-toy, the three positions of ballscrew (in order of time, and shuffled before the first pitted
frame), the still part of the bottles' video (every fourth frame; near-copies count as independent here, unlike at
enrolment), drawn conveyors (four in any order, sixteen in order as the demo shows them), and one drawn scene of
everything in the catalogue.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import sys
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from edgevand.bundle import Bundle
from edgevand.home import builtin_bundle
from edgevand_runtime.calibration import calibrate, student_quantile
from edgevand_runtime.drawn.catalogue import CATALOGUE, Product
from edgevand_runtime.drawn.conveyor import ConveyorScene
from edgevand_runtime.engines import EncoderOutput, open_engine
from edgevand_runtime.features import encode_frame
from edgevand_runtime.memory import MemoryBank
from edgevand_runtime.methods import open_method
from edgevand_runtime.preprocess import load_image

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from edgevand.bundle import Manifest
    from edgevand_runtime.engines import Engine

SHOTS = (4, 8, 12, 20)
RATES = (0.05, 0.01)
_THINNED = 4
"""Other variants than the default take this part of the draws."""


class Scene(NamedTuple):
    """Frames of one camera."""

    name: str
    group: str
    """Scenes of one kind: they are left out together where constants are fitted."""
    normal: Callable[[], list[NDArray[np.uint8]]]
    anomalous: Callable[[], list[NDArray[np.uint8]]]
    draws: int
    ordered: bool = False
    """The first k frames in order of time are enrolled: one draw."""


class Variant(NamedTuple):
    """The encoder's outputs used in another way."""

    stages: tuple[int, ...] | None = None
    """Positions of the stages that are summed; None for all."""
    image: str | None = None
    """Image score; None for the manifest's."""
    average: bool = False
    """Tokens averaged over 3x3."""
    terms: tuple[Literal["text", "zero-shot-map", "memory-map"], ...] | None = None
    """What the raw score sums; None for what the manifest says."""


VARIANTS = {
    "default": Variant(),
    "top1%": Variant(image="top1%"),
    "average": Variant(average=True),
    "first": Variant(stages=(0,)),
    "second": Variant(stages=(1,)),
    "second+third average top1%": Variant(stages=(1, 2), image="top1%", average=True),
    "all terms": Variant(terms=("text", "zero-shot-map", "memory-map")),
}


def files(paths: Sequence[Path]) -> Callable[[], list[NDArray[np.uint8]]]:
    """Reads pictures when they are wanted."""
    return lambda: [load_image(path) for path in paths]


def scenes(data: Path) -> Iterator[Scene]:
    """Every scene at hand."""
    folder = data / "aliens"
    normal, bad = (files(sorted((folder / name).iterdir())) for name in ("normal", "anomaly"))
    yield Scene("aliens", "aliens", normal, bad, 60)
    folder = data / "hazelnut-toy"
    good = [*sorted((folder / "train/good").iterdir()), *sorted((folder / "test/good").iterdir())]
    yield Scene("hazelnut-toy", "hazelnut-toy", files(good), files(sorted((folder / "test/colour").iterdir())), 60)
    for position, labels in json.loads((data / "ballscrew/labels.json").read_text()).items():
        names = sorted(labels)
        first = next(number for number, name in enumerate(names) if labels[name])
        before = files([data / "ballscrew" / position / name for name in names[:first]])
        pitted = files([data / "ballscrew" / position / name for name in names if labels[name]])
        yield Scene(f"ballscrew {position}", "ballscrew in order", before, pitted, 1, ordered=True)
        yield Scene(f"ballscrew {position} shuffled", "ballscrew shuffled", before, pitted, 30)
    video = data / "video/bottle-detection.mp4"
    still, changed = partial(clip, video, range(0, 164, 4)), partial(clip, video, range(200, 1180, 30))
    yield Scene("bottles", "bottles", still, changed, 40)
    for seed in range(4):
        belt = ConveyorScene(seed, defect_rate=1.0)
        yield Scene(
            f"conveyor {seed}", "conveyor", partial(clean_parts, belt, 120), partial(parts, belt, 200, 36, bad=True), 20
        )
    for seed in range(16):
        belt = ConveyorScene(seed)
        shown = belt.clean_start + (300 if seed == 0 else 100)
        whole_parts, bad_parts = (partial(parts, belt, 0, shown, bad=bad) for bad in (False, True))
        yield Scene(f"belt {seed}", "belts in order", whole_parts, bad_parts, 1, ordered=True)
    for name in CATALOGUE:
        product = Product(name, 1000)
        yield Scene(f"drawn {name}", "drawn", partial(whole, product, 50), partial(defective, product, 18), 10)


def clean_parts(belt: ConveyorScene, count: int) -> list[NDArray[np.uint8]]:
    """The first frames of a belt, without their defects."""
    return [belt.clean(index) for index in range(count)]


def parts(belt: ConveyorScene, start: int, count: int, *, bad: bool) -> list[NDArray[np.uint8]]:
    """The defective frames of a belt, or the others."""
    frames = map(belt.frame, range(start, start + count))
    return [image for image, truth, _ in frames if (truth is not None) == bad]


def whole(product: Product, count: int) -> list[NDArray[np.uint8]]:
    """Normal pictures of a drawn product."""
    return [product.draw(index).image for index in range(count)]


def defective(product: Product, count: int) -> list[NDArray[np.uint8]]:
    """Pictures of it with each kind of defect in turn."""
    return [product.draw(100 + index, product.kinds[index % len(product.kinds)]).image for index in range(count)]


def clip(path: Path, wanted: range) -> list[NDArray[np.uint8]]:
    """Frames of a video."""
    video = cv2.VideoCapture(str(path))
    found = []
    for index in range(wanted.stop):
        whole, frame = video.read()
        if whole and index in wanted:
            found.append(np.asarray(frame, np.uint8))
    return found


class Compared(NamedTuple):
    """N frames, normal ones first, against each of the B normal ones."""

    embedding: NDArray[np.float32]
    """(N, D)."""
    logits: list[NDArray[np.float32]]
    """Of each stage with a head (N, h, w)."""
    tables: list[NDArray[np.float32]]
    """Of each stage (N, B, P): distance of each patch to the nearest patch of one frame."""


def compare(
    bundle: Bundle, engine: Engine, scene: Scene, augment: Collection[str], ways: Collection[bool]
) -> tuple[dict[bool, Compared], int]:
    """Encode and compare; by whether tokens are averaged (``ways``). The number says how many are normal."""
    manifest = bundle.manifest
    normal, bad = scene.normal(), scene.anomalous()
    enrolled = min(len(normal), max(SHOTS)) if scene.ordered else len(normal)
    encoded = [
        encode_frame(image, manifest, engine, text_of(bundle), augment if number < enrolled else ())
        for number, image in enumerate(normal + bad)
    ]
    embedding = np.stack([features["embedding"] for features in encoded]).astype(np.float32)
    logits = [
        np.stack([features[f"logits_{stage.index}"] for features in encoded]) for stage in manifest.stages if stage.head
    ]
    found = {}
    for average in ways:
        tables = []
        for stage in manifest.stages:
            tokens = [features[f"tokens_{stage.index}"].astype(np.float32) for features in encoded]
            if average:
                tokens = [averaged(poses, stage.grid) for poses in tokens]
            frames = np.stack([poses[0] for poses in tokens])
            banks = [MemoryBank([poses[None]]) for poses in tokens[:enrolled]]
            tables.append(np.stack([bank.distances([frames])[0] for bank in banks], axis=1))
        found[average] = Compared(embedding, logits, tables)
    return found, len(normal)


def text_of(bundle: Bundle) -> NDArray[np.float32] | None:
    """The bundle's only or general text, where it has any."""
    return bundle.text(None)[1] if bundle.texts(None) else None


def averaged(tokens: NDArray[np.float32], grid: tuple[int, int]) -> NDArray[np.float32]:
    """Unit vectors of the 3x3 means of unit tokens (N, P, C)."""
    square = tokens.reshape(len(tokens), *grid, -1)
    padded = np.pad(square, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    rows, columns = grid
    mean = np.mean([padded[:, i : i + rows, j : j + columns] for i in range(3) for j in range(3)], axis=0)
    flat = mean.reshape(tokens.shape)
    return np.asarray(flat / np.linalg.norm(flat, axis=-1, keepdims=True), np.float32)


class LookedUp(MemoryBank):
    """A memory bank whose distances are known; its queries are numbers of frames."""

    def __init__(self, tables: Sequence[NDArray[np.float32]], enrolled: NDArray[np.int64]) -> None:
        """Take the tables of ``Compared`` and the bank's frames."""
        self._tables = tables
        self._enrolled = enrolled

    def distances(self, queries: Sequence[NDArray[Any]]) -> list[NDArray[np.float32]]:
        """Distances of the frames with these numbers to the bank."""
        return [
            table[np.ix_(rows, self._enrolled)].min(axis=1) for table, rows in zip(self._tables, queries, strict=True)
        ]

    def leave_out(
        self,
        groups: Sequence[int],
        frames: Sequence[int] | None = None,  # noqa: ARG002 - of the class that it stands in for, like the next
        *,
        every_row: bool = False,  # noqa: ARG002
    ) -> list[NDArray[np.float32]]:
        """Distances of every frame of the bank to the others."""
        keep = [self._enrolled[np.asarray(groups) != group] for group in groups]
        return [
            np.stack([table[i, rest].min(axis=0) for i, rest in zip(self._enrolled, keep, strict=True)])
            for table in self._tables
        ]


def changed(manifest: Manifest, variant: Variant) -> Manifest:
    """The manifest with the variant's stages and image score."""
    stages = manifest.stages if variant.stages is None else tuple(manifest.stages[i] for i in variant.stages)
    wanted = {name: value for name in ("image", "terms") if (value := getattr(variant, name)) is not None}
    score = manifest.score.model_copy(update=wanted)
    return manifest.model_copy(update={"stages": stages, "score": score})


def judge_scene(
    bundle: Bundle, scene: Scene, variant: Variant, compared: Compared, normals: int
) -> dict[str, NDArray[np.float64]]:
    """Scores of every draw, (draws, frames, 2): image score and map maximum of left-out, normal, anomalous frames."""
    manifest, text = bundle.manifest, text_of(bundle)
    with_head = [stage.index for stage in manifest.stages if stage.head]
    bare = changed(manifest, variant)
    chosen = range(len(compared.tables)) if variant.stages is None else variant.stages
    tables = [compared.tables[i] for i in chosen]
    heads = [with_head.index(stage.index) for stage in bare.stages if stage.head]

    def outputs(rows: NDArray[np.int64]) -> EncoderOutput:
        logits = tuple(compared.logits[i][rows] for i in heads)
        numbers: tuple[Any, ...] = (rows,) * len(tables)  # what LookedUp takes for tokens
        return EncoderOutput(embedding=compared.embedding[rows], tokens=numbers, logits=logits)

    count = scene.draws if variant == Variant() else -(-scene.draws // _THINNED)
    found: dict[str, NDArray[np.float64]] = {}
    for shots in SHOTS:
        if shots + 5 > normals:
            continue
        draws: dict[str, list[list[tuple[float, float]]]] = {"left-out": [], "normal": [], "anomalous": []}
        for draw in range(count):
            rng = np.random.default_rng([draw, shots])
            enrolled = np.arange(shots) if scene.ordered else np.sort(rng.permutation(normals)[:shots])
            looked_up = LookedUp(tables, enrolled)
            method = open_method(bare, text, looked_up, None)
            rest = np.setdiff1d(np.arange(normals), enrolled)
            raws = {
                "left-out": method.combine(outputs(enrolled), looked_up.leave_out(range(shots))),
                "normal": method.score(outputs(rest)),
                "anomalous": method.score(outputs(np.arange(normals, len(compared.embedding)))),
            }
            for name, scores in raws.items():
                draws[name].append([(raw.raw_score, raw.map_max or 0.0) for raw in scores])
        found |= {f"{shots}/{name}": np.asarray(scores) for name, scores in draws.items()}
    return found


def score(
    data: Path,
    bundle: Bundle,
    work: Path,
    *,
    variants: Sequence[str],
    augment: Collection[str],
    only: Collection[str] | None,
) -> None:
    """Write the scores of every scene and variant that are not there yet."""
    engine = open_engine(bundle, threads=1)
    for scene in scenes(data):
        wanted = [name for name in variants if not (work / f"{scene.name}--{name}.npz").exists()]
        if not wanted or (only is not None and scene.name not in only):
            continue
        compared, normals = compare(bundle, engine, scene, augment, {VARIANTS[name].average for name in wanted})
        for name in wanted:
            print(f"{scene.name}, {name}", file=sys.stderr, flush=True)
            variant = VARIANTS[name]
            found = judge_scene(bundle, scene, variant, compared[variant.average], normals)
            arrays: dict[str, Any] = {"group": scene.group, "ordered": scene.ordered, **found}
            np.savez_compressed(work / f"{scene.name}--{name}.npz", **arrays)


Rule = Callable[[NDArray[np.float64], float], float]
"""Left-out raw scores (n,) and the wanted rate become a limit on the raw score."""


def student(scores: NDArray[np.float64], rate: float, floor: float = 0.05) -> float:
    """Student's prediction limit on ln s, with a floor of the deviation."""
    y, n = np.log(scores), len(scores)
    return math.exp(y.mean() + student_quantile(1 - rate, n - 1) * max(y.std(ddof=1), floor) * math.sqrt(1 + 1 / n))


def student_of(change: Callable[[Any], Any], back: Callable[[float], float]) -> Rule:
    """Student's prediction limit on another scale, without a floor."""

    def limit(scores: NDArray[np.float64], rate: float) -> float:
        y, n = change(scores), len(scores)
        return back(float(y.mean() + student_quantile(1 - rate, n - 1) * y.std(ddof=1) * math.sqrt(1 + 1 / n)))

    return limit


def robust(scores: NDArray[np.float64], rate: float) -> float:
    """Median and MAD of ln s, normal quantile."""
    y = np.log(scores)
    scale = max(1.4826 * float(np.median(np.abs(y - np.median(y)))), 0.05)
    return math.exp(float(np.median(y)) + NormalDist().inv_cdf(1 - rate) * scale)


def trimmed(scores: NDArray[np.float64], rate: float) -> float:
    """Mean and deviation of ln s without a tenth (at least one) at each end, the deviation divided by 0.662."""
    y = np.sort(np.log(scores))
    y = y[max(1, len(y) // 10) : -max(1, len(y) // 10)]
    return math.exp(y.mean() + NormalDist().inv_cdf(1 - rate) * max(float(y.std(ddof=1)) / 0.662, 0.05))


def gumbel(scores: NDArray[np.float64], rate: float) -> float:
    """Gumbel's distribution of maxima, by moments of ln s."""
    y = np.log(scores)
    beta = max(float(y.std(ddof=1)), 0.05) * math.sqrt(6) / math.pi
    return math.exp(y.mean() - beta * (0.5772156649 + math.log(-math.log(1 - rate))))


def largest(scores: NDArray[np.float64], rate: float) -> float:  # noqa: ARG001 - the rule that knows no rate
    """The largest left-out score: gives 1/(n + 1) whatever is wanted."""
    return float(scores.max())


def moderated(degrees: int, sd: float, shift: float = 0.0) -> Rule:
    """Student's limit with the variance shrunk towards a prior; ``shift`` ln(n/(n-1)) makes up for the smaller bank."""

    def limit(scores: NDArray[np.float64], rate: float) -> float:
        y, n = np.log(scores), len(scores)
        pooled = math.sqrt((degrees * sd * sd + (n - 1) * y.var(ddof=1)) / (degrees + n - 1))
        middle = y.mean() - shift * math.log(n / (n - 1))
        return math.exp(middle + student_quantile(1 - rate, degrees + n - 1) * pooled * math.sqrt(1 + 1 / n))

    return limit


def program(scores: NDArray[np.float64], rate: float, *, usual_sd: float | None) -> float:
    """What the program does."""
    limit = calibrate(scores.tolist(), scores.tolist(), rate, usual_sd).image
    return math.inf if limit is None else limit.threshold


TRIED: dict[str, Rule] = {
    "Student on ln s, floor 0.05 (before)": student,
    "the same, floor 0.02": partial(student, floor=0.02),
    "the same, floor 0.10": partial(student, floor=0.10),
    "the same, floor 0.15": partial(student, floor=0.15),
    "Student on s": student_of(np.asarray, float),
    "Student on sqrt s": student_of(np.sqrt, lambda y: y * y),
    "median and MAD on ln s": robust,
    "trimmed mean and deviation on ln s": trimmed,
    "Gumbel on ln s": gumbel,
    "largest left-out score": largest,
    **{f"prior {sd:.2f}, {nu} degrees": moderated(nu, sd) for nu in (2, 4, 6, 8, 30) for sd in (0.26, 0.32, 0.38)},
    "prior 0.32, 4 degrees, shift 0.2": moderated(4, 0.32, 0.2),
    "prior 0.38, 4 degrees, shift 0.2": moderated(4, 0.38, 0.2),
}


class Scored(NamedTuple):
    """What ``score`` wrote of one scene."""

    name: str
    group: str
    ordered: bool
    draws: dict[str, NDArray[np.float64]]

    def ln_spread(self) -> tuple[float, float]:
        """Log variance of live ln s at the smallest k; by how many ln(n/(n-1)) left-out ones lie above them."""
        y, live = (
            np.log(np.maximum(self.draws[f"{SHOTS[0]}/{part}"][..., 0], 1e-12)) for part in ("left-out", "normal")
        )
        n = y.shape[1]
        return math.log(live.var(axis=1, ddof=1).mean()), float(y.mean() - live.mean()) / math.log(n / (n - 1))


class Rates(NamedTuple):
    """Of one scene, rule, k and wanted rate: each draw's false-alarm rate and share of anomalies found."""

    false: NDArray[np.float64]
    found: NDArray[np.float64]


def read(work: Path, variant: str) -> list[Scored]:
    """What ``score`` wrote of a variant."""
    found = []
    for path in sorted(work.glob(f"*--{variant}.npz")):
        with np.load(path) as file:
            draws = {name: file[name] for name in file.files if "/" in name}
            found.append(Scored(path.name.split("--")[0], str(file["group"]), bool(file["ordered"]), draws))
    return found


def rates(scene: Scored, rule: Rule, shots: int, rate: float, column: int = 0) -> Rates | None:
    """Judge a rule; None where the scene has too few frames. Column 1 is the map's own threshold."""
    if f"{shots}/left-out" not in scene.draws:
        return None
    own, normal, anomalous = (
        np.maximum(scene.draws[f"{shots}/{part}"][..., column], 1e-12) for part in ("left-out", "normal", "anomalous")
    )
    limits = np.array([rule(scores, rate) for scores in own])[:, None]
    return Rates((normal > limits).mean(axis=1), (anomalous > limits).mean(axis=1))


def by_group(judged: Sequence[Scored], rule: Rule, shots: int, rate: float) -> dict[str, tuple[float, float]]:
    """False-alarm rate and share found of each group: the mean of its scenes, each the mean of its draws."""
    groups: dict[str, list[tuple[float, float]]] = {}
    for scene in judged:
        if (found := rates(scene, rule, shots, rate)) is not None:
            groups.setdefault(scene.group, []).append((float(found.false.mean()), float(found.found.mean())))
    return {
        name: (float(np.mean([r[0] for r in rows])), float(np.mean([r[1] for r in rows])))
        for name, rows in groups.items()
    }


def row(*cells: object) -> None:
    """One line of a table."""
    print("|", " | ".join(f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in cells), "|")


def head(*cells: str) -> None:
    """The first two lines of a table."""
    print()
    row(*cells)
    row(*["---"] * len(cells))


def print_tried(judged: Sequence[Scored], after: Rule) -> None:
    """Every rule: mean over the groups of scenes (and the worst of them) where order plays no part."""
    settings = list(itertools.product(RATES, (4, 8, 20)))
    head("rule", *(f"R {rate}, k {shots}: false (worst), found" for rate, shots in settings))
    shuffled = [scene for scene in judged if not scene.ordered]
    for name, rule in {**TRIED, "the program": after}.items():
        cells = []
        for rate, shots in settings:
            found = list(by_group(shuffled, rule, shots, rate).values())
            false, worst = np.mean([pair[0] for pair in found]), np.max([pair[0] for pair in found])
            cells.append(f"{false:.3f} ({worst:.3f}), {np.mean([pair[1] for pair in found]):.3f}")
        row(name, *cells)


def print_groups(judged: Sequence[Scored], after: Rule) -> None:
    """Before and after, by group and k."""
    head("scenes", "k", *(f"R {rate} {when}: {what}" for rate, when, what in _columns()))
    names = list(dict.fromkeys(scene.group for scene in judged))
    for name, shots in itertools.product(names, SHOTS):
        cells: list[float] = []
        for rate, rule in itertools.product(RATES, (student, after)):
            cells += by_group([scene for scene in judged if scene.group == name], rule, shots, rate).get(name, ())
        if cells:
            row(name, shots, *cells)


def _columns() -> Iterator[tuple[float, str, str]]:
    return itertools.product(RATES, ("before", "after"), ("false", "found"))


def print_banks(judged: Sequence[Scored], after: Rule) -> None:
    """How the real rate differs from bank to bank: the ninth decile of all draws, and how many give over 5 R."""
    head("R", "k", *(f"{when}: {what}" for when in ("before", "after") for what in ("90 %", "over 5 R")))
    shuffled = [scene for scene in judged if not scene.ordered]
    for rate, shots in itertools.product(RATES, SHOTS):
        cells: list[float] = []
        for rule in (student, after):
            found = [each.false for scene in shuffled if (each := rates(scene, rule, shots, rate)) is not None]
            false = np.concatenate(found)
            cells += [float(np.quantile(false, 0.9)), float((false > 5 * rate).mean())]
        row(rate, shots, *cells)


def prior_of(judged: Sequence[Scored]) -> tuple[float, float, float]:
    """Prior of the variance by moments (Smyth 2004, section 6.2), and the mean shift of left-out scores.

    A scaled inverse chi-squared variance v of d degrees about sd^2 has ``E ln v = ln sd^2 + ln(d/2) - digamma(d/2)``
    and ``Var ln v = trigamma(d/2)``; every group weighs the same.

    Returns:
        Degrees, deviation, shift.
    """
    from scipy.optimize import brentq  # type: ignore[import-untyped]
    from scipy.special import digamma, polygamma  # type: ignore[import-untyped]

    sizes = Counter(scene.group for scene in judged)
    weights = np.array([1 / sizes[scene.group] / len(sizes) for scene in judged])
    spreads = np.array([scene.ln_spread() for scene in judged])
    mean, shift = weights @ spreads
    variance = float(weights @ (spreads[:, 0] - mean) ** 2)
    degrees = float(brentq(lambda d: float(polygamma(1, d / 2)) - variance, 0.1, 1e5))
    return degrees, math.exp((mean - math.log(degrees / 2) + float(digamma(degrees / 2))) / 2), float(shift)


def print_prior(judged: Sequence[Scored], after: Rule) -> None:  # noqa: ARG001 - called like the others
    """The prior from all groups and from all but one, and what the one gets with it."""
    shuffled = [scene for scene in judged if not scene.ordered]
    names = list(dict.fromkeys(scene.group for scene in shuffled))
    settings = list(itertools.product(RATES, (4, 8)))
    head(
        "without",
        "its deviations",
        "degrees",
        "deviation",
        "shift",
        *(f"R {r}, k {k}: false, found" for r, k in settings),
    )
    for name in [*names, "nothing"]:
        rest = [scene for scene in shuffled if scene.group != name]
        own = [scene for scene in shuffled if scene.group == name]
        degrees, sd, shift = prior_of(rest)
        rule = moderated(round(degrees), sd)
        cells = [by_group(own, rule, shots, rate)[name] for rate, shots in settings] if own else []
        spread = [math.exp(scene.ln_spread()[0] / 2) for scene in own]
        between = f"{min(spread):.2f} to {max(spread):.2f}" if own else ""
        row(name, between, f"{degrees:.1f}", f"{sd:.3f}", f"{shift:.2f}", *(f"{a:.3f}, {b:.3f}" for a, b in cells))


def print_thirds(judged: Sequence[Scored], after: Rule) -> None:
    """Drift: of each scene in order, false alarms of the first, middle and last third of the normal frames."""
    head(
        "scene",
        "k",
        "R",
        *(f"{third}: false, median of raw / threshold" for third in ("first", "middle", "last")),
        "found",
    )
    for scene, shots, rate in itertools.product([s for s in judged if s.ordered], SHOTS, RATES):
        limit = after(scene.draws[f"{shots}/left-out"][0, :, 0], rate)
        thirds = np.array_split(scene.draws[f"{shots}/normal"][0, :, 0] / limit, 3)
        cells = [f"{(part > 1).mean():.3f}, {np.median(part):.2f}" for part in thirds]
        row(scene.name, shots, rate, *cells, float((scene.draws[f"{shots}/anomalous"][0, :, 0] > limit).mean()))


def judge(work: Path, variants: Sequence[str], usual_sd: float | None) -> None:
    """Print every table; variants that sum probabilities have no usual deviation."""
    for variant in variants:
        judged = read(work, variant)
        print(f"\n## {variant}")
        for table in (print_tried, print_groups, print_banks, print_prior, print_thirds):
            table(judged, partial(program, usual_sd=usual_sd if VARIANTS[variant].terms is None else None))


def main() -> int:
    """Score, or print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", nargs="?", choices=["score", "judge"], help="default: one after the other")
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared/data")
    parser.add_argument("--bundle", type=Path, default=builtin_bundle())
    parser.add_argument("--variants", nargs="+", default=["default"], choices=list(VARIANTS))
    parser.add_argument("--augment", nargs="+", default=[], help="copies of each enrolled frame in the bank")
    parser.add_argument("--scenes", nargs="+", help="score these only, by name")
    parser.add_argument("--work", type=Path, default=Path("build/calibration"))
    arguments = parser.parse_args()
    bundle = Bundle.open(arguments.bundle)
    work = arguments.work / "+".join([bundle.hash.removeprefix("sha256:")[:12], *sorted(arguments.augment)])
    work.mkdir(parents=True, exist_ok=True)
    if arguments.step != "judge":
        wanted = {name: getattr(arguments, name) for name in ("variants", "augment")}
        score(arguments.data, bundle, work, **wanted, only=arguments.scenes)
    if arguments.step != "score":
        judge(work, arguments.variants, bundle.manifest.score.usual_sd)
    return 0


if __name__ == "__main__":
    sys.exit(main())

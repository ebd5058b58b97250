"""april-gan and its levers against its formulas stated again (methods.md (a), (h))."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
from torch import from_numpy
from torch.nn.functional import interpolate

from edgevand.bank import Bank
from edgevand.errors import UsageError
from edgevand_runtime.detector import Detector
from edgevand_runtime.engines import EncoderOutput
from edgevand_runtime.engines.fake import FakeEngine
from edgevand_runtime.enroll import EnrolOptions, append_frames, enroll
from edgevand_runtime.explain import Explainer
from edgevand_runtime.features import encode_frame, make_memory, stack
from edgevand_runtime.locality import LocalBank
from edgevand_runtime.maps import sigmoid, top_mean, upsample
from edgevand_runtime.memory import MemoryBank
from edgevand_runtime.methods import open_method
from edgevand_runtime.methods.april_gan import AprilGan
from edgevand_runtime.methods.choosing import seen_as
from edgevand_runtime.pipeline import Scored
from edgevand_runtime.sources import open_source
from edgevand_runtime.sources.base import new_frame
from tests import tiny
from tests.core.builders import make_bundle, unit

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from edgevand.bundle import Bundle

SIZE, GRID, WIDTH, DIM, FRAMES = 32, 4, 8, 16, 5
OFF = {
    "locality": "off",
    "neighbourhood": 1,
    "stages": "all",
    "smoothing": 0.0,
    "fusion": "sum",
    "image_bank": False,
    "score": "bundle",
    "scales": {},
}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("april-gan") / "bundle", size=SIZE, grid=GRID, width=WIDTH, dim=DIM)


@pytest.fixture(scope="module")
def outputs() -> EncoderOutput:
    random = np.random.default_rng(1)
    tokens = tuple(unit(random, 2, GRID * GRID, WIDTH) for _ in range(2))
    logits = tuple(random.normal(0, 2, (2, GRID, GRID)).astype(np.float32) for _ in range(2))
    return EncoderOutput(unit(random, 2, DIM), tokens, logits)


@pytest.fixture(scope="module")
def features() -> dict[str, Any]:
    random = np.random.default_rng(2)
    return {
        "embedding": unit(random, FRAMES, DIM),
        "tokens_1": unit(random, FRAMES, 2, GRID * GRID, WIDTH),
        "tokens_2": unit(random, FRAMES, 2, GRID * GRID, WIDTH),
    }


def method_of(
    bundle: Bundle, features: dict[str, Any] | None, inside: NDArray[np.bool_] | None = None, **settings: Any
) -> AprilGan:
    view = seen_as(bundle, settings=settings)
    search = None
    if features is not None:
        search = make_memory(view.manifest, [features["tokens_1"], features["tokens_2"]])
    method = open_method(view.manifest, bundle.text("object")[1], search, inside, features=features)
    assert isinstance(method, AprilGan)
    return method


def text_scores(bundle: Bundle, outputs: EncoderOutput) -> list[float]:
    normal, abnormal = bundle.text("object")[1].astype(np.float64)
    return [1 / (1 + math.exp(-100 * float(row @ (abnormal - normal)))) for row in outputs.embedding.astype(np.float64)]


def enlarged(grid: NDArray[Any]) -> NDArray[np.float64]:
    square = from_numpy(np.asarray(grid, np.float64).reshape(1, 1, GRID, GRID))
    return np.asarray(interpolate(square, (SIZE, SIZE), mode="bilinear", align_corners=True)[0, 0].numpy())


def restated(
    bundle: Bundle, outputs: EncoderOutput, features: dict[str, Any], stages: tuple[int, ...] = (1, 2)
) -> list[tuple[float, NDArray[np.float64]]]:
    """Text score and raw map of each frame by the formulas."""
    found = []
    for n, text in enumerate(text_scores(bundle, outputs)):
        total = sum(1 / (1 + np.exp(-enlarged(logits[n]))) for logits in outputs.logits)
        for stage in stages:
            rows = features[f"tokens_{stage}"].reshape(-1, WIDTH).astype(np.float64)
            total = total + enlarged(1 - (outputs.tokens[stage - 1][n].astype(np.float64) @ rows.T).max(axis=1))
        found.append((text, np.asarray(total)))
    return found


def test_the_score_is_the_text_score_and_the_maps_maximum(
    bundle: Bundle, outputs: EncoderOutput, features: dict[str, Any]
) -> None:
    raws = method_of(bundle, features).score(outputs)
    for raw, (text, raw_map) in zip(raws, restated(bundle, outputs, features), strict=True):
        assert raw.raw_map is not None
        np.testing.assert_allclose(raw.raw_map, raw_map, atol=1e-5)
        assert raw.raw_score == pytest.approx(text + raw_map.max(), abs=1e-5)


@pytest.mark.parametrize("named", [{}, OFF, *({name: value} for name, value in OFF.items())])
def test_with_every_lever_off_the_numbers_are_those_of_before_there_were_any_to_the_last_bit(
    bundle: Bundle, outputs: EncoderOutput, features: dict[str, Any], named: dict[str, Any]
) -> None:
    text = bundle.text("object")[1]
    distances = MemoryBank([features["tokens_1"], features["tokens_2"]]).distances(outputs.tokens)
    difference = 100.0 * (outputs.embedding @ (text[1] - text[0]))
    inside = np.ones((SIZE, SIZE), np.bool_)
    inside[:9] = False
    for n, raw in enumerate(method_of(bundle, features, inside, **named).score(outputs)):
        total = np.zeros((SIZE, SIZE), np.float32)
        for logits in outputs.logits:
            total += sigmoid(upsample(logits[n][None], (SIZE, SIZE))[0])
        for stage in distances:
            total += upsample(stage[n].reshape(1, GRID, GRID), (SIZE, SIZE))[0]
        total[~inside] = 0
        assert raw.raw_map is not None
        assert np.array_equal(raw.raw_map, total)
        assert raw.map_max == float(total.max())
        assert raw.text_score == 1 / (1 + math.exp(-difference.tolist()[n]))
        assert raw.raw_score == raw.text_score + float(total.max())
    assert type(make_memory(seen_as(bundle, settings=named).manifest, [features["tokens_1"]])) is MemoryBank


def test_the_zero_shot_score_knows_no_lever_of_the_bank(bundle: Bundle, outputs: EncoderOutput) -> None:
    levers: dict[str, Any] = {"locality": 1, "neighbourhood": 3, "stages": [2], "fusion": "mean", "image_bank": True}
    plain = method_of(bundle, None).score(outputs)
    for raw, other in zip(plain, method_of(bundle, None, **levers).score(outputs), strict=True):
        assert raw.raw_score == other.raw_score
        assert raw.raw_map is not None
        assert other.raw_map is not None
        assert np.array_equal(raw.raw_map, other.raw_map)


def test_chosen_stages_alone_are_summed_and_the_zero_shot_map_stays_whole(
    bundle: Bundle, outputs: EncoderOutput, features: dict[str, Any]
) -> None:
    raws = method_of(bundle, features, stages=[2]).score(outputs)
    for raw, (_, raw_map) in zip(raws, restated(bundle, outputs, features, (2,)), strict=True):
        assert raw.raw_map is not None
        np.testing.assert_allclose(raw.raw_map, raw_map, atol=1e-5)


@pytest.mark.parametrize("wrong", [[3], [1, 5], []])
def test_stages_that_the_bundle_does_not_have_are_refused(bundle: Bundle, wrong: list[int]) -> None:
    with pytest.raises(UsageError, match="expected stages among 1, 2 of the bundle"):
        method_of(bundle, None, stages=wrong)


def gaussian(image: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    """Each pixel's weighted mean, four deviations either way, the border mirrored."""
    reach = int(4 * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    weights /= weights.sum()
    for _ in range(2):
        padded = np.pad(image, ((reach, reach), (0, 0)), mode="symmetric")
        image = np.array([weights @ padded[row : row + 2 * reach + 1] for row in range(len(image))]).T
    return image


def test_smoothing_is_a_gaussian_over_the_enlarged_map(
    bundle: Bundle, outputs: EncoderOutput, features: dict[str, Any]
) -> None:
    raws = method_of(bundle, features, smoothing=2).score(outputs)
    for raw, (text, raw_map) in zip(raws, restated(bundle, outputs, features), strict=True):
        smooth = gaussian(raw_map, 2)
        assert raw.raw_map is not None
        np.testing.assert_allclose(raw.raw_map, smooth, atol=1e-5)
        assert raw.raw_score == pytest.approx(text + smooth.max(), abs=1e-5)


def test_smoothing_within_a_region_of_interest_takes_nothing_from_outside(
    bundle: Bundle, outputs: EncoderOutput, features: dict[str, Any]
) -> None:
    inside = np.zeros((SIZE, SIZE), np.bool_)
    inside[6:20, 3:30] = True
    (raw, _) = method_of(bundle, features, inside, smoothing=2).score(outputs)
    raw_map = restated(bundle, outputs, features)[0][1]
    expected = gaussian(raw_map * inside, 2) / np.maximum(gaussian(inside.astype(np.float64), 2), 1e-6)
    assert raw.raw_map is not None
    np.testing.assert_allclose(raw.raw_map[inside], expected[inside], atol=1e-5)
    assert not raw.raw_map[~inside].any()


def test_the_maps_term_may_be_the_mean_of_its_top_hundredth(
    bundle: Bundle, outputs: EncoderOutput, features: dict[str, Any]
) -> None:
    raws = method_of(bundle, features, score="top1%").score(outputs)
    for raw, (text, raw_map) in zip(raws, restated(bundle, outputs, features), strict=True):
        top = np.sort(raw_map.ravel())[-(SIZE * SIZE // 100) :]
        assert raw.raw_score == pytest.approx(text + top.mean(), abs=1e-5)


def test_the_image_bank_adds_the_distance_to_the_nearest_enrolled_embedding(
    bundle: Bundle, outputs: EncoderOutput, features: dict[str, Any]
) -> None:
    raws = method_of(bundle, features, image_bank=True).score(outputs)
    for n, (raw, (text, raw_map)) in enumerate(zip(raws, restated(bundle, outputs, features), strict=True)):
        distance = 1 - max(float(row @ outputs.embedding[n]) for row in features["embedding"].astype(np.float64))
        assert raw.raw_score == pytest.approx(text + raw_map.max() + distance, abs=1e-5)


def test_an_enrolled_frames_own_embedding_and_its_groups_have_no_part_in_its_score(
    bundle: Bundle, outputs: EncoderOutput, features: dict[str, Any]
) -> None:
    method = method_of(bundle, features, image_bank=True)
    itself = EncoderOutput(features["embedding"][1:2], (), tuple(each[:1] for each in outputs.logits))
    distances = [np.zeros((1, GRID * GRID), np.float32)] * 2
    (raw,) = method.combine_without(itself, distances, np.array([True, True, False, False, False]))
    (with_it,) = method.combine(itself, distances)
    others = features["embedding"][2:].astype(np.float64)
    expected = 1 - max(float(row @ features["embedding"][1]) for row in others)
    assert raw.raw_score - with_it.raw_score == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("rule", ["mean", "max"])
def test_fusion_brings_terms_together_in_deviations_of_normal_frames(
    bundle: Bundle, outputs: EncoderOutput, features: dict[str, Any], rule: str
) -> None:
    scales = {"text": (-2.0, 1.5), "map": (0.4, 0.2), "image": (-0.3, 0.1)}
    raws = method_of(bundle, features, image_bank=True, fusion=rule, scales=scales).score(outputs)
    for n, (raw, (text, raw_map)) in enumerate(zip(raws, restated(bundle, outputs, features), strict=True)):
        image = 1 - max(float(row @ outputs.embedding[n]) for row in features["embedding"].astype(np.float64))
        z = [
            (math.log(text / (1 - text)) + 2.0) / 1.5,
            (math.log(raw_map.max()) - 0.4) / 0.2,
            (math.log(image) + 0.3) / 0.1,
        ]
        together = max(z) if rule == "max" else sum(z) / 3
        assert math.log(raw.raw_score) == pytest.approx(0.4 + 0.2 * together, abs=2e-4)


def test_fusion_without_scales_is_the_sum_until_enrolment_has_found_them(
    bundle: Bundle, outputs: EncoderOutput, features: dict[str, Any]
) -> None:
    fused, plain = (method_of(bundle, features, fusion=rule).score(outputs) for rule in ("mean", "sum"))
    assert [raw.raw_score for raw in fused] == [raw.raw_score for raw in plain]


def test_a_patch_of_a_fixed_view_is_compared_near_its_place(
    bundle: Bundle, outputs: EncoderOutput, features: dict[str, Any]
) -> None:
    (raw, _) = method_of(bundle, features, locality=0, stages=[1]).score(outputs)
    rows = features["tokens_1"].astype(np.float64)
    distance = [
        1 - (rows[:, :, place] @ outputs.tokens[0][0, place].astype(np.float64)).max() for place in range(GRID * GRID)
    ]
    expected = sum(1 / (1 + np.exp(-enlarged(logits[0]))) for logits in outputs.logits)
    expected = expected + enlarged(np.array(distance))
    assert raw.raw_map is not None
    np.testing.assert_allclose(raw.raw_map, expected, atol=1e-5)


def around(tokens: NDArray[Any], grid: int = GRID) -> NDArray[np.float64]:
    """(P, C) to the same, each the mean of its window of 3 x 3 at length 1."""
    cells = tokens.reshape(grid, grid, -1).astype(np.float64)
    found = np.array(
        [
            cells[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2].mean(axis=(0, 1))
            for row in range(grid)
            for column in range(grid)
        ]
    )
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True))


def test_with_a_neighbourhood_bank_and_frame_are_averaged_alike(bundle: Bundle) -> None:
    view = seen_as(bundle, settings={"neighbourhood": 3})
    engine, text = FakeEngine(view.manifest), bundle.text("object")[1]
    images = [part(seed) for seed in range(4)]
    kept = stack([encode_frame(image, view.manifest, engine, text, ()) for image in images])
    plain = stack([encode_frame(image, bundle.manifest, engine, text, ()) for image in images])
    for name in ("tokens_1", "tokens_2"):
        for found, raw in zip(kept[name], plain[name], strict=True):
            np.testing.assert_allclose(found[0], around(raw[0]), atol=1e-5)
    bank = {name: each[:3] for name, each in kept.items()}
    search = make_memory(view.manifest, [bank["tokens_1"], bank["tokens_2"]])
    raw_outputs = EncoderOutput(
        plain["embedding"][3:], (plain["tokens_1"][3:, 0], plain["tokens_2"][3:, 0]), (plain["logits_1"][3:],) * 2
    )
    (raw,) = open_method(view.manifest, text, search, features=bank).score(raw_outputs)
    total = sum(1 / (1 + np.exp(-enlarged(plain["logits_1"][3]))) for _ in range(2))
    for name in ("tokens_1", "tokens_2"):
        rows = np.concatenate([around(frame[0]) for frame in plain[name][:3]])
        total = total + enlarged(1 - (around(plain[name][3, 0]) @ rows.T).max(axis=1))
    assert raw.raw_map is not None
    np.testing.assert_allclose(raw.raw_map, total, atol=1e-5)


def part(seed: int, way: tuple[int, int] = (0, 0)) -> NDArray[np.uint8]:
    """(64, 64, 3) BGR: a round part with a bore on a belt with a pattern, and a little noise."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:64, 0:64]
    picture = np.dstack([80 + 30 * np.sin(x / 5), 90 + 25 * np.cos(y / 6), 70 + (x + y) / 3]).astype(np.float32)
    cv2.circle(picture, (32, 32), 20, (170, 160, 150), -1)
    cv2.circle(picture, (38, 26), 8, (60, 60, 70), -1)
    picture = np.roll(picture, way, axis=(0, 1)) + random.normal(0, 2, picture.shape).astype(np.float32)
    return np.clip(picture, 0, 255).astype(np.uint8)


def write(folder: Path, images: list[NDArray[np.uint8]]) -> Path:
    folder.mkdir()
    for number, image in enumerate(images):
        cv2.imwrite(str(folder / f"{number:02d}.png"), image)
    return folder


def enrolled(bundle: Bundle, folder: Path, target: Path, **settings: Any) -> tuple[Bank, tuple[str, ...]]:
    view = seen_as(bundle, settings=settings)
    with open_source(folder) as source:
        options = EnrolOptions(shots=None, object_name="object")
        done = enroll(source, view, FakeEngine(view.manifest), target, options)
    return done.bank, done.decided


@pytest.fixture
def plain(tmp_path: Path) -> Bundle:
    """The memory bank's map alone is the score."""
    return make_bundle(tmp_path / "plain", size=SIZE, grid=8, width=WIDTH, dim=DIM, heads=False)


def test_automatic_locality_is_on_for_a_fixed_view_and_the_bank_remembers_it(plain: Bundle, tmp_path: Path) -> None:
    folder = write(tmp_path / "fixed", [part(seed) for seed in range(6)])
    bank, decided = enrolled(plain, folder, tmp_path / "bank", locality="auto")
    assert bank.record.settings["locality"] == 1
    assert len(decided) == 1
    assert decided[0].startswith("locality 1: the view is fixed, for ")
    with Detector(plain, FakeEngine(plain.manifest), bank) as detector:
        assert isinstance(detector.memory, LocalBank)
    with open_source(write(tmp_path / "more", [part(seed) for seed in (10, 11)])) as source:
        more = append_frames(bank, source, plain, FakeEngine(plain.manifest), EnrolOptions(shots=2))
    assert more.bank.record.settings["locality"] == 1
    assert more.bank.record.calibration.n == 8


def test_automatic_locality_is_off_where_parts_lie_anyhow(plain: Bundle, tmp_path: Path) -> None:
    ways = [(0, 0), (20, 30), (41, 11), (9, 50), (33, 20), (52, 40)]
    folder = write(tmp_path / "loose", [part(seed, way) for seed, way in enumerate(ways)])
    bank, decided = enrolled(plain, folder, tmp_path / "bank", locality="auto")
    assert bank.record.settings["locality"] == "off"
    assert decided[0].startswith("locality off: the view is not fixed, for ")


def test_few_frames_decide_nothing_and_say_so(bundle: Bundle, tmp_path: Path) -> None:
    folder = write(tmp_path / "few", [part(seed) for seed in range(3)])
    bank, decided = enrolled(bundle, folder, tmp_path / "bank", locality="auto", stages="auto", fusion="mean")
    assert [bank.record.settings[name] for name in ("locality", "stages", "fusion")] == ["off", "all", "sum"]
    assert [sentence.split(":")[1][:22] for sentence in decided] == [" 3 independent frames "] * 2


def test_fusion_learns_at_enrolment_what_is_usual_of_each_term(bundle: Bundle, tmp_path: Path) -> None:
    folder = write(tmp_path / "good", [part(seed) for seed in range(6)])
    bank, decided = enrolled(bundle, folder, tmp_path / "bank", fusion="mean", image_bank=True)
    assert decided[0].startswith("fusion mean of text, map, image: usual among these frames is text ")
    scales = bank.record.settings["scales"]
    embedding = np.asarray(bank.features["embedding"], np.float64)
    logs = []
    for frame in range(6):
        others = np.delete(embedding, frame, axis=0)
        logs.append(math.log(1 - float((others @ embedding[frame]).max())))
    assert scales["image"] == pytest.approx(
        [np.mean(logs), max(np.std(logs, ddof=1), 0.05)], abs=0.01
    )  # of 1e-5: rounds
    logit = 100 * embedding @ (bank.features["text"][1] - bank.features["text"][0]).astype(np.float64)
    assert scales["text"] == pytest.approx([logit.mean(), max(logit.std(ddof=1), 0.05)], abs=1e-3)
    assert min(bank.record.calibration.scores) > 0


def test_fusion_of_a_single_term_is_the_sum_and_says_so(plain: Bundle, tmp_path: Path) -> None:
    folder = write(tmp_path / "good", [part(seed) for seed in range(5)])
    bank, decided = enrolled(plain, folder, tmp_path / "bank", fusion="max")
    assert bank.record.settings["fusion"] == "sum"
    assert decided == ("fusion sum: the score has the term map alone, nothing to bring together.",)


def test_automatic_stages_leave_out_the_one_whose_scores_jump(plain: Bundle, tmp_path: Path) -> None:
    from edgevand_runtime.methods.base import Enrolled
    from edgevand_runtime.methods.levers.choices import choose

    view = seen_as(plain, settings={"stages": "auto"})
    random = np.random.default_rng(4)
    calm, base = unit(random, 64, WIDTH), unit(random, 64, WIDTH)
    features: dict[str, Any] = {"embedding": unit(random, 6, DIM)}
    noise = random.normal(0, 0.1, (6, 1, 64, WIDTH)).astype(np.float32)
    features["tokens_1"] = _at_length_one(calm + noise)
    strength = np.array([0.01, 1.5, 0.02, 2.5, 0.01, 2.0], np.float32).reshape(6, 1, 1, 1)
    features["tokens_2"] = _at_length_one(base + strength * random.normal(0, 1, noise.shape).astype(np.float32))
    settings, told = choose(Enrolled(view.manifest, features, range(6), None), _settings(view))
    assert settings.stages == (1,)
    assert told[0].startswith("stages 1: scores of normal frames spread by ")
    features["tokens_2"] = features["tokens_1"]
    settings, told = choose(Enrolled(view.manifest, features, range(6), None), _settings(view))
    assert settings.stages == (1, 2)
    assert told[0].startswith("stages all: ")


def _at_length_one(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(rows / np.linalg.norm(rows, axis=-1, keepdims=True), np.float32)


def _settings(view: Bundle) -> Any:
    from edgevand_runtime.methods import read_settings

    return read_settings(view.manifest)


def test_an_explanation_names_the_patch_that_the_map_was_made_of(tmp_path: Path) -> None:
    bundle = seen_as(tiny.write_tiny_bundle(tmp_path / "tiny"), settings={"locality": 1, "neighbourhood": 3})
    bank = tiny.enrol_tiny(bundle, tmp_path / "bank")
    with Detector.open(bundle, bank, threads=1) as detector:
        frame = new_frame(tiny.draw_part(7, defective=True), 0, "part")
        outputs = detector.encode([detector.preprocess(frame)])
        item = Scored(frame, detector.score([frame], outputs, 0.0)[0], outputs, 0)
        (found,) = Explainer(detector).nearest(item, item.result.regions[0])
    row, column = found.found_at
    rows, columns = np.divmod(np.arange(tiny.GRID**2), tiny.GRID)
    near = np.maximum(abs(rows - row), abs(columns - column)) <= 1
    query = around(outputs.tokens[0][0], tiny.GRID)[row * tiny.GRID + column]
    cosine = np.where(near, bank.features["tokens_1"][:, 0].astype(np.float64) @ query, -1)
    frame_number, place = np.unravel_index(int(cosine.argmax()), cosine.shape)
    assert (found.enrolled, found.at) == (int(frame_number) + 1, divmod(int(place), tiny.GRID))
    assert found.distance == pytest.approx(1 - cosine.max(), abs=1e-5)


def test_a_memory_too_small_for_every_patch_is_refused_with_locality_at_enrolment(
    plain: Bundle, tmp_path: Path
) -> None:
    folder = write(tmp_path / "good", [part(seed) for seed in range(5)])
    view = seen_as(plain, settings={"locality": 1})
    options = EnrolOptions(shots=None, memory_mb=0.004)
    with open_source(folder) as source, pytest.raises(UsageError, match="--bank-memory 1, or with --locality off"):
        enroll(source, view, FakeEngine(view.manifest), tmp_path / "bank", options)


def test_the_score_of_a_bank_with_every_lever_stays_the_same_when_it_is_opened_again(
    bundle: Bundle, tmp_path: Path
) -> None:
    folder = write(tmp_path / "good", [part(seed) for seed in range(6)])
    levers = {"locality": 1, "neighbourhood": 3, "smoothing": 1.5, "fusion": "mean", "image_bank": True, "stages": [1]}
    bank, _ = enrolled(bundle, folder, tmp_path / "bank", **levers)
    scores = []
    for opened in (bank, Bank.open(tmp_path / "bank", bundle)):
        with Detector(bundle, FakeEngine(bundle.manifest), opened) as detector:
            results = detector.detect([new_frame(part(20), 0, "a"), new_frame(part(21, (0, 9)), 1, "b")])
            scores.append([result.raw_score for result in results])
    assert scores[0] == scores[1]
    assert scores[0][1] > scores[0][0]


def test_top_means_are_of_the_region_of_interest(
    bundle: Bundle, outputs: EncoderOutput, features: dict[str, Any]
) -> None:
    inside = np.zeros((SIZE, SIZE), np.bool_)
    inside[:16] = True
    (raw, _) = method_of(bundle, features, inside, score="top1%").score(outputs)
    text, raw_map = restated(bundle, outputs, features)[0]
    assert raw.raw_score == pytest.approx(text + top_mean(raw_map[:16].astype(np.float32), 0.01), abs=1e-5)

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edgevand.bundle import ScoreRecord, write_text_file
from edgevand.errors import BadInputError, FormatError, UsageError
from edgevand_runtime.detector import Detector
from edgevand_runtime.engines import EncoderOutput
from edgevand_runtime.engines.fake import FakeEngine
from edgevand_runtime.maps import top_mean
from edgevand_runtime.methods import open_method
from edgevand_runtime.sources.base import new_frame
from tests.core.builders import WEIGHTS_SHA256, make_bank, make_bundle, unit

if TYPE_CHECKING:
    from pathlib import Path

    from edgevand.bank import Bank
    from edgevand.bundle import Bundle
    from edgevand_runtime.frame import Frame

SIZE = (48, 36)


def frame(seed: int, size: tuple[int, int] = SIZE) -> Frame:
    image = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), np.uint8)
    return new_frame(image, seed, f"{seed}.png")


def calibration(n: int, threshold: float) -> dict[str, Any]:
    limit = {"mean": 0.0, "sd": 0.1, "threshold": threshold}
    kind = "conformal" if n >= 99 else "extrapolated"
    scores = tuple(np.linspace(0.5, 5.0, n).tolist())
    return {"kind": kind, "false_alarm_rate": 0.01, "n": n, "scores": scores, "image": limit, "map": limit}


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return make_bundle(tmp_path / "bundle", objects=("bottle", "screw"))


def detector(bundle: Bundle, bank: Bank | None = None, **options: Any) -> Detector:
    return Detector(bundle, FakeEngine(bundle.manifest), bank, **options)


def bank_of(bundle: Bundle, path: Path, **fields: Any) -> Bank:
    return make_bank(path, bundle, object_name=bundle.objects[0], frame_size=SIZE, **fields)


def test_the_raw_score_is_the_text_score_plus_the_maps_maximum_and_the_verdict_follows_the_threshold(
    bundle: Bundle, tmp_path: Path
) -> None:
    bank = bank_of(bundle, tmp_path / "bank", calibration=calibration(8, 2.0))
    (result,) = detector(bundle, bank, camera="line-1").detect([frame(1)])
    assert result.text_score is not None
    assert result.raw_map is not None
    assert result.score is not None
    assert result.raw_score == pytest.approx(result.text_score + result.raw_map.max(), rel=1e-6)
    assert result.map_max == pytest.approx(result.raw_map.max())
    assert result.score == pytest.approx(1 / (1 + (2.0 / result.raw_score) ** 10), rel=1e-6)
    assert result.anomalous is (result.raw_score > 2.0)
    assert (result.threshold, result.calibration, result.p_value) == (0.5, "extrapolated", None)
    assert (result.camera, result.bundle, result.bank) == ("line-1", bundle.hash, bank.hash)
    assert result.raw_map.shape == (32, 32)


def test_a_conformal_bank_gives_p_values(bundle: Bundle, tmp_path: Path) -> None:
    record = calibration(99, 2.0)
    bank = bank_of(bundle, tmp_path / "bank", calibration=record)
    (result,) = detector(bundle, bank).detect([frame(1)])
    above = sum(score >= result.raw_score for score in record["scores"])
    assert result.p_value == pytest.approx((1 + above) / 100)


def test_a_threshold_set_by_hand_replaces_the_banks(bundle: Bundle, tmp_path: Path) -> None:
    bank = bank_of(bundle, tmp_path / "bank", calibration=calibration(8, 2.0))
    (plain,) = detector(bundle, bank).detect([frame(1)])
    for factor, verdict in ((0.99, True), (1.01, False)):
        (result,) = detector(bundle, bank, threshold=plain.raw_score * factor).detect([frame(1)])
        assert result.anomalous is verdict
        assert (result.calibration, result.p_value) == ("manual", None)
        assert result.map_threshold is not None
        # A pixel is anomalous where, were it the maximum, the frame would be.
        assert (result.map_threshold < plain.map_max) is verdict  # type: ignore[operator]
        assert bool(result.regions) is verdict


def test_frames_that_the_text_is_sure_of_keep_their_order(bundle: Bundle) -> None:
    """In single precision the softmax of 100 times two cosines is exactly 1 from a difference of 0.17 on."""
    text = np.eye(2, bundle.manifest.embedding_dim, dtype=np.float32)
    differences = (0.2, 0.25)  # sin - cos at an angle
    angles = [math.pi / 4 + math.asin(difference / math.sqrt(2)) for difference in differences]
    embedding = np.array([[math.cos(angle), math.sin(angle)] for angle in angles]) @ text
    method = open_method(bundle.manifest, text, None)
    logits = tuple(np.zeros((2, *stage.grid), np.float32) for stage in bundle.manifest.stages if stage.head)
    first, second = method.score(EncoderOutput(embedding.astype(np.float32), (), logits))
    expected = [1 / (1 + math.exp(-100 * difference)) for difference in differences]
    assert [first.text_score, second.text_score] == pytest.approx(expected, rel=1e-5)
    assert first.raw_score < second.raw_score <= 1
    assert np.float32(expected[0]) == np.float32(expected[1]) == 1


def test_a_zero_shot_stream_decides_only_with_a_threshold_by_hand(bundle: Bundle) -> None:
    (plain,) = detector(bundle, object_name="screw").detect([frame(1)])
    assert (plain.score, plain.anomalous, plain.calibration, plain.bank) == (None, None, "none", None)
    assert plain.raw_score == plain.text_score
    assert plain.raw_map is not None
    (decided,) = detector(bundle, object_name="screw", threshold=plain.raw_score / 2).detect([frame(1)])
    assert decided.anomalous is True
    assert decided.score is not None
    assert decided.score > 0.5


def test_results_of_a_batch_are_those_of_single_frames(bundle: Bundle, tmp_path: Path) -> None:
    bank = bank_of(bundle, tmp_path / "bank", calibration=calibration(8, 2.0))
    opened = detector(bundle, bank)
    frames = [frame(seed) for seed in range(3)]
    for single, one in zip((opened.detect([each])[0] for each in frames), opened.detect(frames), strict=True):
        assert one.raw_score == pytest.approx(single.raw_score, abs=1e-6)
        np.testing.assert_allclose(one.raw_map, single.raw_map, atol=1e-6)  # type: ignore[arg-type]


def test_the_manifest_says_which_terms_are_summed_and_how_the_map_becomes_a_score(tmp_path: Path) -> None:
    score = ScoreRecord(terms=("memory-map",), image="top1%")
    bundle = make_bundle(tmp_path / "bundle", score=score)
    bank = bank_of(bundle, tmp_path / "bank")
    opened = detector(bundle, bank)
    (result,) = opened.detect([frame(1)])
    assert opened.memory is not None
    tokens = opened.encode([opened.preprocess(frame(1))]).tokens
    summed = sum(distance.mean() for distance in opened.memory.distances(tokens))
    assert result.raw_map is not None
    assert result.text_score is not None
    # The mean of the upsampled map lies near the mean distance; a zero-shot map would add about 0.5 a stage.
    assert result.raw_map.mean() == pytest.approx(summed, abs=0.2)
    assert result.raw_score == pytest.approx(top_mean(result.raw_map, 0.01))


def test_the_object_is_the_banks_and_another_one_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    bank = bank_of(bundle, tmp_path / "bank")
    assert detector(bundle, bank).object_name == "bottle"
    with pytest.raises(UsageError, match="expected --object bottle"):
        detector(bundle, bank, object_name="screw")


def test_without_a_bank_the_object_must_be_known_and_may_come_from_a_text_file(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="bottle"):
        detector(bundle)
    text = tmp_path / "cable.safetensors"
    rows = unit(np.random.default_rng(5), 2, 16)
    write_text_file(text, {"cable": rows}, pack="april-gan", weights_sha256=WEIGHTS_SHA256, activation="gelu")
    assert detector(bundle, text_file=text).object_name == "cable"


def test_neither_text_nor_bank_is_nothing_to_score_with(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle", heads=False, objects=())
    with pytest.raises(UsageError, match="edgevand enroll"):
        detector(bundle)


def test_text_without_heads_scores_without_a_map(tmp_path: Path) -> None:
    (result,) = detector(make_bundle(tmp_path / "bundle", heads=False)).detect([frame(1)])
    assert (result.raw_map, result.map_max, result.regions) == (None, None, ())
    assert result.raw_score == result.text_score


def test_frames_of_another_size_than_the_region_was_drawn_for_are_refused(bundle: Bundle, tmp_path: Path) -> None:
    bank = bank_of(bundle, tmp_path / "bank", roi=(0, 0, 24, 36))
    with pytest.raises(BadInputError, match="expected frames of 48x36"):
        detector(bundle, bank).detect([frame(1, (96, 72))])
    (result,) = detector(bundle, bank).detect([frame(1)])
    assert result.raw_map is not None
    assert not result.raw_map[:, 16:].any()
    assert result.raw_map[:, :16].all()


@pytest.mark.parametrize("threshold", [0.0, -1.0, math.nan, math.inf])
def test_a_threshold_that_is_no_raw_score_is_refused(threshold: float, bundle: Bundle) -> None:
    with pytest.raises(UsageError, match="--threshold"):
        detector(bundle, object_name="screw", threshold=threshold)


def test_a_bundle_of_a_method_from_the_future_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="found telepathy; export it"):
        detector(make_bundle(tmp_path / "bundle", method="telepathy"), object_name="object")

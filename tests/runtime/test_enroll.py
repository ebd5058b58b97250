from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
from PIL import Image

from edgevand.bank import Bank, undo_bank
from edgevand.bundle import EnrolRecord
from edgevand.errors import BadInputError, OutputError, UsageError
from edgevand_runtime.augment import chosen_poses
from edgevand_runtime.detector import Detector
from edgevand_runtime.engines.fake import FakeEngine
from edgevand_runtime.enroll import EnrolOptions, append_frames, enroll, remove_frames
from edgevand_runtime.features import Features, Judged, encode_frame, judge
from edgevand_runtime.methods import RawScore
from edgevand_runtime.roi import Roi
from edgevand_runtime.sources import open_source
from tests.core.builders import make_bundle

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgevand.bundle import Bundle, Manifest

SIZE = (96, 64)


def part(seed: int, *, scratch: bool = False) -> NDArray[np.uint8]:
    """A round part on a plain belt, with a little noise; frames differ in noise and light only."""
    random = np.random.default_rng(seed)
    picture = np.full((SIZE[1], SIZE[0], 3), 90, np.float32)
    cv2.circle(picture, (48, 32), 20, (170, 160, 150), -1)
    cv2.circle(picture, (48, 32), 8, (60, 60, 70), -1)
    if scratch:
        cv2.line(picture, (36, 20), (60, 44), (250, 250, 250), 4)
    picture += random.normal(0, 3, picture.shape) + random.uniform(-2, 2)
    return np.clip(picture, 0, 255).astype(np.uint8)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """Without text and heads: their share of the raw score means nothing for a random encoder."""
    return make_bundle(tmp_path / "bundle", size=32, grid=8, width=16, heads=False, objects=())


@pytest.fixture
def engine(bundle: Bundle) -> FakeEngine:
    return FakeEngine(bundle.manifest)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "good"
    path.mkdir()
    for seed in range(10):
        Image.fromarray(part(seed)[..., ::-1]).save(path / f"{seed}.png")
    return path


def options(shots: int | None = 6, **more: object) -> EnrolOptions:
    return EnrolOptions(shots=shots, **more)  # type: ignore[arg-type]


def test_a_bank_holds_the_frames_in_order_with_thumbnails_and_a_contact_sheet(
    bundle: Bundle, engine: FakeEngine, folder: Path, tmp_path: Path
) -> None:
    with open_source(folder) as source:
        done = enroll(source, bundle, engine, tmp_path / "bank", options())
    record = done.bank.record
    assert [Path(frame.source).name for frame in record.frames] == [f"{n}.png" for n in range(6)]
    assert (record.frame_size, record.bundle, record.object) == (SIZE, bundle.hash, None)
    assert done.bank.features["tokens_1"].shape == (6, 1, 64, 16)
    assert record.calibration.kind == "extrapolated"
    assert record.calibration.n == 6
    with Image.open(tmp_path / "bank" / "contact-sheet.jpg") as sheet:
        assert min(sheet.size) > 200
    with Image.open(done.bank.thumbnail(3)) as thumbnail:
        assert thumbnail.size == SIZE


def test_a_relative_path_is_recorded_so_that_it_can_be_opened_from_anywhere(
    bundle: Bundle, engine: FakeEngine, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for number, uri in enumerate((folder.name, f"{folder.name}/*.png")):
        with open_source(uri) as source:
            bank = enroll(source, bundle, engine, tmp_path / f"bank{number}", options(4)).bank
        assert bank.record.source == str(tmp_path / uri)


def test_a_defect_scores_above_the_threshold_inside_its_region_and_normal_frames_stay_below(
    bundle: Bundle, engine: FakeEngine, folder: Path, tmp_path: Path
) -> None:
    with open_source(folder) as source:
        bank = enroll(source, bundle, engine, tmp_path / "bank", options(8)).bank
    detector = Detector(bundle, engine, bank)
    Image.fromarray(part(50, scratch=True)[..., ::-1]).save(tmp_path / "bad.png")
    with open_source(folder) as good, open_source(tmp_path / "bad.png") as bad:
        normal = detector.detect(list(good))
        (defect,) = detector.detect(list(bad))
    assert defect.anomalous
    assert defect.score is not None
    assert defect.score > 0.5
    assert not any(result.anomalous for result in normal)
    region = defect.regions[0]
    assert region.x <= 48 <= region.x + region.w
    assert region.y <= 32 <= region.y + region.h
    assert region.w < SIZE[0]


def test_leave_one_out_scores_are_those_of_a_bank_enrolled_without_the_frame(
    bundle: Bundle, engine: FakeEngine, folder: Path, tmp_path: Path
) -> None:
    with open_source(folder) as source:
        bank = enroll(source, bundle, engine, tmp_path / "bank", options(4)).bank
    without = remove_frames(bank, bundle, [3]).bank
    with open_source(folder / "2.png") as source:
        (result,) = Detector(bundle, engine, without).detect(list(source))
    assert result.raw_score == pytest.approx(bank.record.calibration.scores[2], abs=1e-5)


def test_augmented_copies_go_into_the_bank_and_out_with_their_frame_at_calibration(
    bundle: Bundle, engine: FakeEngine, folder: Path, tmp_path: Path
) -> None:
    with open_source(folder) as source:
        plain = enroll(source, bundle, engine, tmp_path / "plain", options(4)).bank
    with open_source(folder) as source:
        turned = enroll(source, bundle, engine, tmp_path / "turned", options(4, augment=("rotate", "flip"))).bank
    assert turned.features["tokens_2"].shape[1] == 16
    pairs = list(zip(turned.record.calibration.scores, plain.record.calibration.scores, strict=True))
    assert all(score <= reference + 1e-6 for score, reference in pairs)
    assert min(turned.record.calibration.scores) > 1e-3  # a copy of itself would leave 1e-7


def test_one_frame_makes_a_bank_that_scores_and_decides_nothing(
    bundle: Bundle, engine: FakeEngine, folder: Path, tmp_path: Path
) -> None:
    with open_source(folder) as source:
        done = enroll(source, bundle, engine, tmp_path / "bank", options(1))
    with open_source(folder / "5.png") as source:
        (result,) = Detector(bundle, engine, done.bank).detect(list(source))
    assert result.raw_score > 0
    assert (result.score, result.threshold, result.anomalous, result.p_value) == (None, None, None, None)
    assert result.calibration == "none"
    assert result.regions == ()
    assert "nothing is called anomalous" in done.promise


def test_a_still_scene_is_enrolled_with_a_warning_and_counts_once(
    bundle: Bundle, engine: FakeEngine, tmp_path: Path
) -> None:
    still = tmp_path / "still"
    still.mkdir()
    for n in range(5):
        Image.fromarray(part(0)[..., ::-1]).save(still / f"{n}.png")
    with open_source(still) as source:
        done = enroll(source, bundle, engine, tmp_path / "bank", options(5))
    assert len(done.bank.record.frames) == 5
    assert done.bank.record.calibration.n == 1
    assert "stood still" in done.warnings[0]


def test_a_frame_of_something_else_is_out_of_place_and_another_takes_its_place(
    bundle: Bundle, engine: FakeEngine, folder: Path, tmp_path: Path
) -> None:
    other = np.random.default_rng(3).integers(0, 255, (8, 12, 3), np.uint8)
    Image.fromarray(other).resize(SIZE, Image.Resampling.NEAREST).save(folder / "2.png")
    with open_source(folder) as source:
        done = enroll(source, bundle, engine, tmp_path / "bank", options(6))
    assert [frame.frame for frame in done.bank.record.frames] == [0, 1, 3, 4, 5, 6]
    assert [refusal.reason.split(":")[0] for refusal in done.refused] == ["out of place"]


@pytest.mark.parametrize(("usual_sd", "refused"), [(None, 1), (0.1, 1), (0.32, 0)])
def test_what_is_out_of_place_follows_the_spread_that_is_usual_for_the_bundle(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, usual_sd: float | None, refused: int
) -> None:
    """2.5 times the others' score: beyond 2, and beyond exp(0.35) = 1.4, but not beyond exp(3.5 x 0.32) = 3.1."""
    score = {"terms": ("memory-map",), "image": "max", "usual_sd": usual_sd}
    bundle = make_bundle(tmp_path / "bundle", score=score)

    def scores(manifest: Manifest, features: Features, *arguments: Any) -> Judged:
        judged = judge(manifest, features, *arguments)
        odd = features["embedding"][:, 0] == first
        return Judged(judged.memory, [RawScore(None, None, 1.0, 2.5 if one else 1.0) for one in odd])

    monkeypatch.setattr("edgevand_runtime.enroll.judge", scores)
    engine = FakeEngine(bundle.manifest)
    first = encode_frame(part(0), bundle.manifest, engine, bundle.text()[1], ())["embedding"][0]
    with open_source(folder) as source:
        done = enroll(source, bundle, engine, tmp_path / "bank", options(6))
    assert [refusal.reason.split(":")[0] for refusal in done.refused] == ["out of place"] * refused


def test_appending_equals_enrolling_all_at_once_and_undo_goes_back(folder: Path, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle", size=32, grid=8, width=16)
    engine = FakeEngine(bundle.manifest)
    rest = tmp_path / "rest"
    rest.mkdir()
    for n in range(4, 7):
        (rest / f"{n}.png").write_bytes((folder / f"{n}.png").read_bytes())
    with open_source(folder) as source:
        whole = enroll(source, bundle, engine, tmp_path / "whole", options(7)).bank
    with open_source(folder) as source:
        bank = enroll(source, bundle, engine, tmp_path / "bank", options(4)).bank
    with open_source(rest) as source:
        longer = append_frames(bank, source, bundle, engine, options(3)).bank
    assert [frame.id for frame in longer.record.frames] == list(range(1, 8))
    np.testing.assert_allclose(longer.record.calibration.scores, whole.record.calibration.scores, rtol=1e-5)
    for name, tensor in whole.features.items():
        np.testing.assert_array_equal(longer.features[name], tensor)
    assert undo_bank(longer.path).hash == bank.hash


def test_removing_frames_keeps_the_others_and_refuses_the_last_one_and_unknown_ones(
    bundle: Bundle, engine: FakeEngine, folder: Path, tmp_path: Path
) -> None:
    with open_source(folder) as source:
        bank = enroll(source, bundle, engine, tmp_path / "bank", options(5)).bank
    less = remove_frames(bank, bundle, [1, 4]).bank
    assert [frame.id for frame in less.record.frames] == [2, 3, 5]
    np.testing.assert_array_equal(less.features["tokens_1"], bank.features["tokens_1"][[1, 2, 4]])
    with pytest.raises(UsageError, match="found 9"):
        remove_frames(less, bundle, [9])
    with pytest.raises(UsageError, match="at least one frame to stay"):
        remove_frames(less, bundle, [2, 3, 5])


def test_outside_the_region_of_interest_nothing_counts(
    bundle: Bundle, engine: FakeEngine, folder: Path, tmp_path: Path
) -> None:
    with open_source(folder) as source:
        bank = enroll(source, bundle, engine, tmp_path / "bank", options(10, roi=Roi.parse("0,0,15,64"))).bank
    Image.fromarray(part(12, scratch=True)[..., ::-1]).save(tmp_path / "bad.png")
    with open_source(tmp_path / "bad.png") as source:
        (result,) = Detector(bundle, engine, Bank.open(bank.path, bundle)).detect(list(source))
    assert result.anomalous is False
    assert result.raw_map is not None
    assert not result.raw_map[:, 5:].any()
    assert result.raw_map[:, :5].all()


@pytest.mark.parametrize("text", ["90,0,10,10", "0,0,0,5", "-1,0,5,5"])
def test_a_region_outside_the_frame_or_empty_is_refused(
    text: str, bundle: Bundle, engine: FakeEngine, folder: Path, tmp_path: Path
) -> None:
    with open_source(folder) as source, pytest.raises(BadInputError, match="inside the frame of 96x64"):
        enroll(source, bundle, engine, tmp_path / "bank", options(roi=Roi.parse(text)))
    assert not (tmp_path / "bank").exists()


def test_a_mask_image_is_a_region_and_must_fit_the_frames(
    bundle: Bundle, engine: FakeEngine, folder: Path, tmp_path: Path
) -> None:
    mask = np.zeros((64, 96), np.uint8)
    mask[:, :24] = 255
    for name, picture in (("mask", mask), ("small", mask[:32]), ("black", mask * 0)):
        Image.fromarray(picture).save(tmp_path / f"{name}.png")
    with open_source(folder) as source:
        bank = enroll(
            source, bundle, engine, tmp_path / "bank", options(roi=Roi.parse(str(tmp_path / "mask.png")))
        ).bank
    found = bank.roi_mask()
    assert found is not None
    np.testing.assert_array_equal(found, mask)
    for name, words in (("small", "found 96x32"), ("black", "all black")):
        with open_source(folder) as source, pytest.raises(BadInputError, match=words):
            enroll(source, bundle, engine, tmp_path / "no", options(roi=Roi.parse(str(tmp_path / f"{name}.png"))))


def test_more_shots_than_frames_is_an_error_and_nothing_is_written(
    bundle: Bundle, engine: FakeEngine, folder: Path, tmp_path: Path
) -> None:
    with open_source(folder) as source, pytest.raises(UsageError, match=r"expected 12 frames .* found only 10 .*--all"):
        enroll(source, bundle, engine, tmp_path / "bank", options(12))
    assert not (tmp_path / "bank").exists()


def test_a_source_of_which_every_frame_is_refused_is_an_error(
    bundle: Bundle, engine: FakeEngine, tmp_path: Path
) -> None:
    (tmp_path / "black").mkdir()
    Image.new("RGB", SIZE).save(tmp_path / "black" / "0.png")
    with open_source(tmp_path / "black") as source, pytest.raises(BadInputError, match="all 1 were refused"):
        enroll(source, bundle, engine, tmp_path / "bank", options(1))


def test_a_directory_that_is_there_is_not_overwritten(
    bundle: Bundle, engine: FakeEngine, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "bank").mkdir()
    (tmp_path / "bank" / "notes.txt").write_text("mine")
    with open_source(folder) as source, pytest.raises(OutputError):
        enroll(source, bundle, engine, tmp_path / "bank", options(4))
    assert (tmp_path / "bank" / "notes.txt").read_text() == "mine"


def test_a_bundle_may_recommend_copies_and_a_person_decides() -> None:
    """Nobody chose: the bundle's; none chosen: none, whatever the bundle says; in the bank's order."""
    manifest = SimpleNamespace(enrol=EnrolRecord(augment=("rotate",)))
    assert chosen_poses(None, manifest) == ("rotate",)  # type: ignore[arg-type]
    assert chosen_poses((), manifest) == ()  # type: ignore[arg-type]
    assert chosen_poses(("flip", "rotate"), manifest) == ("rotate", "flip")  # type: ignore[arg-type]
    assert chosen_poses(None, SimpleNamespace(enrol=EnrolRecord())) == ()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value"),
    [("shots", 0), ("false_alarm_rate", 0.0), ("false_alarm_rate", 1.0), ("interval", -1.0), ("augment", ("zoom",))],
)
def test_options_out_of_range_are_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(UsageError, match=name.replace("_", "-")):
        EnrolOptions(**{name: value})  # type: ignore[arg-type]


def test_an_fp16_bundle_keeps_half_precision_tokens(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle", graph={"file": "encoder.onnx", "opset": 18, "precision": "fp16"})
    features = encode_frame(part(0), bundle.manifest, FakeEngine(bundle.manifest), bundle.text()[1], ())
    assert features["tokens_1"].dtype == np.float16
    assert features["embedding"].dtype == np.float32

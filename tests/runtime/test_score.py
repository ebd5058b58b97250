"""Scoring many sources: one line a frame in the order of the input, files that are there when their line is."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

from edgevand.errors import BadInputError, GateError, OutputError, UsageError
from edgevand_runtime.detector import Detector
from edgevand_runtime.score import ScoreOptions, ScoreRun, ScoreSummary, judge
from edgevand_runtime.sources import open_source
from tests.tiny import SIZE, draw_part, enrol_tiny, write_parts, write_tiny_bundle

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Detector]:
    folder = tmp_path_factory.mktemp("models")
    bundle = write_tiny_bundle(folder / "bundle")
    with Detector.open(bundle, enrol_tiny(bundle, folder / "bank"), threads=1) as opened:
        yield opened


def lines(detector: Detector, *uris: object, **options: Any) -> list[dict[str, Any]]:
    return list(ScoreRun(detector, [str(uri) for uri in uris], ScoreOptions(**options)).lines())


def write_video(path: Path, frames: int) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (128, 96))
    for number in range(frames):
        writer.write(draw_part(number))
    writer.release()
    return path


@pytest.mark.parametrize("batch", [1, 4])
def test_the_results_are_those_of_the_detector_frame_by_frame(detector: Detector, tmp_path: Path, batch: int) -> None:
    write_parts(tmp_path / "parts", ".x..x.x")
    found = lines(detector, tmp_path / "parts", batch=batch)
    with open_source(tmp_path / "parts") as source:
        for line, frame in zip(found, source, strict=True):
            (expected,) = detector.detect([frame])
            assert line["source"] == expected.source
            assert line["raw_score"] == pytest.approx(expected.raw_score, abs=1e-6)
            assert [region["x"] for region in line["regions"]] == [region.x for region in expected.regions]
    assert [line["anomalous"] for line in found] == [False, True, False, False, True, False, True]


def test_folders_globs_images_and_videos_come_in_the_order_given(detector: Detector, tmp_path: Path) -> None:
    write_parts(tmp_path / "b", "..")
    write_parts(tmp_path / "a", "...")
    video = write_video(tmp_path / "clip.avi", 3)
    found = lines(detector, tmp_path / "b", tmp_path / "a" / "001.png", video, tmp_path / "a" / "*.png")
    expected = [("b/000.png", 0), ("b/001.png", 1), ("a/001.png", 0), *(("clip.avi", i) for i in range(3))]
    expected += [("a/000.png", 0), ("a/001.png", 1), ("a/002.png", 2)]
    assert [(line["source"], line["frame"]) for line in found] == [(str(tmp_path / s), i) for s, i in expected]


def test_the_map_file_is_the_raw_map_at_the_image_size_and_its_maximum_is_in_the_line(
    detector: Detector, tmp_path: Path
) -> None:
    (path,) = write_parts(tmp_path / "parts", "x")
    (line,) = lines(detector, path, maps=tmp_path / "maps")
    assert line["map"] == str(tmp_path / "maps" / "000.npy")
    raw_map = np.load(line["map"], allow_pickle=False)
    assert raw_map.shape == (SIZE, SIZE)
    assert raw_map.dtype == np.float32
    assert raw_map.max() == pytest.approx(line["map_max"])
    with open_source(path) as source:
        expected = detector.detect(list(source))[0].raw_map
    assert expected is not None
    np.testing.assert_allclose(raw_map, expected, atol=1e-6)


def test_frames_of_the_same_stem_do_not_write_over_each_other(detector: Detector, tmp_path: Path) -> None:
    write_parts(tmp_path / "good", "..")
    write_parts(tmp_path / "colour", "xx")
    found = lines(detector, tmp_path / "good", tmp_path / "colour", maps=tmp_path / "maps")
    names = ["000.npy", "001.npy", "colour-000.npy", "colour-001.npy"]
    assert [line["map"].rsplit("/", 1)[1] for line in found] == names
    for line in found:
        assert np.load(line["map"]).max() == pytest.approx(line["map_max"])


def test_a_video_has_one_map_for_each_frame_numbered_with_six_digits(detector: Detector, tmp_path: Path) -> None:
    video = write_video(tmp_path / "clip.avi", 2)
    lines(detector, video, maps=tmp_path / "maps")
    assert sorted(path.name for path in (tmp_path / "maps").iterdir()) == ["clip-000000.npy", "clip-000001.npy"]


def test_an_overlay_is_a_picture_and_an_explanation_names_the_enrolled_frame(
    detector: Detector, tmp_path: Path
) -> None:
    write_parts(tmp_path / "parts", ".x")
    good, bad = lines(detector, tmp_path / "parts", overlays=tmp_path / "overlays", explain=tmp_path / "why")
    for line in (good, bad):
        picture = cv2.imread(line["overlay"])
        assert picture is not None
        assert min(picture.shape[:2]) > 96
    assert good["explanation"] is None
    document = json.loads((tmp_path / "why" / "001.json").read_text())
    assert bad["explanation"] == str(tmp_path / "why" / "001.json")
    assert document["regions"][0]["expected"]["enrolled"] in range(1, 7)


def test_a_bad_image_among_good_ones_has_its_own_line_and_the_run_goes_on(detector: Detector, tmp_path: Path) -> None:
    write_parts(tmp_path / "parts", "..?.?")
    run = ScoreRun(detector, [str(tmp_path / "parts")], ScoreOptions(batch=3))
    found = list(run.lines())
    assert ["error" in line for line in found] == [False, False, True, False, True]
    assert found[2] == {
        "schema": "edgevand.result/1",
        "source": str(tmp_path / "parts" / "002.png"),
        "frame": 2,
        "error": found[2]["error"],
    }
    assert "002.png" in found[2]["error"]
    assert (run.summary.frames, run.summary.failed, run.done) == (3, 2, 5)
    with pytest.raises(BadInputError, match="2 inputs of 5 could not be read"):
        judge(run.summary, fail_on_anomaly=True)


def test_a_source_that_cannot_be_opened_among_others_is_a_line_and_alone_it_is_the_error(
    detector: Detector, tmp_path: Path
) -> None:
    (tmp_path / "empty.mp4").write_bytes(b"")
    write_parts(tmp_path / "parts", ".")
    found = lines(detector, tmp_path / "empty.mp4", tmp_path / "parts")
    assert "empty" in found[0]["error"]
    assert found[1]["score"] is not None
    with pytest.raises(BadInputError, match="empty"):
        lines(detector, tmp_path / "empty.mp4")


def test_a_live_source_is_refused_with_the_command_that_takes_it(detector: Detector) -> None:
    with pytest.raises(UsageError, match="edgevand monitor"):
        lines(detector, "test://conveyor")


def test_wrong_use_is_told_before_anything_is_read(detector: Detector, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="at least one image"):
        ScoreRun(detector, [], ScoreOptions())
    with pytest.raises(UsageError, match="--batch 1"):
        ScoreOptions(batch=0)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file"):
        ScoreRun(detector, ["x"], ScoreOptions(maps=tmp_path / "file"))


def test_maps_and_explanations_are_refused_where_nothing_could_make_them(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle", objects=["bottle"])
    with Detector.open(bundle, object_name="bottle", threads=1) as detector:
        with pytest.raises(UsageError, match="--maps"):
            ScoreRun(detector, ["x"], ScoreOptions(maps=tmp_path / "maps"))
        with pytest.raises(UsageError, match="--explain"):
            ScoreRun(detector, ["x"], ScoreOptions(explain=tmp_path / "why"))
        assert not (tmp_path / "maps").exists()


def test_held_results_are_passed_over_and_counted_and_keep_their_names(detector: Detector, tmp_path: Path) -> None:
    write_parts(tmp_path / "a", "x.x.")
    write_parts(tmp_path / "b", "..")
    uris = [str(tmp_path / "a"), str(tmp_path / "b")]
    whole = list(ScoreRun(detector, uris, ScoreOptions(maps=tmp_path / "whole")).lines())
    run = ScoreRun(detector, uris, ScoreOptions(maps=tmp_path / "rest"))
    run.hold(whole[:3])
    rest = list(run.lines())
    assert [line["source"] for line in rest] == [line["source"] for line in whole[3:]]
    assert [line["map"].rsplit("/", 1)[1] for line in rest] == [line["map"].rsplit("/", 1)[1] for line in whole[3:]]
    assert (run.summary.held, run.summary.frames, run.summary.anomalous) == (3, 3, 2)


@pytest.mark.parametrize("field", ["bundle", "bank"])
def test_results_of_another_bundle_or_bank_are_not_mixed_with_these(
    detector: Detector, tmp_path: Path, field: str
) -> None:
    (path,) = write_parts(tmp_path / "a", ".")
    (line,) = lines(detector, path)
    run = ScoreRun(detector, [str(path)], ScoreOptions())
    with pytest.raises(UsageError, match="leave out --resume"):
        run.hold([{**line, field: "sha256:" + "0" * 64}])


def test_the_total_grows_as_sources_are_opened_and_is_right_at_the_end(detector: Detector, tmp_path: Path) -> None:
    write_parts(tmp_path / "a", "...")
    write_parts(tmp_path / "b", "..")
    run = ScoreRun(detector, [str(tmp_path / "a"), str(tmp_path / "b")], ScoreOptions())
    assert run.total == 2
    list(run.lines())
    assert run.total == run.done == 5


def test_an_interrupted_run_ends_its_threads_and_the_files_it_named_are_there(
    detector: Detector, tmp_path: Path
) -> None:
    write_parts(tmp_path / "a", "." * 12)
    before = set(threading.enumerate())
    stream = ScoreRun(detector, [str(tmp_path / "a")], ScoreOptions(maps=tmp_path / "maps")).lines()
    seen = [next(stream), next(stream)]
    with pytest.raises(KeyboardInterrupt):
        stream.throw(KeyboardInterrupt())
    assert not [thread for thread in set(threading.enumerate()) - before if thread.is_alive()]
    for line in seen:
        assert np.load(line["map"]).shape == (SIZE, SIZE)
    assert not list((tmp_path / "maps").glob(".*"))


def test_anomalies_fail_a_run_only_where_that_was_asked_for() -> None:
    summary = ScoreSummary(frames=4, anomalous=1, held=2)
    judge(summary, fail_on_anomaly=False)
    with pytest.raises(GateError, match="1 of 6"):
        judge(summary, fail_on_anomaly=True)
    judge(ScoreSummary(frames=4), fail_on_anomaly=True)

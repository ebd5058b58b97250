"""Logs are whole, bounded and outlived by the monitor; snapshots show what was found."""

from __future__ import annotations

import errno
import json
import logging
import os
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevand.errors import OutputError
from edgevand_runtime import sinks
from edgevand_runtime.events import Event, Evidence
from edgevand_runtime.sinks import EventLog, JsonLines, ResultLog, Rotation, Snapshots, StandardOutput
from tests.runtime.streams import make_frame, make_result

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _warnings_are_heard(caplog: pytest.LogCaptureFixture) -> None:
    """A command that ran quietly in an earlier test leaves the logger quiet."""
    caplog.set_level(logging.WARNING, "edgevand_runtime")


EVENT = Event(
    type="new",
    id="20261121T201800000000Z-00000000",
    kind="camera",
    fault="lost",
    message="the camera gives no frame",
    camera="line-1",
    start_time="2026-11-21T20:18:00.000Z",
    end_time=None,
)


def numbers(path: Path) -> list[int]:
    return [json.loads(line)["n"] for line in path.read_text().splitlines()]


def no_space(*_: object) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_results_and_events_go_to_files_of_their_own(tmp_path: Path) -> None:
    result_log, event_log = ResultLog(tmp_path / "deep" / "results.jsonl"), EventLog(tmp_path / "events")
    frame = make_frame(3)
    for sink in (result_log, event_log):
        sink.result(make_result(frame, 0.7))
        sink.event(EVENT)
        sink.close()
    (result,) = (tmp_path / "deep" / "results.jsonl").read_text().splitlines()
    assert json.loads(result)["schema"] == "edgevand.result/1"
    (event,) = (tmp_path / "events" / "events.jsonl").read_text().splitlines()
    assert json.loads(event) == EVENT.to_json()


def test_a_log_is_rotated_by_size_and_only_so_many_are_kept(tmp_path: Path) -> None:
    log = JsonLines(tmp_path / "x.jsonl", Rotation(megabytes=100 / 2**20, keep=2))
    for n in range(200):
        log.write({"n": n, "pad": "x" * 15})
    log.close()
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["x.jsonl", "x.jsonl.1", "x.jsonl.2"]
    assert all(file.stat().st_size <= 100 for file in files)
    kept = numbers(files[2]) + numbers(files[1]) + numbers(files[0])
    assert kept == list(range(kept[0], 200))


def test_a_log_without_former_ones_starts_again(tmp_path: Path) -> None:
    log = JsonLines(tmp_path / "x.jsonl", Rotation(megabytes=100 / 2**20, keep=0))
    for n in range(30):
        log.write({"n": n})
    log.close()
    assert [file.name for file in tmp_path.iterdir()] == ["x.jsonl"]
    assert numbers(tmp_path / "x.jsonl")[-1] == 29


def test_a_line_larger_than_the_bound_is_still_written(tmp_path: Path) -> None:
    log = JsonLines(tmp_path / "x.jsonl", Rotation(megabytes=10 / 2**20, keep=1))
    log.write({"n": 1, "pad": "x" * 100})
    log.write({"n": 2, "pad": "x" * 100})
    log.close()
    assert numbers(tmp_path / "x.jsonl") == [2]
    assert numbers(tmp_path / "x.jsonl.1") == [1]


@given(st.integers(0, 60))
def test_a_torn_last_line_is_cut_off_and_the_log_goes_on(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    path = tmp_path_factory.mktemp("torn") / "x.jsonl"
    whole = b'{"n": 1}\n{"n": 2, "pad": "a line that is torn somewhere in it"}\n'
    path.write_bytes(whole[: len(whole) - cut])
    log = JsonLines(path)
    log.write({"n": 3})
    log.close()
    assert numbers(path) == ([1, 2, 3] if cut == 0 else [1, 3] if cut < 55 else numbers(path))
    assert numbers(path)[-1] == 3


def test_a_file_that_is_no_log_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "letter.txt"
    path.write_text("Dear Sir,\nyours")
    with pytest.raises(OutputError, match="JSON lines"):
        JsonLines(path)
    assert path.read_text() == "Dear Sir,\nyours"


def test_a_place_that_cannot_be_written_is_told_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="events"):
        EventLog(tmp_path / "file" / "events")
    with pytest.raises(OutputError, match="snapshots"):
        Snapshots(tmp_path / "file" / "snapshots")


def test_a_full_disk_is_told_once_counted_and_leaves_no_half_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    log = JsonLines(tmp_path / "x.jsonl")
    log.write({"n": 0})
    write, space = os.write, [4]

    def scarce(descriptor: int, data: bytes) -> int:
        if not space[0]:
            no_space()
        taken = write(descriptor, data[: space[0]])
        space[0] -= taken
        return taken

    with caplog.at_level(logging.WARNING, "edgevand_runtime"):
        monkeypatch.setattr(os, "write", scarce)
        for n in range(1, 6):
            log.write({"n": n})
        monkeypatch.setattr(os, "write", write)
        log.write({"n": 6})
    log.close()
    assert log.dropped == 5
    assert numbers(tmp_path / "x.jsonl") == [0, 6]
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    assert "5 lines are missing" in caplog.text


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")  # noqa: PTH110 - a device, not a path of ours
def test_a_device_that_is_always_full_drops_every_line(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    full = tmp_path / "results.jsonl"
    full.symlink_to("/dev/full")
    log = ResultLog(full)
    for index in range(3):
        log.result(make_result(make_frame(index), 0.1))
    log.close()
    assert log.dropped == 3
    assert caplog.text.count("No space left") == 1


def test_results_on_standard_output_are_one_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    sink = StandardOutput()
    for index in range(2):
        sink.result(make_result(make_frame(index), 0.1))
    sink.event(EVENT)
    sink.close()
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["frame"] for line in lines] == [0, 1]


def test_a_snapshot_is_a_jpeg_of_the_frame_with_its_map_drawn_over_it(tmp_path: Path) -> None:
    snapshots = Snapshots(tmp_path / "s")
    image = np.full((240, 320, 3), 90, np.uint8)
    frame = make_frame(0, image)
    drawn = snapshots.save("a", Evidence(frame, make_result(frame, 0.9)))
    plain = snapshots.save("b", Evidence(frame))
    assert drawn == tmp_path / "s" / "a.jpg"
    assert plain is not None
    over, without = cv2.imread(str(drawn)), cv2.imread(str(plain))
    assert over is not None
    assert without is not None
    assert np.abs(without.astype(int) - image).max() < 8
    assert np.abs(over[:240, :320].astype(int) - image[: over.shape[0], : over.shape[1]]).max() > 40


def test_only_the_newest_snapshots_stay_whoever_wrote_them(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.jpg").write_bytes(b"old")
    snapshots = Snapshots(tmp_path, keep=3)
    for name in ("d", "d", "e"):
        snapshots.save(name, Evidence(make_frame(0)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.jpg", "d.jpg", "e.jpg"]


def test_a_snapshot_that_cannot_be_written_is_counted_and_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    snapshots = Snapshots(tmp_path)

    def full(path: Path, _: bytes) -> None:
        raise OutputError(f"cannot write {path}: the disk is full; free some space")

    monkeypatch.setattr(sinks, "write_atomic", full)
    assert snapshots.save("a", Evidence(make_frame(0))) is None
    assert snapshots.save("b", Evidence(make_frame(1))) is None
    assert snapshots.dropped == 2
    assert caplog.text.count("the disk is full") == 1

"""`edgevand monitor` as a person runs it: a process, real cameras on the network, signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

from edgevand.cli import main
from tests.real.rtsp import free_port, rtsp_camera
from tests.runtime.streams import wait_until
from tests.tiny import write_tiny_bundle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from tests.real.rtsp import RtspCamera

__all__ = ["rtsp_camera"]

SIZE = (320, 240)
FPS = 10
LIMIT = 90.0  # seconds; only bounds a failure


def picture(index: int, *, defect: bool = False) -> NDArray[np.uint8]:
    """A machine with a part; every frame has noise of its own, a defect is a red patch."""
    image = np.full((SIZE[1], SIZE[0], 3), 90, np.uint8)
    for at in range(0, SIZE[0], 40):
        cv2.rectangle(image, (at, 10), (at + 18, 40), (200, 180, 40), -1)
        cv2.rectangle(image, (at, 200), (at + 18, 230), (40, 60, 160), -1)
    cv2.circle(image, (160, 120), 60, (60, 170, 210), -1)
    if defect:
        cv2.rectangle(image, (130, 90), (190, 150), (0, 0, 255), -1)
    noise = np.random.default_rng(index).integers(-12, 13, image.shape, dtype=np.int16)
    return np.asarray(np.clip(image + noise, 0, 255), np.uint8)


def film(path: Path, normal: int, defective: int) -> Path:
    """A video of so many seconds of each."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), FPS, SIZE)
    for index in range((normal + defective) * FPS):
        writer.write(picture(index, defect=index >= normal * FPS))
    writer.release()
    return path


@pytest.fixture(scope="module")
def belt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six normal seconds, then two with a defect."""
    return film(tmp_path_factory.mktemp("video") / "belt.avi", 6, 2)


@pytest.fixture
def models(tmp_path: Path, belt: Path) -> list[str]:
    """Options that name a bundle and a bank of the belt's first seconds."""
    bundle, bank = tmp_path / "bundle", tmp_path / "bank"
    write_tiny_bundle(bundle)
    folder = tmp_path / "good"
    folder.mkdir()
    capture = cv2.VideoCapture(str(belt))
    for index in range(40):
        _, image = capture.read()
        if index % 5 == 0:
            cv2.imwrite(str(folder / f"{index:03}.png"), image)
    capture.release()
    arguments = ["enroll", "--bundle", str(bundle), "--source", str(folder), "--all", "-o", str(bank), "-q"]
    assert main(arguments) == 0
    return ["--bundle", str(bundle), "--bank", str(bank)]


class Running:
    """A monitor at work."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self.process, self._folder = process, folder

    def results(self) -> list[dict[str, Any]]:
        return lines(self._folder / "results.jsonl")

    def events(self) -> list[dict[str, Any]]:
        return lines(self._folder / "events" / "events.jsonl")

    def has(self, **fields: str) -> bool:
        """Whether an event with these fields has come."""
        return any(all(event[name] == value for name, value in fields.items()) for event in self.events())

    def defects(self) -> set[str]:
        """Events of frames that show the drawn defect, which is far beyond the threshold; noise is near it."""
        sure = (event for event in self.events() if event["kind"] == "anomaly" and event["top_score"] > 0.99)
        return {event["id"] for event in sure}

    def end(self, number: signal.Signals) -> tuple[int, dict[str, Any], str]:
        """Ask it to end; its exit code, its document and what it told a person."""
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=LIMIT)
        return self.process.returncode, json.loads(out), err


def lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a log that is being written."""
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "edgevand", "monitor", *arguments]


def environment(repository: Path) -> dict[str, str]:
    places = [str(repository), str(repository / "export"), str(repository / "runtime")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(places)}


@pytest.fixture
def start(tmp_path: Path, repository: Path) -> Callable[..., Any]:
    @contextmanager
    def starting(*arguments: str) -> Iterator[Running]:
        folder = tmp_path / "out"
        outputs = ["-o", str(folder / "results.jsonl"), "--events", str(folder / "events"), "--json"]
        with subprocess.Popen(
            command(*arguments, *outputs),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(repository),
        ) as process:
            try:
                yield Running(process, folder)
            finally:
                process.kill()

    return starting


def assert_balanced(events: list[dict[str, Any]]) -> None:
    for name in {event["id"] for event in events}:
        types = [event["type"] for event in events if event["id"] == name]
        assert types[0] == "new"
        assert types[-1] == "end"
        assert set(types[1:-1]) <= {"update"}


def assert_shows_the_defect(events: list[dict[str, Any]]) -> None:
    worst = max((event for event in events if event["kind"] == "anomaly"), key=lambda event: event["top_score"])
    region = max(worst["regions"], key=lambda region: region["peak"])
    assert abs(region["x"] + region["w"] / 2 - 160) < 50
    assert abs(region["y"] + region["h"] / 2 - 120) < 50
    assert cv2.imread(worst["snapshot"]) is not None


@pytest.mark.real
def test_a_camera_that_dies_and_returns_is_reported_and_detection_goes_on(
    rtsp_camera: Callable[..., RtspCamera], belt: Path, tmp_path: Path, start: Callable[..., Any]
) -> None:
    models = ["--bundle", str(tmp_path / "bundle"), "--bank", str(tmp_path / "bank")]
    write_tiny_bundle(tmp_path / "bundle")
    good = rtsp_camera(film(tmp_path / "good.avi", 6, 0), fps=FPS)
    assert main(["enroll", "--camera", good.url, *models[:2], "-o", models[3], "-q"]) == 0
    good.kill()
    camera = rtsp_camera(belt, user="worker", password="s3cret", fps=FPS)  # noqa: S106 - a made-up one
    with start("--camera", camera.url, *models, "--name", "line-1") as monitor:
        wait_until(lambda: bool(monitor.defects()), LIMIT, "the first defect")
        camera.kill()
        wait_until(lambda: monitor.has(fault="lost", type="new"), LIMIT, "the outage")
        before = len(monitor.results())
        camera.start()
        wait_until(lambda: monitor.has(fault="lost", type="end"), LIMIT, "the return")
        known = monitor.defects()
        wait_until(lambda: bool(monitor.defects() - known), LIMIT, "a defect after the return")
        code, document, told = monitor.end(signal.SIGTERM)
        assert code == 0
        events = monitor.events()
        assert_balanced(events)
        lost = next(event for event in events if event["fault"] == "lost")
        assert lost["kind"] == "camera"
        first_anomaly_end = next(
            index for index, event in enumerate(events) if (event["kind"], event["type"]) == ("anomaly", "end")
        )
        assert first_anomaly_end < events.index(next(e for e in events if (e["fault"], e["type"]) == ("lost", "end")))
        assert len(monitor.results()) > before
        assert {result["camera"] for result in monitor.results()} == {"line-1"}
        assert document["reason"] == "terminated"
        assert document["events"]["camera"] == {"lost": 1}
        assert document["reconnects"] >= 1
        assert document["scored"] == len(monitor.results())
        assert "Traceback" not in told
        assert "s3cret" not in told + json.dumps([document, events, monitor.results()])
        assert_shows_the_defect(events)


@pytest.mark.real
def test_ctrl_c_is_an_orderly_end(
    rtsp_camera: Callable[..., RtspCamera], belt: Path, models: list[str], start: Callable[..., Any]
) -> None:
    camera = rtsp_camera(belt, fps=FPS)
    with start("--camera", camera.url, *models) as monitor:
        wait_until(lambda: monitor.has(kind="anomaly", type="new"), LIMIT, "the first anomaly")
        code, document, told = monitor.end(signal.SIGINT)
        assert code == 0
        assert document["reason"] == "interrupted"
        assert_balanced(monitor.events())
        assert "Traceback" not in told


def test_a_video_is_monitored_frame_by_frame_and_its_defect_found(
    belt: Path, models: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results, events = tmp_path / "results.jsonl", tmp_path / "events"
    options = [*models, "-o", str(results), "--events", str(events), "--json"]
    assert main(["monitor", "--source", str(belt), *options]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["scored"], document["reason"], document["camera"]) == (80, "end-of-source", "belt")
    scored = lines(results)
    assert [result["frame"] for result in scored] == list(range(80))
    assert sum(result["anomalous"] for result in scored[:60]) <= 2
    assert all(result["anomalous"] for result in scored[60:])
    messages = lines(events / "events.jsonl")
    assert [event["type"] for event in messages] == ["new", "end"]
    assert_shows_the_defect(messages)


def test_without_source_the_bank_says_where_to_look(
    belt: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The newest bank and the source it was enrolled from are the defaults; people get a table."""
    bundle = tmp_path / "bundle"
    write_tiny_bundle(bundle)
    assert main(["enroll", "--bundle", str(bundle), "--source", str(belt), "--shots", "5", "-q"]) == 0
    assert main(["monitor", "--bundle", str(bundle), "--max-frames", "10", "--no-tui"]) == 0
    captured = capsys.readouterr()
    assert "10 scored" in captured.out
    assert str(belt) in captured.out
    assert "normal, score" in captured.err


def test_results_can_be_piped(belt: Path, models: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["monitor", "--source", str(belt), *models, "-o", "-", "--max-frames", "7", "-q"]) == 0
    assert [json.loads(line)["frame"] for line in capsys.readouterr().out.splitlines()] == list(range(7))


def test_without_a_bank_and_threshold_nothing_is_decided(
    belt: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = tmp_path / "bundle"
    write_tiny_bundle(bundle, heads=True, objects=("object",))
    options = ["--bundle", str(bundle), "--max-frames", "5", "--no-tui"]
    assert main(["monitor", "--source", str(belt), *options, "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["calibration"] == "none"
    assert "not calibrated: no verdict" in captured.err
    assert main(["monitor", "--source", str(belt), *options, "--json", "--threshold", "1e-9", "--event", "1/1"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["calibration"], document["anomalous"], document["events"]["anomaly"]) == ("manual", 5, 1)


def fails(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Exit code and the one sentence."""
    code = main(["monitor", *arguments, "-q"])
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    (sentence,) = captured.err.splitlines()
    return code, sentence


def test_a_camera_that_is_not_there_is_exit_code_3(models: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code, sentence = fails(["--camera", f"rtsp://127.0.0.1:{free_port()}/camera", *models], capsys)
    assert code == 3
    assert "127.0.0.1" in sentence


def test_wrong_use_is_exit_code_2_and_a_sentence(
    belt: Path, models: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, sentence = fails([], capsys)
    assert code == 2
    assert "bank" in sentence
    small = tmp_path / "small.png"
    cv2.imwrite(str(small), np.zeros((60, 80, 3), np.uint8))
    code, sentence = fails(["--source", str(small), *models, "--events", str(tmp_path / "e")], capsys)
    assert code == 2
    assert "80x60" in sentence
    assert "320x240" in sentence
    for option, value, word in (
        ("--event", "9/3", "9/3"),
        ("--name", "a/b", "a/b"),
        ("--duration", "-1", "duration"),
        ("--max-frames", "0", "max-frames"),
        ("--threshold", "-1", "threshold"),
        ("--output", str(tmp_path), str(tmp_path)),
        ("--events", str(belt), str(belt)),
        ("--output", "-", "--json"),
    ):
        extra = ["--json"] if word == "--json" else []
        code, sentence = fails(["--source", str(belt), *models, option, value, *extra], capsys)
        assert code == 2, option
        assert word in sentence


def test_a_folder_of_unreadable_pictures_is_exit_code_2(
    models: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "bad"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        (folder / name).write_text("no picture")
    code = main(["monitor", "--source", str(folder), *models, "--events", str(tmp_path / "e"), "-q", "--json"])
    captured = capsys.readouterr()
    assert code == 2
    assert json.loads(captured.out)["unreadable"] == 2
    assert "none of 2 could be read" in captured.err.splitlines()[-1]

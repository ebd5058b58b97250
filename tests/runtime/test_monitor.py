"""The monitor's loop: every frame of a file, an `end` for every `new`, and a camera that may die and return."""

from __future__ import annotations

import json
import logging
import threading
import time
import tracemalloc
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edgevand.errors import BadInputError, FrameError, UsageError
from edgevand_runtime.camera_health import CameraHealth, HealthRule
from edgevand_runtime.events import EventRule
from edgevand_runtime.monitor import Lane, Limits, Outputs, summary, warm_up, watch
from edgevand_runtime.sinks import Snapshots
from edgevand_runtime.sources.base import SourceStatus
from edgevand_runtime.stop import Stop
from tests.runtime.streams import Recorder, ScriptedDetector, ScriptedSource, make_frame

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from edgevand_runtime.stats import CameraStats

LOST = SourceStatus(connected=False, error="rtsp://camera does not answer", frames=5)


class Clock:
    """Time that passes as it is told; a read of a lost camera takes half a second."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        self.now += 0.1
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    return clock


def run(
    script: Iterable[Any],
    score: Callable[[int], float | None],
    *,
    live: bool = False,
    limits: Limits | None = None,
    stop: Stop | None = None,
    health: CameraHealth | None = None,
    snapshots: Snapshots | None = None,
    rule: EventRule | None = None,
) -> tuple[Recorder, dict[str, Any]]:
    recorder = Recorder()
    outputs = Outputs((recorder,), snapshots)
    source = ScriptedSource(script, live=live)
    lane = Lane(source, ScriptedDetector(score), outputs, camera="line-1", rule=rule, health=health)
    why = watch(lane, None, limits or Limits(), stop or Stop())
    return recorder, summary(lane, outputs, why)


def kinds(recorder: Recorder) -> list[tuple[Any, ...]]:
    return [(event["type"], event["fault"] or event["kind"]) for event in recorder.events]


def test_every_frame_of_a_file_gets_a_verdict() -> None:
    recorder, document = run((make_frame(index) for index in range(40)), lambda _: 0.1)
    assert [result.frame for result in recorder.results] == list(range(40))
    assert recorder.events == []
    assert document["reason"] == "end-of-source"
    assert (document["frames"], document["scored"], document["dropped"]) == (40, 40, 0)


def test_an_event_that_is_open_when_the_source_ends_gets_its_end() -> None:
    recorder, document = run((make_frame(index) for index in range(20)), lambda index: 0.9 if index >= 15 else 0.1)
    assert kinds(recorder) == [("new", "anomaly"), ("end", "anomaly")]
    assert recorder.events[0]["id"] == recorder.events[1]["id"]
    assert document["events"] == {"anomaly": 1, "camera": {}}
    assert document["anomalous"] == 5


def test_an_event_that_is_open_when_something_breaks_gets_its_end() -> None:
    def score(index: int) -> float:
        if index == 10:
            raise MemoryError
        return 0.9

    recorder = Recorder()
    source = ScriptedSource(make_frame(index) for index in range(20))
    lane = Lane(source, ScriptedDetector(score), Outputs((recorder,)), camera="line-1")
    with pytest.raises(MemoryError):
        watch(lane, None, Limits(), Stop())
    assert kinds(recorder) == [("new", "anomaly"), ("end", "anomaly")]


def test_a_request_to_stop_ends_it_before_the_next_frame_and_ends_what_is_open() -> None:
    stop = Stop()

    def frames() -> Iterable[Any]:
        for index in range(100):
            if index == 7:
                stop.why = "interrupted"
            yield make_frame(index)

    recorder, document = run(frames(), lambda _: 0.9, stop=stop)
    assert document["reason"] == "interrupted"
    assert document["scored"] == 8
    assert kinds(recorder) == [("new", "anomaly"), ("end", "anomaly")]


def test_a_number_of_frames_or_a_time_ends_it(clock: Clock) -> None:
    forever = (make_frame(index) for index in range(10**6))
    _, document = run(forever, lambda _: 0.1, limits=Limits(max_frames=11))
    assert (document["reason"], document["scored"]) == ("max-frames", 11)
    _, document = run(forever, lambda _: 0.1, limits=Limits(duration=30.0))
    assert document["reason"] == "duration"
    assert 30 <= document["seconds"] < 31


def test_a_duration_ends_a_camera_that_never_gives_a_frame(clock: Clock) -> None:
    silent = SourceStatus(connected=True)
    _, document = run((silent for _ in range(10**6)), lambda _: 0.1, live=True, limits=Limits(duration=5.0))
    assert (document["reason"], document["scored"]) == ("duration", 0)


def test_a_camera_that_dies_and_returns_is_an_event_that_ends_the_open_anomaly(clock: Clock) -> None:
    back = [make_frame(index) for index in range(10, 20)]
    script = [*(make_frame(index) for index in range(5)), *[LOST] * 30, *back]
    recorder, document = run(script, lambda _: 0.9, live=True)
    assert kinds(recorder) == [
        ("new", "anomaly"),
        ("end", "anomaly"),
        ("new", "lost"),
        ("end", "lost"),
        ("new", "anomaly"),
        ("end", "anomaly"),
    ]
    assert "rtsp://camera does not answer" in recorder.events[2]["message"]
    assert document["events"] == {"anomaly": 2, "camera": {"lost": 1}}
    assert document["scored"] == 15


def test_a_short_silence_of_a_camera_is_no_outage(clock: Clock) -> None:
    waiting = SourceStatus(connected=True)
    recorder, _ = run([make_frame(0), *[waiting] * 50, make_frame(1)], lambda _: 0.1, live=True)
    assert recorder.events == []


def test_an_outage_at_the_end_is_ended_too(clock: Clock) -> None:
    recorder, _ = run([make_frame(0), *[LOST] * 30], lambda _: 0.1, live=True)
    assert kinds(recorder) == [("new", "lost"), ("end", "lost")]


def test_black_frames_are_a_camera_fault_and_never_an_anomaly() -> None:
    def frames() -> Iterable[Any]:
        for index in range(100):
            yield make_frame(index, np.zeros((48, 64, 3), np.uint8) if 20 <= index < 60 else None)

    recorder, document = run(frames(), lambda index: 0.99 if 20 <= index < 60 else 0.1)
    assert kinds(recorder) == [("new", "black"), ("end", "black")]
    assert document["anomalous"] == 40
    assert document["withheld"] == 50  # the black ones, and the second until the view is believed again
    assert len(recorder.results) == 100


def test_uncalibrated_verdicts_make_no_event() -> None:
    recorder, document = run((make_frame(index) for index in range(30)), lambda _: None)
    assert recorder.events == []
    assert (document["calibration"], document["anomalous"]) == ("none", 0)


def test_an_unreadable_frame_is_counted_and_the_next_one_is_judged(caplog: pytest.LogCaptureFixture) -> None:
    bad = FrameError("b.png", "b.png is no picture")
    with caplog.at_level(logging.WARNING, "edgevand_runtime"):
        recorder, document = run([make_frame(0), bad, make_frame(2)], lambda _: 0.1)
    assert [result.frame for result in recorder.results] == [0, 2]
    assert document["unreadable"] == 1
    assert "b.png is no picture" in caplog.text


def test_a_bank_of_another_frame_size_is_refused_at_the_first_frame() -> None:
    with pytest.raises(UsageError, match="expected frames of 640x480, as enrolled, found 64x48"):
        run([make_frame(0)], lambda _: 0.1, health=CameraHealth((), (640, 480)))


def test_a_camera_that_changes_its_size_is_a_fault_and_its_frames_are_not_scored() -> None:
    other = [make_frame(index, np.full((24, 32, 3), index, np.uint8)) for index in range(5, 9)]
    script = [*(make_frame(index) for index in range(5)), *other, make_frame(9)]
    recorder, document = run(script, lambda _: 0.1, health=CameraHealth((), (64, 48)))
    assert kinds(recorder) == [("new", "resized"), ("end", "resized")]
    assert (document["scored"], document["resized"]) == (6, 4)


def test_pictures_of_a_folder_are_judged_each_and_have_no_camera_faults() -> None:
    black = np.zeros((48, 64, 3), np.uint8)
    script = [make_frame(index, black, media=False) for index in range(300)]
    recorder, _ = run(script, lambda index: 0.9 if index == 100 else 0.1, rule=EventRule(1, 1))
    assert kinds(recorder) == [("new", "anomaly"), ("end", "anomaly")]


def test_events_carry_the_path_of_their_snapshot(tmp_path: Path) -> None:
    snapshots = Snapshots(tmp_path)
    recorder, _ = run((make_frame(i) for i in range(30)), lambda i: 0.9 if i > 20 else 0.1, snapshots=snapshots)
    (path,) = tmp_path.iterdir()
    assert [event["snapshot"] for event in recorder.events] == [str(path)] * 2
    assert path.stem == recorder.events[0]["id"]


def test_everything_that_is_handed_out_is_json() -> None:
    recorder, document = run((make_frame(index) for index in range(20)), lambda _: 0.9)
    for value in (*recorder.events, *(result.to_json() for result in recorder.results), document):
        assert json.loads(json.dumps(value, allow_nan=False)) == value


def test_the_view_sees_every_step_and_the_last_state() -> None:
    shown: list[tuple[int, bool]] = []
    told: list[str] = []

    class Watching:
        def show(self, stats: CameraStats, *, last: bool = False) -> None:
            shown.append((stats.scored, last))

        def event(self, event: Any) -> None:
            told.append(event.type)

        def close(self) -> None:
            pass

    view = Watching()
    lane = Lane(
        ScriptedSource(make_frame(index) for index in range(5)),
        ScriptedDetector(lambda _: 0.9),
        Outputs((), view=view),
        camera="line-1",
    )
    watch(lane, view, Limits(), Stop())
    # While a frame is with the encoder the one before is finished; the last one is finished at the end.
    assert shown == [(0, False), (1, False), (2, False), (3, False), (4, False), (5, True)]
    assert told == ["new", "end"]


def test_warming_up_scores_one_frame_of_the_given_size() -> None:
    sizes: list[tuple[int, int]] = []

    class Sizes(ScriptedDetector):
        def preprocess(self, frame: Any) -> Any:
            sizes.append(frame.size)
            return super().preprocess(frame)

    warm_up(Sizes(lambda _: 0.1), (640, 480))
    assert sizes == [(640, 480)]


def test_the_frame_before_is_finished_and_the_next_one_prepared_while_one_is_with_the_encoder() -> None:
    """Neither could happen if the encoder, which waits for both, held the lane up."""
    prepared, finished = [threading.Event() for _ in range(6)], [threading.Event() for _ in range(6)]
    prepared[5].set()

    class Waiting(ScriptedDetector):
        def preprocess(self, frame: Any) -> Any:
            if frame.index:
                prepared[frame.index - 1].set()
            return super().preprocess(frame)

        def encode(self, tensors: Any) -> Any:
            index = int(tensors[0][0])
            assert index == 5 or prepared[index].wait(10)
            assert index == 0 or finished[index - 1].wait(10)
            return super().encode(tensors)

    class Noting(Recorder):
        def result(self, result: Any) -> None:
            super().result(result)
            finished[result.frame].set()

    recorder = Noting()
    lane = Lane(
        ScriptedSource(make_frame(index) for index in range(6)),
        Waiting(lambda _: 0.1),
        Outputs((recorder,)),
        camera="c",
    )
    watch(lane, None, Limits(), Stop())
    assert [result.frame for result in recorder.results] == list(range(6))


class Camera(ScriptedSource):
    """A live source with a frame at every read; notes what had been done when it was read."""

    def __init__(self, note: Callable[[float | None], bool]) -> None:
        super().__init__((make_frame(index) for index in range(6)), live=True)
        self._note = note

    def read(self, timeout: float | None = None) -> Any:
        return super().read(timeout) if self._note(timeout) else None


def test_a_live_frame_is_not_taken_long_before_the_encoder_is_free_for_it() -> None:
    seconds, begun, waits = 0.2, [0.0], []

    class Slow(ScriptedDetector):
        def encode(self, tensors: Any) -> Any:
            begun.append(time.perf_counter())
            time.sleep(seconds)
            return super().encode(tensors)

    def note(timeout: float | None) -> bool:
        waits.append(time.perf_counter() - begun[-1])
        return True

    lane = Lane(Camera(note), Slow(lambda _: 0.1), Outputs(), camera="c")
    watch(lane, None, Limits(), Stop())
    # The first frame has nothing to wait for, and of the second it is not yet known how long the encoder takes.
    assert min(waits[2:6]) > 0.5 * seconds


def test_a_verdict_does_not_wait_for_a_next_frame_that_is_late() -> None:
    recorder = Recorder()
    known = []

    def note(timeout: float | None) -> bool:
        """A frame comes to who waits for it, and none is there at once."""
        if timeout:
            known.append(len(recorder.results))
        return bool(timeout)

    lane = Lane(Camera(note), ScriptedDetector(lambda _: 0.1), Outputs((recorder,)), camera="c")
    watch(lane, None, Limits(), Stop())
    assert known == [0, 1, 2, 3, 4, 5, 6]


def test_the_summary_states_what_each_step_of_a_frame_took() -> None:
    class Slow(ScriptedDetector):
        def search(self, outputs: Any) -> Any:
            time.sleep(0.03)
            return super().search(outputs)

    outputs = Outputs((Recorder(),))
    lane = Lane(ScriptedSource(make_frame(index) for index in range(3)), Slow(lambda _: 0.1), outputs, camera="c")
    document = summary(lane, outputs, watch(lane, None, Limits(), Stop()))
    assert list(document["stages_ms"]) == ["decode", "preprocess", "encode", "search", "judge", "health", "sinks"]
    assert document["stages_ms"]["search"]["p50"] >= 30
    assert document["interval_ms"] == 100


def test_memory_stays_flat_over_many_frames_and_events() -> None:
    """Events come and go, frames are large; what is kept is bounded by the windows."""
    image = np.zeros((200, 300, 3), np.uint8)
    at: dict[int, int] = {}

    def frames() -> Iterable[Any]:
        for index in range(1000):
            if index in {500, 999}:
                at[index] = tracemalloc.get_traced_memory()[0]
            yield make_frame(index, image + np.uint8(index % 200 + 30))

    class Silent:
        name, dropped = "silent", 0

        def result(self, result: Any) -> None:
            pass

        event = result

        def close(self) -> None:
            pass

    lane = Lane(
        ScriptedSource(frames()),
        ScriptedDetector(lambda index: 0.9 if index % 40 < 20 else 0.1),
        Outputs((Silent(),)),
        camera="line-1",
        health=CameraHealth(rule=HealthRule()),
    )
    tracemalloc.start()
    try:
        watch(lane, None, Limits(), Stop())
    finally:
        tracemalloc.stop()
    assert lane.stats.events["anomaly"] == 25
    assert at[999] - at[500] < 2 * image.nbytes


def test_a_source_that_fails_for_good_passes_its_error_on_and_events_are_ended() -> None:
    script: list[Any] = [*(make_frame(index) for index in range(5)), BadInputError("the folder is gone: bring it back")]
    recorder = Recorder()
    lane = Lane(ScriptedSource(script), ScriptedDetector(lambda _: 0.9), Outputs((recorder,)), camera="line-1")
    with pytest.raises(BadInputError):
        watch(lane, None, Limits(), Stop())
    assert kinds(recorder) == [("new", "anomaly"), ("end", "anomaly")]

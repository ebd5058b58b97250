"""Score many sources, the offline twin of ``monitor``: results in the order of the input, files beside them.

A frame or a source that cannot be read becomes a line of its own and the run goes on; only a run that was given
nothing but one source that cannot be opened ends with its error. The files of a frame are written before its
line, so that whatever a line names is there, also when the run is interrupted between them.
"""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from edgevand.errors import BadInputError, EdgevandError, EndOfSourceError, FrameError, GateError, UsageError
from edgevand_runtime.explain import Explainer
from edgevand_runtime.frame_files import FrameNames, make_directory, write_jpeg, write_map
from edgevand_runtime.overlay import draw_overlay, uncalibrated_scale
from edgevand_runtime.pipeline import Failure, Scored, score_frames
from edgevand_runtime.results import RESULT_SCHEMA
from edgevand_runtime.sources import open_source, redact

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Sequence
    from pathlib import Path

    from edgevand_runtime.detector import Detector
    from edgevand_runtime.frame import Frame

__all__ = ["ScoreOptions", "ScoreRun", "ScoreSummary", "judge"]


@dataclass(frozen=True, slots=True)
class ScoreOptions:
    """What to write beside the results, and how many frames go through the encoder together."""

    maps: Path | None = None
    overlays: Path | None = None
    explain: Path | None = None
    batch: int = 1

    def __post_init__(self) -> None:
        """Refuse a batch without frames.

        Raises:
            UsageError: the batch is smaller than 1.
        """
        if self.batch < 1:
            raise UsageError(
                f"expected at least 1 frame in a batch, but {self.batch} was given; give --batch 1 or more"
            )


@dataclass(slots=True)
class ScoreSummary:
    """What a run did.

    Attributes:
        frames: results written by this run.
        anomalous: anomalous results, those that the output held already included.
        failed: frames and sources that could not be read.
        held: frames passed over because the output holds their results.
        seconds: wall-clock time.
    """

    frames: int = 0
    anomalous: int = 0
    failed: int = 0
    held: int = 0
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """The summary, with the throughput in frames a second."""
        rate = self.frames / self.seconds if self.seconds > 0 else 0.0
        return {**asdict(self), "fps": round(rate, 2)}


class ScoreRun:
    """One run over a list of sources."""

    def __init__(self, detector: Detector, uris: Sequence[str], options: ScoreOptions) -> None:
        """Make the output directories.

        Args:
            detector: what scores.
            uris: images, folders, globs and videos, in the order wanted.
            options: what to write.

        Raises:
            UsageError: no source was given, or maps are wanted and nothing here draws one.
            OutputError: a directory cannot be made.
        """
        if not uris:
            raise UsageError("expected at least one image, folder or video to score, but none was given; name one")
        if options.maps and not detector.draws_map:
            raise UsageError(
                "expected heads or a bank, which --maps needs, but the bundle has no heads and there is no bank; "
                "give --bank DIR or leave out --maps"
            )
        self._detector = detector
        self._uris = tuple(uris)
        self._options = options
        self._names = FrameNames()
        self._held: set[tuple[str, int]] = set()
        self._lengths: list[int | None] = [1] * len(uris)
        self._explainer = Explainer(detector) if options.explain else None
        self._uncalibrated_scale = uncalibrated_scale(detector.bundle.manifest, bank=detector.bank is not None)
        self.summary = ScoreSummary()
        for directory in (options.maps, options.overlays, options.explain):
            if directory is not None:
                make_directory(directory)

    @property
    def total(self) -> int | None:
        """Frames of all sources as far as is known now; one for each source not opened yet. None: endless."""
        return None if None in self._lengths else sum(length or 0 for length in self._lengths)

    @property
    def done(self) -> int:
        """Frames behind this run: scored, failed or passed over."""
        return self.summary.frames + self.summary.failed + self.summary.held

    def hold(self, results: Iterable[dict[str, Any]]) -> None:
        """Pass over the frames that an earlier run has scored (``--resume``).

        Args:
            results: the lines that the output holds.

        Raises:
            UsageError: they were made with another bundle, bank or threshold.
        """
        mine = self._identity()
        for line in results:
            theirs = (line.get("bundle"), line.get("bank"))
            if theirs != mine:
                raise UsageError(
                    f"expected the output to hold results of bundle {mine[0]} and bank {mine[1]}, but it holds some of "
                    f"bundle {theirs[0]} and bank {theirs[1]}; name another output, or leave out --resume"
                )
            key = (str(line["source"]), int(line["frame"]))
            self._names.name(*key)
            self._held.add(key)
            self.summary.anomalous += line.get("anomalous") is True

    def lines(self) -> Generator[dict[str, Any], None, None]:
        """Run; one JSON object for each frame, after its files are written.

        Raises:
            EdgevandError: the only source cannot be opened, an output cannot be written, the engine failed.
        """
        start = time.monotonic()
        try:
            with closing(score_frames(self._detector, self._wanted(), batch=self._options.batch)) as items:
                for item in items:
                    yield self._failure(item) if isinstance(item, Failure) else self._result(item)
        finally:
            self.summary.seconds = round(time.monotonic() - start, 3)

    def _identity(self) -> tuple[str, str | None]:
        """Bundle and bank that score here."""
        bank = self._detector.bank
        return self._detector.bundle.hash, None if bank is None else bank.hash

    def _wanted(self) -> Iterator[Frame | Failure]:
        """Every frame and failure of the sources that is not held; runs in the pipeline's first thread."""
        for number, uri in enumerate(self._uris):
            for item in self._read(number, uri):
                if (item.source, _index(item)) in self._held:
                    self.summary.held += 1
                else:
                    yield item

    def _read(self, number: int, uri: str) -> Iterator[Frame | Failure]:
        """The frames and failures of one source."""
        try:
            source = open_source(uri)
        except EdgevandError as error:
            if len(self._uris) == 1:
                raise
            yield Failure(redact(uri), 0, str(error))
            return
        with source:
            if source.live:
                raise UsageError(
                    f"expected images, folders or videos, but {source.uri} is a live source; use `edgevand monitor`"
                )
            self._lengths[number] = source.length
            index = 0
            while True:
                try:
                    frame = source.read()
                except EndOfSourceError:
                    self._lengths[number] = index
                    return
                except FrameError as error:
                    yield Failure(error.source, index, str(error))
                    index += 1
                    continue
                if frame is not None:
                    yield frame
                    index = frame.index + 1

    def _failure(self, failure: Failure) -> dict[str, Any]:
        """The line of what could not be read."""
        self.summary.failed += 1
        self._names.name(failure.source, failure.frame)  # a name stays the same when the frame is mended
        return {
            "schema": RESULT_SCHEMA,
            "source": failure.source,
            "frame": failure.frame,
            "error": failure.message,
        }

    def _result(self, item: Scored) -> dict[str, Any]:
        """Write a frame's files and return its line."""
        name = self._names.name(item.frame.source, item.frame.index)
        document = item.result.to_json()
        options = self._options
        if options.maps is not None and item.result.raw_map is not None:
            path = options.maps / f"{name}.npy"
            write_map(path, item.result.raw_map)
            document["map"] = str(path)
        if options.overlays is not None:
            path = options.overlays / f"{name}.jpg"
            scale = self._uncalibrated_scale
            write_jpeg(path, draw_overlay(item.frame.image, item.result, uncalibrated_scale=scale))
            document["overlay"] = str(path)
        if options.explain is not None and self._explainer is not None:
            document["explanation"] = self._explainer.write(options.explain / name, item)
        self.summary.frames += 1
        self.summary.anomalous += item.result.anomalous is True
        return document


def judge(summary: ScoreSummary, *, fail_on_anomaly: bool) -> None:
    """Turn the end of a run into its exit code; what could not be read weighs more than what is anomalous.

    Raises:
        BadInputError: frames could not be read (exit code 2).
        GateError: frames are anomalous and the run was to fail on them (exit code 1).
    """
    if summary.failed:
        failed = "1 input" if summary.failed == 1 else f"{summary.failed} inputs"
        raise BadInputError(
            f"expected every frame to be readable, but {failed} of {summary.failed + summary.frames + summary.held} "
            "could not be read; their lines say why"
        )
    if fail_on_anomaly and summary.anomalous:
        raise GateError(
            f"expected no anomalous frame, but found {summary.anomalous} of {summary.frames + summary.held}; "
            "look at their lines, and at their overlays with --overlays DIR"
        )


def _index(item: Frame | Failure) -> int:
    """The index of a frame in its source."""
    return item.frame if isinstance(item, Failure) else item.index

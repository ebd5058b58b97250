"""``test://conveyor``: a conveyor belt that the program draws, with defects whose truth is known."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

from edgevand.errors import EndOfSourceError, UsageError
from edgevand_runtime.drawn.conveyor import ConveyorScene
from edgevand_runtime.sources.base import Source, SourceStatus, new_frame
from edgevand_runtime.sources.live import LiveSource, Patience

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgevand_runtime.frame import Frame

__all__ = ["ConveyorOptions", "ConveyorSource", "LiveConveyorSource", "open_conveyor", "parse_conveyor"]


@dataclass(frozen=True, slots=True)
class ConveyorOptions:
    """The parameters of ``test://conveyor?fps=…&frames=…&seed=…&defects=…&live=…``.

    Attributes:
        fps: frames a second, > 0.
        frames: how many there are; None for no end.
        seed: which belt is drawn.
        defects: share of defective parts, 0..1.
        live: paced by the clock, the newest frame wins; otherwise every frame as fast as it is read.
    """

    fps: float = 10.0
    frames: int | None = None
    seed: int = 0
    defects: float = 0.1
    live: bool = True


class ConveyorSource(Source):
    """The belt as a recording: every frame counts."""

    def __init__(self, uri: str, options: ConveyorOptions) -> None:
        """Draw nothing yet."""
        self.uri = uri
        self.length = options.frames
        self._options = options
        self._scene = _scene(options)
        self._status = SourceStatus(connected=True, fps=options.fps)

    def read(self, timeout: float | None = None) -> Frame | None:  # noqa: ARG002 - drawing does not wait
        """See ``Source.read``."""
        index = self._status.frames
        if not self._status.connected or index == self.length:
            raise EndOfSourceError(self.uri)
        frame = new_frame(self._scene.frame(index)[0], index, self.uri, index / self._options.fps)
        self._status = replace(self._status, frames=index + 1, size=frame.size)
        return frame

    def truth(self, index: int) -> NDArray[np.uint8] | None:
        """Where frame ``index`` is defective: (H, W) uint8, 0 or 255; None for a normal one."""
        return self._scene.frame(index)[1]

    def status(self) -> SourceStatus:
        """See ``Source.status``."""
        return self._status

    def close(self) -> None:
        """See ``Source.close``."""
        if self._status.connected:
            self._status = replace(self._status, connected=False, changed=time.monotonic())


class LiveConveyorSource(LiveSource):
    """The belt as a camera sees it: frames come by the clock and the newest wins."""

    def __init__(self, uri: str, options: ConveyorOptions) -> None:
        """Start the belt."""
        self._scene = _scene(options)
        super().__init__(uri, lambda: _Belt(self._scene, options), Patience())

    def truth(self, index: int) -> NDArray[np.uint8] | None:
        """See ``ConveyorSource.truth``; ``index`` is ``Frame.index``."""
        return self._scene.frame(index)[1]


class _Belt:
    """The connection to a belt that moves by the clock."""

    def __init__(self, scene: ConveyorScene, options: ConveyorOptions) -> None:
        self._scene = scene
        self._options = options
        self._index = 0
        self._started = time.monotonic()

    def read(self) -> NDArray[np.uint8] | None:
        """See ``Capture.read``."""
        if self._index == self._options.frames:
            raise EndOfSourceError
        image = self._scene.frame(self._index)[0]
        time.sleep(max(0.0, self._started + self._index / self._options.fps - time.monotonic()))
        self._index += 1
        return image

    def release(self) -> None:
        """See ``Capture.release``; there is nothing to close."""


def open_conveyor(uri: str) -> ConveyorSource | LiveConveyorSource:
    """Open ``test://conveyor``.

    Raises:
        UsageError: an unknown parameter or a value out of range.
    """
    options = parse_conveyor(uri)
    return LiveConveyorSource(uri, options) if options.live else ConveyorSource(uri, options)


def parse_conveyor(uri: str) -> ConveyorOptions:
    """Read the parameters. Without ``live`` a belt with an end (``frames``) is a recording, one without is live.

    Raises:
        UsageError: an unknown parameter or a value out of range.
    """
    parts = urlsplit(uri)
    if parts.netloc != "conveyor" or parts.path.strip("/"):
        raise UsageError(f"{uri} was expected to be test://conveyor, the only drawn source.")
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    try:
        frames = int(given.pop("frames")) if "frames" in given else None
        options = ConveyorOptions(
            fps=float(given.pop("fps", "10")),
            frames=frames,
            seed=int(given.pop("seed", "0")),
            defects=float(given.pop("defects", "0.1")),
            live={"0": False, "1": True}[given.pop("live", "1" if frames is None else "0")],
        )
    except (ValueError, KeyError):
        options = None
    if options is None or given or not _in_range(options):
        raise UsageError(
            f"{uri} was expected to be test://conveyor?fps=10&frames=300&seed=0&defects=0.1&live=0 or a part of it, "
            "with fps over 0 and up to 1000, frames of at least 1, defects from 0 to 1 and live 0 or 1: correct it."
        )
    return options


def _in_range(options: ConveyorOptions) -> bool:
    """Whether every number makes sense."""
    frames = options.frames is None or options.frames >= 1
    return frames and 0 < options.fps <= 1000 and 0 <= options.defects <= 1 and options.seed >= 0  # noqa: PLR2004


def _scene(options: ConveyorOptions) -> ConveyorScene:
    """The belt itself, a pure function of (seed, index)."""
    return ConveyorScene(seed=options.seed, defect_rate=options.defects)

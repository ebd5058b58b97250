"""What every source is: frames out, a state to look at, and a quick end."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from edgevand.errors import EndOfSourceError
from edgevand_runtime.frame import Frame

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    import numpy as np
    from numpy.typing import NDArray
    from typing_extensions import Self

__all__ = ["Source", "SourceStatus", "new_frame"]


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """The state of a source at one moment.

    Attributes:
        connected: whether frames are coming (live) or the source is open (finite).
        frames: frames seen so far: handed out, dropped, or found unreadable. The next frame gets this index.
        dropped: frames that a newer one replaced before anybody read them (live only).
        reconnects: how often a lost live source came back.
        stalls: how often a live source stayed silent for its read timeout.
        error: the sentence about the present outage, or about the end of a torn video; None where all is well.
        size: (width, height) of the last frame, pixels; None before the first.
        fps: frames a second, measured (live) or as the file says; None where unknown.
        changed: ``time.monotonic()`` of the last change of ``connected``.
    """

    connected: bool
    frames: int = 0
    dropped: int = 0
    reconnects: int = 0
    stalls: int = 0
    error: str | None = None
    size: tuple[int, int] | None = None
    fps: float | None = None
    changed: float = field(default_factory=time.monotonic)


class Source(ABC):
    """Frames in order, from a finite source or a live one. Use it as a context manager, or ``close()`` it.

    Attributes:
        uri: what it reads, with passwords replaced by ``***``: safe to print.
        live: whether frames come at their own pace and the newest wins; otherwise every frame is handed out.
        length: number of frames, where it is known beforehand (of a video: as its header says).
    """

    uri: str
    live: bool = False
    length: int | None = None

    @abstractmethod
    def read(self, timeout: float | None = None) -> Frame | None:
        """The next frame; of a live source the newest one that was not handed out yet.

        Args:
            timeout: seconds to wait for a new frame of a live source; None waits until one comes. A finite source
                ignores it.

        Returns:
            The frame, or None where a live source brought nothing new within the timeout.

        Raises:
            EndOfSourceError: nothing more will come: the end of a finite source, or it was closed.
            FrameError: this one frame is unreadable; the next call goes on behind it.
        """

    @abstractmethod
    def status(self) -> SourceStatus:
        """The state right now; may be called from any thread."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the device or file; returns at once, also while another thread reads. Harmless when repeated."""

    def __iter__(self) -> Iterator[Frame]:
        """Every frame until the end; a FrameError passes through and the iteration may be taken up again."""
        return self

    def __next__(self) -> Frame:
        """The next frame."""
        try:
            while True:
                frame = self.read()
                if frame is not None:
                    return frame
        except EndOfSourceError:
            raise StopIteration from None

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()


def new_frame(image: NDArray[np.uint8], index: int, source: str, media_time: float | None = None) -> Frame:
    """A frame grabbed just now.

    Args:
        image: (H, W, 3) uint8, BGR.
        index: 0-based number within the source.
        source: path or redacted URI.
        media_time: seconds into the video or stream; None for images.
    """
    return Frame(image, index, source, datetime.now(timezone.utc), time.monotonic(), media_time)

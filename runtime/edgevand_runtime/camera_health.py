"""What can ail a camera, told apart from what can ail a part.

Every test is conservative: a fault that is not told costs nothing, an anomaly that is taken for a fault is missed.
The view is compared with the thumbnails of the enrolled frames; without a bank only ``lost``, ``frozen`` and
``black`` can be told.

- ``lost``: the source says so.
- ``frozen``: every pixel of every frame is the same for 15 s. Sensors have noise; a skipped frame of a video codec
  is a copy too, but a key frame comes at least every ten seconds.
- ``black``: dark and without contrast, and the enrolled frames were neither.
- ``blurred``: fine detail is gone while coarse structure is still there. An empty view loses both and is no blur.
- ``moved``: the *rim* of the view fits an enrolled frame shifted by a few per cent, and fits none unshifted. Only
  the rim counts, because a part that lies askew moves the middle; a view whose rim is plain, or changes by
  itself, cannot be told to have moved.
- ``resized``: the frames have another size than the enrolled ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edgevand_runtime.events import Fault
    from edgevand_runtime.frame import Frame

__all__ = ["CameraHealth", "Health", "HealthRule", "View", "shift_of_view"]

WIDTH = 192
"""Working width, pixels; thumbnails and frames are both brought to it by area averaging."""

_BLACK_MEAN, _BLACK_SD = 16.0, 6.0  # grey levels
_BLUR_DETAIL, _BLUR_COARSE = 0.2, 0.5  # shares of the least enrolled value
_RIM = 0.18  # of width and height, on each side
_RIM_SD = 4.0  # grey levels of high-passed rim: less is a plain rim
_STEADY = 0.85  # correlation of the rims of enrolled frames with one another: less is a view that changes by itself
_SHIFT = 0.02  # of the width
_TRIED = 8  # enrolled frames that a shifted view is held against
_LOST_FIT, _FOUND_FIT = 0.6, 0.6  # of the rim unshifted, of the view shifted; shares of the enrolled frames' own
_GAIN = 0.25  # what the shift must add to the correlation


@dataclass(frozen=True, slots=True)
class HealthRule:
    """Seconds that a condition must last to become a fault, and must be gone to end it."""

    lost: float = 1.0
    frozen: float = 15.0
    black: float = 2.0
    blurred: float = 5.0
    moved: float = 5.0
    clear: float = 1.0


@dataclass(frozen=True, slots=True)
class Health:
    """What is known of a camera after a frame.

    Attributes:
        faults: what ails it, each with a sentence.
        trusted: whether the frame's verdict may count for the part.
    """

    faults: dict[Fault, str]
    trusted: bool


class View:
    """A picture reduced to what the tests look at: (H, W, 3) BGR uint8 of any size in, ``WIDTH`` pixels wide inside."""

    def __init__(self, image: NDArray[np.uint8], height: int | None = None) -> None:
        """Reduce a picture; ``height`` is the working height of the pictures that it is to be compared with."""
        height = height or max(8, round(image.shape[0] * WIDTH / image.shape[1]))
        small = cv2.resize(image, (WIDTH, height), interpolation=cv2.INTER_AREA)
        grey = cv2.cvtColor(small, cv2.COLOR_BGR2GRAY).astype(np.float32)
        fine, middle, coarse = (cv2.GaussianBlur(grey, (0, 0), sigma) for sigma in (1.5, 4.0, 16.0))
        self.mean, self.sd = float(grey.mean()), float(grey.std())
        self.coarse = float(np.square(middle - coarse).mean())
        self.detail = float(np.square(grey - fine).mean()) / max(self.coarse, 1e-6)
        self.structure: NDArray[np.float32] = np.asarray(grey - cv2.GaussianBlur(grey, (0, 0), 6.0), np.float32)


def _rim(shape: tuple[int, int]) -> NDArray[np.bool_]:
    mask = np.ones(shape, np.bool_)
    rows, columns = round(shape[0] * _RIM), round(shape[1] * _RIM)
    mask[rows:-rows, columns:-columns] = False
    return mask


def _correlation(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    if a.size < 2:  # noqa: PLR2004 - nothing overlaps
        return 0.0
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt(np.square(a).sum() * np.square(b).sum()))
    return float((a * b).sum()) / scale if scale > 0 else 0.0


def shift_of_view(view: View, reference: View) -> tuple[float, float, float]:
    """How far a view has moved against another of the same shape.

    Returns:
        Shift to the right and downwards as shares of the width, and the correlation of what both show after it.
    """
    height, width = view.structure.shape
    window = cv2.createHanningWindow((width, height), cv2.CV_32F)
    # OpenCV multiplies the window into its arguments where it needs no padding: give it copies.
    (dx, dy), _ = cv2.phaseCorrelate(reference.structure.copy(), view.structure.copy(), window)
    move = np.array([[1, 0, dx], [0, 1, dy]], np.float32)
    shifted = np.asarray(cv2.warpAffine(reference.structure, move, (width, height)), np.float32)
    both = cv2.warpAffine(np.ones((height, width), np.uint8), move, (width, height), flags=cv2.INTER_NEAREST) > 0
    return dx / width, dy / width, _correlation(view.structure[both], shifted[both])


class _Lasting:
    """A condition that counts once it has lasted, until it has been gone for a while."""

    def __init__(self, needed: float, clear: float) -> None:
        self._needed, self._clear = needed, clear
        self.reset()

    def reset(self) -> None:
        self._since: float | None = None  # when the answer last changed
        self._answer = self.active = False

    def update(self, *, answer: bool, at: float) -> bool:
        if self._since is None or answer != self._answer:
            self._since, self._answer = at, answer
        if answer != self.active and at - self._since >= (self._needed if answer else self._clear):
            self.active = answer
        return self.active


class CameraHealth:
    """Watches one camera."""

    def __init__(
        self,
        thumbnails: Sequence[NDArray[np.uint8]] = (),
        frame_size: tuple[int, int] | None = None,
        rule: HealthRule | None = None,
    ) -> None:
        """Learn the enrolled view.

        Args:
            thumbnails: (h, w, 3) uint8 BGR pictures of the enrolled frames, of any size; empty without a bank.
            frame_size: width and height of the enrolled frames, pixels; None without a bank.
            rule: how long a condition must last.
        """
        self._rule = rule = rule or HealthRule()
        self._frame_size = frame_size
        self._views = [View(thumbnail) for thumbnail in thumbnails]
        self._views = [view for view in self._views if view.structure.shape == self._views[0].structure.shape]
        self._steady = self._steadiness()
        self._lasting: dict[Fault, _Lasting] = {
            "lost": _Lasting(rule.lost, 0.0),
            "frozen": _Lasting(rule.frozen, 0.0),
            "black": _Lasting(rule.black, rule.clear),
            "blurred": _Lasting(rule.blurred, rule.clear),
            "moved": _Lasting(rule.moved, rule.clear),
        }
        self._last: NDArray[np.uint8] | None = None
        self._sentences: dict[Fault, str] = {}

    def missing(self, reason: str, at: float) -> Health:
        """No frame comes because the source is not connected, and why, in a sentence; ``at`` on the monotonic clock."""
        if not self._lasting["lost"].update(answer=True, at=at):
            return Health(self._active(), trusted=False)
        self._restart()
        return Health({"lost": reason}, trusted=False)

    def fits(self, frame: Frame) -> bool:
        """Whether a frame has the size of the enrolled ones, or none is known."""
        return self._frame_size is None or frame.size == self._frame_size

    def see(self, frame: Frame, at: float | None) -> Health:
        """Look at a frame.

        Args:
            frame: the frame.
            at: seconds on a clock that runs with the frames: of arrival, or of the video. None for pictures that
                are no stream: only their size is looked at.
        """
        self._lasting["lost"].update(answer=False, at=frame.monotonic)
        if self._frame_size is not None and not self.fits(frame):
            sentence = "expected frames of {}x{}, as enrolled, found {}x{}".format(*self._frame_size, *frame.size)
            return Health({"resized": sentence}, trusted=False)
        if at is None:
            return Health({}, trusted=True)
        found = self._conditions(frame)
        for fault, lasting in self._lasting.items():
            if fault != "lost":
                lasting.update(answer=fault in found, at=at)
        self._sentences.update(found)
        faults = self._active()
        # A part cannot turn the whole view black or soft, so such a frame is not held against it from the first on;
        # a moved or frozen view is believed only once it has lasted.
        return Health(faults, trusted=not faults and "black" not in found and "blurred" not in found)

    def _active(self) -> dict[Fault, str]:
        return {
            fault: self._sentences[fault]
            for fault, lasting in self._lasting.items()
            if lasting.active and fault in self._sentences
        }

    def _conditions(self, frame: Frame) -> dict[Fault, str]:
        found: dict[Fault, str] = {}
        if self._last is not None and _same(self._last, frame.image):
            found["frozen"] = f"every frame has been the same for {self._rule.frozen:g} s"
        self._last = frame.image
        view = View(frame.image, self._views[0].structure.shape[0] if self._views else None)
        if self._is_black(view):
            found["black"] = f"the view is black: mean {view.mean:.0f} of 255"
        elif self._is_blurred(view):
            found["blurred"] = "the view is blurred: fine detail is gone that the enrolled frames have"
        else:
            shift = self._shift(view)
            if shift is not None:
                found["moved"] = "the view has moved by {:.0f} % of its width to the {} and {:.0f} % {}: {}".format(
                    abs(shift[0]) * 100,
                    "right" if shift[0] > 0 else "left",
                    abs(shift[1]) * 100,
                    "down" if shift[1] > 0 else "up",
                    "put the camera back or enrol again",
                )
        return found

    def _is_black(self, view: View) -> bool:
        if view.mean >= _BLACK_MEAN or view.sd >= _BLACK_SD:
            return False
        return all(enrolled.mean >= 2 * _BLACK_MEAN or enrolled.sd >= 2 * _BLACK_SD for enrolled in self._views)

    def _is_blurred(self, view: View) -> bool:
        if not self._views:
            return False
        detail = min(enrolled.detail for enrolled in self._views)
        coarse = min(enrolled.coarse for enrolled in self._views)
        return view.detail < _BLUR_DETAIL * detail and view.coarse >= _BLUR_COARSE * coarse

    def _shift(self, view: View) -> tuple[float, float] | None:
        """How far the view has moved; None where it has not, or where that cannot be told."""
        if self._steady is None:
            return None
        rim = _rim(view.structure.shape)
        fits = [_correlation(view.structure[rim], enrolled.structure[rim]) for enrolled in self._views]
        if max(fits) > _LOST_FIT * self._steady:
            return None
        for enrolled in self._views[:_TRIED]:
            dx, dy, fit = shift_of_view(view, enrolled)
            needed = max(_FOUND_FIT * self._steady, _correlation(view.structure, enrolled.structure) + _GAIN)
            if max(abs(dx), abs(dy)) >= _SHIFT and fit >= needed:
                return dx, dy
        return None

    def _steadiness(self) -> float | None:
        """Least correlation of an enrolled rim with its best fellow; None where no movement can be told from it."""
        if len(self._views) < 2:  # noqa: PLR2004 - one frame says nothing of how the view varies
            return None
        rim = _rim(self._views[0].structure.shape)
        rims = [view.structure[rim] for view in self._views]
        if min(float(values.std()) for values in rims) < _RIM_SD:
            return None
        best = [
            max(_correlation(values, other) for at, other in enumerate(rims) if at != index)
            for index, values in enumerate(rims)
        ]
        return min(best) if min(best) >= _STEADY else None

    def _restart(self) -> None:
        """After an outage everything is found anew."""
        self._last = None
        for fault, lasting in self._lasting.items():
            if fault != "lost":
                lasting.reset()


def _same(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> bool:
    """Whether two pictures are equal; a few rows decide nearly always."""
    return a.shape == b.shape and bool(np.array_equal(a[::32], b[::32])) and bool(np.array_equal(a, b))

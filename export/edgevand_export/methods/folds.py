"""K folds and a final model: trained methods are calibrated on frames that the scoring model has never seen.

The frames are cut into K blocks of neighbours (frames of one burst stay together); model f is trained without block f
and gives the held-out maps of that block; the last model is trained on all frames and is the one that is exported
(methods.md (g)). That costs about K times what the last model alone would.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import numpy as np

from edgevand.errors import BadInputError, GateError
from edgevand_export.methods.checkpoint import CHECKPOINT, read_checkpoint, restore, write_checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import nn, optim

    from edgevand_runtime.stop import Stop

__all__ = ["LEAST_FRAMES", "Fitted", "Job", "Trainee", "check_frames", "fit", "split"]

LEAST_FRAMES = 4
"""Fewer frames give no spread that a threshold could be set by (``calibration.MIN_GROUPS``)."""

CHECKPOINT_SECONDS = 20.0
REPORT_SECONDS = 10.0
_MEASURED = 3
"""Steps after which the time of all of them is told."""


class Trainee(Protocol):
    """A model in training."""

    @property
    def module(self) -> nn.Module:
        """All that is trained, with its buffers."""

    @property
    def optimisers(self) -> Sequence[optim.Optimizer]:
        """What updates it."""

    def step(self, number: int) -> float:
        """Do one update; ``number`` from 0 decides what is drawn. Gives the loss before it."""


AnyTrainee = TypeVar("AnyTrainee", bound=Trainee)


class Job(Protocol[AnyTrainee]):
    """What is trained on what."""

    frames: int

    def steps(self, kept: int) -> int:
        """Steps of a model that is trained on this many frames."""

    def begin(self, model: int, kept: Sequence[int]) -> AnyTrainee:
        """A model that has done no step; its first weights follow from the seed and its number."""

    def held_out(self, trainee: AnyTrainee, left: Sequence[int]) -> dict[str, NDArray[np.float32]]:
        """Maps (len(left), h, w) that a trained model gives to frames, by name."""


@dataclass(frozen=True, slots=True)
class Fitted(Generic[AnyTrainee]):
    """What a training came to.

    Attributes:
        trainee: the last model, trained on all frames.
        held: held-out maps (F, h, w) of all frames, by name.
    """

    trainee: AnyTrainee
    held: dict[str, NDArray[np.float32]]


def check_frames(count: int, method: str) -> None:
    """Refuse too few frames.

    Raises:
        BadInputError: there are fewer than ``LEAST_FRAMES``.
    """
    if count < LEAST_FRAMES:
        raise BadInputError(
            f"expected at least {LEAST_FRAMES} frames of good parts to train {method}, found {count}; give more with "
            "--shots, or take a method that is not trained (edgevand methods)"
        )


def split(frames: int, folds: int) -> list[list[int]]:
    """Blocks of neighbouring frames, K = min(frames, folds) of them, that differ by at most one frame in length."""
    return [part.tolist() for part in np.array_split(np.arange(frames), min(frames, folds))]


def fit(
    job: Job[AnyTrainee], folds: int, folder: Path, run: str, *, report: Callable[[str], None], stop: Stop, resume: bool
) -> Fitted[AnyTrainee] | None:
    """Train the models of all folds and the last one, or go on with that.

    Args:
        job: what is trained on what.
        folds: K.
        folder: of the checkpoint.
        run: hash of what the run is.
        report: called with a line for people.
        stop: looked at after each step.
        resume: go on from the checkpoint, where there is one.

    Returns:
        None where it was asked to stop; the checkpoint is written.

    Raises:
        GateError: a loss is not finite; the last checkpoint stays.
        BadInputError: a checkpoint of another run.
        OutputError: a checkpoint cannot be written.
    """
    progress = _Progress(job, split(job.frames, folds), folder / CHECKPOINT, run, report)
    first, done, tensors = 0, 0, None
    if resume and progress.path.is_file():
        (first, done), progress.held, tensors = read_checkpoint(progress.path, run)
        report(f"goes on with {progress.name(first)} after step {done}")
    trainee = None
    for model in range(first, progress.models):
        trainee = job.begin(model, progress.kept(model))
        if tensors is not None:
            restore(trainee, tensors)
        if not progress.train(model, trainee, done, stop):
            return None
        done, tensors = 0, None
    if trainee is None:  # the loop above has at least the last model to do, whose checkpoint is never past it
        raise BadInputError(f"expected a checkpoint within this training in {progress.path}, found one past its end")
    return Fitted(trainee, progress.held)


class _Progress(Generic[AnyTrainee]):
    """The models one after the other, with a checkpoint now and then and lines for people."""

    def __init__(
        self, job: Job[AnyTrainee], blocks: list[list[int]], path: Path, run: str, report: Callable[[str], None]
    ) -> None:
        self.job, self.blocks, self.path, self.run, self.report = job, blocks, path, run, report
        self.models = len(blocks) + 1
        self.held: dict[str, Any] = {}
        self._began = time.monotonic()
        self._steps = 0
        self._told = 0.0

    def name(self, model: int) -> str:
        """A model for people."""
        last = model == len(self.blocks)
        return "the model of all frames" if last else f"fold {model + 1} of {len(self.blocks)}"

    def kept(self, model: int) -> list[int]:
        """The frames that a model is trained on."""
        left = set(self.blocks[model]) if model < len(self.blocks) else set()
        return [frame for frame in range(self.job.frames) if frame not in left]

    def train(self, model: int, trainee: AnyTrainee, done: int, stop: Stop) -> bool:
        """Do the steps that are left of a model; False where it was asked to stop."""
        steps, loss, saved = self.job.steps(len(self.kept(model))), math.nan, time.monotonic()
        for number in range(done, steps):
            loss = trainee.step(number)
            if not math.isfinite(loss):
                raise _diverged(f"a finite loss in step {number + 1} of {self.name(model)}", str(loss))
            self._steps += 1
            self._tell(model, number + 1, loss)
            if stop.why is not None or time.monotonic() - saved >= CHECKPOINT_SECONDS:
                self._save(model, number + 1, trainee)
                saved = time.monotonic()
            if stop.why is not None:
                return False
        self._check(model, trainee)
        self.report(f"{self.name(model)}: {steps} steps done" + ("" if math.isnan(loss) else f", last loss {loss:.4g}"))
        if model < len(self.blocks):
            for name, each in self.job.held_out(trainee, self.blocks[model]).items():
                former = [self.held[name]] if name in self.held else []
                self.held[name] = np.concatenate([*former, each.astype(np.float32)])
            following = self.job.begin(model + 1, self.kept(model + 1))
            self._save(model + 1, 0, following)
        return True

    def _tell(self, model: int, number: int, loss: float) -> None:
        """The time of all steps once a few are measured, then where the training stands, every few seconds."""
        now = time.monotonic()
        if self._steps == 1:
            self._began = now  # the first step warms up
        elif self._steps == _MEASURED + 1:
            left = sum(self.job.steps(len(self.kept(each))) for each in range(model, self.models)) - number
            each = (now - self._began) / _MEASURED
            self.report(
                f"about {_duration(left * each)} for {left} steps of {each:.2g} s: {len(self.blocks)} fold models for "
                "the calibration and the model of all frames"
            )
        elif now - self._told >= REPORT_SECONDS:
            steps = self.job.steps(len(self.kept(model)))
            self.report(f"{self.name(model)}: step {number} of {steps}, loss {loss:.4g}")
        else:
            return
        self._told = now

    def _save(self, model: int, step: int, trainee: Trainee) -> None:
        self._check(model, trainee)
        write_checkpoint(self.path, self.run, (model, step), trainee, self.held)

    def _check(self, model: int, trainee: Trainee) -> None:
        if not all(bool(each.isfinite().all()) for each in trainee.module.state_dict().values()):
            raise _diverged(f"finite weights of {self.name(model)}", "NaN or infinity")


def _diverged(expected: str, found: str) -> GateError:
    return GateError(
        f"expected {expected}, found {found}; the last checkpoint stays and nothing else was written: train anew with "
        "a smaller learning rate (edgevand methods show lists it)"
    )


def _duration(seconds: float) -> str:
    """A time for people."""
    return f"{max(seconds, 1):.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"  # noqa: PLR2004

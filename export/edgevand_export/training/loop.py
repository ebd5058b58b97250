"""The steps of a training: batches to gradients to weights, with a log, checkpoints and a stop between two pictures."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch

from edgevand.errors import BadInputError, GateError
from edgevand.staging import output_error, write_atomic
from edgevand_export.training.feed import Watcher
from edgevand_export.training.losses import step_losses
from edgevand_export.training.state import CHECKPOINT, write_checkpoint

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from edgevand_export.training.config import TrainConfig
    from edgevand_export.training.feed import Batch, Feed
    from edgevand_export.training.losses import StepLosses
    from edgevand_export.training.plan import Plan
    from edgevand_export.training.state import TrainState
    from edgevand_runtime.stop import Stop

__all__ = ["LOG", "EpochFigures", "StepReport", "TrainWatcher", "Training", "take_step"]

LOG = "log.csv"


@dataclass(frozen=True, slots=True)
class StepReport:
    """One step, for who watches.

    Attributes:
        step: from 1, over all epochs.
        epoch: from 1.
        loss: that was minimised.
        focal: sum over the stages.
        dice: sum over the stages.
    """

    step: int
    epoch: int
    loss: float
    focal: float
    dice: float


@dataclass(frozen=True, slots=True)
class EpochFigures:
    """What an epoch cost in this process.

    Attributes:
        epoch: from 1.
        seconds: of wall time.
        encoded: pictures that went through the encoder.
        cached: pictures whose tokens were in the cache.
        whole: whether this process did all its steps.
        loss: mean over its steps in this process; None without one.
    """

    epoch: int
    seconds: float
    encoded: int
    cached: int
    whole: bool
    loss: float | None


class TrainWatcher(Watcher, Protocol):
    """Who is told how a training goes on."""

    def step(self, report: StepReport) -> None:
        """A step is done."""

    def epoch(self, figures: EpochFigures) -> None:
        """An epoch is done."""


def take_step(
    state: TrainState,
    batch: Batch,
    texts: Mapping[str, torch.Tensor],
    grids: Sequence[tuple[int, int]],
    config: TrainConfig,
) -> tuple[StepLosses, float]:
    """Losses and gradient of one batch, and Adam's update.

    Args:
        state: changed in place.
        batch: of tokens.
        texts: (2, D) rows (normal, abnormal) of each class.
        grids: rows and columns of each stage.
        config: of losses and optimiser.

    Returns:
        The losses before the update, and the length of the gradient.

    Raises:
        GateError: losses, gradient or new weights are not finite.
    """
    state.optimiser.zero_grad()
    text = torch.stack([texts[name] for name in batch.classes])
    losses = step_losses(state.heads(batch.tokens, text, grids), batch.masks, config)
    torch.autograd.backward(losses.total)
    gradients = [parameter.grad for parameter in state.heads.parameters() if parameter.grad is not None]
    length = float(torch.stack([each.norm() for each in gradients]).norm())
    for name, value in (("loss", float(losses.total.detach())), ("gradient", length)):
        if not math.isfinite(value):
            raise _diverged(f"a finite {name} in step {state.step + 1}", str(value))
    state.optimiser.step()
    if not all(bool(parameter.isfinite().all()) for parameter in state.heads.parameters()):
        raise _diverged(f"finite weights after step {state.step + 1}", "NaN or infinity")
    state.updates += 1
    return losses, length


@dataclass(slots=True)
class Training:
    """A run with all that its steps need.

    Attributes:
        state: where it stands; changed in place.
        feed: draws to tokens.
        plan: what is drawn.
        texts: (2, D) unit rows (normal, abnormal) of each class, on the heads' device.
        grids: rows and columns of each stage.
        folder: of checkpoint and log.
        run: hash of what the run is, for the checkpoint.
    """

    state: TrainState
    feed: Feed
    plan: Plan
    texts: Mapping[str, torch.Tensor]
    grids: Sequence[tuple[int, int]]
    folder: Path
    run: str

    def fit(self, watcher: TrainWatcher, stop: Stop) -> list[EpochFigures]:
        """Do the steps that are left; ends early, with a checkpoint, when ``stop`` asks for it.

        Raises:
            GateError: a loss or gradient is not finite; the last checkpoint stays.
            BadInputError: no picture of an epoch can be read.
            OutputError: the log or a checkpoint cannot be written.
        """
        self.state.log = self.state.log or _header(self.state.heads.stages)
        write_atomic(self.folder / LOG, self.state.log)
        watcher.begin(*self._pictures())
        done = []
        for epoch in range(self.state.step // self.plan.steps, self.plan.config.epochs):
            figures = self._epoch(epoch, watcher, stop)
            if stop.why is not None:
                self._save()
                break
            done.append(figures)
            watcher.epoch(figures)
        write_atomic(self.folder / LOG, self.state.log)
        return done

    def _pictures(self) -> tuple[int, int]:
        """Pictures that lie behind, and of all epochs."""
        epoch, step = divmod(self.state.step, self.plan.steps)
        each = len(self.plan)
        return epoch * each + min(step * self.plan.config.batch, each), self.plan.config.epochs * each

    def _epoch(self, epoch: int, watcher: TrainWatcher, stop: Stop) -> EpochFigures:
        """The steps that are left of an epoch, counted from 0."""
        config, fed = self.plan.config, self.feed.figures
        began, encoded, cached = time.monotonic(), fed.encoded, fed.cached
        first = self.state.step - epoch * self.plan.steps
        losses: list[float] = []
        for batch in self.feed.batches(self.plan.epoch(epoch)[first * config.batch :], config.batch, stop):
            if batch is not None:
                losses.append(self._step(batch, epoch, watcher))
            self.state.step += 1
            if self.state.step % config.checkpoint_every == 0 or self.state.step == (epoch + 1) * self.plan.steps:
                self._save()
        if not losses and first == 0 and stop.why is None:
            raise BadInputError(
                f"expected pictures that can be read, found none among {len(self.plan)}; the first says: "
                f"{next(iter(self.feed.unreadable.values()), 'nothing')}"
            )
        return EpochFigures(
            epoch=epoch + 1,
            seconds=time.monotonic() - began,
            encoded=fed.encoded - encoded,
            cached=fed.cached - cached,
            whole=first == 0,
            loss=sum(losses) / len(losses) if losses else None,
        )

    def _step(self, batch: Batch, epoch: int, watcher: TrainWatcher) -> float:
        """One step with its row of the log; the loss."""
        config, number = self.plan.config, self.state.step + 1
        losses, gradient = take_step(self.state, batch, self.texts, self.grids, config)
        values = [float(each.detach()) for each in (losses.total, losses.focal, losses.dice, *losses.stages)]
        if number % config.log_every == 0:
            numbers = ",".join(f"{value:.9g}" for value in (*values, gradient))
            self._log(f"{number},{epoch + 1},{len(batch.classes)},{numbers}\n".encode())
        watcher.step(StepReport(number, epoch + 1, *values[:3]))
        return values[0]

    def _log(self, row: bytes) -> None:
        """Add a row to the log in memory, which the checkpoint keeps, and to the file, which people watch."""
        self.state.log += row
        path = self.folder / LOG
        try:
            with path.open("ab") as file:
                file.write(row)
        except OSError as error:
            raise output_error(path, error) from error

    def _save(self) -> None:
        """Write a checkpoint in place of the older one."""
        write_checkpoint(self.folder / CHECKPOINT, self.state, self.run)


def _diverged(expected: str, found: str) -> GateError:
    """The sentence for numbers that have run away."""
    return GateError(
        f"expected {expected}, found {found}; the last checkpoint and the log stay: train anew with a smaller "
        "--set lr, or look for damaged pictures in that step"
    )


def _header(stages: Sequence[int]) -> bytes:
    """First line of the log."""
    names = "".join(f"stage_{stage}," for stage in stages)
    return f"step,epoch,pictures,loss,focal,dice,{names}gradient\n".encode()

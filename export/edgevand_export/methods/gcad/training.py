"""The training of GCAD: three losses, one Adam, skips that fade (methods.md (f)).

::

    L = ||E_loc - U(E_glo)||^2 / d_loc + ||E_glo - R_glo||^2 / d_glo + ||E_loc - R_loc||^2 / d_loc

E_loc is frozen and computed once for each frame and copy, as neither ever changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from edgevand_export.methods.gcad.nets import AdditiveNet, Standardised, UNet, UpsampleModel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edgevand_runtime.methods.gcad import GcadSettings

__all__ = ["Branches", "GcadJob", "Losses", "Shape", "losses", "skip_weight"]

_FADED = 5
"""The skips are 0 from this part of the epochs on: a fifth."""


class Shape(NamedTuple):
    """Sizes of the networks.

    Attributes:
        depth: channels of the local encoder.
        channels: of the regressors' levels.
        encoder_channels: of the global encoder's levels.
        additive: regressors of the global encoder's shape (gcad-self) in place of U-Nets (gcad).
    """

    depth: int
    channels: tuple[int, ...]
    encoder_channels: tuple[int, ...]
    additive: bool


class Branches(nn.Module):
    """Everything of GCAD but the frozen local encoder."""

    def __init__(self, shape: Shape, settings: GcadSettings) -> None:
        """Draw the first weights from torch's generator."""
        super().__init__()
        side, bottleneck, few = settings.image_size, settings.bottleneck, settings.global_depth
        self.standardised = Standardised(shape.depth)
        self.encoder = AdditiveNet(shape.encoder_channels, few, bottleneck, side)
        self.upsample = UpsampleModel(few, shape.depth)
        self.additive = shape.additive
        self.local: nn.Module
        self.whole: nn.Module
        if shape.additive:
            self.local = AdditiveNet(shape.channels, shape.depth, bottleneck, side)
            self.whole = AdditiveNet(shape.channels, few, bottleneck, side)
        else:
            self.local, self.whole = UNet(shape.channels, shape.depth), UNet(shape.channels, few)

    def predicted(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """R_loc and R_glo of pictures; in additive regressors all skips count 1."""
        full = (1.0,) if self.additive else ()
        return self.local(image, *full), self.whole(image, *full)

    def errors(self, image: Tensor, local: Tensor) -> tuple[Tensor, Tensor]:
        """A_loc and A_glo, each the mean over channels, (N, h, w).

        Args:
            image: (N, 3, S, S), normalised.
            local: (N, depth, h, w) of the local encoder, before standardisation.
        """
        of_local, of_whole = self.predicted(image)
        local_error = (self.standardised(local) - of_local).square().mean(dim=1)
        return local_error, (self.encoder(image, 0.0) - of_whole).square().mean(dim=1)


class Losses(NamedTuple):
    """The three terms: for each channel the squared error, mean over pixels and pictures."""

    distilled: Tensor
    whole: Tensor
    local: Tensor

    @property
    def total(self) -> Tensor:
        """Their sum."""
        return self.distilled + self.whole + self.local


def losses(branches: Branches, image: Tensor, local: Tensor, skip: float) -> Losses:
    """The losses of a batch.

    Args:
        branches: in training.
        image: (N, 3, S, S), normalised.
        local: (N, depth, h, w) of the local encoder, standardised.
        skip: weight of the global encoder's skips.
    """
    whole = branches.encoder(image, skip)
    of_local, of_whole = branches.predicted(image)
    return Losses(
        (local - branches.upsample(whole)).square().mean(),
        (whole - of_whole).square().mean(),
        (local - of_local).square().mean(),
    )


def skip_weight(step: int, steps: int) -> float:
    """Weight of the global encoder's five skips: 1 at first, falling evenly to 0 at a fifth of the steps, then 0.

    Args:
        step: from 0.
        steps: of the whole training.
    """
    return max(0.0, 1.0 - _FADED * step / steps)


class _Net:
    """One GCAD in training."""

    def __init__(self, job: GcadJob, model: int, kept: Sequence[int]) -> None:
        self._job, self._seed = job, (job.settings.seed, model)
        self._rows = [row for frame in kept for row in job.rows(frame)]
        self._steps = job.steps(len(kept))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(np.random.SeedSequence(self._seed).generate_state(1, np.uint32)[0]))
            self.module = Branches(job.shape, job.settings)
        self.module.standardised.measure(job.local[[job.rows(frame)[0] for frame in kept]])
        trained = [each for each in self.module.parameters() if each.requires_grad]
        self.optimisers = (torch.optim.Adam(trained, lr=job.lr, weight_decay=job.settings.weight_decay),)

    def step(self, number: int) -> float:
        """One update on the next batch of frames and copies."""
        batch, job = self._job.settings.batch, self._job
        epoch, place = divmod(number, -(-len(self._rows) // batch))
        order = np.random.default_rng([*self._seed, epoch]).permutation(self._rows)
        chosen = order[place * batch : (place + 1) * batch]
        (optimiser,) = self.optimisers
        optimiser.zero_grad()
        local = self.module.standardised(job.local[chosen])
        found = losses(self.module, job.images[chosen], local, skip_weight(number, self._steps)).total
        torch.autograd.backward(found)
        optimiser.step()
        return float(found.detach())


class GcadJob:
    """GCADs of all folds, on frames whose local features are known."""

    def __init__(
        self, images: Tensor, local: Tensor, settings: GcadSettings, shape: Shape, *, epochs: int, lr: float
    ) -> None:
        """Remember what is trained on.

        Args:
            images: (F (1 + copies), 3, S, S) normalised; each frame, then its copies.
            local: (F (1 + copies), depth, h, w) of the local encoder.
            settings: of the training.
            shape: of the networks.
            epochs: over all frames and copies.
            lr: learning rate.
        """
        self.images, self.local, self.settings, self.shape = images, local, settings, shape
        self.lr = lr
        self._epochs, self._each = epochs, 1 + settings.copies
        self.frames = len(images) // self._each

    def rows(self, frame: int) -> range:
        """Where a frame and its copies are."""
        return range(frame * self._each, (frame + 1) * self._each)

    def steps(self, kept: int) -> int:
        """Fixed epochs; no frame decides when to end."""
        return self._epochs * -(-kept * self._each // self.settings.batch)

    def begin(self, model: int, kept: Sequence[int]) -> _Net:
        """A model with its first weights, standardised by the frames that it is trained on."""
        return _Net(self, model, kept)

    @torch.no_grad()
    def held_out(self, trainee: _Net, left: Sequence[int]) -> dict[str, NDArray[np.float32]]:
        """Errors of frames that the model has not seen."""
        first = [self.rows(frame)[0] for frame in left]
        found = [trainee.module.errors(self.images[[row]], self.local[[row]]) for row in first]
        local, whole = (torch.cat(each).numpy() for each in zip(*found, strict=True))
        return {"local": local, "global": whole}

"""SimpleNet, trained on a workstation (arXiv 2303.15140 and its released code; methods.md (e)).

::

    f = aggregate(backbone(image))                  frozen; computed once for each frame
    q = adaptor(f)                                  one linear layer
    L = mean max(0, m - D(q)) + mean max(0, m + D(q + noise))

with the discriminator D = Linear, BatchNorm, LeakyReLU(0.2), Linear without bias, run once over clean and noised rows
together. Of the graph that is exported adaptor, first layer and BatchNorm are one matrix.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgevand.bundle import ImageRecord, MapRecord, MethodRecord
from edgevand.tensors import write_tensors
from edgevand_export.methods.backbones import BACKBONES, Backbone, open_backbone
from edgevand_export.methods.folds import check_frames, fit
from edgevand_export.methods.frames import View, pictures, view_grid
from edgevand_export.methods.own_graph import write_own_graph
from edgevand_export.methods.trained import (
    TrainedRecord,
    begin_run,
    load_state,
    make_run,
    read_trained,
    run_hash,
    write_trained,
)
from edgevand_runtime.methods.grids import softplus
from edgevand_runtime.methods.held_out import HELD, VIEW, VIEWS
from edgevand_runtime.methods.simplenet import SIMPLENET, SimpleNetSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from edgevand.bundle import Bundle
    from edgevand_runtime.stop import Stop

__all__ = ["Aggregation", "Discriminator", "SimpleNetGraph", "export_simplenet", "fold", "hinge", "train_simplenet"]

STRIDES = (8, 16)
"""Of the two levels: layer2 and layer3 of a ResNet."""

LITE0 = "tf_efficientnet_lite0"
LITE0_GAIN = 0.01
"""By which features of EfficientNet-Lite0 are multiplied, so that the noise of 0.015 is half their deviation.

As they are, with a deviation of 3, the published noise is nothing to them: after 160 steps on eight frames the loss is
1.0, that of a discriminator that knows nothing; so it is at 0.05; at 0.01 it falls to 0.2."""

_SLOPE = 0.2


class Aggregation(nn.Module):
    """Local aggregation: neighbourhoods of two levels to one vector of ``dim`` numbers a cell.

    The released code unfolds each level to its 3x3 neighbourhoods (padding 1), averages the C * 9 numbers to ``dim``
    (adaptive average pooling), enlarges the coarser level bilinearly to the finer grid, stacks both and averages the
    2 * ``dim`` numbers to ``dim``. All of it is linear, and what mixes channels does not touch places: here each level
    is one fixed 3x3 convolution to ``dim / 2`` channels, followed by the enlargement.
    """

    def __init__(self, widths: Sequence[int], dim: int, gain: float = 1.0) -> None:
        """Make the kernels.

        Args:
            widths: channels of the two levels, the finer one first.
            dim: of a cell's vector, even.
            gain: factor of all features.
        """
        super().__init__()
        pairs = _pooling(2 * dim, dim)
        for number, width in enumerate(widths):
            level = pairs[number * dim // 2 : (number + 1) * dim // 2, number * dim : (number + 1) * dim]
            kernel = gain * (level @ _pooling(width * 9, dim))
            self.register_buffer(f"kernel_{number}", kernel.float().reshape(dim // 2, width, 3, 3), persistent=False)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps (N, C_1, h, w) and (N, C_2, h / 2, w / 2) to (N, dim, h, w)."""
        fine = functional.conv2d(maps[0], self.get_buffer("kernel_0"), padding=1)
        coarse = functional.conv2d(maps[1], self.get_buffer("kernel_1"), padding=1)
        enlarged = functional.interpolate(coarse, size=fine.shape[-2:], mode="bilinear", align_corners=False)
        return torch.cat([fine, enlarged], dim=1)


def _pooling(source: int, target: int) -> Tensor:
    """(target, source) float64 weights of adaptive average pooling: torch's, read off from unit vectors."""
    return functional.adaptive_avg_pool1d(torch.eye(source, dtype=torch.float64), target).T


class Discriminator(nn.Module):
    """Adapted features (M, dim) to one number each: above the margin for clean ones."""

    def __init__(self, dim: int, hidden: int) -> None:
        """Make the layers; weights are drawn by Xavier's normal rule, as released."""
        super().__init__()
        self.first = nn.Linear(dim, hidden)
        self.norm = nn.BatchNorm1d(hidden)
        self.last = nn.Linear(hidden, 1, bias=False)
        nn.init.xavier_normal_(self.first.weight)
        nn.init.xavier_normal_(self.last.weight)

    def forward(self, features: Tensor) -> Tensor:
        """(M, dim) to (M,)."""
        found: Tensor = self.last(functional.leaky_relu(self.norm(self.first(features)), _SLOPE))
        return found.squeeze(1)


class Trained(nn.Module):
    """All that is trained."""

    def __init__(self, dim: int, hidden: int) -> None:
        """Make adaptor and discriminator."""
        super().__init__()
        self.adaptor = nn.Linear(dim, dim)
        nn.init.xavier_normal_(self.adaptor.weight)
        self.discriminator = Discriminator(dim, hidden)


def hinge(clean: Tensor, noised: Tensor, margin: float) -> Tensor:
    """Mean max(0, margin - D(clean)) + mean max(0, margin + D(noised)), of (M,) each."""
    return (margin - clean).clamp_min(0).mean() + (margin + noised).clamp_min(0).mean()


def fold(trained: Trained) -> nn.Sequential:
    """Adaptor, discriminator and BatchNorm as two 1x1 convolutions with a LeakyReLU between, which give -D.

    With W x + b of the first layer after the adaptor A x + a, and the BatchNorm's scale s = weight / sqrt(var + eps)
    and shift: s (W A) x + s (W a + b - mean) + bias.
    """
    adaptor, first = trained.adaptor, trained.discriminator.first
    norm, last = trained.discriminator.norm, trained.discriminator.last
    weight = first.weight.double() @ adaptor.weight.double()
    bias = first.weight.double() @ adaptor.bias.double() + first.bias.double()
    mean, variance = norm.running_mean, norm.running_var
    if mean is None or variance is None:
        raise RuntimeError("the discriminator's BatchNorm keeps no statistics")
    scale = norm.weight.double() / (variance.double() + norm.eps).sqrt()
    shift = scale * (bias - mean.double()) + norm.bias.double()
    into, out = nn.Conv2d(weight.shape[1], weight.shape[0], 1), nn.Conv2d(weight.shape[0], 1, 1, bias=False)
    into.load_state_dict({"weight": (scale[:, None] * weight)[:, :, None, None], "bias": shift})
    out.load_state_dict({"weight": -last.weight[:, :, None, None]})
    return nn.Sequential(into, nn.LeakyReLU(_SLOPE), out)


class SimpleNetGraph(nn.Module):
    """What is exported: picture to the maps ``anomaly`` (N, h, w), -D of each cell, and ``view``."""

    def __init__(self, backbone: Backbone, aggregation: Aggregation, scorer: nn.Module, image: ImageRecord) -> None:
        """Put the parts together."""
        super().__init__()
        self.backbone, self.aggregation, self.scorer = backbone, aggregation, scorer
        self.view = View(image)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 3, H, W) normalised to (N, h, w) and (N, H / 4, W / 4)."""
        return self.scorer(self.aggregation(self.backbone(image))).squeeze(1), self.view(image)


class _Net:
    """One SimpleNet in training, on the features of some frames."""

    def __init__(self, features: Tensor, kept: Sequence[int], settings: SimpleNetSettings, model: int) -> None:
        """Draw the first weights.

        Args:
            features: (F, P, dim) of all frames.
            kept: the frames that it is trained on.
            settings: of the training.
            model: number of the model, part of every seed.
        """
        self._features, self._kept, self._settings, self._seed = features, list(kept), settings, (settings.seed, model)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_number(*self._seed))
            self.module = Trained(features.shape[2], settings.hidden or _defaults(settings)[2])
        self.optimisers = (
            torch.optim.AdamW(self.module.adaptor.parameters(), lr=settings.adaptor_lr),
            torch.optim.Adam(
                self.module.discriminator.parameters(),
                lr=settings.discriminator_lr,
                weight_decay=settings.weight_decay,
            ),
        )

    def step(self, number: int) -> float:
        """One update on the next batch of frames."""
        settings = self._settings
        passed, batch = divmod(number, -(-len(self._kept) // settings.batch))
        order = np.random.default_rng([*self._seed, passed]).permutation(self._kept)
        rows = self._features[order[batch * settings.batch : (batch + 1) * settings.batch]].flatten(0, 1)
        generator = torch.Generator().manual_seed(_number(*self._seed, number, 1))
        for optimiser in self.optimisers:
            optimiser.zero_grad()
        adapted = self.module.adaptor(rows)
        noised = adapted + settings.noise * torch.randn(adapted.shape, generator=generator)
        judged = self.module.discriminator(torch.cat([adapted, noised]))
        loss = hinge(judged[: len(adapted)], judged[len(adapted) :], settings.margin)
        torch.autograd.backward(loss)
        for optimiser in self.optimisers:
            optimiser.step()
        return float(loss.detach())


class _Job:
    """SimpleNets of all folds."""

    def __init__(self, features: Tensor, grid: tuple[int, int], settings: SimpleNetSettings) -> None:
        self.frames = len(features)
        self._features, self._grid, self._settings = features, grid, settings

    def steps(self, kept: int) -> int:
        """Fixed passes; no frame decides when to end."""
        return self._settings.passes * -(-kept // self._settings.batch)

    def begin(self, model: int, kept: Sequence[int]) -> _Net:
        """A model with its first weights."""
        return _Net(self._features, kept, self._settings, model)

    @torch.no_grad()
    def held_out(self, trainee: _Net, left: Sequence[int]) -> dict[str, NDArray[np.float32]]:
        """-D of frames that the model has not seen."""
        scorer, (rows, columns) = fold(trainee.module), self._grid
        cells = [self._features[frame].T.reshape(1, -1, rows, columns) for frame in left]
        return {"anomaly": np.concatenate([scorer(each).squeeze(1).numpy() for each in cells])}


def train_simplenet(  # noqa: PLR0913 - see methods.Trainer
    bundle: Bundle,
    frames: Sequence[NDArray[np.uint8]],
    settings: dict[str, Any],
    weights: tuple[Path, ...],
    output: Path,
    *,
    report: Callable[[str], None],
    stop: Stop,
    resume: bool,
) -> Path | None:
    """Train SimpleNet; see ``methods.Trainer``.

    Raises:
        BadInputError: too few frames, weights of another architecture, another run to resume.
        GateError: the training diverged.
    """
    del bundle  # its tower is not used
    options = SimpleNetSettings.model_validate(settings)
    check_frames(len(frames), SIMPLENET.name)
    image, dim, _ = _defaults(options)
    backbone = open_backbone(options.backbone, STRIDES, weights)
    run = make_run(SIMPLENET.name, options, image, backbone, frames)
    begin_run(output, run, resume=resume)
    inputs = pictures(frames, image)
    report(f"features of {len(frames)} frames by {options.backbone}, {dim} numbers a cell")
    features, grid = _features(backbone, _aggregation(backbone, options), inputs)
    job = _Job(features, grid, options)
    fitted = fit(job, options.folds, output, run_hash(run), report=report, stop=stop, resume=resume)
    if fitted is None:
        return None
    held = fitted.held["anomaly"]
    scores = tuple(float(softplus(cells.max())) for cells in held)
    record = TrainedRecord(
        schema="edgevand.trained/1", run=run, folds=min(len(frames), options.folds), statistics={}, scores=scores
    )
    state = {
        **{f"backbone.{name}": each for name, each in backbone.state_dict().items()},
        **{f"trained.{name}": each for name, each in fitted.trainee.module.state_dict().items()},
    }
    with torch.no_grad():
        views = View(image)(inputs).numpy()
    return write_trained(output, record, state, fitted.held, views)


def export_simplenet(
    base: Bundle, settings: dict[str, Any], weights: tuple[Path, ...], folder: Path, report: Callable[[str], None]
) -> MethodRecord:
    """Write SimpleNet's graph and tensors; see ``methods.Exporter``."""
    del base
    trained, trained_with = read_trained(weights, SIMPLENET.name, SimpleNetSettings)
    options = trained_with.model_copy(update={"smoothing": settings["smoothing"]})
    image, _, _ = _defaults(options)
    backbone = Backbone(options.backbone, STRIDES)
    network = Trained(*_defaults(options)[1:])
    load_state(backbone, trained.model, "backbone.", weights[0])
    load_state(network, trained.model, "trained.", weights[0])
    report("graph of backbone, aggregation and the folded discriminator")
    module = SimpleNetGraph(backbone, _aggregation(backbone, options), fold(network.eval()), image)
    grid = (image.height // STRIDES[0], image.width // STRIDES[0])
    maps = (MapRecord(name="anomaly", grid=grid), MapRecord(name=VIEW, grid=view_grid(image)))
    own = write_own_graph(module, folder, SIMPLENET.name, image, maps=maps)
    tensors = f"{SIMPLENET.name}.safetensors"
    write_tensors(folder / tensors, {f"{HELD}anomaly": trained.held["anomaly"], VIEWS: trained.views})
    return MethodRecord(name=SIMPLENET.name, settings=options.model_dump(mode="json"), graph=own, tensors=tensors)


@torch.no_grad()
def _features(backbone: Backbone, aggregation: Aggregation, inputs: Tensor) -> tuple[Tensor, tuple[int, int]]:
    """(F, P, dim) aggregated features, one frame at a time so that they are the same in every run; rows and columns."""
    found = [aggregation(backbone(each[None])) for each in inputs]
    rows, columns = found[0].shape[-2:]
    return torch.cat(found).flatten(2).transpose(1, 2).contiguous(), (rows, columns)


def _aggregation(backbone: Backbone, options: SimpleNetSettings) -> Aggregation:
    gain = LITE0_GAIN if options.backbone == LITE0 else 1.0
    return Aggregation(backbone.widths, _defaults(options)[1], gain)


def _defaults(options: SimpleNetSettings) -> tuple[ImageRecord, int, int]:
    """Preprocessing, width of features and of the discriminator, where the options leave them open."""
    small = options.backbone == LITE0
    side = options.image_size or (224 if small else 288)
    looks = BACKBONES[options.backbone]
    image = ImageRecord(height=side, width=side, mean=looks.mean, std=looks.std)
    return image, options.dim or (384 if small else 1536), options.hidden or (256 if small else 1024)


def _number(*parts: int) -> int:
    """One seed from several whole numbers."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint32)[0])

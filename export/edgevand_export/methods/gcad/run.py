"""GCAD from frames to a file of weights, and from there to the graph of a bundle."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from edgevand.bundle import ImageRecord, MapRecord, MethodRecord
from edgevand.tensors import write_tensors
from edgevand_export.methods.backbones import BACKBONES, Backbone, open_backbone
from edgevand_export.methods.folds import check_frames, fit
from edgevand_export.methods.frames import View, pictures, view_grid
from edgevand_export.methods.gcad.copies import copies_of
from edgevand_export.methods.gcad.nets import GRID_CELL, TileEncoder
from edgevand_export.methods.gcad.training import Branches, GcadJob, Shape
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
from edgevand_runtime.methods.gcad import BRANCHES, GCAD, GCAD_SELF, STATISTICS, GcadSettings, standardised
from edgevand_runtime.methods.held_out import HELD, VIEW, VIEWS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from edgevand.bundle import Bundle
    from edgevand_runtime.stop import Stop

__all__ = ["GcadGraph", "export_gcad", "export_gcad_self", "train_gcad", "train_gcad_self"]

STRIDES = (4, 8, 16)
"""Of the backbone's maps: layer1, layer2 and layer3 of a ResNet."""

_SMALL = "tf_efficientnet_lite0"
_LEAST_DEVIATION = 1e-8


class GcadGraph(nn.Module):
    """What is exported: picture to the maps ``local``, ``global`` (N, h, w) and ``view``."""

    def __init__(self, encoder: TileEncoder, branches: Branches, image: ImageRecord) -> None:
        """Put the parts together; the upsample model stays behind."""
        super().__init__()
        self.encoder, self.branches, self.view = encoder, branches, View(image)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(N, 3, S, S) normalised to the two errors of each cell and (N, S / 4, S / 4)."""
        return (*self.branches.errors(image, self.encoder(image)), self.view(image))


def _train(  # noqa: PLR0913 - see methods.Trainer
    method: str,
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
    """Train GCAD; see ``methods.Trainer``.

    Raises:
        BadInputError: too few frames, weights of another architecture, another run to resume.
        GateError: the training diverged.
    """
    del bundle  # its tower is not used
    options = GcadSettings.model_validate(settings)
    check_frames(len(frames), method)
    backbone = open_backbone(options.backbone, STRIDES, weights)
    image, (epochs, lr) = _image(options), _pace(options)
    run = make_run(method, options, image, backbone, frames)
    begin_run(output, run, resume=resume)
    encoder = TileEncoder(backbone, options.tile)
    each = 1 + options.copies
    report(f"local features of {len(frames)} frames, {each} pictures of each, by {options.backbone}")
    report(f"{epochs} epochs at the rate {lr:g}")
    shown = [picture for number, frame in enumerate(frames) for picture in (frame, *copies_of(frame, number, options))]
    inputs = pictures(shown, image)
    with torch.no_grad():  # one by one, so that they are the same in every run
        local = torch.cat([encoder(picture[None]) for picture in inputs])
        views = View(image)(inputs[::each]).numpy()
    job = GcadJob(inputs, local, options, _shape(options, encoder, method), epochs=epochs, lr=lr)
    fitted = fit(job, options.folds, output, run_hash(run), report=report, stop=stop, resume=resume)
    if fitted is None:
        return None
    statistics = _statistics(fitted.held)
    cells = standardised(fitted.held, statistics)
    record = TrainedRecord(
        schema="edgevand.trained/1",
        run=run,
        folds=min(len(frames), options.folds),
        statistics={
            f"{name} {what}": float(value)
            for name, pair in zip(BRANCHES, statistics, strict=True)
            for what, value in zip(("mean", "deviation"), pair, strict=True)
        },
        scores=tuple(float(frame.max()) for frame in cells),
    )
    state = {
        **{f"backbone.{name}": tensor for name, tensor in backbone.state_dict().items()},
        **{f"branches.{name}": tensor for name, tensor in fitted.trainee.module.state_dict().items()},
    }
    return write_trained(output, record, state, fitted.held, views)


def _export(
    method: str,
    base: Bundle,
    settings: dict[str, Any],
    weights: tuple[Path, ...],
    folder: Path,
    report: Callable[[str], None],
) -> MethodRecord:
    """Write GCAD's graph and tensors; see ``methods.Exporter``."""
    del base
    trained, trained_with = read_trained(weights, method, GcadSettings)
    options = trained_with.model_copy(update={"branches": settings["branches"]})
    image = _image(options)
    backbone = Backbone(options.backbone, STRIDES)
    encoder = TileEncoder(backbone, options.tile)
    branches = Branches(_shape(options, encoder, method), options)
    load_state(backbone, trained.model, "backbone.", weights[0])
    load_state(branches, trained.model, "branches.", weights[0])
    report("graph of the local encoder, the global encoder and both regressors")
    cells = (image.height // GRID_CELL, image.width // GRID_CELL)
    maps = (*(MapRecord(name=name, grid=cells) for name in BRANCHES), MapRecord(name=VIEW, grid=view_grid(image)))
    own = write_own_graph(GcadGraph(encoder, branches.eval(), image), folder, method, image, maps=maps)
    held = {f"{HELD}{name}": trained.held[name] for name in BRANCHES}
    tensors = f"{method}.safetensors"
    write_tensors(folder / tensors, {**held, VIEWS: trained.views, STATISTICS: _statistics(trained.held)})
    return MethodRecord(name=method, settings=options.model_dump(mode="json"), graph=own, tensors=tensors)


train_gcad, train_gcad_self = partial(_train, GCAD.name), partial(_train, GCAD_SELF.name)
export_gcad, export_gcad_self = partial(_export, GCAD.name), partial(_export, GCAD_SELF.name)


def _statistics(held: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
    """(2, 2) mean and deviation of each branch's held-out errors, over all frames and cells."""
    rows = [(held[name].mean(dtype=np.float64), held[name].std(dtype=np.float64)) for name in BRANCHES]
    return np.array([(mean, max(deviation, _LEAST_DEVIATION)) for mean, deviation in rows], np.float32)


def _image(options: GcadSettings) -> ImageRecord:
    looks = BACKBONES[options.backbone]
    return ImageRecord(height=options.image_size, width=options.image_size, mean=looks.mean, std=looks.std)


def _pace(options: GcadSettings) -> tuple[int, float]:
    """Epochs and learning rate: the Course's and the paper's, or for lite0 what teaches in minutes on two CPU cores."""
    small = options.backbone == _SMALL
    return options.epochs or (40 if small else 100), options.lr or (1e-3 if small else 1e-4)


def _shape(options: GcadSettings, encoder: TileEncoder, method: str) -> Shape:
    """Sizes of the networks where the options leave them open: the published ones, a quarter of them for lite0."""
    first = 16 if options.backbone == _SMALL else 64
    channels = options.channels or tuple(first << level for level in range(5))
    halves = options.encoder_channels or tuple(max(width // 2, 1) for width in channels)
    return Shape(encoder.depth, channels, halves, additive=method == GCAD_SELF.name)

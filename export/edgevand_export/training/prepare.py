"""From the options of ``edgevand train`` to everything a run needs, with all that can be wrong looked at first."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from edgevand.bundle import ImageRecord
from edgevand.errors import UsageError
from edgevand.prompts import DEFAULT_PACK, load_pack
from edgevand.records import created_by, make_record
from edgevand_export.activation import choose_activation, from_openai, trained_activation
from edgevand_export.export import DEFAULT_MODEL, default_side, model_source, native_size
from edgevand_export.loading import build_model, make_tokenizer
from edgevand_export.towers import make_tower
from edgevand_export.training.checks import check_data
from edgevand_export.training.config import PRESETS, apply_settings, preset_for
from edgevand_export.training.digests import digest_of
from edgevand_export.training.encoder import FrozenEncoder, choose_device, choose_precision
from edgevand_export.training.plan import Plan
from edgevand_export.training.record import CONFIG, RUN_SCHEMA, RunRecord
from edgevand_export.weights import find_model
from edgevand_runtime.datasets import open_dataset

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from edgevand.prompts import PromptPack
    from edgevand_export.activation import Gelu
    from edgevand_export.bundle_writer import ModelSource
    from edgevand_export.towers import Tower
    from edgevand_export.training.config import Preset, TrainConfig
    from edgevand_runtime.datasets import Dataset, Layout

__all__ = ["Prepared", "TrainOptions", "completed", "prepare"]


@dataclass(frozen=True)
class TrainOptions:
    """The options of ``edgevand train``. With ``resume``, what is None is taken from the run's ``config.json``.

    Attributes:
        output: directory of the run.
        model: open_clip's name, or the path of a model config; None: ViT-L-14-336.
        pretrained: open_clip's tag, or the path of a weights file; None: see ``weights.find_model``.
        data: folder of the dataset whose test split is trained on.
        dataset: its layout; None: found out.
        classes: of the dataset; None takes all.
        preset: published numbers; None: those of the layout.
        settings: ``field=value``, changes to the preset.
        activation: of both towers; None: what the weights were trained with.
        prompts: pack name or prompts file; None: april-gan.
        resume: go on with the run in ``output``; start it where there is none.
        device: auto, cpu, cuda or cuda:N; None: auto.
    """

    output: Path
    model: str | None = None
    pretrained: str | None = None
    data: Path | None = None
    dataset: Layout | Literal["auto"] | None = None
    classes: tuple[str, ...] | None = None
    preset: Preset | None = None
    settings: tuple[str, ...] = ()
    activation: Literal["auto", "gelu", "quick-gelu"] | None = None
    prompts: str | None = None
    resume: bool = False
    device: str | None = None


@dataclass(frozen=True)
class Prepared:
    """What a run works with, once every option is known to be good.

    Attributes:
        record: ``config.json``.
        plan: what is drawn, and every number.
        tower: image tower with the chosen stages.
        image: size, mean and standard deviation of its input.
        encoder: the tower on its device.
        model: the whole open_clip model, for its text tower.
        tokenizer: of the model.
        pack: prompts.
        dim: length of a text embedding.
        warnings: sentences about classes that teach little.
    """

    record: RunRecord
    plan: Plan
    tower: Tower
    image: ImageRecord
    encoder: FrozenEncoder
    model: Any
    tokenizer: Callable[[list[str]], Tensor]
    pack: PromptPack
    dim: int
    warnings: tuple[str, ...]


def completed(options: TrainOptions, recorded: RunRecord) -> TrainOptions:
    """Options with what the run's record knows in place of what was not given."""
    known = recorded.arguments
    return TrainOptions(
        output=options.output,
        model=options.model or known.model,
        pretrained=options.pretrained or known.pretrained,
        data=options.data or Path(known.data),
        dataset=options.dataset or known.dataset,
        classes=options.classes or known.classes,
        preset=options.preset,
        settings=options.settings,
        activation=options.activation or known.activation,
        prompts=options.prompts or known.prompts,
        resume=True,
        device=options.device or known.device,
    )


def prepare(options: TrainOptions, recorded: RunRecord | None, report: Callable[[str], None]) -> Prepared:
    """Look at everything that can be wrong, cheapest first, and build the model.

    Args:
        options: complete.
        recorded: the run that goes on, whose configuration is the base of ``options.settings``; None for a new one.
        report: called with a line for people.
    """
    if options.data is None:
        raise UsageError("expected --data with the folder of a dataset, found none; give it")
    pack = load_pack(options.prompts or DEFAULT_PACK)
    device = choose_device(options.device or "auto")
    dataset = open_dataset(options.data, options.dataset or "auto", options.classes)
    config = apply_settings(_base(options, recorded, dataset), options.settings)
    precision = choose_precision(config.amp, device)
    plan = Plan(dataset.classes, config)
    warnings = check_data(dataset)
    files = find_model(options.model or DEFAULT_MODEL, options.pretrained)
    native = native_size(files)
    side = config.image_size or default_side(files, native)
    activation = choose_activation(
        options.activation or "auto",
        None,
        trained=trained_activation(files),
        openai=from_openai(files),
        resized=(side, side) != native,
    )
    report(f"weights {files.weights}, activation {activation}")
    model = build_model(files.config, files.weights, quick_gelu=activation == "quick-gelu")
    tower = make_tower(model.visual, (side, side), config.stages)
    source = model_source(files)
    fields = {
        **created_by(RUN_SCHEMA),
        "arguments": _arguments(options),
        "encoder": _encoder(source, tower, activation)
        | {"device": device.type, "precision": precision}
        | {"prompts": pack.name, "prompts_sha256": digest_of(pack.to_json())},
        "data": _data(dataset, plan),
        "config": config,
    }
    return Prepared(
        record=make_record(RunRecord, fields, options.output / CONFIG),
        plan=plan,
        tower=tower,
        image=ImageRecord(height=side, width=side, mean=source.mean, std=source.std),
        encoder=FrozenEncoder(tower, device, precision),
        model=model,
        tokenizer=make_tokenizer(files.name, files.config),
        pack=pack,
        dim=int(files.config["embed_dim"]),
        warnings=tuple(warnings),
    )


def _base(options: TrainOptions, recorded: RunRecord | None, dataset: Dataset) -> TrainConfig:
    """The numbers that ``--set`` changes."""
    if recorded is not None and options.preset is None:
        return recorded.config
    return PRESETS[options.preset or preset_for(dataset.layout)]


def _arguments(options: TrainOptions) -> dict[str, Any]:
    """What was asked for, files by their whole path."""
    return {
        "model": _place(options.model or DEFAULT_MODEL),
        "pretrained": None if options.pretrained is None else _place(options.pretrained),
        "data": None if options.data is None else str(options.data.absolute()),
        "dataset": options.dataset or "auto",
        "classes": options.classes,
        "activation": options.activation or "auto",
        "prompts": _place(options.prompts or DEFAULT_PACK),
        "device": options.device or "auto",
    }


def _encoder(source: ModelSource, tower: Tower, activation: Gelu) -> dict[str, Any]:
    """What makes the tokens."""
    return {
        "name": source.name,
        "pretrained": source.pretrained,
        "weights_sha256": source.weights_sha256,
        "model_config_sha256": digest_of(source.config),
        "activation": activation,
        "image_size": tower.size[0],
        "stages": tower.stages,
        "mean": source.mean,
        "std": source.std,
    }


def _data(dataset: Dataset, plan: Plan) -> dict[str, Any]:
    """What is trained on."""
    return {
        "layout": dataset.layout,
        "recognised": dataset.recognised,
        "classes": {each.name: len(each.test) for each in dataset.classes if each.test},
        "fingerprint": plan.fingerprint(),
    }


def _place(text: str) -> str:
    """The whole path of a file, or the name that it is."""
    path = Path(text).expanduser()
    return str(path.absolute()) if path.is_file() else text

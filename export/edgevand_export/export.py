"""What ``edgevand export`` does: from a model's name or config to a bundle, and further text for a bundle.

``write_model_bundle`` (``bundle_writer``) is the part that takes a model that is already built.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal

from edgevand.bundle import Bundle, ImageRecord
from edgevand.errors import BadInputError, OutputError, UsageError
from edgevand.home import home, remember
from edgevand.prompts import DEFAULT_PACK, load_pack
from edgevand.text_files import write_text_file
from edgevand_export.activation import choose_activation, from_openai, trained_activation
from edgevand_export.bundle_writer import (
    CLIP_MEAN,
    CLIP_STD,
    DEFAULT_OBJECT,
    BundleOptions,
    ModelSource,
    model_record,
    prepare_graph,
    write_graph_bundle,
    write_model_bundle,
)
from edgevand_export.frames import take_frames
from edgevand_export.heads import read_heads
from edgevand_export.loading import build_model, make_tokenizer
from edgevand_export.text import embed_objects
from edgevand_export.textless import PREFIX, build_trunk, find_trunk, refuse_text_options, trunk_record
from edgevand_export.weights import ModelFiles, file_sha256, find_model, find_weights

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edgevand.bundle import Precision
    from edgevand_export.text import Tokenizer


__all__ = [
    "DEFAULT_MODEL",
    "DEFAULT_OBJECT",
    "BundleOptions",
    "ExportOptions",
    "ModelSource",
    "bundle_model",
    "default_side",
    "export_bundle",
    "export_text",
    "model_source",
    "named_model",
    "native_size",
    "write_model_bundle",
]

DEFAULT_MODEL = "ViT-L-14-336"
REFERENCE_PATCH = 14
REFERENCE_SIZE = 518
CONFIG_SIDE = 224
"""open_clip's image size where a config names none."""

Channels = tuple[float, float, float]


@dataclass(frozen=True)
class ExportOptions:
    """The options of ``edgevand export``.

    Attributes:
        model: open_clip's name, or the path of a model config.
        pretrained: open_clip's tag, or the path of a weights file; None: see ``weights.find_model``.
        activation: of both towers; ``auto``: see ``activation.choose_activation``.
        image_size: side of the square image in pixels; None: 518 for a ViT with patches of 14, else the native size.
        stages: 1-based; None: those of the heads, else four equal groups.
        heads: file of linear heads, or None.
        objects: names whose text embeddings are stored.
        prompts: pack name or prompts file.
        precision: that the bundle has beside its float32 graph; ``fp32`` for none.
        calibrate: source of frames of good parts, which set the scales of int8 and judge it.
        output: directory of the bundle; None: ``$EDGEVAND_HOME/bundles/<model>-<size>-<precision>``.
    """

    model: str = DEFAULT_MODEL
    pretrained: str | None = None
    activation: Literal["auto", "gelu", "quick-gelu"] = "auto"
    image_size: int | None = None
    stages: tuple[int, ...] | None = None
    heads: Path | None = None
    objects: tuple[str, ...] = (DEFAULT_OBJECT,)
    prompts: str = DEFAULT_PACK
    precision: Precision = "fp32"
    calibrate: str | None = None
    output: Path | None = None


def export_bundle(options: ExportOptions, report: Callable[[str], None] = lambda _: None) -> Bundle:
    """Make a bundle and remember it as the newest.

    Args:
        options: what to make of what.
        report: called with a line for people when a step begins.

    Raises:
        UsageError: arguments that do not exist or do not fit together.
        BadInputError: weights, heads, prompts, frames or a config that cannot be used.
        UnavailableError: the weights are absent and cannot be fetched.
        GateError: a graph does not compute what torch computes, or the wanted precision moves scores.
        OutputError: the output is there already or cannot be written.
    """
    variant = None if options.precision == "fp32" else options.precision
    _check_calibrate(variant, options.calibrate)
    pack = load_pack(options.prompts)
    heads = read_heads(options.heads) if options.heads else None
    textless = options.model.startswith(PREFIX)
    if textless:
        refuse_text_options(options, (DEFAULT_OBJECT,))
    files = (find_trunk if textless else find_model)(options.model, options.pretrained)
    native = native_size(files)
    side = options.image_size or default_side(files, native)
    size = (side, side)
    target = options.output or home() / "bundles" / f"{files.name}-{side}-{options.precision}"
    if target.exists():
        raise OutputError(
            f"expected a new directory for the bundle, found that {target} is already there; remove it or give -o"
        )
    frames = take_frames(options.calibrate) if options.calibrate is not None else None
    if textless:
        bundle = _export_trunk(
            files, BundleOptions(size, options.stages, variant=variant, frames=frames), target, report
        )
        remember("bundle", target)
        return bundle
    activation = choose_activation(
        options.activation,
        heads,
        trained=trained_activation(files),
        openai=from_openai(files),
        resized=size != native,
    )
    report(f"weights {files.weights}, activation {activation}")
    model = build_model(files.config, files.weights, quick_gelu=activation == "quick-gelu")
    source = model_source(files)
    record = model_record(model, source)
    image = ImageRecord(height=side, width=side, mean=source.mean, std=source.std)
    making = BundleOptions(
        image_size=size,
        stages=options.stages,
        heads=heads,
        objects=options.objects,
        pack=pack,
        variant=variant,
        frames=frames,
    )
    graph = prepare_graph(model, record, image, making)
    report(f"text embeddings of {', '.join(options.objects)} with the prompts {pack.name}")
    text = embed_objects(model, make_tokenizer(files.name, files.config), pack, options.objects)
    del model  # the text tower is not needed any more, and may be a third of the weights
    bundle = write_graph_bundle(target, graph, text, record, image, making, report)
    remember("bundle", target)
    return bundle


def _export_trunk(files: ModelFiles, options: BundleOptions, target: Path, report: Callable[[str], None]) -> Bundle:
    """Make a bundle of an image tower without text."""
    report(f"weights {files.weights}")
    trunk = build_trunk(files)
    source = model_source(files)
    record = trunk_record(files, source.weights_sha256, trunk.dim)
    image = ImageRecord(height=options.image_size[0], width=options.image_size[1], mean=source.mean, std=source.std)
    graph = prepare_graph(SimpleNamespace(visual=trunk.visual), record, image, options)
    return write_graph_bundle(target, graph, {}, record, image, options, report)


def _check_calibrate(variant: Precision | None, calibrate: str | None) -> None:
    """Refuse int8 without frames, and frames without a precision that uses them."""
    if variant == "int8" and calibrate is None:
        raise UsageError(
            "expected --calibrate SOURCE with --precision int8, found none; give a folder or video of good parts, "
            "which set the scales"
        )
    if variant is None and calibrate is not None:
        raise UsageError(
            "expected --calibrate only with --precision int8 or fp16, found it with fp32; leave it out or name the "
            "precision"
        )


def export_text(
    bundle: Path,
    objects: tuple[str, ...],
    output: Path,
    *,
    pretrained: str | None = None,
    prompts: str | None = None,
    report: Callable[[str], None] = lambda _: None,
) -> None:
    """Write text embeddings of further objects for a bundle, made by the same weights (``edgevand.text/1``).

    Args:
        bundle: the bundle that the file is for.
        objects: names whose text embeddings are wanted.
        output: the file; must not exist.
        pretrained: weights file or tag, where it is not the one that the bundle names.
        prompts: pack name or prompts file; None takes the bundle's own.
        report: called with a line for people when a step begins.

    Raises:
        BadInputError: the weights found are not those of the bundle.
        UnavailableError: the weights are absent and cannot be fetched.
        OutputError: the output is there already or cannot be written.
    """
    opened = Bundle.open(bundle, verify=False)
    _check_text_tower(opened)
    model = opened.manifest.model
    if output.exists():
        raise OutputError(
            f"expected a new file for the text embeddings, found that {output} is already there; "
            "remove it or give another -o"
        )
    pack = load_pack(prompts or str(bundle / "prompts.json"))
    clip, tokenizer = bundle_model(opened, pretrained, report)
    report(f"text embeddings of {', '.join(objects)} with the prompts {pack.name}")
    text = embed_objects(clip, tokenizer, pack, objects)
    write_text_file(output, text, pack=pack.name, weights_sha256=model.weights_sha256, activation=model.text_activation)


def bundle_model(
    bundle: Bundle, pretrained: str | None = None, report: Callable[[str], None] = lambda _: None
) -> tuple[Any, Tokenizer]:
    """The model that a bundle was made from, with its text tower, and its tokenizer.

    Args:
        bundle: an opened bundle.
        pretrained: weights file or tag, where it is not the one that the bundle names.
        report: called with a line for people when a step begins.

    Raises:
        BadInputError: the weights found are not those of the bundle.
        UnavailableError: the weights are absent and cannot be fetched.
    """
    model = bundle.manifest.model
    _check_text_tower(bundle)
    files = find_weights(model.name, model.config, pretrained or model.pretrained)
    report(f"weights {files.weights}")
    if file_sha256(files.weights) != model.weights_sha256:
        raise BadInputError(
            f"expected the weights that the bundle {bundle.path} was made from ({model.pretrained}), found others in "
            f"{files.weights}; give the right file with --pretrained"
        )
    clip = build_model(files.config, files.weights, quick_gelu=model.text_activation == "quick-gelu")
    return clip, make_tokenizer(files.name, files.config)


def _check_text_tower(bundle: Bundle) -> None:
    """Refuse a bundle of an image tower alone (``textless``)."""
    model = bundle.manifest.model
    if "text_cfg" not in model.config:
        raise UsageError(
            f"expected a bundle whose model has a text tower, found {model.name} in {bundle.path}; export a CLIP model"
        )


def named_model(
    model: str, pretrained: str | None = None, report: Callable[[str], None] = lambda _: None
) -> tuple[Any, Tokenizer]:
    """The model of ``--model`` and ``--pretrained`` as it was trained, with its text tower, and its tokenizer.

    Args:
        model: open_clip's name, or the path of a model config.
        pretrained: open_clip's tag, or the path of a weights file; None: see ``weights.find_model``.
        report: called with a line for people when a step begins.

    Raises:
        UsageError, BadInputError, UnavailableError: as of ``weights.find_model``.
    """
    files = find_model(model, pretrained)
    openai = from_openai(files)
    activation = choose_activation("auto", None, trained=trained_activation(files), openai=openai, resized=False)
    report(f"weights {files.weights}, activation {activation}")
    clip = build_model(files.config, files.weights, quick_gelu=activation == "quick-gelu")
    return clip, make_tokenizer(files.name, files.config)


def native_size(files: ModelFiles) -> tuple[int, int]:
    """Height and width that a model was trained at."""
    side = files.config["vision_cfg"].get("image_size", CONFIG_SIDE)
    return (side, side) if isinstance(side, int) else (int(side[0]), int(side[1]))


def default_side(files: ModelFiles, native: tuple[int, int]) -> int:
    """The image size that is taken where none was asked for: the reference's for its kind of model, else the native."""
    vision = files.config["vision_cfg"]
    reference = "timm_model_name" not in vision and vision.get("patch_size") == REFERENCE_PATCH
    return REFERENCE_SIZE if reference else native[0]


def model_source(files: ModelFiles) -> ModelSource:
    """Where the model came from, for the manifest."""
    return ModelSource(
        name=files.name,
        pretrained=files.pretrained,
        weights_sha256=file_sha256(files.weights),
        config=files.config,
        mean=_channels(files, "mean", CLIP_MEAN),
        std=_channels(files, "std", CLIP_STD),
    )


def _channels(files: ModelFiles, key: Literal["mean", "std"], default: Channels) -> Channels:
    """Mean or standard deviation of R, G, B: the tag's record, else CLIP's."""
    red, green, blue = files.tag.get(key) or default
    return float(red), float(green), float(blue)

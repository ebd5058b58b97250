"""Writes the bundle of a model that is already built: text, graph, golden sample, parity certificate, manifest."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import torch

from edgevand.bundle import (
    BUNDLE_SCHEMA,
    Bundle,
    EnrolRecord,
    GraphRecord,
    ImageRecord,
    Manifest,
    ModelRecord,
    ParityRecord,
    ScoreRecord,
    TextRecord,
    write_bundle,
)
from edgevand.errors import BadInputError
from edgevand.prompts import DEFAULT_PACK, PromptPack, load_pack
from edgevand.records import created_by, make_record
from edgevand.tensors import write_tensors
from edgevand.text_files import write_text_file
from edgevand_export.folding import fold_norms
from edgevand_export.frames import DRAWN, take_frames
from edgevand_export.golden import golden_images, normalise
from edgevand_export.graph import LOGIT_SCALE, OPSET, EncoderGraph, to_onnx
from edgevand_export.heads import Heads, check_heads
from edgevand_export.parity import compare, run_graph
from edgevand_export.precision import round_to_half, store_half
from edgevand_export.storage import GRAPH_FILE, save_graph
from edgevand_export.text import embed_objects
from edgevand_export.towers import activation_of, architecture_of, make_tower
from edgevand_export.variants import make_variant

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from edgevand.bundle import Precision
    from edgevand_export.frames import Frames

__all__ = [
    "DEFAULT_OBJECT",
    "BundleOptions",
    "ModelSource",
    "model_record",
    "prepare_graph",
    "write_graph_bundle",
    "write_model_bundle",
]

DEFAULT_OBJECT = "object"
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class ModelSource:
    """Where a model came from, for the manifest.

    Attributes:
        name: open_clip's model name, or the config's file stem.
        pretrained: open_clip's tag, or the name of the weights file.
        weights_sha256: of the weights file.
        config: open_clip's model config, from which the model can be built again.
        mean: of the channels R, G, B, in [0, 1].
        std: of the channels.
    """

    name: str
    pretrained: str
    weights_sha256: str
    config: dict[str, Any]
    mean: tuple[float, float, float] = CLIP_MEAN
    std: tuple[float, float, float] = CLIP_STD


@dataclass(frozen=True)
class BundleOptions:
    """What is made of a model.

    Attributes:
        image_size: height and width in pixels.
        stages: 1-based, ascending; None takes those of the heads, else ``towers.default_stages``.
        heads: linear heads, or None for a bundle without zero-shot map.
        objects: names whose text embeddings are stored, at least one.
        pack: prompt pack of the text embeddings.
        variant: a precision that the bundle has a second graph for, with proofs of its own; None for fp32 alone.
        frames: to set the scales of a variant and to judge it by; None draws them, for one that needs no scales.
        score: which terms the raw score sums, and the image rule; None takes every term there is, and the maximum.
        enrol: what the bundle recommends for enrolment.
        store_half: store the weights as float16, cast to float32 in the graph.
        extra_files: further files of the bundle by name (``MODEL_CARD.md``, ``NOTICE``).
        replace: take the place of a bundle that is there.
    """

    image_size: tuple[int, int]
    stages: tuple[int, ...] | None = None
    heads: Heads | None = None
    objects: tuple[str, ...] = (DEFAULT_OBJECT,)
    pack: PromptPack = field(default_factory=lambda: load_pack(DEFAULT_PACK))
    variant: Precision | None = None
    frames: Frames | None = None
    score: ScoreRecord | None = None
    enrol: EnrolRecord = field(default_factory=EnrolRecord)
    store_half: bool = False
    extra_files: Mapping[str, bytes] = field(default_factory=dict)
    replace: bool = False


def write_model_bundle(
    target: Path,
    model: Any,  # noqa: ANN401 (open_clip has no types)
    tokenizer: Callable[[list[str]], torch.Tensor],
    source: ModelSource,
    options: BundleOptions,
    report: Callable[[str], None] = lambda _: None,
) -> Bundle:
    """Write a bundle of a model that is already built, with its parity certificate, or leave nothing.

    The model is switched to evaluation mode. With ``store_half`` the image tower's weights and the heads are rounded
    to half precision in place before anything is computed with them: the certificate holds for what is stored.

    Args:
        target: directory of the bundle; must not exist, unless ``options.replace``.
        model: open_clip ``CLIP``, ``CustomTextCLIP`` or ``CoCa``, float32, on the CPU.
        tokenizer: sentences to token ids (S, context) int64.
        source: where the model came from.
        options: what is made of it.
        report: called with a line for people when a step begins.

    Raises:
        BadInputError: heads that do not fit, weights that are not finite.
        UsageError: stages or an image size that the tower does not have.
        GateError: the graph does not compute what torch computes; nothing was written.
        OutputError: the target is there already or cannot be written.
    """
    record = model_record(model, source)
    image = ImageRecord(height=options.image_size[0], width=options.image_size[1], mean=source.mean, std=source.std)
    graph = prepare_graph(model, record, image, options)
    report(f"text embeddings of {', '.join(options.objects)} with the prompts {options.pack.name}")
    text = embed_objects(model.eval(), tokenizer, options.pack, options.objects)
    return write_graph_bundle(target, graph, text, record, image, options, report)


def model_record(model: Any, source: ModelSource) -> ModelRecord:  # noqa: ANN401
    """The manifest's record of a model: where it came from and what its towers run with."""
    return ModelRecord(
        name=source.name,
        pretrained=source.pretrained,
        architecture=architecture_of(model.visual),
        image_activation=activation_of(model.visual),
        text_activation=activation_of(getattr(model, "text", None) or model.transformer),
        weights_sha256=source.weights_sha256,
        config=source.config,
    )


def prepare_graph(
    model: Any,  # noqa: ANN401
    record: ModelRecord,
    image: ImageRecord,
    options: BundleOptions,
) -> EncoderGraph:
    """The first part of ``write_model_bundle``: all that can be refused is refused here, before anything takes long.

    Args:
        model: open_clip model; its image tower is switched to evaluation mode.
        record: the manifest's record of it.
        image: the manifest's record of the preprocessing.
        options: what is made of it.

    Returns:
        What is exported; it holds the image tower alone, so that the model may go.
    """
    _check_activation(options.heads, record)
    _check_finite(model.visual, record)
    wanted = options.stages or (options.heads.stages if options.heads else None)
    tower = make_tower(model.visual, (image.height, image.width), wanted)
    heads = check_heads(options.heads, tower, _dim(record)) if options.heads else {}
    graph = EncoderGraph(tower, heads).eval()
    if options.store_half:
        fold_norms(tower.module, lambda: tower.module(torch.zeros(1, 3, image.height, image.width)))
        round_to_half(graph)
    return graph


def write_graph_bundle(
    target: Path,
    graph: EncoderGraph,
    text: Mapping[str, NDArray[np.float32]],
    record: ModelRecord,
    image: ImageRecord,
    options: BundleOptions,
    report: Callable[[str], None],
) -> Bundle:
    """The last part of ``write_model_bundle``.

    Args:
        target: directory of the bundle.
        graph: what is exported.
        text: object to (2, D) float32; empty for a tower without text.
        record: the manifest's record of the model.
        image: the manifest's record of the preprocessing.
        options: what is made of it.
        report: called with a line for people when a step begins.
    """
    stages = graph.stage_records()
    fields = {
        "model": record,
        "image": image,
        "embedding_dim": _dim(record),
        "logit_scale": LOGIT_SCALE,
        "stages": stages,
        "graph": GraphRecord(file=GRAPH_FILE, opset=OPSET, precision="fp32"),
        "enrol": options.enrol,
        "score": options.score or _every_term(text=bool(text), heads=any(stage.head for stage in stages)),
        "text": TextRecord(pack=options.pack.name, objects=tuple(text)) if text else None,
        "method": "april-gan" if text else "memory",
    }

    def fill(folder: Path) -> None:
        """Write the bundle's files; the certificate joins the fields last."""
        if text:
            _write_text(folder, text, record, options.pack)
        for name, content in options.extra_files.items():
            (folder / name).write_bytes(content)
        report(f"graph of {record.name} at {image.width}x{image.height}")
        _write_graph(graph, folder, image, _dim(record), options)
        report("parity of torch and ONNX Runtime on the golden sample")
        fields["parity"] = _prove(graph, folder, image, next(iter(text.values()), None))
        if options.variant is not None:
            written = make_record(Manifest, {**fields, **created_by(BUNDLE_SCHEMA), "files": {}}, folder)
            frames = options.frames or take_frames(DRAWN)
            variant = make_variant(Bundle(folder, written, ""), options.variant, frames, folder, report)
            fields["variants"] = (variant,)

    return write_bundle(target, fields, fill, replace=options.replace)


def _write_text(folder: Path, text: Mapping[str, NDArray[np.float32]], record: ModelRecord, pack: PromptPack) -> None:
    """Write the text embeddings and the prompts that they were made from."""
    write_text_file(
        folder / "text.safetensors",
        text,
        pack=pack.name,
        weights_sha256=record.weights_sha256,
        activation=record.text_activation,
    )
    prompts = json.dumps(pack.to_json(), indent=2, ensure_ascii=False) + "\n"
    (folder / "prompts.json").write_text(prompts, encoding="utf-8")


def _write_graph(graph: EncoderGraph, folder: Path, image: ImageRecord, dim: int, options: BundleOptions) -> None:
    """Translate the graph and write it."""
    onnx_model = to_onnx(graph, (image.height, image.width), dim)
    if options.store_half:
        store_half(onnx_model)
    save_graph(onnx_model, folder)


@torch.no_grad()
def _prove(
    graph: EncoderGraph,
    folder: Path,
    image: ImageRecord,
    text: NDArray[np.float32] | None,
) -> ParityRecord:
    """Write the golden sample and hold the written graph against it."""
    size = (image.height, image.width)
    pictures = golden_images(size)
    inputs = normalise(pictures, image)
    given = text if "text" in graph.input_names else None
    tensors = [torch.from_numpy(inputs), *([torch.from_numpy(given)] if given is not None else [])]
    reference = {name: each.numpy() for name, each in zip(graph.output_names, graph(*tensors), strict=True)}
    sample: dict[str, NDArray[Any]] = {"image": pictures, **reference}
    if given is not None:
        sample["text"] = given
    write_tensors(folder / "golden.safetensors", sample)
    results = run_graph(folder / GRAPH_FILE, inputs, given)
    return compare(reference, results, graph.stage_records(), size, "fp32", text)


def _every_term(*, text: bool, heads: bool) -> ScoreRecord:
    """The raw score of APRIL-GAN: text where there is any, zero-shot map where there are heads, memory bank."""
    first: tuple[Literal["text", "zero-shot-map"], ...] = ("text", "zero-shot-map") if heads else ("text",)
    return ScoreRecord(terms=(*(first if text else ()), "memory-map"))


def _dim(record: ModelRecord) -> int:
    """Length of the embeddings."""
    dim = record.config["embed_dim"]
    if not isinstance(dim, int):
        raise BadInputError(f"expected embed_dim as a number in the model config, found {dim!r}; correct the config")
    return dim


def _check_activation(heads: Heads | None, model: ModelRecord) -> None:
    """Refuse heads that were trained behind another activation than the model runs with."""
    own = model.text_activation if model.image_activation == "none" else model.image_activation
    if heads is not None and heads.activation is not None and heads.activation != own:
        raise BadInputError(
            f"expected heads trained with the activation {own} that {model.name} runs with, found heads trained with "
            f"{heads.activation}; take --activation {heads.activation} or other heads"
        )


def _check_finite(visual: torch.nn.Module, model: ModelRecord) -> None:
    """Refuse weights that are no numbers."""
    for name, tensor in visual.state_dict().items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise BadInputError(
                f"expected finite weights in {model.pretrained}, found NaN or infinity in visual.{name}; "
                "the file is damaged, bring it again"
            )

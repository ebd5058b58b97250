"""Prepares a bundle for ``vvv``: CLIPSeg as its graph, text by object, and DIS and SAM for the enrolment.

``--weights`` takes CLIPSeg's weights, and beside them those of DIS (IS-Net) and SAM, or neither; each is known by its
tensors' names, in whatever order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from edgevand.bundle import ImageRecord, MapRecord, MethodRecord
from edgevand.errors import UsageError
from edgevand.prompts import compile_prompts, load_pack
from edgevand.records import created_by, dump_record, make_record
from edgevand.tensors import write_tensors
from edgevand_export.golden import golden_images
from edgevand_export.methods.own_graph import write_own_graph
from edgevand_export.segmenters.clipseg import CLIPSEG_KEY, ClipSegGraph, ClipSegModel, load_clipseg
from edgevand_export.segmenters.isnet import DIS_KEY, DIS_SIDE, load_isnet
from edgevand_export.segmenters.sam import SAM_KEY, SamDecoder, SamEncoder, load_sam
from edgevand_export.segmenters.side_graph import write_side_graph
from edgevand_export.segmenters.weights import read_weights
from edgevand_export.text import BATCH, pool
from edgevand_runtime.methods.foreground.everything import sam_input
from edgevand_runtime.methods.foreground.graphs import (
    FOREGROUND_FILE,
    FOREGROUND_SCHEMA,
    DisRecord,
    ForegroundRecord,
    SamRecord,
)
from edgevand_runtime.methods.foreground.saliency import dis_input
from edgevand_runtime.methods.vvv import MAP, VVV, VvvSettings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edgevand.bundle import Bundle
    from edgevand_export.segmenters.weights import Weights

__all__ = ["PROMPTS", "export_vvv"]

PROMPTS = (
    "a tear",
    "a rip",
    "some damage",
    "a fault",
    "a break",
    "an abnormality",
    "a defect",
    "a crack",
    "an anomaly",
    "a missing component",
    "an error",
    "a mark",
    "a cut",
    "a dent",
    "a scratch",
    "an imperfection",
    "a blemish",
    "a mistake",
)
"""The report's localising prompts; it lists ``an error`` twice."""

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TENSORS = "vvv-text.safetensors"
"""Of the method's own tensors: ``text_<object>`` (2, D)."""

_KEYS = {CLIPSEG_KEY: "CLIPSeg", DIS_KEY: "DIS", SAM_KEY: "SAM"}


def export_vvv(
    base: Bundle,
    settings: dict[str, Any],
    weights: tuple[Path, ...],
    folder: Path,
    report: Callable[[str], None],
) -> MethodRecord:
    """Write CLIPSeg's graph, the text of the objects and, with their weights, DIS and SAM; see ``Exporter``.

    Raises:
        UsageError: no CLIPSeg among the weights, DIS without SAM or the other way round.
        BadInputError: weights that cannot be read, or of another architecture.
        GateError: a graph does not compute what torch computes.
    """
    options = VvvSettings.model_validate(settings)
    given = _recognised(weights)
    model = load_clipseg(given["CLIPSeg"])
    if options.side % model.patch:
        raise UsageError(
            f"expected --set side as a multiple of CLIPSeg's {model.patch} px patches, found {options.side}; take "
            f"{max(1, round(options.side / model.patch)) * model.patch}"
        )
    graph = ClipSegGraph(model.module, model.embed(_tokenized(list(PROMPTS))), options.side).eval()
    image = ImageRecord(height=options.side, width=options.side, mean=IMAGENET_MEAN, std=IMAGENET_STD)
    report(f"CLIPSeg at {options.side} px with {len(PROMPTS)} localising prompts")
    with torch.no_grad():
        rows, columns = graph(torch.zeros(1, 3, options.side, options.side))[1].shape[1:]
    own = write_own_graph(
        graph,
        folder,
        VVV.name,
        image,
        maps=[MapRecord(name=MAP, grid=(int(rows), int(columns)))],
        embedding_dim=model.dim,
    )
    objects = options.objects or base.objects or ("object",)
    write_tensors(folder / TENSORS, _texts(model, objects, report))
    if "SAM" in given:
        _write_foreground(given["DIS"], given["SAM"], folder, report)
    return MethodRecord(name=VVV.name, settings=settings, graph=own, tensors=TENSORS)


def _recognised(paths: tuple[Path, ...]) -> dict[str, Weights]:
    """Weights by the model that their tensors' names tell."""
    found: dict[str, Weights] = {}
    for path in paths:
        weights = read_weights(path)
        kind = next((kind for key, kind in _KEYS.items() if key in weights.state), None)
        if kind is None or kind in found:
            what = "weights of none of them" if kind is None else f"a second {kind}"
            raise UsageError(
                f"expected --weights of CLIPSeg, DIS (IS-Net) and SAM, once each, found {what} in {weights.path}; "
                "bring CLIPSeg and SAM as transformers saves them, and isnet-general-use.pth"
            )
        found[kind] = weights
    if "CLIPSeg" not in found or ("DIS" in found) != ("SAM" in found):
        raise UsageError(
            f"expected --weights of CLIPSeg, alone or with those of DIS and SAM, found {' and '.join(found) or 'none'}"
            "; give one --weights for each"
        )
    return found


def _tokenized(sentences: list[str]) -> torch.Tensor:
    """Sentences to CLIP's token ids (S, 77)."""
    from open_clip.tokenizer import SimpleTokenizer

    ids: torch.Tensor = SimpleTokenizer(context_length=77)(sentences)
    return ids


def _texts(model: ClipSegModel, objects: tuple[str, ...], report: Callable[[str], None]) -> dict[str, Any]:
    """``text_<object>`` (2, D) float32, rows (normal, abnormal): means of unit embeddings, not made unit again."""
    pack = load_pack("vvv")
    report(f"text embeddings of {', '.join(objects)} with the prompts {pack.name}")
    texts = {}
    for name in objects:
        sides = [pool(_embedded(model, sentences), pack.pooling) for sentences in compile_prompts(pack, name)]
        texts[f"text_{name}"] = torch.stack(sides).numpy()
    return texts


def _embedded(model: ClipSegModel, sentences: list[str]) -> torch.Tensor:
    """Sentences to embeddings (S, D), not normalised."""
    return torch.cat([model.embed(batch) for batch in torch.split(_tokenized(sentences), BATCH)])


def _write_foreground(dis: Weights, sam: Weights, folder: Path, report: Callable[[str], None]) -> None:
    """DIS and SAM as graphs, and their record."""
    network = load_isnet(dis)
    report(f"DIS at {DIS_SIDE} px")
    picture = golden_images((DIS_SIDE, DIS_SIDE))[0][..., ::-1]
    graph = write_side_graph(
        network,
        folder,
        "vvv-dis.onnx",
        {"image": torch.from_numpy(dis_input(picture, DIS_SIDE))},
        ["mask"],
        {"image": None},
    )
    model = load_sam(sam)
    side = int(model.config.vision_config.image_size)
    report(f"SAM at {side} px")
    image = torch.from_numpy(sam_input(picture, side))
    encoder = write_side_graph(
        SamEncoder(model), folder, "vvv-sam-encoder.onnx", {"image": image}, ["embedding"], {"image": None}
    )
    with torch.no_grad():
        embedding = SamEncoder(model)(image)
    points = torch.tensor([[0.25, 0.25], [0.5, 0.5], [0.75, 0.25]]) * side
    decoder = write_side_graph(
        SamDecoder(model),
        folder,
        "vvv-sam-decoder.onnx",
        {"embedding": embedding, "points": points},
        ["logits", "iou"],
        {"embedding": None, "points": {0: torch.export.Dim("P", min=1, max=1024)}},
    )
    record = make_record(
        ForegroundRecord,
        {
            **created_by(FOREGROUND_SCHEMA),
            "dis": DisRecord(side=DIS_SIDE, graph=graph),
            "sam": SamRecord(side=side, encoder=encoder, decoder=decoder),
        },
        folder / FOREGROUND_FILE,
    )
    (folder / FOREGROUND_FILE).write_bytes(dump_record(record))

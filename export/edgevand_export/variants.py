"""A bundle's graph in another precision, with its proofs: parity certificate and passed gate (docs/precision.md)."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import onnx_ir as ir
from onnxscript import optimizer

from edgevand.bundle import Bundle, GraphRecord, VariantRecord, write_bundle
from edgevand.errors import GateError
from edgevand_export.golden import normalise
from edgevand_export.parity import compare, run_graph
from edgevand_export.precision import to_half
from edgevand_export.quantize import quantise
from edgevand_export.storage import save_graph, variant_file
from edgevand_runtime.engines.onnxruntime import OnnxRuntimeEngine
from edgevand_runtime.gate import judge, look
from edgevand_runtime.preprocess import to_tensor

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from edgevand.bundle import ParityRecord, Precision
    from edgevand_export.frames import Frames
    from edgevand_runtime.gate import Judgement

__all__ = ["add_variant", "make_variant"]


def add_variant(
    bundle: Bundle, precision: Precision, frames: Frames, target: Path, report: Callable[[str], None] = lambda _: None
) -> Bundle:
    """Write a copy of a float32 bundle that has its graph in another precision as well, or leave nothing.

    Args:
        bundle: stays as it is; a variant that it has in this precision is left out of the copy.
        precision: ``fp16`` or ``int8``.
        frames: to set scales and to judge by.
        target: directory of the copy; must not exist.
        report: called with a line for people when a step begins.

    Raises:
        GateError: the variant does not compute what it should, or moves scores; the message says what moved.
        OutputError: the target is there already or cannot be written.
    """
    manifest = bundle.manifest
    others = [variant for variant in manifest.variants if variant.graph.precision != precision]
    left_out = {variant_file(precision), f"{variant_file(precision)}.data"}
    fields = {name: getattr(manifest, name) for name in type(manifest).model_fields}
    for name in ("schema_", "created", "generator", "files"):
        del fields[name]

    def fill(folder: Path) -> None:
        for name in manifest.files.keys() - left_out:
            _link(bundle.path / name, folder / name)
        fields["variants"] = (*others, make_variant(bundle, precision, frames, folder, report))

    return write_bundle(target, fields, fill)


def make_variant(
    bundle: Bundle, precision: Precision, frames: Frames, folder: Path, report: Callable[[str], None]
) -> VariantRecord:
    """Write a bundle's graph in another precision and prove it.

    Args:
        bundle: its main graph is float32.
        precision: ``fp16`` or ``int8``.
        frames: to set scales and to judge by.
        folder: where the graph is written.
        report: called with a line for people when a step begins.

    Raises:
        GateError: see ``add_variant``.
    """
    name = variant_file(precision)
    if precision == "int8":
        report(f"quantise: scales from {len(frames.scaling)} frames")
        model = quantise(bundle.graph_path, [_feed(bundle, image) for image in frames.scaling])
    else:
        report("half precision of the products")
        model = ir.load(bundle.graph_path)
        optimizer.fold_constants(model, onnx_shape_inference=False, input_size_limit=1 << 40, output_size_limit=1 << 40)
        to_half(model)
    save_graph(model, folder, name)
    opset = model.graph.opset_imports[""]
    del model
    report(f"parity of torch and ONNX Runtime in {precision} on the golden sample")
    parity = _prove(bundle, folder / name, precision)
    report(f"gate: {precision} against fp32 on {len(frames.judging)} frames, and on each with a drawn blemish")
    judgement = _judge(bundle, folder / name, precision, frames)
    if not judgement.record.passed:
        raise GateError(_failed(judgement))
    return VariantRecord(
        graph=GraphRecord(file=name, opset=opset, precision=precision), parity=parity, gate=judgement.record
    )


def _prove(bundle: Bundle, graph: Path, precision: Precision) -> ParityRecord:
    """Hold the written graph against what torch computed for the golden sample."""
    manifest, golden = bundle.manifest, bundle.golden()
    given = golden.pop("text", None)
    pictures = golden.pop("image")
    results = run_graph(graph, normalise(pictures, manifest.image), given)
    size = (manifest.image.height, manifest.image.width)
    return compare(golden, results, manifest.stages, size, precision, _text(bundle) if given is None else given)


def _judge(bundle: Bundle, graph: Path, precision: Precision, frames: Frames) -> Judgement:
    """Both graphs by ONNX Runtime on the processor, one after the other, to hold the weights of one at a time."""
    manifest, text = bundle.manifest, _text(bundle)
    seen = []
    for path, each in ((bundle.graph_path, manifest.graph.precision), (graph, precision)):
        engine = OnnxRuntimeEngine(path, manifest, each, device="cpu")
        try:
            seen.append(look(manifest, engine, frames.judging, text))
        finally:
            engine.close()
    return judge(manifest, seen[0], seen[1], frames.groups, text)


def _failed(judgement: Judgement) -> str:
    """What moved: a sentence, and a table below it."""
    record = judgement.record
    return (
        f"expected {record.precision} to move no score by more than {record.moved_limit:g} deviations and to keep "
        f"{record.ranking_limit:.0%} of the order, found {record.moved:.2f} deviations and {record.ranking:.1%}; "
        f"nothing was written, export without --precision {record.precision} or calibrate with other frames\n"
        + judgement.table()
    )


def _feed(bundle: Bundle, image: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    """Inputs of the graph for one frame."""
    feed = {"image": to_tensor(image, bundle.manifest.image)[None]}
    text = _text(bundle)
    if bundle.manifest.has_heads and text is not None:
        feed["text"] = text
    return feed


def _text(bundle: Bundle) -> NDArray[np.float32] | None:
    """Text embedding of the bundle's first object."""
    return bundle.text(bundle.objects[0])[1] if bundle.objects else None


def _link(source: Path, target: Path) -> None:
    """The same file under another name where the file system can, else a copy: bundles never change."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)

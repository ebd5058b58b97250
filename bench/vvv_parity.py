"""vvv's models at their published shapes, random weights: our modules against transformers, graphs against torch.

    python bench/vvv_parity.py [clipseg] [dis] [sam] [--sam-width 768]

CLIPSeg is ViT-B/16 at 352 px with 18 prompts, both decoders; IS-Net runs at 1024 px; SAM is ViT-B at 1024 px (768
wide), or ViT-L (1024) or ViT-H (1280), with 64 points. Prints the largest difference, relative to the largest value, of
each module and of each graph, and the processor's own time of one run; other weights take as long.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from edgevand_export.graph import translate
from edgevand_export.methods.vvv import PROMPTS
from edgevand_export.segmenters.clipseg import ClipSegGraph
from edgevand_export.segmenters.isnet import DIS_SIDE, IsNet
from edgevand_export.segmenters.sam import SamDecoder, SamEncoder, published_config
from edgevand_export.storage import save_graph

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

SIDE = 352
POINTS = 64


def relative(found: torch.Tensor | NDArray[np.float32], wanted: torch.Tensor | NDArray[np.float32]) -> float:
    """Largest difference over the largest value."""
    a, b = np.asarray(found), np.asarray(wanted)
    return float(np.abs(a - b).max() / np.abs(b).max())


@torch.no_grad()
def graph_row(
    name: str, module: torch.nn.Module, inputs: Mapping[str, torch.Tensor], outputs: Sequence[str], dynamic: str | None
) -> None:
    """Export, run by ONNX Runtime, and print difference and time."""
    import onnxruntime

    wanted = module(*inputs.values())
    wanted = (wanted,) if isinstance(wanted, torch.Tensor) else wanted
    axis = {0: torch.export.Dim("N", min=1, max=1024)}
    shapes = {key: axis if key == dynamic else None for key in inputs}
    with tempfile.TemporaryDirectory() as folder:
        save_graph(translate(module, inputs, list(outputs), shapes), Path(folder), "graph.onnx")
        size = sum(file.stat().st_size for file in Path(folder).iterdir()) / 2**20
        session = onnxruntime.InferenceSession(Path(folder) / "graph.onnx", providers=["CPUExecutionProvider"])
    feed = {key: each.numpy() for key, each in inputs.items()}
    started = time.process_time()
    found = session.run(list(outputs), feed)
    seconds = time.process_time() - started
    for output, one, other in zip(outputs, found, wanted, strict=True):
        print(f"{name:34} {output:12} graph / torch        {relative(one, other):.1e}")
    print(f"{name:34} {'':12} {seconds:.2f} s of a core, {size:.0f} MiB")


@torch.no_grad()
def clipseg() -> None:
    """Both decoders."""
    from transformers import CLIPSegConfig, CLIPSegForImageSegmentation

    for refined in (False, True):
        name = f"CLIPSeg {'rd64-refined' if refined else 'rd64'}"
        torch.manual_seed(0)
        vision = {"patch_size": 16, "image_size": 224}
        config = CLIPSegConfig(vision_config=vision, use_complex_transposed_convolution=refined)
        original: Any = CLIPSegForImageSegmentation(config)
        model = original.eval()
        tiles = torch.randn(1, 3, SIDE, SIDE)
        conditions = torch.randn(len(PROMPTS), 512)
        graph = ClipSegGraph(model, conditions, SIDE).eval()
        embedding, activations = graph.encode(tiles)
        seen = model.clip.get_image_features(tiles, output_hidden_states=True)
        print(f"{name:34} {'embedding':12} ours / transformers  {relative(embedding, seen.pooler_output):.1e}")
        for index, found in zip(model.extract_layers, activations, strict=True):
            difference = relative(found, seen.hidden_states[index + 1])
            print(f"{name:34} {f'block {index}':12} ours / transformers  {difference:.1e}")
        logits = graph.decode(activations)[0]
        stages = [seen.hidden_states[index + 1].expand(len(conditions), -1, -1) for index in model.extract_layers]
        wanted = model.decoder(stages, conditions).logits.reshape(logits.shape)
        print(f"{name:34} {'logits':12} ours / transformers  {relative(logits, wanted):.1e}")
        graph_row(f"{name}, tile of 352 px", graph, {"image": tiles}, ["embedding", "map_damage"], "image")


@torch.no_grad()
def dis() -> None:
    """IS-Net."""
    torch.manual_seed(0)
    image = torch.rand(1, 3, DIS_SIDE, DIS_SIDE) - 0.5
    graph_row("IS-Net (DIS) at 1024 px", IsNet().eval(), {"image": image}, ["mask"], None)


@torch.no_grad()
def sam(width: int) -> None:
    """Encoder and decoder."""
    from transformers import SamConfig, SamModel

    torch.manual_seed(0)
    config = SamConfig(**published_config(width))
    config._attn_implementation = "eager"  # noqa: SLF001 (as the exporter does)
    original: Any = SamModel(config)
    model = original.eval()
    image = torch.randn(1, 3, 1024, 1024)
    encoder, decoder = SamEncoder(model).eval(), SamDecoder(model).eval()
    embedding = encoder(image)
    points = torch.rand(POINTS, 2) * 1024
    logits, predicted = decoder(embedding, points)
    wanted = model(
        image_embeddings=embedding,
        input_points=points[None, :, None],
        input_labels=torch.ones(1, POINTS, 1, dtype=torch.long),
        multimask_output=True,
    )
    name = f"SAM, {width} wide"
    print(f"{name:34} {'logits':12} ours / transformers  {relative(logits, wanted.pred_masks[0]):.1e}")
    print(f"{name:34} {'iou':12} ours / transformers  {relative(predicted, wanted.iou_scores[0]):.1e}")
    graph_row(f"{name}, picture at 1024 px", encoder, {"image": image}, ["embedding"], None)
    both = {"embedding": embedding, "points": points}
    graph_row(f"{name}, {POINTS} points", decoder, both, ["logits", "iou"], "points")


def main() -> None:
    """Read what was typed, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=["clipseg", "dis", "sam"], help="clipseg, dis, sam")
    parser.add_argument("--sam-width", type=int, default=768, help="768: ViT-B, 1024: ViT-L, 1280: ViT-H")
    arguments = parser.parse_args()
    known: dict[str, Callable[[], None]] = {
        "clipseg": clipseg,
        "dis": dis,
        "sam": partial(sam, arguments.sam_width),
    }
    for name in arguments.models:
        known[name]()


if __name__ == "__main__":
    main()

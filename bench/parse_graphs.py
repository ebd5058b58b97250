"""Whether TensorRT-RTX parses and builds every graph that `edgevand export` writes, for GPUs that are not here.

    python bench/parse_graphs.py                  # the table of docs/edge.md
    python bench/parse_graphs.py ViT-B-32 --size 224 --precision fp16 --target sm89

Models have their real shape and random weights, with heads; each export and each build is a process of its own. Nothing
is run: a build says that every operator is known and that kernels exist, not what they compute.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from edgevand.home import builtin_bundle
from edgevand_runtime.engines.tensorrt_compile import Job

TABLE = (
    ("ViT-B-32", 224),
    ("ViT-B-16-plus-240", 240),
    ("RN50", 224),
    ("ViT-L-14-336", 518),
    ("ViT-H-14", 224),
)
TARGETS = ("sm86", "sm89", "sm120")
PRECISIONS = ("fp32", "fp16", "int8")

EXPORT = """
import sys
from pathlib import Path
import open_clip, torch
from open_clip.model import _build_vision_tower
from edgevand_export.graph import EncoderGraph, to_onnx
from edgevand_export.precision import to_half
from edgevand_export.storage import GRAPH_FILE, save_graph
from edgevand_export.towers import make_tower

name, side, precision, folder = sys.argv[1], int(sys.argv[2]), sys.argv[3], Path(sys.argv[4])
torch.manual_seed(0)
config = open_clip.get_model_config(name)
dim = config["embed_dim"]
visual = _build_vision_tower(dim, config["vision_cfg"], quick_gelu=config.get("quick_gelu", False)).eval()
tower = make_tower(visual, (side, side))
widths = dict(zip(tower.stages, tower.widths))
heads = {stage: (torch.randn(dim, width), torch.randn(dim)) for stage, width in widths.items()}
graph = to_onnx(EncoderGraph(tower, heads).eval(), (side, side), dim)
if precision == "fp16":
    to_half(graph)
save_graph(graph, folder)
if precision == "int8":
    from edgevand_export.quantize import quantise
    text = torch.nn.functional.normalize(torch.randn(2, dim), dim=1).numpy()
    feeds = [{"image": torch.randn(1, 3, side, side).numpy(), "text": text} for _ in range(2)]
    graph = quantise(folder / GRAPH_FILE, feeds)
    save_graph(graph, folder, "encoder.int8.onnx")
"""


def main() -> None:
    """Print the table, row by row; exit code 1 if a graph is refused."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", help="one open_clip model instead of the table")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--precision", choices=PRECISIONS, action="append")
    parser.add_argument("--target", action="append")
    options = parser.parse_args()
    if importlib.util.find_spec("tensorrt_rtx_bindings") is None and importlib.util.find_spec("tensorrt_rtx") is None:
        print("skipped: TensorRT-RTX is not installed (pip install 'edgevand[tensorrt-rtx]')")
        return
    rows = ((options.model, options.size),) if options.model else TABLE
    targets = tuple(options.target or TARGETS)
    print("| model | px | precision | graph, MB | " + " | ".join(f"{each}, s" for each in targets) + " | plan, MB |")
    print("| --- " * (5 + len(targets)) + "|")
    refused = False
    if not options.model:
        refused |= not show("built-in", 0, "fp32", builtin_bundle() / "encoder.onnx", targets)
    for model, size in rows:
        for precision in options.precision or PRECISIONS:
            with tempfile.TemporaryDirectory() as folder:
                graph = export(model, size, precision, Path(folder))
                refused |= not show(model, size, precision, graph, targets)
    sys.exit(refused)


def export(model: str, size: int, precision: str, folder: Path) -> Path:
    """Write the graph of a model with random weights and return its path."""
    command = [sys.executable, "-c", EXPORT, model, str(size), precision, str(folder)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folder / ("encoder.int8.onnx" if precision == "int8" else "encoder.onnx")


def show(model: str, size: int, precision: str, graph: Path, targets: tuple[str, ...]) -> bool:
    """Build one graph for every target and print its row; whether all of them were built."""
    manifest = json.loads((builtin_bundle() / "manifest.json").read_text())
    side = size or manifest["image"]["height"]
    megabytes = sum(path.stat().st_size for path in graph.parent.glob("encoder.*")) / 1e6
    cells, plan, good = [], 0.0, True
    for target in targets:
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder) / "plan"
            begin = time.perf_counter()
            fault = build(Job("tensorrt-rtx", str(graph), str(place), (3, side, side), 1, None, target, None))
            cells.append(fault or f"{time.perf_counter() - begin:.0f}")
            good &= fault is None
            plan = plan if fault else place.stat().st_size / 1e6
    print(f"| {model} | {side} | {precision} | {megabytes:.0f} | {' | '.join(cells)} | {plan:.0f} |", flush=True)
    return good


def build(job: Job) -> str | None:
    """Build in a process of its own; None, or what went wrong."""
    command = [sys.executable, "-m", "edgevand_runtime.engines.tensorrt_compile"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path[1:] if entry)}
    done = subprocess.run(
        command, input=job.to_json() + "\n", capture_output=True, text=True, check=False, env=environment
    )
    last = json.loads((done.stdout.splitlines() or ["{}"])[-1])
    return None if last.get("done") else f"refused: {last.get('error') or done.returncode}"


if __name__ == "__main__":
    main()

"""How long an export takes and how much memory it needs, for models of their real shape with random weights.

    python bench/export_sizes.py                 # the table of docs/export.md: about half an hour on two cores
    python bench/export_sizes.py ViT-B-16 --size 224

Each row is one `edgevand export` in a process of its own, with two threads and a home directory of its own.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

TAG = "random"
TABLE = (
    ("ViT-L-14-336", 518, "fp32"),
    ("ViT-L-14-336", 518, "fp16"),
    ("ViT-B-16-plus-240", 240, "fp32"),
    ("ViT-H-14", 518, "fp32"),
    ("RN50", 224, "fp32"),
)
MAKE_WEIGHTS = """
import sys, open_clip, torch
from safetensors.torch import save_file
torch.manual_seed(0)
state = open_clip.create_model(sys.argv[1]).state_dict()
save_file({name: tensor.contiguous() for name, tensor in state.items()}, sys.argv[2])
"""
THREADS = {"OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"}


class Measured(NamedTuple):
    """One export."""

    wall: float
    cpu: float
    peak: float
    size: float


def main() -> None:
    """Print the table, row by row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", help="one open_clip model instead of the table")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--precision", default="fp32", choices=["fp32", "fp16"])
    options = parser.parse_args()
    rows = ((options.model, options.size, options.precision),) if options.model else TABLE
    print("| model | px | precision | wall, s | CPU, s | peak memory, GB | bundle, GB |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for model, size, precision in rows:
            place_weights(Path(folder), model)
            found = measure(Path(folder), model, size, precision)
            numbers = f"{found.wall:.0f} | {found.cpu:.0f} | {found.peak:.1f} | {found.size:.2f}"
            print(f"| {model} | {size} | {precision} | {numbers} |", flush=True)


def place_weights(home: Path, model: str) -> None:
    """Put random weights of the model's shape where the export looks for weights brought by hand."""
    path = home / "weights" / model / f"{TAG}.safetensors"
    if not path.exists():
        path.parent.mkdir(parents=True)
        subprocess.run([sys.executable, "-c", MAKE_WEIGHTS, model, path], check=True, capture_output=True)


def measure(home: Path, model: str, size: int, precision: str) -> Measured:
    """Run one export and delete its bundle."""
    target = home / "bundle"
    command = [sys.executable, "-m", "edgevand", "export", "--model", model, "--pretrained", TAG, "-q"]
    command += ["--image-size", str(size), "--precision", precision, "-o", str(target)]
    begin = time.perf_counter()
    process = subprocess.Popen(
        command, env={**os.environ, **THREADS, "EDGEVAND_HOME": str(home)}, stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - begin
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"the export of {model} ended with {process.returncode}")
    size_bytes = sum(path.stat().st_size for path in target.iterdir())
    shutil.rmtree(target)
    return Measured(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / 1e9, size_bytes / 1e9)


if __name__ == "__main__":
    main()

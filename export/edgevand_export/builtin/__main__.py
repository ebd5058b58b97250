"""``python -m edgevand_export.builtin``: make the built-in bundle anew (docs/builtin.md)."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import cv2
import torch

from edgevand.errors import EdgevandError
from edgevand.home import builtin_bundle, home
from edgevand_export.builtin.make import make


def main() -> int:
    """Read the arguments and make the bundle; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m edgevand_export.builtin", description="Make the built-in bundle.")
    parser.add_argument("--work", type=Path, default=home() / "builtin", help="encoded drawings and checkpoints")
    parser.add_argument(
        "-o", "--output", type=Path, default=builtin_bundle(), help="the bundle; an older one is replaced"
    )
    arguments = parser.parse_args()
    # One core: the order of additions, and so the last bits of the weights, would change with the number of threads.
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        bundle = make(arguments.work, arguments.output, lambda line: print(line, file=sys.stderr, flush=True))
    except EdgevandError as error:
        print(f"edgevand: {error}", file=sys.stderr)
        return error.exit_code
    print(bundle.path)
    return 0


if __name__ == "__main__":
    sys.exit(main())

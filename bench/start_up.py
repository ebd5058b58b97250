"""Start to first result: the whole program, from the shell's call to the result of one frame on disk.

    python bench/start_up.py [--bundle DIR] [--runs 5]

Enrols four frames of the drawn conveyor first; what is timed is ``edgevand score IMAGE --bank BANK``: starting
Python, opening and hashing the bundle and bank, loading the graph, and the first frame.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from edgevand.home import builtin_bundle

CONVEYOR = "test://conveyor?frames=40&defects=0"


def edgevand(home: Path, *arguments: object) -> float:
    """Run the program; wall seconds."""
    command = [sys.executable, "-m", "edgevand", *map(str, arguments)]
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "EDGEVAND_HOME": str(home)})
    return time.perf_counter() - start


def main() -> None:
    """Enrol, time, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=builtin_bundle())
    parser.add_argument("--runs", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        bank = home / "bank"
        edgevand(home, "enroll", "--source", CONVEYOR, "--shots", 4, "--bundle", given.bundle, "-o", bank)
        image = bank / "frames" / "0001.jpg"
        score = ("score", image, "--bundle", given.bundle, "--bank", bank, "-o", "-")
        seconds = [edgevand(home, *score) for _ in range(given.runs + 1)][1:]
        command_line = statistics.median(edgevand(home, "--help") for _ in range(given.runs))
    size = sum(file.stat().st_size for file in given.bundle.rglob("*") if file.is_file())
    print(f"bundle of {size / 1e6:.0f} MB, median of {given.runs} runs, files cached by the system")
    print(f"edgevand --help         {command_line:6.2f} s")
    print(f"start to first result   {statistics.median(seconds):6.2f} s   (goal: 2 s built-in, 10 s ViT-L-14-336)")


if __name__ == "__main__":
    main()

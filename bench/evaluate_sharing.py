"""What sharing the encoder between the rows of an evaluation saves: one run of all rows against each row by itself.

Processor time of the whole process, engine on one thread, so that what else the machine does matters little::

    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python bench/evaluate_sharing.py [DATA] [--bundle DIR]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from edgevand.bundle import Bundle
from edgevand.home import builtin_bundle
from edgevand_runtime.datasets import open_dataset
from edgevand_runtime.engines import open_engine
from edgevand_runtime.evaluation import EvaluateOptions, evaluate

if TYPE_CHECKING:
    from edgevand_runtime.datasets import Dataset
    from edgevand_runtime.engines import Engine

SHOTS, SEEDS = (0, 1, 2, 4), (0, 1, 2)
HAZELNUTS = Path(__file__).resolve().parents[2] / "shared/data/hazelnut-toy"


def measure(dataset: Dataset, bundle: Bundle, engine: Engine, options: EvaluateOptions) -> tuple[float, int, int]:
    """Processor seconds of an evaluation, rows, and pictures that were encoded."""
    with TemporaryDirectory() as folder:
        started = time.process_time()
        report = evaluate(dataset, bundle, engine, Path(folder) / "report", options, html=False)
        spent = time.process_time() - started
    return spent, len(report["rows"]), sum(work["encoded"] for work in report["work"])


def main() -> None:
    """Read the arguments, measure both ways, print."""
    parser = argparse.ArgumentParser(description="what sharing the encoder between rows saves")
    parser.add_argument("data", type=Path, nargs="?", default=HAZELNUTS, help="a dataset")
    parser.add_argument("--bundle", type=Path, help="default: the built-in one")
    arguments = parser.parse_args()
    bundle = Bundle.open(arguments.bundle or builtin_bundle())
    engine = open_engine(bundle, threads=1)
    dataset = open_dataset(arguments.data)
    alone = [(shots, seed) for shots in SHOTS for seed in (SEEDS if shots else SEEDS[:1])]
    found = {"all rows in one run": [measure(dataset, bundle, engine, EvaluateOptions(SHOTS, SEEDS))]}
    found["each row by itself"] = [
        measure(dataset, bundle, engine, EvaluateOptions((shots,), (seed,))) for shots, seed in alone
    ]
    for name, runs in found.items():
        seconds, rows, pictures = (sum(values) for values in zip(*runs, strict=True))
        print(f"{name}: {rows} rows, {pictures} pictures encoded, {seconds:.1f} s of processor time")


if __name__ == "__main__":
    main()

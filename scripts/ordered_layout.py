"""Lay a fixed camera's pictures out as datasets for ``edgevand evaluate --ordered``, by links; nothing is copied.

The pictures of each position are in order of time by their names, and ``labels.json`` says which are anomalous::

    SOURCE/labels.json             {"<position>": {"<file>": 0 or 1}}
    SOURCE/<position>/<file>

The first K normal ones become ``TARGET/<position>/train/good``, the others ``test/good`` and ``test/anomalous``
(layout ``folder``)::

    python scripts/ordered_layout.py ../shared/data/ballscrew /tmp/ballscrew --train 16
    edgevand evaluate --data /tmp/ballscrew/305000_090 --ordered --shots 4,8,16 -o report
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from edgevand_runtime.sources.files import natural_key


def lay_out(source: Path, target: Path, train: int) -> list[Path]:
    """Link every position's pictures into a dataset of its own and return their folders.

    Args:
        source: with ``labels.json`` and a folder for each position.
        target: made; must not be there.
        train: normal pictures that may be enrolled, the first ones.
    """
    datasets = []
    for position, labels in json.loads((source / "labels.json").read_text(encoding="utf-8")).items():
        normal = 0
        for name in sorted(labels, key=natural_key):
            normal += labels[name] == 0
            kind = "test/anomalous" if labels[name] else "train/good" if normal <= train else "test/good"
            link = target / position / kind / name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to((source / position / name).resolve())
        datasets.append(target / position)
    return datasets


def main() -> None:
    """Read the arguments and say what was made."""
    parser = argparse.ArgumentParser(description="lay a fixed camera's pictures out for edgevand evaluate --ordered")
    parser.add_argument("source", type=Path, help="folder with labels.json and a folder for each position")
    parser.add_argument("target", type=Path, help="where the datasets are made")
    parser.add_argument("--train", type=int, default=16, metavar="K", help="first normal pictures that may be enrolled")
    options = parser.parse_args()
    for dataset in lay_out(options.source, options.target, options.train):
        print(dataset)


if __name__ == "__main__":
    main()

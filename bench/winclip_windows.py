"""What all windows of a picture cost: a pass for each, a batch for each scale, and the packed pass that is exported.

    python bench/winclip_windows.py [--model ViT-B-16-plus-240]

Random weights, by PyTorch, one picture at the model's own size; times are the processor's own, which other programs do
not lengthen. "One by one" encodes each window's tokens alone; "masked" encodes the whole picture once for each window
with all other tokens masked, and is told by the passes it takes.
"""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING, Any

import open_clip
import torch
from torch.nn import functional

from edgevand_export.windows import SCALES, VitWindows, make_windows, window_places

if TYPE_CHECKING:
    from collections.abc import Callable

RUNS = 2


def tokens_of(visual: Any, table: torch.Tensor, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:  # noqa: ANN401 (open_clip)
    """Class token (1, 1, C) and patch tokens (N, P, C) after the positional table."""
    patches = visual.conv1(image).flatten(2).transpose(1, 2) + table[1:]
    return (visual.class_embedding + table[0]).reshape(1, 1, -1), patches


def encode(visual: Any, tokens: torch.Tensor) -> torch.Tensor:  # noqa: ANN401 (open_clip)
    """Tokens (N, L, C) to features (N, D)."""
    features: torch.Tensor = visual.ln_post(visual.transformer(visual.ln_pre(tokens))[:, 0]) @ visual.proj
    return features


def seconds(run: Callable[[], object]) -> float:
    """Processor time of the faster of two runs."""
    found = []
    for _ in range(RUNS):
        started = time.process_time()
        run()
        found.append(time.process_time() - started)
    return min(found)


@torch.no_grad()
def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="ViT-B-16-plus-240")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    visual = open_clip.create_model(arguments.model, pretrained=None).visual.eval()
    size = tuple(visual.image_size)
    tower = make_windows(visual, size)
    image = torch.randn(1, 3, *size)
    table = visual.positional_embedding
    places = [window_places(tower.grid, scale) for scale in SCALES]
    first, patches = tokens_of(visual, table, image)
    windows = [each for scale in places for each in scale]

    def one_by_one() -> list[torch.Tensor]:
        return [encode(visual, torch.cat([first, patches[:, each]], dim=1)) for each in windows]

    def batches() -> list[torch.Tensor]:
        return [
            encode(visual, torch.cat([first.expand(len(each), -1, -1), patches[0][each]], dim=1)) for each in places
        ]

    whole = torch.cat([first, patches], dim=1)
    started = time.process_time()
    alone = torch.cat(one_by_one())
    singly = time.process_time() - started
    packed = torch.cat(tower.module(image)[1], dim=1)[0]
    print(f"{arguments.model}, {size[0]}x{size[1]} px, {len(windows)} windows")
    print(f"largest difference to one by one: {(packed - alone).abs().max():.1e}")
    print(f"cosine at least {functional.cosine_similarity(packed, alone).min():.7f}")
    plain = seconds(lambda: encode(visual, whole))
    module = tower.module
    if not isinstance(module, VitWindows):
        raise TypeError(type(module))
    total = sum(group.number * group.length for group in module.groups)
    rows = [
        ("the picture alone, no windows", whole.shape[1], plain),
        ("masked, a pass for each window", (1 + len(windows)) * whole.shape[1], (1 + len(windows)) * plain),
        ("one by one, own tokens", total, plain + singly),
        ("a batch for each scale", total, plain + seconds(batches)),
        ("packed (exported), picture and all", total, seconds(lambda: tower.module(image))),
    ]
    for name, tokens, taken in rows:
        print(f"{name:36} {tokens:7} tokens {taken * 1000:8.0f} ms")


if __name__ == "__main__":
    main()

"""A few-shot frame of ViT-L-14-336 at 518 px, k = 4: this runtime against the reference's algorithm, in one run.

The reference (ByChelsea/VAND-APRIL-GAN) encodes a frame twice, once for the zero-shot and once for the few-shot map,
materialises the attention weights of every block, and searches the bank with scikit-learn's cosine similarity in
float64. Both sides get the same random weights, frames and threads; the two maps are compared before anything is
timed, so the ratio is of equal work. Frames alternate between the sides, and medians are printed.

    python bench/few_shot_frame.py [--frames 5] [--shots 4] [--threads 2]
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as the command line does

import numpy as np
import open_clip
import torch
from sklearn.metrics.pairwise import cosine_similarity

from edgevand_export.bundle_writer import BundleOptions, ModelSource, write_model_bundle
from edgevand_export.heads import Heads
from edgevand_runtime.engines import open_engine
from edgevand_runtime.memory import MemoryBank
from edgevand_runtime.methods import open_method

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgevand.bundle import Bundle

MODEL, SIZE, STAGES, WIDTH, DIM = "ViT-L-14-336", 518, (6, 12, 18, 24), 1024, 768


class Reference:
    """The released algorithm on the processor: what it computes, and how."""

    def __init__(self, visual: Any, heads: Heads, text: NDArray[np.float32]) -> None:  # noqa: ANN401 (no types)
        """Take open_clip's image tower, the heads, and text (2, D)."""
        self.visual, self.heads = visual, heads
        self.text = torch.from_numpy(text)
        self.bank: list[NDArray[np.float32]] = []

    @torch.no_grad()
    def encode(self, image: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Class embedding (1, D) and raw stage tokens without CLS, attention weights materialised."""
        visual = self.visual
        x = visual.conv1(image).flatten(2).permute(0, 2, 1)
        x = torch.cat([visual.class_embedding.expand(1, 1, -1), x], 1) + visual.positional_embedding
        x = visual.ln_pre(x)
        stages = []
        for number, block in enumerate(visual.transformer.resblocks, start=1):
            y = block.ln_1(x)
            attended, _weights = block.attn(y, y, y, need_weights=True)
            x = x + attended
            x = x + block.mlp(block.ln_2(x))
            if number in STAGES:
                stages.append(x[0, 1:])
        embedding = visual.ln_post(x[:, 0]) @ visual.proj
        return torch.nn.functional.normalize(embedding, dim=-1), stages

    def enrol(self, images: list[torch.Tensor]) -> None:
        """Stack the raw tokens of the normal frames."""
        found = [self.encode(image)[1] for image in images]
        self.bank = [torch.cat(stage).numpy() for stage in zip(*found, strict=True)]

    @torch.no_grad()
    def score(self, image: torch.Tensor) -> tuple[float, NDArray[np.float32]]:
        """Image score and map of one frame, encoded twice as the reference does."""
        embedding, stages = self.encode(image)
        text = (100 * embedding @ self.text.T).softmax(-1)[0, 1]
        total = torch.zeros(SIZE, SIZE)
        side = SIZE // 14
        for (weight, bias), tokens in zip(self.heads.layers, stages, strict=True):
            unit = torch.nn.functional.normalize(tokens @ weight.T + bias, dim=-1)
            logits = (100 * unit @ self.text.T).T.reshape(1, 2, side, side)
            large = torch.nn.functional.interpolate(logits, (SIZE, SIZE), mode="bilinear", align_corners=True)
            total += large.softmax(1)[0, 1]
        _, again = self.encode(image)
        for bank, tokens in zip(self.bank, again, strict=True):
            similarity = cosine_similarity(bank.astype(np.float64), tokens.numpy().astype(np.float64))
            distance = torch.from_numpy(1 - similarity.max(axis=0)).float().reshape(1, 1, side, side)
            total += torch.nn.functional.interpolate(distance, (SIZE, SIZE), mode="bilinear", align_corners=True)[0, 0]
        return float(text + total.max()), total.numpy()


def make_bundle(folder: Path, seed: int = 0) -> tuple[Bundle, Any, Heads]:
    """ViT-L-14-336 with random weights of the real shape: the bundle, torch's model at 518 px, and its heads."""
    torch.manual_seed(seed)
    model = open_clip.create_model(MODEL, pretrained=None, force_image_size=SIZE).eval()
    layers = tuple((torch.randn(DIM, WIDTH) / WIDTH**0.5, torch.zeros(DIM)) for _ in STAGES)
    heads = Heads(layers, STAGES)
    source = ModelSource(MODEL, "random", "0" * 64, open_clip.get_model_config(MODEL))
    options = BundleOptions((SIZE, SIZE), heads=heads)
    bundle = write_model_bundle(folder / "bundle", model, open_clip.get_tokenizer(MODEL), source, options)
    return bundle, model.visual, heads


def main() -> None:
    """Compare, time, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=5)
    parser.add_argument("--shots", type=int, default=4)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory() as name:
        bundle, visual, heads = make_bundle(Path(name))
        engine = open_engine(bundle, device="cpu", threads=given.threads)
    text = bundle.text()[1]
    random = np.random.default_rng(0)
    frames = [random.standard_normal((1, 3, SIZE, SIZE)).astype(np.float32) for _ in range(given.shots + given.frames)]

    reference = Reference(visual, heads, text)
    reference.enrol([torch.from_numpy(frame) for frame in frames[: given.shots]])
    tokens = [engine.run(frame, text).tokens for frame in frames[: given.shots]]
    memory = MemoryBank([np.stack(stage) for stage in zip(*tokens, strict=True)])
    method = open_method(bundle.manifest, text, memory)

    times: dict[str, list[float]] = {name: [] for name in ("reference", "encoder", "search", "frame")}
    worst = 0.0
    for frame in frames[given.shots :]:
        start = time.perf_counter()
        expected, expected_map = reference.score(torch.from_numpy(frame))
        times["reference"].append(time.perf_counter() - start)
        start = time.perf_counter()
        outputs = engine.run(frame, text)
        encoded = time.perf_counter()
        (found,) = method.score(outputs)
        end = time.perf_counter()
        memory.distances(outputs.tokens)
        times["search"].append(time.perf_counter() - end)
        times["encoder"].append(encoded - start)
        times["frame"].append(end - start)
        if found.raw_map is None:
            raise SystemExit("no map")
        worst = max(worst, abs(found.raw_score - expected), float(np.abs(found.raw_map - expected_map).max()))
    report({name: statistics.median(values) for name, values in times.items()}, worst, given)


def report(median: dict[str, float], worst: float, given: argparse.Namespace) -> None:
    """Print the medians and their ratios."""
    print(f"{MODEL}, {SIZE} px, k = {given.shots}, {given.threads} threads, float32, median of {given.frames} frames")
    print(f"largest difference of score or map to the reference: {worst:.1e}")
    print(f"reference's algorithm          {median['reference']:7.2f} s")
    print(f"few-shot frame, edgevand       {median['frame']:7.2f} s")
    print(f"  encoder alone (ONNX Runtime) {median['encoder']:7.2f} s")
    print(f"  bank search                  {median['search']:7.2f} s")
    print(f"reference / edgevand           {median['reference'] / median['frame']:7.2f}   (goal: at least 2.3)")
    print(f"edgevand / encoder alone       {median['frame'] / median['encoder']:7.2f}   (goal: at most 1.15)")
    print(f"search / encoder alone         {median['search'] / median['encoder']:7.2%}   (goal: under 5 %)")


if __name__ == "__main__":
    main()

"""The reference's algorithm (APRIL-GAN as released) in PyTorch: what this runtime's speed and answers are held against.

It encodes a frame twice, once for the zero-shot and once for the few-shot map; materialises the attention weights of
every block; upsamples both logits of a patch before their softmax; and searches the bank by the cosine similarity
of all pairs in float64, both sides normalised anew for every frame. Written from that description, for CLIP's
vision transformers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - its usual name

from edgevand.errors import BadInputError, UsageError
from edgevand_export.heads import check_heads, read_heads
from edgevand_export.loading import build_model
from edgevand_export.tables import resize_table
from edgevand_export.towers import make_tower
from edgevand_export.weights import file_sha256, find_weights

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from edgevand.bank import Bank
    from edgevand.bundle import Bundle

__all__ = ["Reference", "check_comparable", "open_reference"]


class Reference:
    """The released algorithm: what it computes, and how."""

    name = "reference (PyTorch)"

    def __init__(
        self,
        visual: Any,  # noqa: ANN401 (open_clip has no types)
        *,
        stages: Sequence[int],
        grid: tuple[int, int],
        size: tuple[int, int],
        heads: Sequence[tuple[Tensor, Tensor]] = (),
        text: NDArray[np.float32] | None = None,
        device: str = "cpu",
    ) -> None:
        """Take a model over.

        Args:
            visual: open_clip's ``VisionTransformer``.
            stages: 1-based blocks whose tokens are compared.
            grid: rows and columns of patches; the positional table is resized to it.
            size: height and width of the image.
            heads: weight (D, C) and bias (D,) of each stage; without them there is no zero-shot map.
            text: (2, D) unit rows (normal, abnormal); needed for heads and for the text's score.
            device: PyTorch's.
        """
        self._visual = visual.to(device)
        self._stages, self._grid, self._size, self._device = tuple(stages), grid, size, device
        self._table = resize_table(visual.positional_embedding.detach().cpu(), grid).to(device)
        self._heads = [(weight.to(device), bias.to(device)) for weight, bias in heads]
        self._text = None if text is None else torch.tensor(text, device=device)
        self.bank: list[Tensor] = []

    @torch.no_grad()
    def encode(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Image (1, 3, H, W) to the class embedding (1, D) and raw stage tokens (P, C), weights materialised."""
        visual = self._visual
        x = visual.conv1(image).flatten(2).permute(0, 2, 1)
        x = torch.cat([visual.class_embedding.expand(1, 1, -1), x], 1) + self._table
        x = visual.ln_pre(x)
        found = []
        for number, block in enumerate(visual.transformer.resblocks, start=1):
            y = block.ln_1(x)
            attended, _weights = block.attn(y, y, y, need_weights=True)
            x = x + block.ls_1(attended)
            x = x + block.ls_2(block.mlp(block.ln_2(x)))
            if number in self._stages:
                found.append(x[0, 1:])
        embedding = visual.ln_post(x[:, 0]) @ visual.proj
        return F.normalize(embedding, dim=-1), found

    def enrol(self, images: Sequence[NDArray[np.float32]]) -> None:
        """Stack the raw tokens of normal frames, each (3, H, W)."""
        found = [self.encode(self._image(image))[1] for image in images]
        self.bank = [torch.cat(stage) for stage in zip(*found, strict=True)]

    @torch.no_grad()
    def score(self, tensor: NDArray[np.float32]) -> tuple[float, NDArray[np.float32] | None]:
        """Image score and map (H, W) of one preprocessed frame (3, H, W), which is encoded twice."""
        image = self._image(tensor)
        embedding, stages = self.encode(image)
        text = 0.0
        if self._text is not None:
            text = float((100 * embedding @ self._text.T).softmax(-1)[0, 1])
        total = torch.zeros(self._size, device=self._device)
        if self._text is not None:
            for (weight, bias), tokens in zip(self._heads, stages, strict=False):
                unit = F.normalize(tokens @ weight.T + bias, dim=-1)
                logits = (100 * unit @ self._text.T).T.reshape(1, 2, *self._grid)
                total += self._enlarge(logits).softmax(1)[0, 1]
        _, again = self.encode(image)
        for bank, tokens in zip(self.bank, again, strict=True):
            similarity = F.normalize(bank.double(), dim=-1) @ F.normalize(tokens.double(), dim=-1).T
            distance = (1 - similarity.max(dim=0).values).float().reshape(1, 1, *self._grid)
            total += self._enlarge(distance)[0, 0]
        return text + float(total.max()), total.cpu().numpy()

    def _image(self, tensor: NDArray[np.float32]) -> Tensor:
        return torch.from_numpy(tensor)[None].to(self._device)

    def _enlarge(self, maps: Tensor) -> Tensor:
        return F.interpolate(maps, self._size, mode="bilinear", align_corners=True)


def open_reference(
    bundle: Bundle,
    bank: Bank,
    *,
    pretrained: str | None = None,
    heads: Path | None = None,
    threads: int | None = None,
) -> Reference:
    """The reference with a bundle's model and a bank's features, on the GPU where PyTorch has one.

    Args:
        bundle: says which model it is.
        bank: its features and its text.
        pretrained: weights file or tag, where it is not the one that the bundle names.
        heads: the file that the bundle's heads were made from; needed where it has some.
        threads: of PyTorch; None leaves them as they are.

    Raises:
        UsageError: the bundle is of a kind of model that the reference has not, or its heads are not given.
        BadInputError: the weights found are not those of the bundle, or heads that do not fit.
        UnavailableError: the weights are absent and cannot be fetched.
    """
    manifest = bundle.manifest
    check_comparable(bundle)
    if manifest.has_heads and heads is None:
        raise UsageError(
            "expected the file of the bundle's linear heads for --against reference, found none; give --heads FILE"
        )
    record = manifest.model
    files = find_weights(record.name, record.config, pretrained or record.pretrained)
    if file_sha256(files.weights) != record.weights_sha256:
        raise BadInputError(
            f"expected the weights that the bundle was made from ({record.pretrained}), found others in "
            f"{files.weights}; give the right file with --pretrained"
        )
    if threads is not None:
        torch.set_num_threads(threads)
    model = build_model(files.config, files.weights, quick_gelu=record.image_activation == "quick-gelu")
    size, stages = (manifest.image.height, manifest.image.width), tuple(stage.index for stage in manifest.stages)
    if model.visual.attn_pool is not None or model.visual.pool_type != "tok":
        raise UsageError(
            f"expected a class token as in CLIP's vision transformers for --against reference, found another pooling "
            f"in {record.name}; choose another bundle"
        )
    layers = {}
    if heads is not None and manifest.has_heads:
        layers = check_heads(read_heads(heads), make_tower(model.visual, size, stages), manifest.embedding_dim)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    reference = Reference(
        model.visual,
        stages=stages,
        grid=manifest.stages[0].grid,
        size=size,
        heads=list(layers.values()),
        text=bank.features.get("text"),
        device=device,
    )
    tokens = (bank.features[f"tokens_{stage}"] for stage in stages)
    reference.bank = [torch.from_numpy(each.reshape(-1, each.shape[-1]).copy()).to(device) for each in tokens]
    return reference


def check_comparable(bundle: Bundle) -> None:
    """Refuse a bundle that the reference has no like of.

    Raises:
        UsageError: no vision transformer of CLIP's, or another rule for the image score.
    """
    manifest = bundle.manifest
    if manifest.model.architecture != "vit":
        raise UsageError(
            f"expected a bundle of a vision transformer for --against reference, found {manifest.model.name} "
            f"({manifest.model.architecture}); export one, such as ViT-B-16-plus-240, and give --bundle"
        )
    expected = {"text", "memory-map"} | ({"zero-shot-map"} if manifest.has_heads else set())
    if set(manifest.score.terms) != expected or manifest.score.image != "max":
        raise UsageError(
            "expected a bundle that scores as the reference does, found one with a rule of its own "
            f"({', '.join(manifest.score.terms)}; {manifest.score.image}); export one with the default rule"
        )

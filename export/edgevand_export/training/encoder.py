"""The frozen encoder of a training: the export's own tower, one picture at a time.

One at a time, because the last bits of a matrix product may depend on what else is in the batch: tokens must be the
same whether they were just computed, read from the cache, or computed by a run that was killed and went on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch

from edgevand.errors import BadInputError, UnavailableError, UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from edgevand_export.towers import Tower

__all__ = ["FrozenEncoder", "Precision", "choose_device", "choose_precision"]

Precision = Literal["off", "float16", "bfloat16"]

_TYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}


def choose_device(asked: str) -> torch.device:
    """The device of ``--device auto|cpu|cuda|cuda:N``.

    Raises:
        UsageError: another word.
        UnavailableError: there is no such GPU.
    """
    kind, _, index = asked.partition(":")
    if kind not in {"auto", "cpu", "cuda"} or (index and (kind != "cuda" or not index.isdigit())):
        raise UsageError(f"expected --device auto, cpu, cuda or cuda:N, found {asked!r}; correct it")
    if asked == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    count = torch.cuda.device_count() if kind == "cuda" and torch.cuda.is_available() else 0
    if kind == "cuda" and int(index or 0) >= count:
        raise UnavailableError(
            f"expected the GPU {asked} that PyTorch can use, found {count}; take --device cpu, or install a PyTorch "
            "with CUDA and its driver"
        )
    return torch.device(asked)


def choose_precision(asked: Literal["auto", "off", "float16", "bfloat16"], device: torch.device) -> Precision:
    """The type of the encoder's matrix products.

    Args:
        asked: ``amp`` of the configuration.
        device: where the encoder runs.

    Raises:
        UsageError: float16 on a CPU, or bfloat16 on one whose instructions for it trap.
    """
    if asked == "auto":
        return "float16" if device.type == "cuda" else "off"
    if device.type == "cpu" and asked == "float16":
        raise UsageError("expected --set amp=off or bfloat16 on a CPU, found float16; CPUs have no fast products of it")
    if device.type == "cpu" and asked == "bfloat16":
        from edgevand_runtime.doctor.processor import amx_outcome, cpu_flags

        if "amx_tile" in cpu_flags() and amx_outcome() == "trapped":
            raise UsageError(
                "expected a processor whose bfloat16 products work for --set amp=bfloat16, found that they trap here "
                "(`edgevand doctor` says more); take --set amp=off"
            )
    return asked


class FrozenEncoder:
    """Pixels to stage tokens."""

    def __init__(self, tower: Tower, device: torch.device, precision: Precision) -> None:
        """Move the tower to its device; float32 stays float32 there (no TF32), and algorithms are deterministic."""
        self.tower = tower
        self.device = device
        self.precision = precision
        self._module = tower.module.to(device).eval().requires_grad_(False)  # noqa: FBT003 (torch's own signature)
        if device.type == "cuda":
            torch.backends.cudnn.allow_tf32 = False
            torch.backends.cudnn.deterministic = True
            torch.backends.cudnn.benchmark = False

    @torch.no_grad()
    def tokens(self, pixels: NDArray[np.float32], name: str) -> tuple[Tensor, ...]:
        """Raw patch tokens of each stage, as the heads read them.

        Args:
            pixels: (3, S, S) float32, normalised.
            name: of the picture, for errors.

        Returns:
            For each stage (P, C) float32 on the device.

        Raises:
            BadInputError: tokens that are not finite.
        """
        image = torch.from_numpy(pixels)[None].to(self.device)
        mixed = _TYPES.get(self.precision)
        with torch.autocast(self.device.type, dtype=mixed, enabled=mixed is not None):
            _, stages = self._module(image)
        tokens = tuple(each[0].float().contiguous() for each in stages)
        if not all(bool(each.isfinite().all()) for each in tokens):
            raise BadInputError(
                f"expected finite tokens of {name}, found NaN or infinity; the weights are damaged, or too large for "
                f"amp={self.precision}"
            )
        return tokens

"""The workstation's side of methods: what prepares a bundle for one, and what trains one.

A method that the encoder's outputs are enough for has no line here (docs/adding-a-method.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from edgevand_export.methods.gcad import export_gcad, export_gcad_self, train_gcad, train_gcad_self
from edgevand_export.methods.simplenet import export_simplenet, train_simplenet
from edgevand_export.methods.ustc_loco import export_ustc_loco
from edgevand_export.methods.vvv import export_vvv
from edgevand_export.methods.winclip import export_winclip

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from edgevand.bundle import Bundle, MethodRecord
    from edgevand_runtime.stop import Stop

__all__ = ["EXPORTERS", "TRAINERS", "Exporter", "Trainer"]


class Exporter(Protocol):
    """Prepares a bundle for a method."""

    def __call__(
        self,
        base: Bundle,
        settings: dict[str, Any],
        weights: tuple[Path, ...],
        folder: Path,
        report: Callable[[str], None],
    ) -> MethodRecord:
        """Write the method's graph and tensors.

        Args:
            base: the bundle to start from.
            settings: the method's options, all of them, as JSON values.
            weights: files that the person gave with ``--weights``, in order.
            folder: staging directory of the new bundle, which holds the files of ``base`` already.
            report: called with a line for people when a step begins.

        Returns:
            The manifest's record of the method.
        """


class Trainer(Protocol):
    """Trains a method on normal frames."""

    def __call__(  # noqa: PLR0913 - what a person may give
        self,
        bundle: Bundle,
        frames: Sequence[NDArray[np.uint8]],
        settings: dict[str, Any],
        weights: tuple[Path, ...],
        output: Path,
        *,
        report: Callable[[str], None],
        stop: Stop,
        resume: bool,
    ) -> Path | None:
        """Train, and write what the method's exporter takes with ``--weights``.

        Args:
            bundle: the bundle that the method will be put into.
            frames: (H, W, 3) uint8 BGR each, of good parts.
            settings: the method's options, all of them, as JSON values.
            weights: files that the person gave with ``--weights``, in order.
            output: directory of the run; there already where ``resume``.
            report: called with a line for people.
            stop: looked at after each step; whoever is asked to stop leaves what ``resume`` goes on from.
            resume: go on with the run in ``output``.

        Returns:
            The file; None where it was asked to stop before the end.
        """


EXPORTERS: dict[str, Exporter] = {
    "gcad": export_gcad,
    "gcad-self": export_gcad_self,
    "simplenet": export_simplenet,
    "ustc-loco": export_ustc_loco,
    "vvv": export_vvv,
    "winclip": export_winclip,
}
"""By the word of ``--method``."""

TRAINERS: dict[str, Trainer] = {
    "gcad": train_gcad,
    "gcad-self": train_gcad_self,
    "simplenet": train_simplenet,
}
"""By the word of ``--method``; april-gan's heads are trained by ``training``, on a dataset with masks."""

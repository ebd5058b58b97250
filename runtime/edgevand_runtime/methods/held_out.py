"""Calibration of trained methods: a frame that the model was trained on counts with its held-out maps.

The training gave each of its frames the maps of a fold's model that had not seen it, and a small view of the frame
(docs/methods/simplenet.md). At enrolment a frame that looks like one of the training's, by the rule that makes two
frames copies of one another, takes those maps; any other frame is new to the model and is scored as it is. So nothing
of a frame is in what scores it (methods.md (g)).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgevand_runtime.quality import NEAR_COPY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from edgevand_runtime.methods.base import Features

__all__ = ["HELD", "VIEW", "VIEWS", "unseen_maps"]

HELD = "held_"
"""What the names of held-out maps begin with among a method's own tensors."""

VIEW, VIEWS = "view", "views"
"""The graph's map that shows the frame in small, and the own tensor with the training's, grey in [0, 1]."""


def unseen_maps(features: Features, own: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """The maps of enrolled frames as a model gives them that was not trained on these frames.

    Args:
        features: of F frames: ``map_<name>`` (F, h, w) and ``map_view`` (F, v_h, v_w).
        own: of the training's T frames: ``held_<name>`` (T, h, w) and ``views`` (T, v_h, v_w).

    Returns:
        (F, h, w) for each name that has held-out maps.
    """
    names = [name.removeprefix(HELD) for name in own if name.startswith(HELD)]
    maps = {name: np.array(features[f"map_{name}"], np.float32) for name in names}
    for frame, view in enumerate(features[f"map_{VIEW}"]):
        difference = np.abs(own[VIEWS] - np.asarray(view, np.float32)).mean(axis=(1, 2))
        nearest = int(difference.argmin())
        if difference[nearest] < NEAR_COPY / 255:
            for name in names:
                maps[name][frame] = own[f"{HELD}{name}"][nearest]
    return maps

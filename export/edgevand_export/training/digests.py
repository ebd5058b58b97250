"""Hashes of plain values, by which runs, encoders and pictures are told apart."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["digest_of"]


def digest_of(fields: Mapping[str, object]) -> str:
    """Hex sha256 of JSON values, whatever their order."""
    return hashlib.sha256(json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

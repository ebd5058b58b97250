"""GCAD: a local and a global branch, trained on the enrolled frames (Bergmann et al., IJCV 2022, and the Course)."""

from __future__ import annotations

from edgevand_export.methods.gcad.run import export_gcad, export_gcad_self, train_gcad, train_gcad_self

__all__ = ["export_gcad", "export_gcad_self", "train_gcad", "train_gcad_self"]

"""Text embeddings on the disk: ``edgevand.text/1``, a safetensors file (docs/formats.md).

One [2, D] float32 tensor for each object, named after it, rows (normal, abnormal), each of length one; the metadata
says which prompt pack, weights and activation they come from. A bundle carries one; ``edgevand export --text-only``
writes further ones for objects that were thought of later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from edgevand.errors import FormatError
from edgevand.staging import write_atomic
from edgevand.tensors import read_tensor_file, tensor_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["TEXT_SCHEMA", "TextFile", "check_embedding", "read_text_file", "write_text_file"]

TEXT_SCHEMA = "edgevand.text/1"
MAX_OBJECTS = 1000
MAX_OBJECT_NAME = 200
_UNIT_TOLERANCE = 1e-3
_KEYS = {"schema", "pack", "weights_sha256", "activation"}


class TextFile(NamedTuple):
    """Content of a text file.

    Attributes:
        objects: [2, D] float32 by object name, rows (normal, abnormal), of length 1; less for ``mean-similarity``.
        pack: name of the prompt pack.
        weights_sha256: of the checkpoint whose text tower made them.
        activation: of that text tower: ``gelu``, ``quick-gelu`` or ``none``.
        sha256: of the file.
    """

    objects: dict[str, NDArray[np.float32]]
    pack: str
    weights_sha256: str
    activation: str
    sha256: str


def read_text_file(path: Path) -> TextFile:
    """Read and check a text file.

    Raises:
        FormatError: it is damaged, of another schema, or its tensors are no pairs of unit vectors.
        BadInputError: it cannot be read.
    """
    tensors, metadata, sha256 = read_tensor_file(path)
    if metadata.get("schema") != TEXT_SCHEMA or set(metadata) != _KEYS:
        found = metadata.get("schema", "no schema")
        msg = f"expected {path} to be a text file ({TEXT_SCHEMA}), found {found}; write it with export --text-only"
        raise FormatError(msg)
    if not 0 < len(tensors) <= MAX_OBJECTS:
        msg = f"expected 1 to {MAX_OBJECTS} objects in {path}, found {len(tensors)}; export fewer objects"
        raise FormatError(msg)
    for name, tensor in tensors.items():
        check_object_name(name, path)
        check_embedding(tensor, f"{path}: object {name!r}")
    widths = {tensor.shape[1] for tensor in tensors.values()}
    if len(widths) > 1:
        msg = f"expected embeddings of one width in {path}, found {sorted(widths)}; export them again"
        raise FormatError(msg)
    fields = {key: metadata[key] for key in sorted(_KEYS - {"schema"})}
    return TextFile(objects=tensors, sha256=sha256, **fields)


def write_text_file(
    path: Path, embeddings: Mapping[str, NDArray[np.float32]], *, pack: str, weights_sha256: str, activation: str
) -> None:
    """Write text embeddings to a file that appears whole or not at all.

    Args:
        path: the file.
        embeddings: [2, D] float32 by object name, rows (normal, abnormal), of length 1; less for ``mean-similarity``.
        pack: name of the prompt pack.
        weights_sha256: of the checkpoint whose text tower made them.
        activation: of that text tower.

    Raises:
        FormatError: a name or an embedding that the format does not allow.
        OutputError: it cannot be written.
    """
    for name, tensor in embeddings.items():
        check_object_name(name, path)
        check_embedding(tensor, f"{path}: object {name!r}")
    metadata = {"schema": TEXT_SCHEMA, "pack": pack, "weights_sha256": weights_sha256, "activation": activation}
    write_atomic(path, tensor_bytes(embeddings, metadata))


def check_object_name(name: str, path: Path) -> None:
    """Refuse a name that the file cannot carry or a person cannot type.

    Raises:
        FormatError: it is empty, too long, not printable or reserved.
    """
    if not (0 < len(name) <= MAX_OBJECT_NAME and name.isprintable() and name == name.strip()) or name.startswith("__"):
        msg = (
            f"{path}: expected an object name of 1 to {MAX_OBJECT_NAME} printable characters, found {name!r}; rename it"
        )
        raise FormatError(msg)


def check_embedding(tensor: NDArray[Any], what: str) -> None:
    """Refuse anything but a [2, D] float32 array of two finite vectors of length 1, or less but not 0.

    Raises:
        FormatError: it is something else; ``what`` begins the sentence.
    """
    if tensor.dtype != np.float32 or tensor.ndim != 2 or tensor.shape[0] != 2 or tensor.shape[1] == 0:  # noqa: PLR2004
        found = f"{list(tensor.shape)} {tensor.dtype}"
        msg = f"{what}: expected [2, D] float32 (normal, abnormal), found {found}; export it again"
        raise FormatError(msg)
    lengths = np.linalg.norm(tensor.astype(np.float64), axis=1)
    if not np.all((lengths > 0) & (lengths <= 1 + _UNIT_TOLERANCE)):
        msg = f"{what}: expected vectors of length 1, or less but not 0, found {lengths.tolist()}; export it again"
        raise FormatError(msg)

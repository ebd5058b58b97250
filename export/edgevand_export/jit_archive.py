"""TorchScript archives, which is how OpenAI published CLIP, read for their tensors alone.

``torch.jit.load`` would compile the program inside. Here only ``data.pkl`` is read, by an unpickler that knows
tensors and containers: every class of the archive becomes an empty record, and any other name is refused.
"""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import torch

from edgevand.errors import BadInputError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["is_jit_archive", "read_jit_archive"]

DTYPES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


class _Record:
    """A module of the archive: its attributes, nothing else."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Keep the attributes."""
        self.state = state


class _Reader(pickle.Unpickler):
    """Resolves tensors, containers and records; no other name."""

    def __init__(self, archive: zipfile.ZipFile, folder: str) -> None:
        """Read ``data.pkl`` of ``folder`` in the archive."""
        super().__init__(archive.open(f"{folder}/data.pkl"))
        self._archive = archive
        self._folder = folder

    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401 (pickle's own signature)
        """The stand-in of a name."""
        if module == "__torch__" or module.startswith("__torch__."):
            return _Record
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if module == "torch.jit._pickle" and name.startswith("build_"):
            return list
        if (module, name) == ("torch.jit._pickle", "restore_type_tag"):
            return _first
        if module == "torch" and name in DTYPES:
            return DTYPES[name]
        raise pickle.UnpicklingError(f"{module}.{name} is no tensor")

    def persistent_load(self, pid: Any) -> torch.Tensor:  # noqa: ANN401 (pickle's own signature)
        """The storage of a tensor: its numbers, flat."""
        _, dtype, key, _, _ = pid
        data = bytearray(self._archive.read(f"{self._folder}/data/{key}"))
        return torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)


def is_jit_archive(path: Path) -> bool:
    """Whether a file is a TorchScript archive."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def read_jit_archive(path: Path) -> dict[str, torch.Tensor]:
    """Parameters and buffers of a TorchScript archive by their dotted names, as ``state_dict`` would give them.

    Raises:
        BadInputError: the archive holds something else, or is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            folder = next(name for name in archive.namelist() if name.endswith("/data.pkl")).rpartition("/")[0]
            record = _Reader(archive, folder).load()
    except (pickle.UnpicklingError, zipfile.BadZipFile, StopIteration, KeyError, ValueError, RuntimeError) as error:
        raise BadInputError(
            f"expected a TorchScript archive of a CLIP model in {path}, found {error}; bring the file again"
        ) from error
    tensors: dict[str, torch.Tensor] = {}
    _collect(record, "", tensors)
    return tensors


def _collect(record: object, prefix: str, tensors: dict[str, torch.Tensor]) -> None:
    """Walk the modules and gather their tensors."""
    if isinstance(record, _Record):
        for name, value in record.state.items():
            if isinstance(value, torch.Tensor):
                tensors[prefix + name] = value
            else:
                _collect(value, f"{prefix}{name}.", tensors)


def _tensor(
    storage: torch.Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object
) -> torch.Tensor:
    """A tensor as a view of its storage."""
    return storage.as_strided(tuple(size), tuple(stride), offset)


def _first(value: Any, *_: Any) -> Any:  # noqa: ANN401
    """The value of a tagged container."""
    return value

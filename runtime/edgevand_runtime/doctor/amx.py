"""Executes AMX instructions in a process of its own: some virtual machines announce them and trap on their use.

Run as a program (``python amx.py``) it asks the kernel for the tile registers, configures them, multiplies two tiles of
bfloat16 and prints ``ok``; ``denied`` where the kernel refuses. A trap kills it, which is what its caller looks for.

Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, LDTILECFG, TDPBF16PS; Linux
Documentation/arch/x86/xstate.rst.
"""

from __future__ import annotations

import ctypes
import mmap
import sys

__all__ = ["CODE", "main"]

CODE = bytes.fromhex(
    "c4e2784907"  # ldtilecfg [rdi]
    "c4e27b49c0"  # tilezero tmm0
    "c4e27b49c8"  # tilezero tmm1
    "c4e27b49d0"  # tilezero tmm2
    "c4e26a5cc1"  # tdpbf16ps tmm0, tmm1, tmm2
    "c4e27849c0"  # tilerelease
    "c3"  # ret
)

_SYS_ARCH_PRCTL = 158
_ARCH_REQ_XCOMP_PERM = 0x1023
_XFEATURE_XTILEDATA = 18
_TILES = 3
_ROW_BYTES = 64
_ROWS = 16


def _tile_configuration() -> bytes:
    """64 bytes: palette 1; three tiles of 16 rows of 64 bytes (columns in bytes as uint16 from 16, rows from 48)."""
    columns = b"".join(_ROW_BYTES.to_bytes(2, "little") for _ in range(_TILES))
    return bytes([1]).ljust(16, b"\0") + columns.ljust(32, b"\0") + bytes([_ROWS] * _TILES).ljust(16, b"\0")


def main() -> None:
    """Try it, and print the outcome."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(_SYS_ARCH_PRCTL, _ARCH_REQ_XCOMP_PERM, _XFEATURE_XTILEDATA) != 0 and sys.argv[1:] != ["--anyway"]:
        print("denied")  # noqa: T201 (the answer to the process that started this one)
        return
    memory = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    memory.write(CODE)
    function = ctypes.CFUNCTYPE(None, ctypes.c_char_p)(ctypes.addressof(ctypes.c_char.from_buffer(memory)))
    function(_tile_configuration())
    print("ok")  # noqa: T201 (the answer to the process that started this one)


if __name__ == "__main__":
    main()

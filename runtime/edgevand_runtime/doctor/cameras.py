"""Cameras that Linux lists (V4L2), each opened for a moment."""

from __future__ import annotations

import os
import re
import struct
from pathlib import Path
from typing import Any

from edgevand_runtime.doctor.check import Check, read_text, run_python

__all__ = ["check_cameras", "list_devices"]

# Opening a camera can block for ever in the driver.
_PROBE_CAMERA = """
import sys, cv2
camera = cv2.VideoCapture(sys.argv[1])
taken, image = camera.read() if camera.isOpened() else (False, None)
print(f"{image.shape[1]}x{image.shape[0]}" if taken else "no picture")
"""
_CAMERA_TIMEOUT_S = 8.0

# linux/videodev2.h: struct v4l2_capability (driver, card, bus, version, capabilities, device_caps, reserved).
_CAPABILITY = struct.Struct("16s32s32sIII12x")
_VIDIOC_QUERYCAP = 0x80685600
_CAN_CAPTURE = 0x00000001 | 0x00001000  # single-planar, multi-planar


def list_devices() -> list[Path]:
    """``/dev/video*`` in the order of their numbers."""
    return sorted(Path("/dev").glob("video[0-9]*"), key=lambda path: int(re.sub(r"\D", "", path.name) or 0))


def _captures(device: Path) -> bool | None:
    """Whether the device delivers pictures (many cameras have a second one for metadata); None where it is shut."""
    import fcntl

    try:
        handle = os.open(device, os.O_RDWR | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        answer = fcntl.ioctl(handle, _VIDIOC_QUERYCAP, bytes(_CAPABILITY.size))
    except OSError:
        return False
    finally:
        os.close(handle)
    return bool(_CAPABILITY.unpack(answer)[5] & _CAN_CAPTURE)


def _examine(device: Path) -> dict[str, Any]:
    """Name of one device and what it answers: a size, ``metadata only``, ``permission denied``, ``no picture``."""
    name = read_text(f"/sys/class/video4linux/{device.name}/name") or "unnamed"
    captures = _captures(device)
    if captures is None:
        answer = "no picture" if os.access(device, os.R_OK | os.W_OK) else "permission denied"
    elif not captures:
        answer = "metadata only"
    else:
        done = run_python(_PROBE_CAMERA, str(device), timeout=_CAMERA_TIMEOUT_S)
        answer = done.stdout.strip() or "no picture" if done is not None else "no answer"
    return {"device": str(device), "name": name, "answer": answer}


def check_cameras() -> Check:
    """Every camera that is attached to this machine; network cameras are not looked for."""
    devices = [_examine(device) for device in list_devices()]
    data = {"devices": devices}
    if not devices:
        remedy = (
            "plug one in (in a container: `--device /dev/video0`), name a network camera "
            "(--camera rtsp://…), or try test://conveyor"
        )
        return Check("absent", "no /dev/video*", remedy, data)
    found = "; ".join(f"{entry['device']} {entry['name']}: {entry['answer']}" for entry in devices)
    if any(entry["answer"][0].isdigit() for entry in devices):
        return Check("ok", found, None, data)
    if any(entry["answer"] == "permission denied" for entry in devices):
        return Check(
            "problem", found, "add this user to the group video: `sudo usermod -aG video $USER`, then log in", data
        )
    remedy = "close other programs that use it (`fuser -v /dev/video*`), then unplug it and plug it in again"
    return Check("problem", found, remedy, data)

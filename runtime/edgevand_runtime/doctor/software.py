"""OpenCV's build and the Python packages."""

from __future__ import annotations

import re
from functools import lru_cache
from importlib.metadata import requires
from typing import Any

from edgevand_runtime.doctor.accelerators import EDGE_DOCS, installed
from edgevand_runtime.doctor.check import Check, run_python

__all__ = ["check_export", "check_ffmpeg", "check_gstreamer", "check_opencv", "check_packages", "parse_build"]

_OPENCV_DISTRIBUTIONS = (
    "opencv-python",
    "opencv-python-headless",
    "opencv-contrib-python",
    "opencv-contrib-python-headless",
)
_EXPORT_DISTRIBUTIONS = ("torch", "open_clip_torch", "timm", "onnx", "onnxscript")
_PROBE_OPENCV = "import cv2; print(cv2.__version__); print(cv2.__file__); print(cv2.getBuildInformation())"


def parse_build(information: str) -> dict[str, bool]:
    """Which of the video backends ``cv2.getBuildInformation()`` says YES to."""
    answers = dict(re.findall(r"^\s*(GStreamer|FFMPEG|v4l/v4l2|V4L/V4L2):\s*(\w+)", information, re.MULTILINE))
    return {
        "gstreamer": answers.get("GStreamer") == "YES",
        "ffmpeg": answers.get("FFMPEG") == "YES",
        "v4l2": "YES" in {answers.get("v4l/v4l2"), answers.get("V4L/V4L2")},
    }


@lru_cache(maxsize=1)
def _opencv() -> dict[str, Any] | None:
    """Version, place and backends of the OpenCV that ``import cv2`` finds; None where it finds none."""
    done = run_python(_PROBE_OPENCV)
    if done is None or done.returncode != 0:
        return None
    version, place, information = done.stdout.split("\n", 2)
    return {"version": version, "file": place, **parse_build(information)}


def check_opencv() -> Check:
    """OpenCV, where it comes from, and whether two wheels of it overwrite each other."""
    wheels = installed(*_OPENCV_DISTRIBUTIONS)
    opencv = _opencv()
    data = {"wheels": wheels, **(opencv or {})}
    if opencv is None:
        remedy = f"install it with `pip install opencv-python-headless`; on a Jetson use JetPack's own ({EDGE_DOCS})"
        return Check("problem", "OpenCV cannot be imported", remedy, data)
    found = f"OpenCV {opencv['version']} from {', '.join(wheels) or opencv['file']}"
    if len(wheels) > 1:
        remedy = f"uninstall all of {', '.join(wheels)} and install the one you want: they overwrite each other's files"
        return Check("problem", found, remedy, data)
    return Check("ok", found, None, data)


def check_gstreamer() -> Check:
    """Whether OpenCV can run a GStreamer pipeline (``gst:``, ``csi://``)."""
    opencv = _opencv()
    there = bool(opencv and opencv["gstreamer"])
    if there:
        return Check("ok", "OpenCV was built with GStreamer", None, {"gstreamer": True})
    remedy = (
        "needed only for gst: and csi:// sources: use the system's OpenCV (Debian, Ubuntu: python3-opencv; on a "
        f"Jetson JetPack's) in an environment made with --system-site-packages ({EDGE_DOCS})"
    )
    return Check("absent", "OpenCV was built without GStreamer", remedy, {"gstreamer": False})


def check_ffmpeg() -> Check:
    """Whether OpenCV can read videos and network streams."""
    opencv = _opencv()
    there = bool(opencv and opencv["ffmpeg"])
    if there:
        return Check("ok", "OpenCV was built with FFmpeg: videos, RTSP and HTTP streams", None, {"ffmpeg": True})
    remedy = "read streams through gst: pipelines, or install opencv-python-headless, which brings FFmpeg"
    return Check("problem", "OpenCV was built without FFmpeg: no videos, no RTSP, no HTTP", remedy, {"ffmpeg": False})


def check_packages() -> Check:
    """The packages this program needs on a device; JetPack's stand-ins count as well."""
    needed = dict(_split(line) for line in requires("edgevand") or () if "extra ==" not in line)
    versions = installed(*needed)
    missing = [name for name in needed if name not in versions and not _replaced(name)]
    outdated = [name for name, version in versions.items() if _numbers(version) < _numbers(needed[name])]
    found = ", ".join(f"{name} {version}" for name, version in versions.items())
    data = {"versions": versions, "missing": missing, "outdated": outdated}
    if missing or outdated:
        words = [f"{name} is missing" for name in missing]
        words += [f"{name} {versions[name]} is older than {needed[name]}" for name in outdated]
        wanted = " ".join(f"'{name}>={needed[name]}'" for name in [*missing, *outdated])
        return Check("problem", ", ".join(words), f"`pip install {wanted}`", data)
    return Check("ok", found, None, data)


def _split(requirement: str) -> tuple[str, str]:
    """``numpy`` and ``1.26`` of ``numpy>=1.26``."""
    name, _, version = requirement.partition(">=")
    return name.strip(), version.strip() or "0"


def _numbers(version: str) -> tuple[int, ...]:
    """``(1, 26, 4)`` of ``1.26.4``; what follows the numbers (``rc1``, ``+cuda``) does not count."""
    match = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, match.group().split("."))) if match else ()


def _replaced(distribution: str) -> bool:
    """Whether another build stands in for a wheel: a GPU's ONNX Runtime, the OpenCV of Debian or JetPack."""
    if distribution == "onnxruntime":
        return bool(installed("onnxruntime-gpu"))
    return distribution == "opencv-python-headless" and _opencv() is not None


def check_export() -> Check:
    """The packages of a workstation that exports."""
    versions = installed(*_EXPORT_DISTRIBUTIONS)
    missing = [name for name in _EXPORT_DISTRIBUTIONS if name not in versions]
    data = {"versions": versions, "missing": missing}
    if missing:
        remedy = "needed only for `edgevand export`, on a workstation: `pip install 'edgevand[export]'`"
        return Check("absent", f"not installed: {', '.join(missing)}", remedy, data)
    return Check("ok", ", ".join(f"{name} {version}" for name, version in versions.items()), None, data)

"""What a run takes besides time: memory of this process and of the device, energy where the device tells it.

NVIDIA's cards tell both through NVML (the package ``nvidia-ml-py``, where it is installed); energy since the Volta
generation. A Jetson has no NVML for its GPU: its power rails are measured by INA3221 chips, which the kernel shows
below ``/sys/class/hwmon`` (``name`` ina3221, ``in<i>_label``, ``in<i>_input`` in mV, ``curr<i>_input`` in mA); the
whole module's are ``VDD_IN`` (Orin Nano, Orin NX) or ``VDD_GPU_SOC``, ``VDD_CPU_CV`` and ``VIN_SYS_5V0`` (AGX Orin).
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["DeviceMeter", "Nvml", "Rails", "open_meter", "peak_memory", "reset_peak_memory"]

_MODULE = (("VDD_IN",), ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"))
"""Rails that together feed a module, for each family of modules."""

_PERIOD = 0.02
"""Seconds between two looks at the rails; the chips average over longer."""


class DeviceMeter(Protocol):
    """Measures a device from ``start`` to ``stop``."""

    def start(self) -> None:
        """Begin."""

    def stop(self) -> float | None:
        """Joules since ``start``; None where the device does not tell."""

    def memory(self) -> int | None:
        """Bytes in use on the device; None where it shares the processor's or does not tell."""


class Nvml:
    """One NVIDIA card."""

    def __init__(self, nvml: Any, index: int) -> None:  # noqa: ANN401 (pynvml has no types)
        """Take an initialised ``pynvml`` and the number of the card."""
        self._nvml = nvml
        self._card = nvml.nvmlDeviceGetHandleByIndex(index)
        self._started: float | None = None

    def start(self) -> None:
        """See ``DeviceMeter.start``."""
        self._started = self._joules()

    def stop(self) -> float | None:
        """See ``DeviceMeter.stop``."""
        now = self._joules()
        return None if now is None or self._started is None else now - self._started

    def memory(self) -> int | None:
        """See ``DeviceMeter.memory``."""
        try:
            return int(self._nvml.nvmlDeviceGetMemoryInfo(self._card).used)
        except self._nvml.NVMLError:
            return None

    def _joules(self) -> float | None:
        try:
            return float(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._card)) / 1000
        except self._nvml.NVMLError:  # before Volta
            return None


class Rails:
    """Power rails that are looked at over and over; the energy is the sum of power times time between two looks."""

    def __init__(self, rails: Sequence[tuple[Path, Path]]) -> None:
        """Take for each rail the files of its voltage (mV) and its current (mA)."""
        self._rails = tuple(rails)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._joules = 0.0

    def start(self) -> None:
        """See ``DeviceMeter.start``."""
        self._joules = 0.0
        self._stop.clear()
        self._thread = threading.Thread(target=self._watch, name="power rails", daemon=True)
        self._thread.start()

    def stop(self) -> float | None:
        """See ``DeviceMeter.stop``."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        return self._joules

    def memory(self) -> int | None:
        """None: a Jetson's GPU works in the processor's memory."""
        return None

    def watts(self) -> float:
        """Power of all rails now."""
        return sum(int(voltage.read_text()) * int(current.read_text()) for voltage, current in self._rails) / 1e6

    def _watch(self) -> None:
        last, power = time.monotonic(), self.watts()
        while not self._stop.wait(_PERIOD):
            last, power = self._add(last, power)
        self._add(last, power)

    def _add(self, last: float, power: float) -> tuple[float, float]:
        """Add what was used since ``last``, by the mean of the power then and now."""
        now, present = time.monotonic(), self.watts()
        self._joules += (now - last) * (power + present) / 2
        return now, present


def open_meter(device: str, root: Path = Path("/")) -> DeviceMeter | None:
    """The meter for a device, or None.

    Args:
        device: ``cpu``, ``cuda:N`` or another one.
        root: of the file system that shows the rails.
    """
    rails = _rails(root / "sys/class/hwmon")
    if rails is not None:
        return rails
    kind, _, index = device.partition(":")
    return _nvml(int(index or 0)) if kind == "cuda" else None


def _nvml(index: int) -> Nvml | None:
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        return Nvml(pynvml, index)
    except pynvml.NVMLError:
        return None


def _rails(folder: Path) -> Rails | None:
    """Those of a Jetson's module."""
    found: dict[str, tuple[Path, Path]] = {}
    for label in sorted(folder.glob("hwmon*/in[123]_label")):
        chip, number = label.parent, label.name[2]
        try:
            if (chip / "name").read_text().strip() == "ina3221":
                found[label.read_text().strip()] = (chip / f"in{number}_input", chip / f"curr{number}_input")
        except OSError:
            continue
    for names in _MODULE:
        if set(names) <= set(found):
            return Rails([found[name] for name in names])
    return None


def reset_peak_memory() -> None:
    """Let the kernel count the peak anew; where it cannot, the peak is that of the whole run."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return


def peak_memory() -> int:
    """Most resident bytes of this process since the last reset."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))
